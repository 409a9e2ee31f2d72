"""Where a stack keeps its things in its checkout; the same answer with and without a controller.

Imported by light commands: names only, nothing is made or read.
"""
# pathlib is kept out: `devstack logs` starts without it
# ruff: noqa: PTH112, PTH114, PTH118, PTH119, PTH120

from __future__ import annotations

import os

USUAL_FILE = "stack.yaml"
_OWN_NAMES = (
    ".gitignore", "build", "data", "deps", "identity.json", "logs", "schema.json", "state",
)  # fmt: skip
"""What the stack of `stack.yaml` has in `.devstack`, beside the folders of other stack files."""


def checkout_folder(stack_file: str) -> str:
    """`.devstack` beside the stack file, `.devstack/NAME` for a file that is not `stack.yaml`.

    NAME is the whole name: `dev.yaml` and `dev.yml` are two stacks, `data.yaml` is none of `data`.
    """
    path = os.path.realpath(stack_file)
    folder = os.path.join(os.path.dirname(path), ".devstack")
    name = os.path.basename(path)
    return folder if name == USUAL_FILE else os.path.join(folder, name)


def taken_name(stack_file: str) -> str | None:
    """The name of a stack file whose folder would be one that `stack.yaml` beside it has."""
    name = os.path.basename(os.path.realpath(stack_file))
    return name if name in _OWN_NAMES else None


def logs_folder(stack_file: str) -> str:
    """Root of the log store."""
    return os.path.join(checkout_folder(stack_file), "logs")


def wishes_file(stack_file: str) -> str:
    """The controller's snapshot; who ends a stack without its controller removes it: wishes end then."""
    return os.path.join(checkout_folder(stack_file), "state", "snapshot.json")


def data_folders(stack_file: str, stack_id: str) -> list[str]:
    """Folders with the data of databases, those that servers as `nobody` use included."""
    found: list[str] = []
    for root in (os.path.join(checkout_folder(stack_file), "data"), hidden_root(stack_id)):
        if not os.path.isdir(root) or os.path.islink(root):
            continue
        with os.scandir(root) as entries:
            found += sorted(entry.path for entry in entries)
    return found


def hidden_root(stack_id: str) -> str:
    """Where servers that refuse root have their data when they run as `nobody`."""
    return f"/var/tmp/devstack-{stack_id}"  # noqa: S108 - owner is checked by whoever writes there
