"""Which paths the `.gitignore` files of a source tree name.

Only the patterns git documents; the user's global excludes and `.git/info/exclude` are not read,
so that a checkout has the same revision for everyone.
"""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class _Rule:
    matches: re.Pattern[str]
    is_negated: bool
    folders_only: bool


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules of one folder's file; paths are relative to that folder, with `/`."""

    rules: tuple[_Rule, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> "IgnoreRules":
        try:
            text = (folder / ".gitignore").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return cls()
        return cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> "IgnoreRules":
        parsed = (_parse(line) for line in text.splitlines())
        return cls(tuple(rule for rule in parsed if rule is not None))

    def verdict(self, path: str, *, is_folder: bool) -> bool | None:
        """True: ignored, False: explicitly kept, None: not mentioned. The last match counts."""
        for rule in reversed(self.rules):
            if rule.folders_only and not is_folder:
                continue
            if rule.matches.fullmatch(path):
                return not rule.is_negated
        return None


def _parse(line: str) -> _Rule | None:
    if line.startswith("#"):
        return None
    pattern = re.sub(r"(?<!\\) +$", "", line)
    is_negated = pattern.startswith("!")
    if is_negated:
        pattern = pattern[1:]
    folders_only = pattern.endswith("/")
    pattern = pattern.rstrip("/")
    if not pattern:
        return None
    is_anchored = "/" in pattern
    expression = _translate(pattern.lstrip("/"))
    try:
        compiled = re.compile(expression if is_anchored else f"(?:.*/)?{expression}", re.DOTALL)
    except re.error:
        return None
    return _Rule(compiled, is_negated, folders_only)


def _translate(pattern: str) -> str:
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        rest = pattern[position:]
        if rest == "**":
            parts.append(".*")
            position += 2
        elif rest.startswith("**/") and (position == 0 or pattern[position - 1] == "/"):
            parts.append("(?:.*/)?")
            position += 3
        elif rest[0] == "*":
            parts.append("[^/]*")
            position += 1
        elif rest[0] == "?":
            parts.append("[^/]")
            position += 1
        elif rest[0] == "[" and "]" in rest[2:]:
            end = rest.index("]", 2)
            body = rest[1:end].replace("\\", "\\\\")
            parts.append("[" + ("^" + body[1:] if body[0] == "!" else body) + "]")
            position += end + 1
        elif rest[0] == "\\" and len(rest) > 1:
            parts.append(re.escape(rest[1]))
            position += 2
        else:
            parts.append(re.escape(rest[0]))
            position += 1
    return "".join(parts)
