"""Reads TOML of the user's without trusting its shape: what is not there or odd is empty."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from devstack.packs.base import CannotPrepare

Table = Mapping[str, object]


def read_toml(file: Path) -> Table:
    """The document; empty when there is no such file. Raises `CannotPrepare` with the line."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CannotPrepare(f"cannot read {file}: {error}", "correct the file") from error


def table(document: Table, *keys: str) -> Table:
    value: object = document
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def tables(document: Table, key: str) -> tuple[Table, ...]:
    value = document.get(key)
    return (
        tuple(entry for entry in value if isinstance(entry, Mapping))
        if isinstance(value, list)
        else ()
    )


def strings(document: Table, key: str) -> tuple[str, ...]:
    value = document.get(key)
    return (
        tuple(entry for entry in value if isinstance(entry, str)) if isinstance(value, list) else ()
    )


def string(document: Table, key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""
