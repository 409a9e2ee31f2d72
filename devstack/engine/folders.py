"""The folders of a checkout that devstack writes: `.devstack/` beside the stack file, and what is in it."""

import json
from dataclasses import dataclass
from pathlib import Path

from devstack.api.checkout import checkout_folder
from devstack.config.schema_file import SCHEMA


@dataclass(frozen=True, slots=True)
class Folders:
    """Paths below `.devstack`, or below `.devstack/NAME` for a stack file of another name."""

    root: Path

    @classmethod
    def of(cls, stack_file: Path) -> "Folders":
        """The folders of a stack file (resolved)."""
        return cls(Path(checkout_folder(str(stack_file))))

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def snapshot(self) -> Path:
        return self.state / "snapshot.json"

    @property
    def history(self) -> Path:
        return self.state / "history.jsonl"

    @property
    def addresses(self) -> Path:
        return self.state / "addresses.json"

    @property
    def gateway(self) -> Path:
        return self.state / "gateway"

    @property
    def identity(self) -> Path:
        return self.root / "identity.json"

    @property
    def jobs(self) -> Path:
        """Which jobs completed, beside the data they worked on."""
        return self.data / "jobs.json"

    def make(self) -> None:
        """Make what is missing; git is told to look at none of it."""
        for folder in (self.data, self.logs, self.state):
            folder.mkdir(parents=True, exist_ok=True)
        self.state.chmod(0o700)
        base = self.root if self.root.name == ".devstack" else self.root.parent
        ignore = base / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        schema, target = SCHEMA.read_bytes(), base / "schema.json"
        if not target.exists() or target.read_bytes() != schema:
            target.write_bytes(schema)


def read_jobs(path: Path) -> dict[str, list[str]]:
    """Job → keys it completed for; empty when nothing is known."""
    try:
        raw = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(raw, dict):
        return {}
    return {
        str(job): keys
        for job, keys in raw.items()
        if isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    }


def write_jobs(path: Path, completed: dict[str, list[str]]) -> None:
    """Remember completed jobs, atomically."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(completed))
    temporary.replace(path)
