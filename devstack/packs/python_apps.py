"""Which application a folder of Python holds and how it is served, read from its syntax trees.

Nothing is imported or executed. Well-known file names are looked at before others, files of the
top folder before those of packages, an application object before a factory, and only when there is
neither a script that runs by itself (`if __name__ == "__main__"`).
"""

import ast
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from devstack.packs.digest import PRUNED_FOLDERS

Interface = Literal["wsgi", "asgi", "script"]

_CONSTRUCTORS: Mapping[str, Interface] = {
    "flask.Flask": "wsgi",
    "bottle.Bottle": "wsgi",
    "falcon.App": "wsgi",
    "falcon.API": "wsgi",
    "django.core.wsgi.get_wsgi_application": "wsgi",
    "apiflask.APIFlask": "wsgi",
    "falcon.asgi.App": "asgi",
    "django.core.asgi.get_asgi_application": "asgi",
    "fastapi.FastAPI": "asgi",
    "fastapi.applications.FastAPI": "asgi",
    "starlette.applications.Starlette": "asgi",
    "quart.Quart": "asgi",
    "litestar.Litestar": "asgi",
    "blacksheep.Application": "asgi",
    "connexion.AsyncApp": "asgi",
    "channels.routing.ProtocolTypeRouter": "asgi",
    "channels.routing.get_default_application": "asgi",
    "socketio.ASGIApp": "asgi",
}
_OUTERMOST = frozenset(
    {
        "channels.routing.ProtocolTypeRouter",
        "channels.routing.get_default_application",
        "socketio.ASGIApp",
    }
)
"""Made around another application: who writes one beside a plain `wsgi.py` wants it served."""
_OWN_SERVERS = frozenset(
    {
        "aiohttp.web.AppRunner",
        "aiohttp.web.Application",
        "aiohttp.web.run_app",
        "eventlet.monkey_patch",
        "eventlet.wsgi.server",
        "flask_socketio.SocketIO",
        "gevent.monkey.patch_all",
        "gevent.pywsgi.WSGIServer",
        "gevent.server.StreamServer",
        "sanic.Sanic",
        "tornado.httpserver.HTTPServer",
        "tornado.web.Application",
    }
)
"""A script that calls one of these serves by itself, in a way that another server would break."""
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
_FACTORIES = (
    "create_app",
    "make_app",
    "build_app",
    "get_app",
    "create_application",
    "make_application",
    "app_factory",
)
_APP_NAMES = ("app", "application", "api", "asgi", "wsgi")
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
_LARGEST_BYTES = 2_000_000


