"""Log lines as JSON objects, each with the W3C trace it belongs to."""

import json
import logging
import re
import secrets
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

log = logging.getLogger("auth")

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)


def configure() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonFormatter())
    # force: whoever serves the app may have set up logging of its own before
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    # The pool tells each failed attempt; a request that suffers from it is logged anyway.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


def begin(traceparent: str | None) -> None:
    """Work for the trace that the caller named from now on, or for a new one."""
    _trace_id.set(trace_id_of(traceparent) or secrets.token_hex(16))


def trace_id_of(traceparent: str | None) -> str | None:
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        return None
    version, trace_id, span_id, rest = match.groups()
    if version == "ff" or (version == "00" and rest):
        return None
    return None if set(trace_id) == {"0"} or set(span_id) == {"0"} else trace_id


class _JsonFormatter(logging.Formatter):
    _STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": "WARN" if record.levelno == logging.WARNING else record.levelname,
            "msg": record.getMessage(),
            "service": "auth",
            "trace_id": _trace_id.get(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in self._STANDARD}
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
