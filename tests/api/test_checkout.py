"""Where stacks of one folder keep their things: never in each other's."""

from itertools import combinations
from pathlib import Path

import pytest

from devstack.api.checkout import checkout_folder, taken_name
from devstack.engine.folders import Folders

FILES = (
    "stack.yaml", "stack.yml", "dev.yaml", "dev.yml", "dev", "data.yaml", "logs.yaml", "build.yaml",
    "deps.yaml", "state.yaml", "data.json",
)  # fmt: skip


def test_no_stack_file_has_the_folder_of_another_or_one_that_stack_yaml_keeps_things_in(
    tmp_path: Path,
) -> None:
    folders = {name: Path(checkout_folder(str(tmp_path / name))) for name in FILES}
    usual = Folders.of(tmp_path / "stack.yaml")

    assert folders["stack.yaml"] == usual.root == tmp_path / ".devstack"
    for name, other in combinations(FILES, 2):
        assert folders[name] != folders[other]
    for name in FILES[1:]:
        assert folders[name].parent == usual.root
        assert folders[name] == Folders.of(tmp_path / name).root
        assert folders[name] not in (usual.data, usual.logs, usual.state)


@pytest.mark.parametrize("name", ["data", "logs", "state", "build", "deps", "schema.json"])
def test_a_stack_file_by_the_name_of_what_stack_yaml_keeps_is_known(
    tmp_path: Path, name: str
) -> None:
    link = tmp_path / "harmless.yaml"
    link.symlink_to(tmp_path / name)

    assert taken_name(str(tmp_path / name)) == name
    assert taken_name(str(link)) == name
    assert taken_name(str(tmp_path / f"{name}.yaml")) is None


def test_all_that_an_engine_makes_beside_other_stacks_has_a_taken_name(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path / "stack.yaml")
    folders.make()
    folders.identity.touch()

    for made in folders.root.iterdir():
        assert taken_name(str(tmp_path / made.name)) == made.name
