"""Whether a version is one that was asked for."""

import re

_CLAUSE = re.compile(r"(>=|<=|==|=|>|<|~|\^)?\s*v?(\d+(?:\.(?:\d+|x|\*))*)")


def parse_version(text: str) -> tuple[int, ...]:
    """The leading numbers: `10.11.19-MariaDB` is (10, 11, 19), `0.7.0b3` is (0, 7, 0)."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def at_least(version: str, minimum: str) -> bool:
    return _compare(parse_version(version), parse_version(minimum)) >= 0


def fits(version: str, wanted: str | None) -> bool:
    """`18` and `18.x` ask for any 18, `>=1.24` and `>=18 <23` for a range, None for any."""
    if wanted is None or not wanted.strip():
        return True
    clauses = _CLAUSE.findall(wanted)
    if not clauses:
        return False
    have = parse_version(version)
    return all(_clause_fits(have, operator, text) for operator, text in clauses)


def _clause_fits(have: tuple[int, ...], operator: str, text: str) -> bool:
    limit = parse_version(text)
    match operator:
        case ">=":
            return _compare(have, limit) >= 0
        case "<=":
            return _compare(have[: len(limit)], limit) <= 0
        case ">":
            return _compare(have[: len(limit)], limit) > 0
        case "<":
            return _compare(have, limit) < 0
        case "^":
            return have[:1] == limit[:1] and _compare(have, limit) >= 0
        case "~":
            return have[:2] == limit[:2] and _compare(have, limit) >= 0
        case _:
            return have[: len(limit)] == limit


def _compare(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    length = max(len(one), len(other))
    left, right = one + (0,) * (length - len(one)), other + (0,) * (length - len(other))
    return (left > right) - (left < right)
