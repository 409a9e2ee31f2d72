"""Reads the tree by the schema: every mistake as one problem at its place, and a model of the rest.

What is wrong is cut out and the rest read again, so that a misspelt key in one service does not
hide a dependency cycle between two others. Pydantic hands back the value it refused, and values
know their places; keys are found along the error's location.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from devstack.config.dotenv import ENV_NAME
from devstack.config.problems import Place, did_you_mean
from devstack.config.schema import (
    SHAPES,
    BrokerSection,
    Context,
    DatabaseSection,
    ServiceSection,
    StackFile,
    Written,
)
from devstack.config.source import Items, Node, Scalar, Section
from devstack.config.words import TOLD, shape

NAMED_SECTIONS: Final = ("services", "databases", "broker")

_SECTIONS: Final[Mapping[str, type[Written]]] = {
    "services": ServiceSection,
    "databases": DatabaseSection,
    "broker": BrokerSection,
}
_EXAMPLE_NAMES: Final = {"services": "api", "databases": "db", "broker": "nats"}

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


@dataclass(frozen=True, slots=True)
class Checked:
    """What could be read, and what of it has lost something."""

    file: StackFile
    damaged: frozenset[str]
    """Names of services of which a part was cut out: what they lack is not a mistake of its own."""


def check(tree: Section, context: Context) -> Checked:
    """Read the tree; it is changed where something in it is wrong.

    Each round takes out what was refused, or what it is in where nothing stands at its place (a
    key that is missing), so there is an end: an empty tree can be read.
    """
    damaged: set[str] = set()
    is_told = False
    while True:
        try:
            return Checked(StackFile.model_validate(tree, context=context), frozenset(damaged))
        except ValidationError as exc:
            errors = exc.errors(include_url=False)
            paths = [_path(error) for error in errors]
            if not is_told:
                for error, path in zip(errors, paths, strict=True):
                    _report(error, path, tree, context)
                is_told = True
            damaged.update(str(p[1]) for p in paths if len(p) > 1 and p[0] in NAMED_SECTIONS)
            refused = [found for path in paths if (found := _innermost(tree, path))]
            if not refused:
                raise  # the tree is not what is wrong
            for owner, key in refused:
                owner.pop(key, None)  # it may be there twice: refused for two reasons


def _path(error: ErrorDetails) -> list[int | str]:
    """The keys that lead to what was refused, without what pydantic puts between them."""
    path = [part for part in error["loc"] if part not in SHAPES]
    return path[:-1] if _is_of_key(error) else path


def _is_of_key(error: ErrorDetails) -> bool:
    """Whether a key itself was refused: everything else in the tree is a node, with a place."""
    return isinstance(error["input"], str)


def _innermost(tree: Section, path: list[int | str]) -> tuple[Section, str] | None:
    """The last key of a path that is there, and the map it is in; a list counts as a whole."""
    found: tuple[Section, str] | None = None
    node: Node = tree
    for part in path:
        if not isinstance(node, Section) or str(part) not in node:
            break
        found = (node, str(part))
        node = node[str(part)]
    return found


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
    elif _is_of_key(error):
        message, hint = _words(error)
        context.error(_key_place(path, tree), f"{_what_key(path)} {message}", hint)
    else:
        value = error["input"]
        place = (
            value.place if isinstance(value, (Scalar, Section, Items)) else _key_place(path, tree)
        )
        message, hint = _words(error)
        hint = _hint_of_a_name(path, value) or hint
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
        name, equals, _ = value[0].text.partition("=")
        if equals and ENV_NAME.fullmatch(name):
            return f"write '{name}: value', not '- {name}=value'"  # what it is may be a secret
        return "write 'name: value' lines without the leading '- '"
    return ""


def _hint_of_a_name(path: list[int | str], value: object) -> str:
    """For what belongs one level further in: `broker: {engine: nats}`."""
    match path:
        case [str(section), str(key)] if key in _SECTIONS.get(section, Written).model_fields:
            name = _EXAMPLE_NAMES[section]
            said = value.text if key == "engine" and isinstance(value, Scalar) else "…"
            return f"give it a name: '{name}: {{{key}: {said}}}'"
        case _:
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
    match path:
        case ["gateway", *_]:
            return "a route"
        case [_, _, ("environment" | "depends_on") as section, *_]:
            return f"a key of '{section}'"
        case [_, _, *more] if more:
            return "the name of a port"
        case ["databases", *_]:
            return "the name of a database"
        case ["broker", *_]:
            return "the name of a broker"
        case _:
            return "the name of a service"
