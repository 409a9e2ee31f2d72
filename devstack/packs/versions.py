"""Which of two version numbers is newer: plain numbers with dots, as toolchains have."""

import re


def version_numbers(text: str) -> tuple[int, ...]:
    """`v20.11.1` → (20, 11, 1); what follows the numbers (`rc1`, `+build`) does not count."""
    match = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def is_at_least(version: str, lowest: str) -> bool:
    """Missing places count as 0: 1.26 is at least 1.26.0."""
    have, need = version_numbers(version), version_numbers(lowest)
    width = max(len(have), len(need))
    return have + (0,) * (width - len(have)) >= need + (0,) * (width - len(need))
