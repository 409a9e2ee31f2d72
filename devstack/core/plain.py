"""Values of the model as plain data, as JSON knows them, and back again.

One way for all who need it: digests, a client that sends the stack it loaded, and what a controller
leaves to the one after it. Each dataclass carries its name, so that unions need no guessing.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

T = TypeVar("T")

_TYPE = "type"


class NotPlain(ValueError):
    """Plain data that is no value of the wanted type."""


def to_plain(value: Any) -> Any:
    """A value of dataclasses, enums, tuples, mappings and scalars as JSON knows it."""
    if is_dataclass(value) and not isinstance(value, type):
        members = {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
        return {_TYPE: type(value).__name__, **members}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return value


def from_plain(raw: Any, kind: type[T]) -> T:
    """The value that `to_plain` was given. Raises `NotPlain` for anything else."""
    value: T = _value(raw, kind)
    return value


def _value(raw: Any, kind: Any) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        return _record(raw, kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _member(raw, kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _one_of(raw, arguments)
    if origin is tuple:
        return _items(raw, arguments)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(raw, dict):
            raise NotPlain(f"{type(raw).__name__} is no mapping")
        return {_value(key, arguments[0]): _value(item, arguments[1]) for key, item in raw.items()}
    return _scalar(raw, kind)


def _record(raw: Any, kind: Any) -> Any:
    if not isinstance(raw, dict) or raw.get(_TYPE) != kind.__name__:
        raise NotPlain(f"this is no {kind.__name__}")
    types = {f.name: f.type for f in fields(kind)}
    if raw.keys() != types.keys() | {_TYPE}:
        raise NotPlain(f"a {kind.__name__} has other fields")
    return kind(**{name: _value(raw[name], type_) for name, type_ in types.items()})


def _member(raw: Any, kind: type[Enum]) -> Enum:
    try:
        return kind(raw)
    except ValueError as error:
        raise NotPlain(str(error)) from error


def _one_of(raw: Any, kinds: tuple[Any, ...]) -> Any:
    if isinstance(raw, dict):
        for kind in kinds:
            if is_dataclass(kind) and raw.get(_TYPE) == getattr(kind, "__name__", None):
                return _record(raw, kind)
    for kind in kinds:
        if kind is NoneType and raw is None:
            return None
        if kind is not NoneType and not is_dataclass(kind):
            try:
                return _value(raw, kind)
            except NotPlain:
                continue
    raise NotPlain(f"{type(raw).__name__} is none of {len(kinds)} types")


def _items(raw: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(raw, list):
        raise NotPlain(f"{type(raw).__name__} is no list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_value(item, kinds[0]) for item in raw)
    if len(raw) != len(kinds):
        raise NotPlain(f"{len(raw)} items instead of {len(kinds)}")
    return tuple(_value(item, kind) for item, kind in zip(raw, kinds, strict=True))


def _scalar(raw: Any, kind: Any) -> Any:
    if kind is float and isinstance(raw, int) and not isinstance(raw, bool):
        return float(raw)
    if not isinstance(raw, kind) or (isinstance(raw, bool) and kind is not bool):
        raise NotPlain(f"{type(raw).__name__} is no {kind.__name__}")
    return raw
