"""Which application a module of Python makes, and which interface that has.

Known are the constructors of frameworks, subclasses of theirs, functions that make one (here or in
a module that is imported) and functions that are an application themselves.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from devstack.packs.python_modules import Module, Modules, assignments

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
_MOST_HOPS = 4
"""From a name to what it stands for, through imports, bases and factories."""


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
class AppReader:
    """Reads what modules make, those they import included."""

    modules: Modules

    def outermost(self, module: Module) -> App | None:
        """As `instance`, where one is made around another."""
        is_meant = any(
            module.called(value) in _OUTERMOST
            for statement in module.statements()
            for _, value in assignments(statement)
        )
        return self.instance(module) if is_meant else None

    def instance(self, module: Module) -> App | None:
        """The object with a usual name, else the first made, else a function that is one itself."""
        found: dict[str, tuple[Interface, int]] = {}
        functions: dict[str, tuple[Interface, int]] = {}
        for statement in module.statements():
            if (own := _own_interface(statement)) is not None:
                functions[own[0]] = (own[1], statement.lineno)
            for name, value in assignments(statement):
                interface = self._kind_of(value, module)
                if interface is not None:
                    for wrapped in _names_in(value) & found.keys() - {name}:
                        del found[wrapped]
                    found[name] = (interface, statement.lineno)
        found |= {name: what for name, what in functions.items() if name not in found}
        if not found:
            return None
        name = next((known for known in _APP_NAMES if known in found), next(iter(found)))
        interface, line = found[name]
        return _app(module, interface, line, name)

    def factory(self, module: Module) -> App | None:
        """A function of a usual name that makes one and can be called without arguments."""
        functions = {
            statement.name: statement
            for statement in module.statements()
            if isinstance(statement, ast.FunctionDef)
        }
        for name in _FACTORIES:
            if (function := functions.get(name)) is not None and not _needs_arguments(function):
                interface = self._made_by(function, module, hops=0)
                if interface is not None:
                    return _app(module, interface, function.lineno, name, is_factory=True)
        return None

    def named(self, module: Module, attribute: str) -> App | None:
        """What a user names, `make()` for a factory; believed where its kind cannot be told."""
        name = attribute.removesuffix("()")
        for statement in module.statements():
            line = statement.lineno
            if (own := _own_interface(statement)) is not None and own[0] == attribute:
                return _app(module, own[1], line, attribute)
            if isinstance(statement, ast.FunctionDef) and statement.name == name:
                interface = self._made_by(statement, module, hops=0) or "wsgi"
                return _app(module, interface, line, name, is_factory=True)
            for assigned, value in assignments(statement):
                if assigned == name:
                    return _app(module, self._kind_of(value, module) or "wsgi", line, name)
        target = module.imports.get(name)
        if target is not None and (kind := self._kind_of_name(target, module, hops=0)):
            return _app(module, kind, 1, name, is_factory=attribute != name)
        return None

    def makes_server(self, module: Module) -> bool:
        """Whether a module brings its own server, or runs one that a module it imports made."""
        for node in ast.walk(module.tree):
            called = module.called(node)
            owner, _, method = called.rpartition(".")
            if called in _OWN_SERVERS or (method == "run" and self._is_server(owner, module)):
                return True
            if isinstance(node, ast.ClassDef) and any(
                module.dotted(base) in _OWN_SERVERS for base in node.bases
            ):
                return True
        return False

    def _is_server(self, name: str, module: Module) -> bool:
        owner, _, attribute = name.rpartition(".")
        imported = self.modules.imported(owner, module) if owner else None
        return imported is not None and any(
            imported.called(value) in _OWN_SERVERS for value in imported.values_of(attribute)
        )

    def _kind_of(self, value: ast.expr, module: Module) -> Interface | None:
        """What an expression is, if it makes an application."""
        if isinstance(value, ast.Attribute) and value.attr == "server":
            made = module.values_of(module.dotted(value.value))
            return "wsgi" if any(module.called(one) == "dash.Dash" for one in made) else None
        return self._kind_of_name(module.called(value), module, hops=0)

    def _kind_of_name(self, name: str, module: Module, hops: int) -> Interface | None:
        if name in _CONSTRUCTORS:
            return _CONSTRUCTORS[name]
        if hops > _MOST_HOPS or not name:
            return None
        owner, _, attribute = name.rpartition(".")
        defining = self.modules.imported(owner, module) if owner else module
        return self._kind_of_definition(defining, attribute, hops) if defining else None

    def _kind_of_definition(self, module: Module, name: str, hops: int) -> Interface | None:
        for statement in module.statements():
            if isinstance(statement, ast.FunctionDef) and statement.name == name:
                return self._made_by(statement, module, hops + 1)
            if isinstance(statement, ast.ClassDef) and statement.name == name:
                for base in statement.bases:
                    kind = self._kind_of_name(module.dotted(base), module, hops + 1)
                    if kind is not None:
                        return kind
        target = module.imports.get(name)
        return self._kind_of_name(target, module, hops + 1) if target and target != name else None

    def _made_by(self, function: ast.FunctionDef, module: Module, hops: int) -> Interface | None:
        """The kind of application that a function makes somewhere in its body."""
        local = replace(module, imports=module.imports_within(function))
        for node in ast.walk(function):
            name = local.called(node)
            if name == function.name:
                continue
            kind = self._kind_of_name(name, local, hops + 1)
            if kind is not None:
                return kind
        return None


def _app(
    module: Module, interface: Interface, line: int, attribute: str, *, is_factory: bool = False
) -> App:
    return App(interface, module.file, line, module.root, module.name, attribute, is_factory)


def _names_in(value: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}


def _needs_arguments(function: ast.FunctionDef) -> bool:
    arguments = function.args
    positional = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return positional > 0 or any(default is None for default in arguments.kw_defaults)


def _own_interface(statement: ast.stmt) -> tuple[str, Interface] | None:
    """A function that is an application itself, by the argument names its interface has."""
    match statement:
        case ast.FunctionDef() if _arguments(statement) == ["environ", "start_response"]:
            return statement.name, "wsgi"
        case ast.AsyncFunctionDef() if _arguments(statement) == ["scope", "receive", "send"]:
            return statement.name, "asgi"
        case _:
            return None


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    return [argument.arg for argument in function.args.args]
