"""Starts what a pack prepared, on a loopback port of its own, and asks it over HTTP."""

import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack.packs.base import Prepared
from tests.support.engines import free_port

START_SECONDS = 60.0


@dataclass(slots=True)
class Serving:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def ask(self, path: str, *, data: Any = None) -> tuple[int, Any]:
        """Status and decoded body; waits until something listens."""
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(
            self.url + path, data=body, headers={"Content-Type": "application/json"}
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as refused:
                with refused:
                    return refused.code, refused.read().decode()
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None, self.output()
                assert time.monotonic() < deadline, self.output()
                time.sleep(0.02)

    def stop(self) -> int:
        """The exit code after TERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextmanager
def started(
    prepared: Prepared,
    folder: Path,
    base: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
    *,
    port: int | None = None,
    wanted: str = "PORT",
    grace: float = 10.0,
) -> Iterator[Serving]:
    """As the engine would: `{port}` and the like filled in, its port told in `wanted`, PATH put in front."""
    command = prepared.command
    assert command is not None
    port = port or free_port()
    given = {**base, **command.environment, wanted: str(port), **(environment or {})}
    given["PATH"] = ":".join([*map(str, command.path_prefix), given["PATH"]])
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [word.format(port=port, host="127.0.0.1", grace=grace) for word in command.argv],
            cwd=command.cwd,
            env=given,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield Serving(process, port, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(20)
