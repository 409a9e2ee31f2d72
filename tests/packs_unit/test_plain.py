"""A command in a folder of no language: the files that it names are its source."""

from pathlib import Path

import pytest

from devstack.packs.plain import PlainPack


@pytest.mark.parametrize(
    ("command", "source"),
    [
        (("./run.sh", "--fast", "data.csv"), ["data.csv", "run.sh"]),
        ("./run.sh data.csv", ["data.csv", "run.sh"]),
        ("./run.sh >> out.log", ["run.sh"]),
        ("./run.sh>out.log 2>&1", ["run.sh"]),
        ("./run.sh &> out.log && ./data.csv", ["data.csv", "run.sh"]),
        ("./run.sh < data.csv 2> 'out.log'", ["data.csv", "run.sh"]),
        ("./run.sh | tee out.log", ["out.log", "run.sh"]),
        ("./run.sh # data.csv", ["data.csv", "run.sh"]),
        ("./run.sh 'data.csv", ["run.sh"]),
    ],
)
def test_what_a_command_names_is_source_and_what_it_writes_to_is_not(
    tmp_path: Path, command: tuple[str, ...] | str, source: list[str]
) -> None:
    for name in ("run.sh", "data.csv", "out.log", "other"):
        (tmp_path / name).touch()

    found = PlainPack(command).source_files(tmp_path)

    assert [file.name for file in found] == source