@dataclass(frozen=True, slots=True)
class App:
    """What to serve, and how."""

    interface: Interface
    file: Path
    line: int
    root: Path
    """The folder that must be on the import path."""
    module: str
    attribute: str = ""
    """Empty for a script."""
    is_factory: bool = False

    @property
    def target(self) -> str:
        """As the runner takes it and as people write it: `package.module:create_app()`."""
        if self.interface == "script":
            return str(self.file)
        return f"{self.module}:{self.attribute}" + ("()" if self.is_factory else "")


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that Python cannot read, on the way to finding an application."""

    file: Path
    line: int
    message: str


@dataclass(slots=True)
class _Module:
    file: Path
    root: Path
    name: str
    imports: dict[str, str] = field(default_factory=dict)
    """Local name → dotted name it stands for."""
    tree: ast.Module = field(default_factory=lambda: ast.Module([], []))
    has_main_guard: bool = False


def find_app(source: Path) -> App | Broken | None:
    """The application of a folder; `Broken` when a likely file has a syntax error and no other fits."""
    named = _flask_variable(source)
    if named is not None and isinstance(found := resolve_app(source, named), App):
        return found
    reader = _Reader()
    broken: Broken | None = None
    modules: list[_Module] = []
    for file, root in _candidates(source):
        module = reader.read(file, root)
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
    reader = _Reader()
    text, _, attribute = wanted.partition(":")
    if attribute == "" and (source / text).is_file():
        file = source / text
        module = reader.read(file, source)
        if isinstance(module, Broken):
            return module
        return App("script", file, 1, source, file.stem)
    for root in _roots(source):
        base = root.joinpath(*text.split("."))
        for file in (base.with_suffix(".py"), base / "__init__.py", base / "__main__.py"):
            if not file.is_file():
                continue
            module = reader.read(file, root)
            if module is None or isinstance(module, Broken):
                return module
            if not attribute:
                found = reader.instance(module) or reader.factory(module)
                program = base / "__main__.py"
                if _is_package(module) and program.is_file():
                    module = _Module(program, root, f"{text}.__main__")
                return found or _script(module)
            return reader.named(module, attribute)
    return None


class _Reader:
    """Reads and remembers modules, so that an app made by an imported factory is understood."""

    def __init__(self) -> None:
        self._read: dict[Path, _Module | Broken | None] = {}

    def read(self, file: Path, root: Path) -> _Module | Broken | None:
        if file not in self._read:
            self._read[file] = _parse(file, root)
        return self._read[file]

    def outermost(self, module: _Module) -> App | None:
        is_meant = any(
            isinstance(value, ast.Call) and _dotted(value.func, module.imports) in _OUTERMOST
            for statement in _module_level(module.tree.body)
            for _, value in _assignments(statement)
        )
        return self.instance(module) if is_meant else None

    def instance(self, module: _Module) -> App | None:
        """The object with a usual name, else the first made, else a function that is one itself."""
        found: dict[str, tuple[Interface, int]] = {}
        functions: dict[str, tuple[Interface, int]] = {}
        for statement in _module_level(module.tree.body):
            if (own := _own_interface(statement)) is not None:
                functions[own[0]] = (own[1], statement.lineno)
            for name, value in _assignments(statement):
                interface = self._kind_of(value, module, depth=0)
                if interface is not None:
                    for wrapped in _names_in(value) & found.keys() - {name}:
                        del found[wrapped]
                    found[name] = (interface, statement.lineno)
        found |= {name: what for name, what in functions.items() if name not in found}
        if not found:
            return None
        name = next((known for known in _APP_NAMES if known in found), next(iter(found)))
        interface, line = found[name]
        return App(interface, module.file, line, module.root, module.name, name)

    def factory(self, module: _Module) -> App | None:
        functions = {
            statement.name: statement
            for statement in _module_level(module.tree.body)
            if isinstance(statement, ast.FunctionDef)
        }
        for name in _FACTORIES:
            if (function := functions.get(name)) is not None and not _needs_arguments(function):
                interface = self._made_by(function, module, depth=0)
                if interface is not None:
                    return App(
                        interface,
                        module.file,
                        function.lineno,
                        module.root,
                        module.name,
                        name,
                        True,
                    )
        return None

    def makes_server(self, module: _Module) -> bool:
        """Whether a module brings its own server, or runs one that a module it imports made."""
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                called = _dotted(node.func, module.imports)
                owner, _, method = called.rpartition(".")
                if called in _OWN_SERVERS or (method == "run" and self._is_server(owner, module)):
                    return True
            elif isinstance(node, ast.ClassDef) and any(
                _dotted(base, module.imports) in _OWN_SERVERS for base in node.bases
            ):
                return True
        return False

    def _is_server(self, name: str, module: _Module) -> bool:
        owner, _, attribute = name.rpartition(".")
        imported = self._import(owner, module) if owner else None
        return imported is not None and any(
            assigned == attribute
            and isinstance(value, ast.Call)
            and _dotted(value.func, imported.imports) in _OWN_SERVERS
            for statement in _module_level(imported.tree.body)
            for assigned, value in _assignments(statement)
        )

    def named(self, module: _Module, attribute: str) -> App | None:
        name = attribute.removesuffix("()")
        for statement in _module_level(module.tree.body):
            if (own := _own_interface(statement)) is not None and own[0] == attribute:
                return App(
                    own[1], module.file, statement.lineno, module.root, module.name, attribute
                )
            if isinstance(statement, ast.FunctionDef) and statement.name == name:
                interface = self._made_by(statement, module, depth=0) or "wsgi"
                return App(
                    interface, module.file, statement.lineno, module.root, module.name, name, True
                )
            for assigned, value in _assignments(statement):
                if assigned == name:
                    interface = self._kind_of(value, module, depth=0) or "wsgi"
                    return App(
                        interface, module.file, statement.lineno, module.root, module.name, name
                    )
        target = module.imports.get(name)
        if target is not None and (kind := self._kind_of_name(target, module, depth=0)):
            return App(kind, module.file, 1, module.root, module.name, name, attribute != name)
        return None

    def _kind_of(self, value: ast.expr, module: _Module, depth: int) -> Interface | None:
        """What an expression is, if it makes an application."""
        if isinstance(value, ast.Call):
            return self._kind_of_name(_dotted(value.func, module.imports), module, depth)
        if isinstance(value, ast.Attribute) and value.attr == "server":
            name = _dotted(value.value, module.imports)
            is_dash = any(
                assigned == name and _constructs(made, "dash.Dash", module.imports)
                for statement in _module_level(module.tree.body)
                for assigned, made in _assignments(statement)
            )
            return "wsgi" if is_dash else None
        return None

    def _kind_of_name(self, name: str, module: _Module, depth: int) -> Interface | None:
        if name in _CONSTRUCTORS:
            return _CONSTRUCTORS[name]
        if depth > 4 or not name:
            return None
        owner, _, attribute = name.rpartition(".")
        if not owner:
            return self._kind_of_definition(module, attribute, depth)
        imported = self._import(owner, module)
        return self._kind_of_definition(imported, attribute, depth) if imported else None

    def _kind_of_definition(self, module: _Module, name: str, depth: int) -> Interface | None:
        for statement in _module_level(module.tree.body):
            if isinstance(statement, ast.FunctionDef) and statement.name == name:
                return self._made_by(statement, module, depth + 1)
            if isinstance(statement, ast.ClassDef) and statement.name == name:
                for base in statement.bases:
                    kind = self._kind_of_name(_dotted(base, module.imports), module, depth + 1)
                    if kind is not None:
                        return kind
        target = module.imports.get(name)
        return self._kind_of_name(target, module, depth + 1) if target and target != name else None

    def _made_by(self, function: ast.FunctionDef, module: _Module, depth: int) -> Interface | None:
        """The kind of application that a function makes somewhere in its body."""
        imports = module.imports | _imports(function, module.name, _is_package(module))
        for node in ast.walk(function):
            if isinstance(node, ast.Call):
                local = _Module(module.file, module.root, module.name, imports, module.tree)
                name = _dotted(node.func, imports)
                if name == function.name:
                    continue
                kind = self._kind_of_name(name, local, depth + 1)
                if kind is not None:
                    return kind
        return None

    def _import(self, dotted: str, module: _Module) -> _Module | None:
        for root in dict.fromkeys((module.root, module.file.parent)):
            base = root.joinpath(*dotted.split("."))
            for file in (base.with_suffix(".py"), base / "__init__.py"):
                if file.is_file():
                    read = self.read(file, root)
                    return read if isinstance(read, _Module) else None
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
        entries = sorted(folder.iterdir(), key=_rank)
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


def _rank(path: Path) -> tuple[int, str]:
    known = _KNOWN_FILES.index(path.stem) if path.stem in _KNOWN_FILES else len(_KNOWN_FILES)
    return known, path.name


def _is_test(file: Path) -> bool:
    return file.name.startswith("test_") or file.name in {"conftest.py", "setup.py", "noxfile.py"}


def _may_hold_code(folder: Path) -> bool:
    name = folder.name
    if name in PRUNED_FOLDERS or name in _SKIPPED or name.startswith((".", "_")):
        return False
    return name.isidentifier() and not (folder / "pyvenv.cfg").exists()


def _parse(file: Path, root: Path) -> _Module | Broken | None:
    try:
        if file.stat().st_size > _LARGEST_BYTES:
            return None
        text = file.read_bytes()
        tree = ast.parse(text, filename=os.fspath(file))
    except OSError:
        return None
    except SyntaxError as error:
        return Broken(file, error.lineno or 1, f"{type(error).__name__}: {error.msg}")
    except ValueError as error:  # a null byte
        return Broken(file, 1, f"SyntaxError: {error}")
    import_root = _import_root(file, root, tree)
    name = _module_name(file, import_root)
    module = _Module(file, import_root, name)
    module.tree = tree
    module.imports = _imports(tree, name, file.stem == "__init__")
    module.has_main_guard = any(_is_main_guard(statement) for statement in tree.body)
    return module


def _import_root(file: Path, root: Path, tree: ast.Module) -> Path:
    """A top folder that is itself a package with relative imports is imported from its parent."""
    if file.parent != root or not (root / "__init__.py").exists():
        return root
    uses_relative = any(
        isinstance(statement, ast.ImportFrom) and statement.level > 0 for statement in tree.body
    )
    return root.parent if uses_relative or file.stem == "__init__" else root


def _module_name(file: Path, root: Path) -> str:
    parts = list(file.relative_to(root).with_suffix("").parts)
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    return ".".join(parts)


def _is_package(module: _Module) -> bool:
    return module.file.stem == "__init__"


def _imports(tree: ast.AST, module: str, is_package: bool) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                names[bound] = alias.name if alias.asname else bound
        elif isinstance(node, ast.ImportFrom):
            owner = _absolute(node, module, is_package)
            for alias in node.names:
                names[alias.asname or alias.name] = f"{owner}.{alias.name}" if owner else alias.name
    return names


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.split(".")
    drop = node.level - 1 if is_package else node.level
    package = parts[: len(parts) - drop] if drop else parts
    return ".".join([*package, *([node.module] if node.module else [])])


def _dotted(node: ast.expr, imports: Mapping[str, str]) -> str:
    """`fastapi.FastAPI` for whatever spelling the imports give it; "" for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    parts.append(imports.get(node.id, node.id))
    return ".".join(reversed(parts))


