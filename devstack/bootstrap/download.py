"""Brings one locked file to disk, whole and with the right hash, or not at all.

Broken connections are resumed where they broke. A file of another size or hash is deleted and
never used; the error names what was expected and what came.
"""

import hashlib
import http.client
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import assert_never

from devstack.bootstrap.index import LocalFile, RemoteFile, indexes, places_of
from devstack.bootstrap.index_settings import IndexSettings
from devstack.bootstrap.lockfile import Package, Wheel
from devstack.bootstrap.stopping import Stop
from devstack.bootstrap.web import FetchFailed, NotThere, Web, without_credentials

_CHUNK = 256 << 10
_FRUITLESS_TRIES = 5
"""In a row without a byte; any progress starts the count again."""


class FileRefused(FetchFailed):
    """What came is not the locked file; it was deleted."""


def fetch(
    package: Package,
    wheel: Wheel,
    settings: IndexSettings,
    folder: Path,
    *,
    on_bytes: Callable[[int], None] = lambda _done: None,
    stop: Stop | None = None,
    web: Web | None = None,
    first_pause_seconds: float = 0.5,
) -> Path:
    """The file in `folder`, checked; the caller removes it when it is unpacked.

    Blocks. Raises `FetchFailed`, `FileRefused`, `Stopped`.
    """
    stop = stop or Stop()
    web = web or Web(settings)
    part = folder / f"{wheel.sha256[:16]}.part"
    done = folder / wheel.file_name
    failures: list[FetchFailed] = []
    for place in places_of(package, wheel, settings, web, stop, failures):
        stop.check()
        try:
            match place:
                case LocalFile(path):
                    _copy(path, part)
                    _check(part, wheel, str(path))
                case RemoteFile(url):
                    _fetch_url(web, url, wheel, part, on_bytes, stop, first_pause_seconds)
                case _:
                    assert_never(place)
        except FetchFailed as exc:
            failures.append(exc)
            continue
        except OSError:  # a full disk: what was begun only takes more of it
            part.unlink(missing_ok=True)
            raise
        part.rename(done)
        return done
    raise _nowhere(package, wheel, settings, failures)


def _copy(path: Path, part: Path) -> None:
    try:
        source = path.open("rb")
    except OSError as exc:
        raise FetchFailed(f"cannot read {path}: {exc.strerror}") from exc
    with source, part.open("wb") as sink:
        shutil.copyfileobj(source, sink)


def _fetch_url(
    web: Web,
    url: str,
    wheel: Wheel,
    part: Path,
    on_bytes: Callable[[int], None],
    stop: Stop,
    first_pause_seconds: float,
) -> None:
    fruitless = 0
    resumed = part.exists()
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _transfer(web, url, wheel, part, on_bytes, stop)
            _check(part, wheel, without_credentials(url))
            return
        except FileRefused:
            if not resumed:
                raise
            # The beginning was of an earlier run and may have been another file: once more, whole.
            resumed = False
            part.unlink(missing_ok=True)
        except FetchFailed as exc:
            if not exc.is_temporary:
                raise
            grew = part.exists() and part.stat().st_size > before
            fruitless = 0 if grew else fruitless + 1
            if fruitless >= _FRUITLESS_TRIES:
                raise
            stop.pause(first_pause_seconds * 2 ** max(fruitless - 1, 0))


def _transfer(
    web: Web, url: str, wheel: Wheel, part: Path, on_bytes: Callable[[int], None], stop: Stop
) -> None:
    start = part.stat().st_size if part.exists() else 0
    if start >= wheel.size:
        if start == wheel.size:
            return
        part.unlink()
        start = 0
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with web.open(url, headers) as response:
        if start and not _continues(response, start):
            start = 0
            if response.status != 200:
                part.unlink(missing_ok=True)
                raise FetchFailed(f"cannot continue {without_credentials(url)}", is_temporary=True)
        _store(response, part, start, wheel, url, on_bytes, stop)


def _continues(response: http.client.HTTPResponse, start: int) -> bool:
    given = response.headers.get("Content-Range", "")
    return response.status == 206 and given.startswith(f"bytes {start}-")


def _store(
    response: http.client.HTTPResponse,
    part: Path,
    start: int,
    wheel: Wheel,
    url: str,
    on_bytes: Callable[[int], None],
    stop: Stop,
) -> None:
    announced = response.headers.get("Content-Length")
    end = start + int(announced) if announced is not None else None
    have = start
    with part.open("r+b" if start else "wb") as sink:
        sink.seek(start)
        while have != end and (chunk := _read(response, url)):
            have += len(chunk)
            if have > wheel.size:
                part.unlink()
                raise _other_size(wheel, f"more than {wheel.size}", url)
            sink.write(chunk)
            on_bytes(have)
            stop.check()
    if end is not None and have < end:
        raise _broken(url, f"the connection ended {end - have} bytes early")


def _read(response: http.client.HTTPResponse, url: str) -> bytes:
    """What has come, at least a byte; nothing at the end."""
    try:
        return response.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as exc:
        raise _broken(url, str(exc) or type(exc).__name__) from exc


def _broken(url: str, reason: str) -> FetchFailed:
    return FetchFailed(
        f"cannot fetch {without_credentials(url)}: {reason}",
        "check the network, or the proxy (HTTPS_PROXY) setting",
        is_temporary=True,
    )


def _check(part: Path, wheel: Wheel, source: str) -> None:
    size = part.stat().st_size
    if size != wheel.size:
        part.unlink()
        raise _other_size(wheel, str(size), source)
    digest = hashlib.sha256()
    with part.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != wheel.sha256:
        part.unlink()
        raise FileRefused(
            f"cannot use {wheel.file_name} from {source}: its content is not the locked one "
            f"(expected sha256 {wheel.sha256}, got {digest.hexdigest()}); it was deleted"
        )


def _other_size(wheel: Wheel, got: str, source: str) -> FileRefused:
    return FileRefused(
        f"cannot use {wheel.file_name} from {without_credentials(source)}: "
        f"it is not whole (expected {wheel.size} bytes, got {got}); it was deleted"
    )


def _nowhere(
    package: Package,
    wheel: Wheel,
    settings: IndexSettings,
    failures: Sequence[FetchFailed],
) -> FetchFailed:
    """One error for all places: what was wrong with each, else that none has the file."""
    wrong = [failure for failure in failures if not isinstance(failure, NotThere)]
    if len(wrong) == 1:
        return wrong[0]
    if wrong:
        reasons = "".join(f"\n- {reason}" for reason in dict.fromkeys(map(str, wrong)))
        hint = next((failure.hint for failure in wrong if failure.hint), "")
        return FetchFailed(f"cannot fetch {wheel.file_name} from any place{reasons}", hint)
    if settings.offline:
        return FetchFailed(
            f"cannot fetch {wheel.file_name}: offline, and it is in no find-links folder",
            "run once without --offline, or put the file into a folder named by PIP_FIND_LINKS",
        )
    names = [without_credentials(index) for index in indexes(settings, package.index)]
    asked = "no index is allowed" if settings.no_index else ", ".join(names) + " lack it"
    origin = f" (set by {settings.index_origin})" if settings.index_origin else ""
    hint = f"let your mirror carry {package.name} {package.version}{origin}"
    detail = f"\n{failures[-1]}" if failures else ""
    return FetchFailed(f"cannot fetch {wheel.file_name}: {asked}{detail}", hint)
