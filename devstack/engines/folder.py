"""How data folders and templates come to be: whole under their name, or not at all.

A folder is made under a temporary name beside its place and renamed when it is whole, with its
stamp inside. One lock file per name lets the second of two makers wait and take what the first
made; what a killed maker left is removed by the next. What is inside a folder is the engines'.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from devstack.engines.base import CannotPrepare, DataVersionMismatch, EngineSpec
from devstack.steps import StepRunner

STAMP = "stamp.json"
_SCHEMA = 1
_LOCK_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Stamp:
    """What made a data folder, and for whom."""

    product: str
    major: str
    """Only this product of this major version may open the data."""
    version: str
    data_id: str
    settings: Mapping[str, str]
    """What was set once, as digests that do not tell the values."""


@contextlib.asynccontextmanager
async def exclusive(place: Path) -> AsyncIterator[None]:
    """Hold the only right to make `place`; waits for another maker of any process.

    Asked again and again, because a thread that is blocked in flock cannot be cancelled.
    """
    place.parent.mkdir(0o700, parents=True, exist_ok=True)
    lock = os.open(
        place.parent / f".{place.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(lock)


async def make_whole(place: Path, fill: Callable[[Path], Awaitable[None]]) -> None:
    """Fill a new folder and rename it to `place`; on failure nothing of it is left.

    The caller holds `exclusive(place)`, so whatever else has a temporary name is a leftover.
    """
    await asyncio.to_thread(_remove_leftovers, place)
    new = place.parent / f".{place.name}.new-{secrets.token_hex(4)}"
    new.mkdir(mode=0o700)
    try:
        await fill(new)
        new.rename(place)
    except BaseException:
        # not awaited in a thread: a cancelled prepare must leave nothing either
        shutil.rmtree(new, ignore_errors=True)
        raise


async def clone(template: Path, target: Path, steps: StepRunner) -> None:
    """Copy a template; on file systems that can, the blocks are shared until written."""
    share = ("--reflink=auto",) if sys.platform == "linux" else ()
    argv = ("cp", "-a", *share, "--", str(template), str(target))
    await steps.run(argv, title="copy a fresh data folder")


async def template(templates: Path, key: str, fill: Callable[[Path], Awaitable[None]]) -> Path:
    """The template of that key, made where it is not there yet; racing twice is safe."""
    place = templates / key
    if not place.is_dir():
        async with exclusive(place):
            if not place.is_dir():
                await make_whole(place, fill)
    return place


def template_key(product: str, version: str, *recipe: str) -> str:
    """Names a template by everything that shapes its content."""
    return f"{product}-{version}-{sha256(repr(recipe).encode()).hexdigest()[:12]}"


def read_stamp(place: Path, service: str) -> Stamp | None:
    """The stamp of a data folder, None where there is no data yet."""
    try:
        if not (place / STAMP).exists() and (not place.exists() or not any(place.iterdir())):
            return None
        raw = json.loads((place / STAMP).read_text(encoding="utf-8"))
        if raw["schema"] == _SCHEMA:
            del raw["schema"]
            return Stamp(**raw)
    except PermissionError:
        raise CannotPrepare(
            f"cannot use the data of {service}: {place} belongs to uid {place.lstat().st_uid}",
            "run devstack as the user who made it, or remove the folder as that user",
        ) from None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        pass
    raise CannotPrepare(
        f"cannot use the data of {service}: {place} has no stamp that says what made it",
        f"move the folder away, or drop its data: devstack reset {service}",
    )


def write_stamp(place: Path, stamp: Stamp) -> None:
    text = json.dumps(
        {
            "schema": _SCHEMA,
            "product": stamp.product,
            "major": stamp.major,
            "version": stamp.version,
            "data_id": stamp.data_id,
            "settings": dict(stamp.settings),
        },
        indent=1,
    )
    (place / STAMP).write_text(text + "\n", encoding="utf-8")


def new_stamp(product: str, major: str, version: str, spec: EngineSpec) -> Stamp:
    data_id = secrets.token_hex(8)
    return Stamp(product, major, version, data_id, _settings(spec, data_id))


def check_stamp(stamp: Stamp, product: str, major: str, spec: EngineSpec) -> tuple[str, ...]:
    """Refuse the data of another version; note what the stack file no longer says alike."""
    if (stamp.product, stamp.major) != (product, major):
        service = spec.service
        theirs, ours = f"{stamp.product} {stamp.major}", f"{product} {major}"
        if stamp.product == product:
            keep = f'`version: "{stamp.major}"` for {service} in the stack file'
        else:
            keep = f"{stamp.product} {stamp.version} on PATH"
        raise DataVersionMismatch(
            f"cannot start {service}: its data was made by {theirs}, and this is {ours}",
            f"keep the data with {keep}; or dump it with {theirs} and load it into {ours}; "
            f"or drop it: devstack reset {service}",
        )
    now = _settings(spec, stamp.data_id)
    changed = [name for name in now if now[name] != stamp.settings.get(name, now[name])]
    if not changed:
        return ()
    note = (
        f"{spec.service}: {' and '.join(changed)} changed in the stack file after its data was "
        f"made, and only new data takes that: devstack reset {spec.service}, or change it there"
    )
    return (note,)


def _settings(spec: EngineSpec, salt: str) -> dict[str, str]:
    values = {
        "user": spec.user,
        "password": spec.password,
        "database": spec.database,
        "extensions": ",".join(sorted(spec.extensions)),
    }
    return {
        name: sha256(f"{salt}:{name}:{value}".encode()).hexdigest()[:16]
        for name, value in values.items()
    }


def _remove_leftovers(place: Path) -> None:
    for leftover in place.parent.glob(f".{place.name}.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with contextlib.suppress(OSError):  # an empty folder is no data
        place.rmdir()
