"""Which programs on the user's PATH will do: looks, asks each for its version, judges.

Only real programs are taken. A wrapper script (a version manager's shim) costs a start of its own,
and the pid one holds is not the server's; the next entry of PATH is tried instead.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from devstack.provision.catalog import Entry, PathSource
from devstack.provision.nginx_probe import has_shared_dictionaries
from devstack.provision.probes import ask_version
from devstack.provision.tool import Rejections, Settings, Tool
from devstack.provision.versions import at_least, fits
from devstack.steps import StepRunner

_PROGRAM_MAGICS = (
    b"\x7fELF",
    b"\xcf\xfa\xed\xfe",  # Mach-O, 64 bit
    b"\xca\xfe\xba\xbe",  # Mach-O, universal
)


async def find_on_path(
    entry: Entry,
    wanted: str | None,
    steps: StepRunner,
    settings: Settings,
    rejections: Rejections,
    *,
    origin: str,
    needs_njs: bool = True,
) -> Tool | None:
    """The first entry of PATH that fits; why others do not is added to `rejections`."""
    for program in _candidates(entry.on_path.mains, settings.path):
        tool = await _judge(entry, program, wanted, steps, settings, rejections, origin, needs_njs)
        if tool is not None:
            return tool
    return None


def is_program(path: Path) -> bool:
    """Whether a file is a program of this machine's own form, not a script."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) in _PROGRAM_MAGICS
    except OSError:
        return False


async def _judge(
    entry: Entry,
    program: Path,
    wanted: str | None,
    steps: StepRunner,
    settings: Settings,
    rejections: Rejections,
    origin: str,
    needs_njs: bool,
) -> Tool | None:
    source = entry.on_path
    if entry.name != "python" and not is_program(program):
        rejections.add(f"{program} is a wrapper script")
        return None
    answer = await ask_version(program, source.version_arguments, steps, settings)
    found = _product_of(source, answer)
    if found is None:
        rejections.add(f"{program} does not say that it is {entry.name}")
        return None
    product, version = found
    if not at_least(version, source.minimum):
        rejections.add(f"{program} is {version}, older than {source.minimum}")
        return None
    if not fits(version, wanted):
        rejections.add(f"{program} is {version}")
        return None
    if entry.name == "python":
        # A shim is fine here: it was asked which interpreter it stands for.
        program = Path(answer.rsplit(" ", 1)[-1].strip())
    binaries = _gather(entry, program)
    if binaries is None:
        missing = ", ".join(source.companions) or "npm"
        rejections.add(f"{program} has no {missing} beside it")
        return None
    features: frozenset[str] = frozenset()
    if entry.name == "nginx":
        if await has_shared_dictionaries(program, version, steps, settings):
            features = frozenset({"njs"})
        elif needs_njs:
            rejections.add(f"{program} is {version} without njs shared dictionaries")
            return None
    return Tool(
        name=entry.name,
        version=version,
        origin=origin,
        binaries=binaries,
        env={},
        root=_root_of(entry, program),
        product=product,
        features=features,
    )


def _candidates(names: tuple[str, ...], path: str) -> Iterator[Path]:
    seen: set[Path] = set()
    for folder in path.split(os.pathsep):
        # An empty or relative entry means the current folder: programs are never taken from there.
        if not Path(folder).is_absolute():
            continue
        for name in names:
            program = Path(folder) / name
            # not Path.is_file: after `su` PATH may name folders that are not ours to look into
            if os.path.isfile(program) and os.access(program, os.X_OK):  # noqa: PTH113 - see above
                real = program.resolve()
                if real not in seen:
                    seen.add(real)
                    yield program


def _product_of(source: PathSource, answer: str) -> tuple[str, str] | None:
    for product, pattern in source.products:
        if match := pattern.search(answer):
            return product, match.group(1)
    return None


def _gather(entry: Entry, program: Path) -> dict[str, Path] | None:
    """The tool's programs by name, or None where one that must be there is missing."""
    main = entry.on_path.mains[0]
    binaries = {main: program}
    for name in entry.on_path.companions:
        beside = _beside(program, name)
        if beside is None:
            return None
        binaries[name] = beside
    for name in entry.on_path.extras:
        beside = _beside(program, name)
        if beside is not None:
            binaries[name] = beside
    if entry.name == "node":
        npm = _npm_of(program)
        if npm is None:
            return None
        binaries["npm"] = npm
    return binaries


def _beside(program: Path, name: str) -> Path | None:
    """A companion beside the program, beside what it links to, or in the `bin` of the same prefix."""
    real = program.resolve()
    for folder in (program.parent, real.parent, real.parent.parent / "bin"):
        candidate = folder / name
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    return None


def _npm_of(node: Path) -> Path | None:
    prefixes = dict.fromkeys((node.parent.parent, node.resolve().parent.parent))
    for prefix in prefixes:
        for place in ("lib/node_modules", "share/nodejs"):
            script = prefix / place / "npm" / "bin" / "npm-cli.js"
            if script.is_file():
                return script
    return None


def _root_of(entry: Entry, program: Path) -> Path:
    real = program.resolve()
    return real.parent if entry.name in ("uv", "nats") else real.parent.parent
