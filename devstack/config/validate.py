"""Reads the tree by the schema: every mistake as one problem at its place, and a model of the rest.

What is wrong is cut out and the rest read again, so that a misspelt key in one service does not
hide a dependency cycle between two others. Pydantic hands back the value it refused, and values
know their places; keys are found along the error's location.
"""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from devstack.config.problems import Place, did_you_mean
from devstack.config.schema import SHAPES, Context, StackFile
from devstack.config.source import Items, Node, Scalar, Section
from devstack.config.words import TOLD, shape

NAMED_SECTIONS: Final = ("services", "databases", "broker")

# Words of other tools, and what says the same here.
_FOREIGN: Final = {
    "cmd": "command",
    "container_name": "the name of the service",
    "deploy": "replicas",
    "entrypoint": "command",
    "env": "environment",
    "health": "ready",
    "health_check": "ready",
    "healthcheck": "ready",
    "initial_scale": "replicas",
    "liveness": "alive",
    "liveness_probe": "alive",
    "readiness": "ready",
    "readiness_probe": "ready",
    "restart_policy": "restart",
    "scale": "replicas",
    "stop_grace_period": "stop: {grace: 10s}",
    "stop_signal": "stop: {signal: INT}",
    "working_dir": "source",
}


_EXACTLY: Final = 100
"""Cut at the very place first; further up if that leaves something that still cannot be read."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What could be read, and what of it has lost something."""

    file: StackFile
    damaged: frozenset[str]
    """Names of services of which a part was cut out: what they lack is not a mistake of its own."""


def check(tree: Section, context: Context) -> Checked:
    """Read the tree; it is changed where something in it is wrong."""
    damaged: set[str] = set()
    for depth in (_EXACTLY, 3, 2, 1):
        try:
            return Checked(StackFile.model_validate(tree, context=context), frozenset(damaged))
        except ValidationError as exc:
            errors = exc.errors(include_url=False)
        for error in errors:
            path = [part for part in error["loc"] if part not in SHAPES]
            if depth == _EXACTLY:
                _report(error, path, tree, context)
            if len(path) > 1 and path[0] in NAMED_SECTIONS:
                damaged.add(str(path[1]))
        for error in errors:
            _cut(tree, _cuttable(error["loc"])[:depth])
    return Checked(StackFile.model_validate(tree, context=context), frozenset(damaged))


def _cuttable(location: tuple[int | str, ...]) -> list[int | str]:
    """The keys down to the value that was refused; a list is cut as a whole."""
    path = [part for part in location if part not in SHAPES and part != "[key]"]
    numbers = [i for i, part in enumerate(path) if isinstance(part, int)]
    return path[: numbers[0]] if numbers else path


def _cut(tree: Section, path: list[int | str]) -> None:
    parent = _walk(tree, path[:-1])
    if path and isinstance(parent, Section):
        parent.pop(str(path[-1]), None)


def _walk(tree: Node, path: list[int | str]) -> Node | None:
    node: Node | None = tree
    for part in path:
        if isinstance(node, Section):
            node = node.get(str(part))
        elif isinstance(node, Items) and isinstance(part, int):
            node = node[part] if part < len(node) else None
        else:
            return None
    return node


def _report(error: ErrorDetails, path: list[int | str], tree: Section, context: Context) -> None:
    kind = error["type"]
    if kind == TOLD:
        return
    if kind == "extra_forbidden":
        _report_unknown_key(path, tree, context)
    elif kind == "missing":
        _report_missing_key(path, tree, context)
    elif path and path[-1] == "[key]":
        place = _key_place(path[:-1], tree)
        message, hint = _words(error)
        context.error(place, f"{_what_key(path)} {message}", hint)
    else:
        value = error["input"]
        place = (
            value.place if isinstance(value, (Scalar, Section, Items)) else _key_place(path, tree)
        )
        message, hint = _words(error)
        is_empty = isinstance(value, Scalar) and value.is_null
        context.error(
            _key_place(path, tree) if is_empty else place, f"'{_label(path)}' {message}", hint
        )


def _report_unknown_key(path: list[int | str], tree: Section, context: Context) -> None:
    key = str(path[-1])
    parent = _walk(tree, path[:-1])
    known: tuple[str, ...] = ()
    if isinstance(parent, Section):
        known = context.keys.get(id(parent), ())
    near = did_you_mean(key, known)
    hint = f"devstack says '{_FOREIGN[key]}'" if key in _FOREIGN and not near else ""
    if not near and not hint and known:
        hint = f"known here: {', '.join(known)}"
    context.error(_key_place(path, tree), f"unknown key '{key}'{near}", hint)


def _report_missing_key(path: list[int | str], tree: Section, context: Context) -> None:
    owner = _label(path[:-1])
    subject = f"'{owner}'" if owner else "the stack file"
    context.error(_key_place(path[:-1], tree), f"{subject} needs '{path[-1]}'")


def _words(error: ErrorDetails) -> tuple[str, str]:
    """Message and hint of an error; the message goes on after the name of the key."""
    value: Any = error["input"]
    if isinstance(value, Scalar) and value.is_null and error["type"] != "stack_file":
        return "is empty", ""
    match error["type"]:
        case "stack_file":
            ctx = error.get("ctx", {})
            return ctx["message"], ctx["hint"]
        case "wrong_shape":
            return f"{error['msg']}, not {shape(value)}", ""
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"must be a map, not {shape(value)}", _map_hint(value)
        case "list_type":
            return f"must be a list, not {shape(value)}", ""
        case "too_short":
            return "is empty", ""
        case _:
            return error["msg"].lower(), ""


def _map_hint(value: object) -> str:
    if isinstance(value, Items) and value and isinstance(value[0], Scalar):
        return "write 'name: value' lines without the leading '- '"
    return ""


def _key_place(path: list[int | str], tree: Section) -> Place:
    """Where the key at the end of the path stands; that of what it is in, where it is not there."""
    for end in range(len(path), 0, -1):
        parent = _walk(tree, path[: end - 1])
        part = path[end - 1]
        if isinstance(parent, Section) and str(part) in parent.key_places:
            return parent.key_places[str(part)]
        if isinstance(parent, Items) and isinstance(part, int) and part < len(parent):
            return parent[part].place
    return tree.place


def _label(path: list[int | str]) -> str:
    """The path as people say it: `port` for services.orders.port, `ready.http`, `command[2]`."""
    parts = path[2:] if len(path) > 2 and path[0] in NAMED_SECTIONS else path
    label = ""
    for part in parts:
        if isinstance(part, int):
            label += f"[{part + 1}]"
        else:
            label += f".{part}" if label else part
    return label


def _what_key(path: list[int | str]) -> str:
    match path[0]:
        case "gateway":
            return "a route"
        case _ if "environment" in path:
            return "a key of 'environment'"
        case _ if "ports" in path:
            return "the name of a port"
        case _ if "depends_on" in path:
            return "a key of 'depends_on'"
        case "databases":
            return "the name of a database"
        case "broker":
            return "the name of a broker"
        case _:
            return "the name of a service"
