"""What a Dockerfile says its program is, as far as a message needs it. Nothing is built here."""

import json
import re
import shlex
from pathlib import Path

NAMES = ("Dockerfile", "Containerfile")

_INSTRUCTION = re.compile(r"^\s*(?P<word>CMD|ENTRYPOINT|FROM)\s+(?P<rest>.+)$", re.IGNORECASE)


def find_dockerfile(source: Path) -> Path | None:
    return next((source / name for name in NAMES if (source / name).is_file()), None)


def start_command(dockerfile: Path) -> str | None:
    """The ENTRYPOINT and CMD of the last stage, as one would type them."""
    said: dict[str, str] = {}
    text = dockerfile.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
    for line in text.splitlines():
        match = _INSTRUCTION.match(line)
        if match is None:
            continue
        word = match["word"].upper()
        if word == "FROM":
            said.clear()
        else:
            said[word] = _as_typed(match["rest"].strip())
    return " ".join(said[word] for word in ("ENTRYPOINT", "CMD") if said.get(word)) or None


def _as_typed(text: str) -> str:
    try:
        words = json.loads(text)
    except ValueError:
        return text
    return shlex.join(str(word) for word in words) if isinstance(words, list) else text
