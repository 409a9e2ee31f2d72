"""Reads the words behind a command: options and arguments, by hand.

argparse costs 12 ms and a subcommand each 1 ms more; what the commands need fits on this page.
"""

from __future__ import annotations

from devstack.cli.talk import usage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MOST_DIGITS = 9


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
        """A duration as the stack file has them: `300`, `5m`, `1m30s`."""
        text = self.values.get(name)
        if text is None:
            return usual
        from devstack.core.durations import seconds_of  # `re` is slow, and few name a time

        seconds = seconds_of(text)
        if seconds is None or not 0 < seconds < 1e9:
            raise usage_error(f"cannot read {name} {_short(text)}", "write seconds (300) or 5m")
        return seconds

    def number(self, name: str) -> int | None:
        text = self.values.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()) or len(text) > _MOST_DIGITS:
            raise usage_error(
                f"cannot read {name} {_short(text)}",
                f"write a whole number of up to {_MOST_DIGITS} digits",
            )
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
        elif letters := _letters(word, flags, values):
            rest = letters + rest
        else:
            raise usage_error(
                f"devstack {command} has no option {name}"
                + ("" if name not in flags else " with a value"),
                f"devstack {command} --help",
            )
    _count(command, options.arguments, most, least, wants)
    return options


def _letters(word: str, flags: Mapping[str, str], values: Mapping[str, str]) -> list[str]:
    """`-fn5` as `-f -n=5`; nothing where it is no such row of letters."""
    found: list[str] = []
    for place, letter in enumerate(word[1:], 2):
        name, behind = f"-{letter}", word[place:]
        if name in values:
            return [*found, f"{name}={behind.removeprefix('=')}" if behind else name]
        if name not in flags:
            return []
        found.append(name)
    return found


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


def _count(command: str, found: list[str], most: int | None, least: int, wants: str) -> None:
    if len(found) < least:
        raise usage_error(f"devstack {command} needs {wants}", f"devstack {command} --help")
    if most is not None and len(found) > most:
        raise usage_error(
            f"devstack {command} does not know what to do with '{found[most]}'",
            f"devstack {command} --help",
        )
