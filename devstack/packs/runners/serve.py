"""Serves a user's application: WSGI with waitress, ASGI with uvicorn.

On TERM it stops accepting, finishes the requests it has (up to the grace) and exits 0: stock
`waitress-serve` ends at once and cuts them, uvicorn dies of the signal when it is done. A failing
import is told with its file and line.

One file without imports of ours, because it runs in the user's interpreter and beside the user's
modules; nothing newer than Python 3.9.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
import time
import traceback
from typing import Any

Options = argparse.Namespace


def main() -> None:
    options = parse_options()
    prepare_import_path(options)
    if options.interface == "wsgi":
        serve_wsgi(options)
    else:
        serve_asgi(options)


def parse_options() -> Options:
    parser = argparse.ArgumentParser(description="serve a WSGI or ASGI application")
    parser.add_argument("interface", choices=("wsgi", "asgi"))
    parser.add_argument("app", help="package.module:attribute, with () for a factory")
    parser.add_argument("--host", default=os.environ.get("HOST") or "127.0.0.1")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT") or 8080))
    parser.add_argument("--root", required=True, help="folder the application is imported from")
    parser.add_argument("--libraries", required=True, help="folder that holds the server")
    parser.add_argument("--grace", type=float, default=10.0, help="seconds from TERM to KILL")
    return parser.parse_args()


def seconds_to_finish(options: Options) -> float:
    """How long requests in flight may take: a little less, so that the end is one of our own."""
    return float(options.grace - min(2.0, options.grace / 5))


def prepare_import_path(options: Options) -> None:
    """The application's folder first; the server's last, so that the user's own versions win."""
    own = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - a lean start
    sys.path[:] = [entry for entry in sys.path if entry != own]
    if options.root not in sys.path:
        sys.path.insert(0, options.root)
    sys.path.append(options.libraries)
    sys.argv[1:] = []


class Stopping:
    """What TERM sets and the loop looks at; before there is a server it ends the process."""

    def __init__(self) -> None:
        self.server: Any = None
        self.is_asked = False

    def ask(self, *_: object) -> None:
        self.is_asked = True
        if self.server is None:
            raise SystemExit(0)
        self.server.pull_trigger()


def serve_wsgi(options: Options) -> None:
    stopping = Stopping()
    signal.signal(signal.SIGTERM, stopping.ask)
    signal.signal(signal.SIGINT, stopping.ask)
    application = load(options)
    waitress = importlib.import_module("waitress.server")
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a full queue is no news
    try:
        server: Any = waitress.create_server(
            application,
            host=options.host,
            port=options.port,
            threads=16,
            connection_limit=1000,
            backlog=1024,
            asyncore_use_poll=True,
            clear_untrusted_proxy_headers=False,
            max_request_body_size=1 << 50,
            ident=None,
        )
    except OSError as error:
        sys.stderr.write(f"cannot listen on {options.host}:{options.port}: {error.strerror}\n")
        raise SystemExit(1) from None
    stopping.server = server
    while not stopping.is_asked:
        turn(server, 1.0)
    drain(server, time.monotonic() + seconds_to_finish(options))


def turn(server: Any, seconds: float) -> None:
    """One round of waitress's own loop."""
    server.asyncore.loop(timeout=seconds, map=server._map, use_poll=True, count=1)  # noqa: SLF001 - waitress has no public way to run its loop once


def drain(server: Any, deadline: float) -> None:
    """Take what already waits at the door, close it, and end when the last answer is out."""
    known = -1
    while known != len(server.active_channels):
        known = len(server.active_channels)
        turn(server, 0.0)
    server.accepting = False
    server.del_channel()
    server.socket.close()
    while time.monotonic() < deadline and any(map(is_busy, list(server.active_channels.values()))):
        turn(server, 0.02)
    server.task_dispatcher.shutdown(timeout=0.1)


def is_busy(channel: Any) -> bool:
    return bool(channel.requests or channel.total_outbufs_len or channel.request is not None)


def serve_asgi(options: Options) -> None:
    def leave(*_: object) -> None:
        raise SystemExit(0)  # also when uvicorn raises the signal again at its end

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    application = load(options)
    uvicorn = importlib.import_module("uvicorn")
    server: Any = uvicorn.Server(
        uvicorn.Config(
            application,
            host=options.host,
            port=options.port,
            access_log=False,
            backlog=1024,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, int(seconds_to_finish(options))),
        )
    )
    server.run()
    if not server.started:
        raise SystemExit(3)


def load(options: Options) -> Any:
    """The application object; ends the process with the place of the mistake when it fails."""
    module_name, _, attribute = options.app.partition(":")
    is_factory = attribute.endswith("()")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.removesuffix("()").split("."):
            found = getattr(found, part)
        return found() if is_factory else found
    except Exception as error:  # whatever a user's module raises is told here and ends the process
        tell(error, options)
        raise SystemExit(1) from None


def tell(error: Exception, options: Options) -> None:
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if is_worth_telling(frame)
    ]
    summary = traceback.format_exception_only(type(error), error)
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames), *summary]
    place = find_place(error, frames, options.root)
    lines.append(f"cannot load {options.app}: {place}{summary[-1].strip()}\n")
    sys.stderr.write("".join(lines))
    sys.stderr.flush()


def is_worth_telling(frame: traceback.FrameSummary) -> bool:
    return (
        frame.filename != __file__
        and not frame.filename.startswith("<frozen importlib")
        and ("/importlib/" not in frame.filename)
    )


def find_place(error: Exception, frames: list[traceback.FrameSummary], root: str) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shorten(error.filename, root)}:{error.lineno or 1}: "
    for frame in reversed(frames):
        is_library = "site-packages" in frame.filename
        if frame.filename.startswith(root + os.sep) and not is_library:
            return f"{shorten(frame.filename, root)}:{frame.lineno}: "
    return ""


def shorten(filename: str, root: str) -> str:
    return os.path.relpath(filename) if filename.startswith(root) else filename


if __name__ == "__main__":
    main()