def _names_in(value: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}


def _constructs(value: ast.expr, name: str, imports: Mapping[str, str]) -> bool:
    return isinstance(value, ast.Call) and _dotted(value.func, imports) == name


def _module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run on import, also inside `if`, `try` and `with`; not the main guard."""
    for statement in body:
        yield statement
        if _is_main_guard(statement):
            continue
        if isinstance(statement, ast.If | ast.Try):
            yield from _module_level(statement.body)
            yield from _module_level(statement.orelse)
        elif isinstance(statement, ast.With):
            yield from _module_level(statement.body)


def _assignments(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, statement.value
    elif (
        isinstance(statement, ast.AnnAssign)
        and statement.value is not None
        and isinstance(statement.target, ast.Name)
    ):
        yield statement.target.id, statement.value


def _is_main_guard(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.If)
        and isinstance(statement.test, ast.Compare)
        and any(
            isinstance(node, ast.Name) and node.id == "__name__"
            for node in ast.walk(statement.test)
        )
    )


def _needs_arguments(function: ast.FunctionDef) -> bool:
    arguments = function.args
    positional = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return positional > 0 or any(default is None for default in arguments.kw_defaults)


def _own_interface(statement: ast.stmt) -> tuple[str, Interface] | None:
    """A function that is an application itself, by the argument names its interface has."""
    if isinstance(statement, ast.FunctionDef):
        names = [argument.arg for argument in statement.args.args]
        return (statement.name, "wsgi") if names == ["environ", "start_response"] else None
    if isinstance(statement, ast.AsyncFunctionDef):
        names = [argument.arg for argument in statement.args.args]
        return (statement.name, "asgi") if names == ["scope", "receive", "send"] else None
    return None


def _is_started_by(app: App, script: _Module) -> bool:
    """Whether a script with a server of its own is how the application is run.

    It holds the application, or has a usual name and lies no deeper: not a helper beside it.
    """
    if script.file == app.file:
        return True
    is_usual = script.file.stem in _SCRIPTS or script.file.stem in _KNOWN_FILES
    return is_usual and len(script.file.parts) <= len(app.file.parts)


def _script(module: _Module) -> App:
    return App("script", module.file, 1, module.root, module.name)


def _script_rank(module: _Module) -> tuple[int, int, str]:
    stem = module.file.stem
    known = _SCRIPTS.index(stem) if stem in _SCRIPTS else len(_SCRIPTS)
    return len(module.file.relative_to(module.root).parts), known, module.file.name


def _only_script(modules: list[_Module], source: Path) -> App | None:
    """No guard anywhere: the one file of the folder, or one that is called like a program."""
    top = [module for module in modules if module.file.parent == source and module.tree.body]
    if len(top) == 1 and not _is_package(top[0]):
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
