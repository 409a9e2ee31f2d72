"""Which application or script of a Python folder is started.

Well-known file names are looked at before others, files of the top folder before those of packages,
an application object before a factory, and only when there is neither a script that runs by itself
(`if __name__ == "__main__"`).
"""

import re
from collections.abc import Iterator
from pathlib import Path

from devstack.packs.digest import PRUNED_FOLDERS
from devstack.packs.python_apps import App, AppReader
from devstack.packs.python_modules import Broken, Module, Modules, module_files

_KNOWN_FILES = (
    "wsgi",
    "asgi",
    "app",
    "main",
    "application",
    "server",
    "api",
    "run",
    "__init__",
    "factory",
)
_SCRIPTS = ("__main__", "main", "app", "run", "server", "worker", "start", "service", "index")
_SKIPPED = frozenset(
    {
        "tests",
        "test",
        "docs",
        "doc",
        "migrations",
        "alembic",
        "examples",
        "scripts",
        "build",
        "dist",
    }
)
_DEEPEST = 3


def find_app(source: Path) -> App | Broken | None:
    """The application of a folder; `Broken` when a likely file has a syntax error and no other fits."""
    named = _flask_variable(source)
    if named is not None and isinstance(found := resolve_app(source, named), App):
        return found
    reader = AppReader(Modules())
    broken: Broken | None = None
    modules: list[Module] = []
    for file, root in _candidates(source):
        module = reader.modules.read(file, root)
        if isinstance(module, Broken):
            broken = broken or module
        elif module is not None:
            modules.append(module)
    scripts = [module for module in modules if module.has_main_guard]
    searches = (reader.outermost, reader.instance, reader.factory)
    apps = (made for search in searches for module in modules if (made := search(module)))
    app = next(apps, None)
    serving = [script for script in scripts if reader.makes_server(script)]
    for script in serving:
        if app is not None and _is_started_by(app, script):
            return _script(script)
    if app is not None or broken is not None:
        return app or broken
    if scripts:
        return _script(min(serving or scripts, key=_script_rank))
    return _only_script(modules, source)


def resolve_app(source: Path, wanted: str) -> App | Broken | None:
    """What a user names: `package.module:attribute`, `module:create_app()`, a script or a module."""
    reader = AppReader(Modules())
    text, _, attribute = wanted.partition(":")
    if attribute == "" and (source / text).is_file():
        file = source / text
        module = reader.modules.read(file, source)
        if isinstance(module, Broken):
            return module
        return App("script", file, 1, source, file.stem)
    for root in _roots(source):
        plain, package = module_files(root, text)
        program = package.with_name("__main__.py")
        for file in (plain, package, program):
            if not file.is_file():
                continue
            module = reader.modules.read(file, root)
            if module is None or isinstance(module, Broken):
                return module
            if attribute:
                return reader.named(module, attribute)
            if found := reader.instance(module) or reader.factory(module):
                return found
            if file == package and program.is_file():
                return App("script", program, 1, root, f"{text}.__main__")
            return _script(module)
    return None


def _candidates(source: Path) -> Iterator[tuple[Path, Path]]:
    """Files in the order in which they are believed, each with its import root."""
    for root in _roots(source):
        yield from _files_of(root, root, depth=0)


def _roots(source: Path) -> tuple[Path, ...]:
    layout = source / "src"
    if layout.is_dir() and not (layout / "__init__.py").exists():
        return (layout, source) if not any(source.glob("*.py")) else (source, layout)
    return (source,)


def _files_of(folder: Path, root: Path, depth: int) -> Iterator[tuple[Path, Path]]:
    try:
        entries = sorted(folder.iterdir(), key=_file_rank)
    except OSError:
        return
    for entry in entries:
        if entry.suffix == ".py" and entry.is_file() and not _is_test(entry):
            yield entry, root
    for entry in entries:
        if depth < _DEEPEST and entry.is_dir() and not entry.is_symlink() and _may_hold_code(entry):
            if depth == 0 and entry.name == "src" and not (entry / "__init__.py").exists():
                continue
            yield from _files_of(entry, root, depth + 1)


def _file_rank(path: Path) -> tuple[int, str]:
    return _place(path.stem, _KNOWN_FILES), path.name


def _script_rank(module: Module) -> tuple[int, int, str]:
    depth = len(module.file.relative_to(module.root).parts)
    return depth, _place(module.file.stem, _SCRIPTS), module.file.name


def _place(stem: str, known: tuple[str, ...]) -> int:
    return known.index(stem) if stem in known else len(known)


def _is_test(file: Path) -> bool:
    return file.name.startswith("test_") or file.name in {"conftest.py", "setup.py", "noxfile.py"}


def _may_hold_code(folder: Path) -> bool:
    name = folder.name
    if name in PRUNED_FOLDERS or name in _SKIPPED or name.startswith((".", "_")):
        return False
    return name.isidentifier() and not (folder / "pyvenv.cfg").exists()


def _is_started_by(app: App, script: Module) -> bool:
    """Whether a script with a server of its own is how the application is run.

    It holds the application, or has a usual name and lies no deeper: not a helper beside it.
    """
    if script.file == app.file:
        return True
    is_usual = script.file.stem in _SCRIPTS or script.file.stem in _KNOWN_FILES
    return is_usual and len(script.file.parts) <= len(app.file.parts)


def _script(module: Module) -> App:
    return App("script", module.file, 1, module.root, module.name)


def _only_script(modules: list[Module], source: Path) -> App | None:
    """No guard anywhere: the one file of the folder, or one that is called like a program."""
    top = [module for module in modules if module.file.parent == source and module.tree.body]
    if len(top) == 1 and not top[0].is_package:
        return _script(top[0])
    named = [module for module in top if module.file.stem in _SCRIPTS]
    return _script(min(named, key=_script_rank)) if named else None


def _flask_variable(source: Path) -> str | None:
    """`FLASK_APP` of a `.flaskenv`, which is there to be checked in."""
    try:
        text = (source / ".flaskenv").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"^\s*(?:export\s+)?FLASK_APP\s*=\s*[\"']?([^\"'\s]+)", text, re.MULTILINE)
    if match is None:
        return None
    value = match[1]
    return value.removesuffix(".py").replace("/", ".") if value.endswith(".py") else value
