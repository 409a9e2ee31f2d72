"""A folder of no known language whose start command the user wrote: nothing to prepare."""

import shlex
from pathlib import Path

from devstack.packs.base import Prepared, PrepareRequest
from devstack.packs.digest import digest_files, digest_values
from devstack.steps import StepRunner


class PlainPack:
    """Only the files that the command names count as source: the folder may hold the whole stack."""

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
        try:
            return tuple(shlex.split(self._user_command))
        except ValueError:
            return tuple(self._user_command.split())
