"""What helps where devstack may not write into a checkout."""

import errno
import os
from pathlib import Path

import pytest

from devstack.api.ownership import write_hint

NOBODY = 65534


def test_a_folder_of_somebody_else_is_told_with_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / ".devstack"
    if os.geteuid() == 0:
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
        owner = "nobody"
    else:
        folder.symlink_to("/")
        owner = "root"

    hint = write_hint(PermissionError(errno.EPERM, "no"), str(tmp_path / "stack.yaml"))

    assert hint.startswith(f"{folder} belongs to {owner}: run devstack as that user, or ")
    assert "sudo chown -R " in hint


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_folder_of_ours_that_cannot_be_written_is_told(
    tmp_path: Path, code: int, is_there: bool
) -> None:
    folder = tmp_path / ".devstack" / "dev.yaml"
    if is_there:
        folder.mkdir(parents=True)

    hint = write_hint(OSError(code, "no"), str(tmp_path / "dev.yaml"))

    assert f"{folder}: that folder cannot be written to" in hint


def test_other_errors_have_no_such_hint(tmp_path: Path) -> None:
    assert write_hint(OSError(errno.ENOSPC, "full"), str(tmp_path / "stack.yaml")) == ""
