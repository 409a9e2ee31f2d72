"""Reads the words behind a command: options and arguments, by hand.

argparse costs 12 ms and a subcommand each 1 ms more; what the commands need fits on this page.
"""

from __future__ import annotations

from devstack.cli.talk import usage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Options:
    """What was written, by long name."""

    __slots__ = ("arguments", "flags", "values")

    def __init__(self) -> None:
        self.arguments: list[str] = []
        self.flags: set[str] = set()
        self.values: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.flags or name in self.values

    def value(self, name: str) -> str | None:
        return self.values.get(name)

    def seconds(self, name: str, usual: float) -> float:
        """A duration: `300`, `300s`, `5m`."""
        text = self.values.get(name)
        if text is None:
            return usual
        unit = next((u for u in ("ms", "s", "m", "h") if text.endswith(u)), "")
        try:
            seconds = float(text[: len(text) - len(unit)]) * _UNITS.get(unit, 1.0)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < 1e9:
            raise usage_error(f"cannot read {name} {text}", "write seconds (300) or 5m")
        return seconds

    def number(self, name: str) -> int | None:
        text = self.values.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()):
            raise usage_error(f"cannot read {name} {text}", "write a whole number")
        return int(text)


def read(
    command: str,
    words: Sequence[str],
    *,
    flags: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
    most: int | None = 0,
    least: int = 0,
    wants: str = "",
) -> Options:
    """Read the words of a command; maps lead from each spelling to the long name.

    `most` and `least` limit the arguments, `wants` names them in errors.
    """
    flags, values = flags or {}, values or {}
    options = Options()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            options.arguments += rest
            break
        if not word.startswith("-") or word == "-":
            options.arguments.append(word)
            continue
        name, equals, value = word.partition("=")
        if name in flags and not equals:
            options.flags.add(flags[name])
        elif name in values:
            if not equals:
                if not rest:
                    raise usage_error(f"{name} needs a value", f"devstack {command} --help")
                value = rest.pop(0)
            options.values[values[name]] = value
        elif _is_cluster(word, flags):
            options.flags.update(flags[f"-{letter}"] for letter in word[1:])
        else:
            raise usage_error(
                f"devstack {command} has no option {name}"
                + ("" if name not in flags else " with a value"),
                f"devstack {command} --help",
            )
    _count(command, options.arguments, most, least, wants)
    return options


def _is_cluster(word: str, flags: Mapping[str, str]) -> bool:
    return len(word) > 2 and word[1] != "-" and all(f"-{letter}" in flags for letter in word[1:])


def _count(command: str, found: list[str], most: int | None, least: int, wants: str) -> None:
    if len(found) < least:
        raise usage_error(f"devstack {command} needs {wants}", f"devstack {command} --help")
    if most is not None and len(found) > most:
        raise usage_error(
            f"devstack {command} does not know what to do with '{found[most]}'",
            f"devstack {command} --help",
        )
