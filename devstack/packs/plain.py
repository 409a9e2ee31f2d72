"""A folder of no known language whose start command the user wrote: nothing to prepare."""

import shlex
from pathlib import Path

from devstack.packs.base import Prepared, PrepareRequest
from devstack.packs.digest import digest_files, digest_values
from devstack.steps import StepRunner


class PlainPack:
    """Only the files that the command names count as source: the folder may hold the whole stack.

    What it writes to (`>> out.log`) is none: each start would be another revision.
    """

    name = "command"
    is_compiled = False

    def __init__(self, user_command: tuple[str, ...] | str) -> None:
        self._user_command = user_command

    def matches(self, source: Path) -> bool:
        return source.is_dir()

    def manifest_files(self, source: Path) -> tuple[Path, ...]:  # noqa: ARG002 - the protocol's arguments
        return ()

    def source_files(self, source: Path) -> tuple[Path, ...]:
        named = (source / word for word in self._words() if not word.startswith("-"))
        return tuple(sorted({file for file in named if file.is_file()}))

    async def prepare(self, request: PrepareRequest, steps: StepRunner) -> Prepared:  # noqa: ARG002 - the protocol's arguments
        files = digest_files(request.source, self.source_files(request.source))
        return Prepared(digest=digest_values("command", *self._words(), files), command=None)

    def _words(self) -> tuple[str, ...]:
        if not isinstance(self._user_command, str):
            return self._user_command
        lexer = shlex.shlex(self._user_command, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = ""
        try:
            words = list(lexer)
        except ValueError:
            return tuple(self._user_command.split())
        before = ("", *words)
        return tuple(
            word for word, last in zip(words, before, strict=False) if not _writes_to(last)
        )


def _writes_to(mark: str) -> bool:
    """Whether a shell's operator writes to the file that the next word names."""
    return ">" in mark and not mark.strip("<>&|")
