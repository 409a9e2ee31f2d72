"""`devstack up --dry-run`: what it would run, without running anything."""

import os
from pathlib import Path

from devstack.cli import talk
from devstack.config.load import load
from devstack.config.problems import ConfigError, render_problems
from devstack.core.model import (
    ArgvCommand,
    Command,
    EngineProgram,
    FakeProgram,
    Service,
    ShellCommand,
    SourceProgram,
)
from devstack.packs.base import CannotPrepare, Toolchain
from devstack.packs.detect import all_packs, detect


def show(path: Path) -> int:
    """Print each service in the order of the file: what is prepared, and what is started."""
    try:
        loaded = load(path, os.environ)
    except ConfigError as wrong:
        talk.say(render_problems(wrong.problems))
        return talk.USAGE
    for service in loaded.stack.services.values():
        waits = ", ".join(f"{d.service} {d.condition.value}" for d in service.depends_on)
        talk.data(
            [
                f"{service.name} ({service.kind.value}, {service.replicas}): {_program(service)}"
                + (f"; after {waits}" if waits else "")
            ]
        )
    return talk.FINE


def _program(service: Service) -> str:
    match service.program:
        case SourceProgram(source, command, main):
            return _source(source, command, main)
        case EngineProgram(engine, version):
            return f"{engine} {version}" if version else engine
        case FakeProgram(script):
            return f"fake {script}".rstrip()


def _source(source: str | None, command: Command | None, main: str | None) -> str:
    said = _command(command) if command is not None else ""
    if source is None:
        return said
    try:
        found = detect(Path(source), all_packs(_no_tool), main=main, user_command=said or None)
    except CannotPrepare as cannot:
        return f"{cannot}"
    prepared = f"prepare {source} as {found.pack.name} ({found.because})"
    return f"{prepared}, run {said or main or 'what the pack finds'}"


def _command(command: Command) -> str:
    match command:
        case ShellCommand(text):
            return f"sh -c '{text}'"
        case ArgvCommand(argv):
            return " ".join(map(str, argv))


async def _no_tool(name: str, wanted: str | None) -> Toolchain:
    raise AssertionError(f"detecting asked for {name} {wanted or ''}")
