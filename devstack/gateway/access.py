"""What the gateway was asked: its access log, read as it grows."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal


@dataclass(frozen=True, slots=True)
class Access:
    """One request that was answered."""

    time: float
    """Wall-clock second at which the answer was complete."""
    method: str
    path: str
    """Without its query."""
    status: int
    duration_seconds: float
    service: str
    """The routing-table key; empty where no service was asked."""
    replica: str
    trace_id: str
    entry: Literal["gateway", "service"]
    """Whether the public gateway was dialled or a service's own address."""
    bytes_sent: int


class AccessLog:
    """Reads what was written since the last read; goes along when the file is renamed or cut."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._file: BinaryIO | None = None
        self._rest = b""

    def read(self) -> list[Access]:
        """The requests since the last call; lines that are no requests are left out."""
        if self._file is None and not self._open():
            return []
        data = self._new_bytes()
        if self._was_replaced():
            data += b"\n"
            self.close()
            if self._open():
                data += self._new_bytes()
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [found for line in lines if (found := parse_access(line)) is not None]

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> bool:
        try:
            self._file = self._place.open("rb")
        except FileNotFoundError:
            return False
        return True

    def _new_bytes(self) -> bytes:
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)
            self._rest = b""
        return self._file.read()

    def _was_replaced(self) -> bool:
        assert self._file is not None
        try:
            there = self._place.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(self._file.fileno())
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)


def parse_access(line: bytes) -> Access | None:
    """One line of the access log, or None if it is not one."""
    try:
        told = json.loads(line)
        entry = told["entry"]
        if entry not in ("gateway", "service"):
            return None
        return Access(
            time=float(told["time"]),
            method=told["method"],
            path=told["path"],
            status=int(told["status"]),
            duration_seconds=float(told["duration"]),
            service=told["service"],
            replica=told["replica"],
            trace_id=told["trace"],
            entry=entry,
            bytes_sent=int(told["bytes"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
