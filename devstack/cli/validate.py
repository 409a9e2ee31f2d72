"""`devstack validate`: every problem of the stack file at once; nothing of the project is executed."""

import json
import os
from pathlib import Path

from devstack.cli import talk
from devstack.cli.call import Call
from devstack.cli.options import read
from devstack.config.load import Loaded, load
from devstack.config.problems import ConfigError, Problem, render_problems

USAGE = """\
usage: devstack validate [--json]

Checks the stack file, its override and its environment files. Exit code 2 when something is wrong.

  --json    one object, see api/schemas/validate.json
"""


def run(call: Call) -> int:
    """Load the file and tell what is wrong or doubtful."""
    options = read(call.command, call.words, flags={"--json": "json"})
    path = Path(call.stack_file())
    loaded: Loaded | None = None
    problems: tuple[Problem, ...] = ()
    try:
        loaded = load(path, os.environ)
    except ConfigError as wrong:
        problems = wrong.problems
    if "json" in options:
        talk.data([json.dumps(_listing(path, loaded, problems), indent=2, ensure_ascii=False)])
    elif loaded is None:
        talk.say(render_problems(problems))
    else:
        if loaded.warnings:
            talk.say(render_problems(loaded.warnings))
        count = len(loaded.stack.services)
        talk.data([f"{path.name} is valid: {count} service{'s' if count != 1 else ''}"])
    return talk.FINE if loaded is not None else talk.USAGE


def _listing(path: Path, loaded: Loaded | None, problems: tuple[Problem, ...]) -> dict[str, object]:
    warnings = loaded.warnings if loaded is not None else ()
    return {
        "schema": 1,
        "file": str(path),
        "valid": loaded is not None,
        "services": list(loaded.stack.services) if loaded is not None else [],
        "problems": [_problem(p, "error") for p in problems]
        + [_problem(p, "warning") for p in warnings],
    }


def _problem(problem: Problem, severity: str) -> dict[str, object]:
    return {
        "severity": severity,
        "file": problem.file,
        "line": problem.line or None,
        "column": problem.column or None,
        "message": problem.message,
        "hint": problem.hint or None,
    }
