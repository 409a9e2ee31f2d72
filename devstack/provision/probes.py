"""What a program answers when asked for its version, remembered as long as the file is the same.

A start of the stack asks a dozen programs; some take 50 ms to answer.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from devstack.bootstrap.cache import CacheUnusable, make_private_folder
from devstack.provision.tool import Settings
from devstack.steps import StepFailed, StepRunner

_TIMEOUT_SECONDS = 20.0


async def ask_version(
    program: Path, arguments: Sequence[str], steps: StepRunner, settings: Settings
) -> str:
    """The program's whole answer, empty where it does not start."""
    return await remembered(program, arguments, steps, settings, kind="answer")


async def remembered(
    program: Path,
    arguments: Sequence[str],
    steps: StepRunner,
    settings: Settings,
    *,
    kind: str,
) -> str:
    """Run `program arguments` unless the same file was asked before under this `kind`."""
    memory = _Memory(settings.cache / "probes.json")
    key = f"{kind}:{program}:{_identity(program)}"
    known = memory.read().get(key)
    if known is not None:
        return known
    try:
        result = await steps.run(
            [str(program), *arguments],
            title=f"ask {program.name} for its version",
            env={"GOTOOLCHAIN": "local", "LC_ALL": "C"},
            cwd=Path("/"),
            check=False,
            timeout_seconds=_TIMEOUT_SECONDS,
        )
    except StepFailed:
        return ""
    answer = result.output.decode("utf-8", "replace")
    answer = f"{answer}\nexit {result.code}" if kind != "answer" else answer
    if result.code == 0 and _is_itself(program):
        memory.add(key, answer)
    return answer


def _identity(program: Path) -> str:
    status = program.stat()
    return f"{status.st_ino}.{status.st_size}.{status.st_mtime_ns}.{status.st_ctime_ns}"


def _is_itself(program: Path) -> bool:
    """False for a link to a multiplexer or to a script, whose answer can change while it does not."""
    real = program.resolve()
    with real.open("rb") as stream:
        is_script = stream.read(2) == b"#!"
    return not is_script and real.name.startswith(program.name.removesuffix("3"))


class _Memory:
    """A small file; two that write at once lose one answer, which is asked again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, str]:
        try:
            content = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        items = content.items() if isinstance(content, dict) else ()
        return {str(key): str(value) for key, value in items}

    def add(self, key: str, answer: str) -> None:
        answers = {**self.read(), key: answer}
        newest = dict(list(answers.items())[-200:])
        with suppress(OSError, CacheUnusable):  # not remembered is asked again
            make_private_folder(self._path.parent)
            self._write(newest)

    def _write(self, answers: Mapping[str, str]) -> None:
        descriptor, name = tempfile.mkstemp(prefix=".probes.", dir=self._path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump(answers, stream)
            Path(name).replace(self._path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
