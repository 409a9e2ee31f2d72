"""What a project of setuptools without a `[project]` table asks for, read from setup.cfg and setup.py.

Nothing is run: a list that is written there is read, and one that is computed is told.
"""

import ast
import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NAMES = ("setup.cfg", "setup.py")


@dataclass(frozen=True, slots=True)
class Setup:
    packages: tuple[str, ...] = ()
    python: str = ""
    unread: str = ""
    """`setup.py:12` where the packages are computed."""


def read_setup(source: Path) -> Setup:
    """Of both files together; setuptools lets the words of setup.cfg win."""
    config, script = _read_config(source / "setup.cfg"), _read_script(source / "setup.py")
    return Setup(
        config.packages or script.packages,
        config.python or script.python,
        "" if config.packages else config.unread or script.unread,
    )


def _read_config(file: Path) -> Setup:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return Setup()
    text = parser.get("options", "install_requires", fallback="")
    python = parser.get("options", "python_requires", fallback="")
    if text.strip().startswith("file:"):
        return Setup((), python, file.name)
    return Setup(tuple(line.strip() for line in text.splitlines() if line.strip()), python)


def _read_script(file: Path) -> Setup:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return Setup()
    assigned = {
        target.id: statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_setup(node.func):
            given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
            packages = given.get("install_requires")
            read = _literal(packages, assigned)
            python = _literal(given.get("python_requires"), assigned)
            names = tuple(map(str, read)) if isinstance(read, list | tuple) else None
            is_computed = packages is not None and names is None
            return Setup(
                names or (),
                python if isinstance(python, str) else "",
                f"{file.name}:{packages.lineno}" if packages is not None and is_computed else "",
            )
    return Setup()


def _is_setup(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name == "setup"


def _literal(value: ast.expr | None, assigned: Mapping[str, ast.expr]) -> object:
    """The value that is written there or assigned above; None for what is computed."""
    if isinstance(value, ast.Name):
        value = assigned.get(value.id)
    if value is None:
        return None
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
