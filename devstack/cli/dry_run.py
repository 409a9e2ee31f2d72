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
from devstack.packs.go_mains import choose_main, find_module
from devstack.packs.node_manifest import read_package_json
from devstack.packs.node_start import find_start
from devstack.packs.python_apps import App
from devstack.packs.python_modules import Broken
from devstack.packs.python_start import find_app, resolve_app


def show(path: Path) -> int:
    """Print each service in the order of the file: what is prepared, and what is started.

    What cannot be prepared is an error like that of `up`.
    """
    try:
        loaded = load(path, os.environ)
    except ConfigError as wrong:
        talk.say(render_problems(wrong.problems))
        return talk.USAGE
    if loaded.warnings:
        talk.say(render_problems(loaded.warnings))
    code = talk.FINE
    for service in loaded.stack.services.values():
        try:
            program = _program(service)
        except CannotPrepare as cannot:
            code = talk.complain(talk.Failed(str(cannot), cannot.hint))
            continue
        waits = ", ".join(f"{d.service} {d.condition.value}" for d in service.depends_on)
        talk.data(
            [
                f"{service.name} ({service.kind.value}, {service.replicas}): {program}"
                + (f"; after {waits}" if waits else "")
            ]
        )
    return code


def _program(service: Service) -> str:
    match service.program:
        case SourceProgram(source, command, main):
            return _source(service.name, source, command, main)
        case EngineProgram(engine, version):
            return f"{engine} {version}" if version else engine
        case FakeProgram(script):
            return f"fake {script}".rstrip()


def _source(name: str, source: str | None, command: Command | None, main: str | None) -> str:
    said = _command(command) if command is not None else ""
    if source is None:
        return said
    folder = Path(source)
    found = detect(folder, all_packs(_no_tool), main=main, user_command=said or None)
    started = said or _found(found.pack.name, name, folder, main)
    return f"prepare {source} as {found.pack.name} ({found.because}), run {started}"


def _found(pack: str, name: str, source: Path, main: str | None) -> str:
    """What a pack would start: it only reads files to find that."""
    match pack:
        case "python":
            return _python(name, source, main)
        case "node":
            start = find_start(source, read_package_json(source), main)
            if start is None:
                raise _nothing_found(name, source)
            words = " ".join(("node", *start.words) if start.kind == "node" else start.words)
            return f"{words} ({start.said_by})"
        case "go":
            module = find_module(source)
            if module is None:
                raise CannotPrepare(f"cannot build {name}: no go.mod in {source} or above it")
            return f"the program in {choose_main(module, source, main, name)}"
        case _:
            raise AssertionError(f"a pack that finds nothing without a command: {pack}")


def _python(name: str, source: Path, main: str | None) -> str:
    match resolve_app(source, main) if main else find_app(source):
        case App(interface="script", file=file):
            return f"python {os.path.relpath(file, source)}"
        case App(interface=interface) as app:
            place = f"{os.path.relpath(app.file, source)}:{app.line}"
            server = "waitress" if interface == "wsgi" else "uvicorn"
            return f"{app.target} ({place}) with {server}"
        case Broken(file, line, message):
            raise CannotPrepare(
                f"cannot start {name}: {os.path.relpath(file, source)}:{line}: {message}",
                "correct that line",
            )
        case None:
            raise _nothing_found(name, source)


def _nothing_found(name: str, source: Path) -> CannotPrepare:
    return CannotPrepare(
        f"cannot start {name}: no program found in {source}", "say what to run: 'main' or 'command'"
    )


def _command(command: Command) -> str:
    match command:
        case ShellCommand(text):
            return f"sh -c '{text}'"
        case ArgvCommand(argv):
            return " ".join(map(str, argv))


async def _no_tool(name: str, wanted: str | None) -> Toolchain:
    raise AssertionError(f"detecting asked for {name} {wanted or ''}")
