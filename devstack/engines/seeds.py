"""How seeds are found and loaded: by the official images' rule, each failure told with its line.

A seed is a file or a folder of files, taken by name. `.sh` is alike for all engines; how `.sql` and
`.js` are loaded is the engine's.
"""

import asyncio
import gzip
import os
import re
import shutil
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from devstack.core.blame import refusal
from devstack.engines.base import SeedFailed
from devstack.steps import StepFailed, StepRunner

Loader = Callable[[Path], Awaitable[None]]
"""Loads one file. Raises `SeedError`, or `StepFailed` where there is no better word."""

# Bash names the line on which a script gave up; the last such line is why it ended.
_ERROR_TRAP = """\
set -E
trap 'echo "devstack-seed-line:$LINENO" >&2' ERR
"""
_SCRIPT_LINE = re.compile(r"^devstack-seed-line:(\d+)$", re.MULTILINE)


class SeedError(Exception):
    """What the database said to a seed, and on which line."""

    def __init__(self, message: str, line: int | None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.hint = hint


def seed_files(
    service: str, seeds: Sequence[Path], endings: Sequence[str]
) -> tuple[list[Path], list[str]]:
    """The files in the order in which they are loaded, and notes about what is left out."""
    files: list[Path] = []
    notes: list[str] = []
    for seed in seeds:
        if seed.is_dir():
            for entry in sorted(seed.iterdir(), key=lambda path: path.name):
                if entry.name.endswith(tuple(endings)):
                    files.append(entry)
                elif entry.is_file() and not entry.name.startswith("."):
                    notes.append(f"{service}: seed {entry.name} ignored, not {_listed(endings)}")
        elif not seed.is_file():
            raise SeedFailed(
                f"cannot seed {service}: {seed} is not there",
                "name a file or a folder in `seed:`",
                file=seed,
                line=None,
            )
        elif not seed.name.endswith(tuple(endings)):
            raise SeedFailed(
                f"cannot seed {service}: {seed.name} is not {_listed(endings)}",
                f"this engine loads {_listed(endings)}",
                file=seed,
                line=None,
            )
        else:
            files.append(seed)
    return files, notes


async def load_seeds(
    service: str, files: Sequence[Path], loaders: Mapping[str, Loader], scratch: Path
) -> None:
    """Load each file by its ending; `.gz` is unpacked into `scratch` first."""
    for file in files:
        ending = next(
            ending for ending in loaders if file.name.removesuffix(".gz").endswith(ending)
        )
        try:
            content = file
            if file.name.endswith(".gz"):
                content = scratch / file.name.removesuffix(".gz")
                await asyncio.to_thread(_unpack, file, content)
            await loaders[ending](content)
        except SeedError as error:
            raise _failed(service, file, error.line, error.message, error.hint) from error
        except StepFailed as error:
            said = error.tail.strip().splitlines()
            reason = f"{error.reason}: {said[-1]}" if said else error.reason
            raise _failed(service, file, None, reason, "") from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _failed(service, file, None, f"it is no gzip file ({error})", "") from error
        except OSError as error:
            raise _failed(service, file, None, refusal(error), "") from error


def script_loader(
    steps: StepRunner, scratch: Path, programs: Path, environment: Mapping[str, str]
) -> Loader:
    """Runs `.sh` seeds with the server's own client programs first on PATH.

    An executable one is run, any other is given to a shell; the images source those.
    """
    trap = scratch / "error-trap"
    trap.write_text(_ERROR_TRAP, encoding="utf-8")
    path = os.environ.get("PATH", os.defpath)
    env = {**environment, "PATH": f"{programs}{os.pathsep}{path}", "BASH_ENV": str(trap)}

    async def load(file: Path) -> None:
        argv = [str(file)]
        if not os.access(file, os.X_OK):
            argv.insert(0, shutil.which("bash") or "sh")
        title = f"run seed {file.name}"
        result = await steps.run(argv, title=title, env=env, cwd=file.parent, check=False)
        if result.code == 0:
            return
        output = result.output.decode(errors="replace")
        lines = _SCRIPT_LINE.findall(output)
        said = _SCRIPT_LINE.sub("", output).strip().splitlines()
        message = f"it ended with code {result.code}" + (f": {said[-1]}" if said else "")
        raise SeedError(message, int(lines[-1]) if lines else None)

    return load


def _unpack(packed: Path, target: Path) -> None:
    with gzip.open(packed) as source, target.open("wb") as out:
        shutil.copyfileobj(source, out)


def _failed(service: str, file: Path, line: int | None, message: str, hint: str) -> SeedFailed:
    where = f"{file}:{line}" if line is not None else str(file)
    return SeedFailed(
        f"cannot seed {service}: {where}: {message}",
        hint or "mend the file; the seeds are loaded from the first one again",
        file=file,
        line=line,
    )


def _listed(endings: Sequence[str]) -> str:
    return ", ".join(endings[:-1]) + f" or {endings[-1]}" if len(endings) > 1 else endings[0]
