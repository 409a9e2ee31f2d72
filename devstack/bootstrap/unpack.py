"""Unpacks a wheel that was already checked by hash, trusting nothing that is written in it.

A hash says that the file is the one that was locked, not that it is harmless, so sizes, ratio,
number of entries and every path are held to limits before the first byte is written.
"""

import re
import stat
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Caps:
    """What an archive may grow to."""

    entries: int = 50_000
    total_bytes: int = 2 << 30
    ratio: float = 40.0
    """Unpacked to packed, of the whole archive; the largest real one is below 5."""


class ArchiveRefused(Exception):
    """The archive is damaged, or asks for something no tool needs."""


def unpack_wheel(
    archive: Path,
    into: Path,
    *,
    left_out: str = "",
    caps: Caps | None = None,
    on_bytes: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Unpack into the new folder `into`; `on_bytes(done, total)` may raise to stop.

    Paths that match the pattern `left_out` are not written: making files is what takes time.
    """
    skip = re.compile(left_out or r"(?!)")
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            total = _check(entries, archive.stat().st_size, caps or Caps())
            into.mkdir(mode=0o755)
            done = 0
            for entry in entries:
                if skip.search(entry.filename):
                    total -= entry.file_size
                    continue
                done = _write(opened, entry, into, done, total, on_bytes)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as exc:
        raise ArchiveRefused(f"cannot unpack {archive.name}: {exc}") from exc


def _check(entries: list[zipfile.ZipInfo], packed: int, caps: Caps) -> int:
    if len(entries) > caps.entries:
        raise ArchiveRefused(f"it holds {len(entries)} files, more than {caps.entries}")
    total = sum(entry.file_size for entry in entries)
    if total > caps.total_bytes:
        raise ArchiveRefused(f"it would take {total} bytes, more than {caps.total_bytes}")
    if total > packed * caps.ratio:
        raise ArchiveRefused(f"it would grow {total / max(packed, 1):.0f}-fold")
    seen: set[str] = set()
    for entry in entries:
        _check_entry(entry)
        name = entry.filename.rstrip("/")
        if name in seen:
            raise ArchiveRefused(f"it holds {entry.filename!r} twice")
        seen.add(name)
    return total


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise ArchiveRefused(f"it holds the path {name!r}")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveRefused(f"{name!r} is a link or a device")
    if entry.flag_bits & 0x1:
        raise ArchiveRefused(f"{name!r} is encrypted")


def _write(
    opened: zipfile.ZipFile,
    entry: zipfile.ZipInfo,
    into: Path,
    done: int,
    total: int,
    on_bytes: Callable[[int, int], None],
) -> int:
    target = into / entry.filename
    if entry.is_dir():
        target.mkdir(mode=0o755, parents=True, exist_ok=True)
        return done
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    left = entry.file_size
    # "x": a path that exists (by letter case on macOS, or by a file taken as a folder) is refused.
    with opened.open(entry) as source, target.open("xb") as sink:
        while chunk := source.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise ArchiveRefused(f"{entry.filename!r} is larger than it says")
            sink.write(chunk)
            done += len(chunk)
            on_bytes(done, total)
    # Mode bits are copied; never setuid, never writable by others.
    target.chmod((entry.external_attr >> 16) & 0o755 | 0o644)
    return done
