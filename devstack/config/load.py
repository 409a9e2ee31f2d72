"""Reads a stack file with its override and `.env`, and gives the Stack.

Nothing is executed, imported or written: `load` is safe on any checkout.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from devstack.config.dotenv import read_env_file
from devstack.config.interpolate import fill_in
from devstack.config.lower import lower
from devstack.config.names import Names, check_references, declared_names, settle_dependencies
from devstack.config.problems import Place, Problem, sort_problems
from devstack.config.schema import Context
from devstack.config.source import Items, Scalar, Section, Unreadable, read_text, read_tree
from devstack.config.validate import check
from devstack.core.model import Scheme, Service, Stack
from devstack.keeper.places import stack_id_of


@dataclass(frozen=True, slots=True)
class Loaded:
    """A stack and what it was made from."""

    stack: Stack
    warnings: tuple[Problem, ...]
    env_files: tuple[Path, ...]
    """`.env` beside the stack file, where there is one, and every `env_file`."""
    files: tuple[Path, ...]
    """The stack file, and its override where there is one."""


def override_path(path: Path) -> Path:
    """`stack.override.yaml` for `stack.yaml`."""
    return path.with_name(f"{path.stem}.override{path.suffix}")


def load(path: Path, environment: Mapping[str, str]) -> Loaded:
    """Read a stack file; raises `ConfigError` with every problem of it.

    `environment` fills in `${VAR}` and wins over `.env`, as it does elsewhere.
    """
    path = path.resolve()
    folder = path.parent
    context = Context()
    try:
        tree, files = _read_files(path, context)
    except Unreadable:
        context.raise_problems()
        raise
    dotenv = folder / ".env"
    env_files = [dotenv] if os.path.lexists(dotenv) else []
    variables = read_env_file(dotenv, ".env", context) if env_files else {}
    tree = fill_in(tree, {**variables, **environment}, context)
    places = declared_names(tree, context)

    checked = check(tree, context)
    lowered = lower(checked, tree, folder, places, context)
    missing = frozenset(places) - frozenset(lowered.services)
    names = Names(places, checked.damaged | missing)
    services = settle_dependencies(lowered.services, names, tree, context)
    check_references(tree, services, names, context)
    if not places and not context.problems:
        context.error(Place(path.name), "the stack has no services", "add one under 'services:'")
    _warn_of_streams(services.values(), tree, context)
    context.raise_problems()

    stack = Stack(
        name=checked.file.name or _name_of_folder(folder),
        id=stack_id_of(str(path)),
        file=str(path),
        folder=str(folder),
        services=services,
        gateway=lowered.gateway,
    )
    found = tuple(dict.fromkeys([*env_files, *lowered.env_files]))
    return Loaded(stack, sort_problems(context.warnings), found, files)


def _read_files(path: Path, context: Context) -> tuple[Section, tuple[Path, ...]]:
    tree = read_tree(read_text(path, path.name, context), path.name, context)
    override = override_path(path)
    if not os.path.lexists(override):
        return tree, (path,)
    changes = read_tree(read_text(override, override.name, context), override.name, context)
    return _merged(tree, changes), (path, override)


def _merged(base: Section, changes: Section) -> Section:
    """Maps merge, everything else replaces; each value keeps the place it came from.

    A key with nothing below it, as when its lines are commented out, takes no map or list away.
    """
    merged = Section(base.place)
    for key, node in base.items():
        merged.put(key, base.key_places[key], node)
    for key, node in changes.items():
        before = merged.get(key)
        if isinstance(before, Section) and isinstance(node, Section):
            merged.put(key, base.key_places[key], _merged(before, node))
        elif isinstance(before, Section | Items) and isinstance(node, Scalar) and node.is_null:
            continue
        else:
            merged.put(key, changes.key_places[key], node)
    return merged


def _name_of_folder(folder: Path) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")
    return re.sub(r"^[^a-z]+", "", name)[:40].rstrip("-") or "stack"


def _warn_of_streams(services: Iterable[Service], tree: Section, context: Context) -> None:
    section = tree.get("services")
    for service in services:
        streams = any(e.scheme is Scheme.TCP for e in service.balanced_endpoints)
        if streams and isinstance(section, Section):
            context.warn(
                section.key_place(service.name),
                f"'{service.name}' speaks tcp: its idle connections end when the gateway's "
                "configuration changes",
                "clients connect again; scaling and reloading code do not change it",
            )
