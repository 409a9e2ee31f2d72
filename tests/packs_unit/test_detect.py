"""Which pack a folder belongs to."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from devstack.packs.base import CannotPrepare
from devstack.packs.detect import all_packs, detect
from tests.packs_unit.bench import MakeTree


async def no_tools(name: str, wanted: str | None) -> None:
    raise AssertionError("detection asks for no toolchain")


PACKS = all_packs(no_tools)  # type: ignore[arg-type]  # asked for nothing here


@pytest.mark.parametrize(
    ("files", "language", "because"),
    [
        ({"go.mod": "module x\n"}, "go", "go.mod"),
        ({"main.go": "package main\n"}, "go", "go files"),
        ({"requirements.txt": "flask\n", "app.py": ""}, "python", "requirements.txt"),
        ({"pyproject.toml": ""}, "python", "pyproject.toml"),
        ({"Pipfile.lock": "{}"}, "python", "Pipfile.lock"),
        ({"manage.py": ""}, "python", "manage.py"),
        ({"tool.py": ""}, "python", "python files"),
        ({"package.json": "{}"}, "node", "package.json"),
        ({"server.js": ""}, "node", "node files"),
        ({"go.mod": "module x\n", "package.json": "{}"}, "go", "go.mod"),
        ({"requirements.txt": "", "package.json": "{}"}, "python", "requirements.txt"),
        ({"package.json": "{}", "helper.py": ""}, "node", "package.json"),
        ({"package.json": "{}", "main.go": "package main\n"}, "node", "package.json"),
        ({"Dockerfile": "FROM x\n", "go.mod": "module x\n"}, "go", "go.mod"),
    ],
)
def test_a_manifest_decides_and_bare_files_only_where_there_is_none(
    make_tree: MakeTree, files: Mapping[str, str], language: str, because: str
) -> None:
    found = detect(make_tree(files), PACKS)

    assert (found.pack.name, found.because) == (language, because)


@pytest.mark.parametrize(
    ("files", "language"),
    [
        ({"main.go": "package main\n", "package.json": "{}"}, "go"),
        ({"cmd/api/main.go": "package main\n", "requirements.txt": ""}, "go"),
        ({"gen/main.go": "package main\n", "package.json": "{}"}, "node"),
        ({"lib.go": "package lib\n", "package.json": "{}"}, "node"),
    ],
)
def test_a_program_of_a_go_module_above_counts_as_a_manifest(
    make_tree: MakeTree, files: Mapping[str, str], language: str
) -> None:
    in_service = {f"services/api/{name}": text for name, text in files.items()}
    root = make_tree({"go.mod": "module x\n", **in_service})

    assert detect(root / "services" / "api", PACKS).pack.name == language


def test_the_named_main_decides_between_languages(make_tree: MakeTree) -> None:
    source = make_tree({"requirements.txt": "", "package.json": "{}", "server.mjs": ""})

    assert detect(source, PACKS, main="server.mjs").pack.name == "node"
    assert detect(source, PACKS).also == ("node",)


def test_a_folder_of_no_known_language_is_an_error_that_lists_what_was_looked_for(
    make_tree: MakeTree,
) -> None:
    source = make_tree({"README.md": "hello"})

    with pytest.raises(CannotPrepare, match="its language is not known") as told:
        detect(source, PACKS)
    for name in ("go.mod", "requirements.txt", "package.json", "Dockerfile"):
        assert name in str(told.value)
    assert "command" in told.value.hint


def test_a_dockerfile_alone_is_told_with_what_it_would_start(make_tree: MakeTree) -> None:
    source = make_tree(
        {"Dockerfile": 'FROM a\nCMD ["no"]\nFROM b\nENTRYPOINT ["java", "-jar"]\nCMD ["a b.jar"]\n'}
    )

    with pytest.raises(
        CannotPrepare,
        match=r"containers are not in this version; it starts with: java -jar 'a b.jar'",
    ):
        detect(source, PACKS)


def test_a_command_of_the_users_needs_no_known_language(make_tree: MakeTree) -> None:
    source = make_tree({"migrate.sh": "#!/bin/sh\n", "unrelated.txt": ""})

    found = detect(source, PACKS, user_command=("./migrate.sh", "--all"))

    assert found.pack.name == "command"
    assert found.pack.source_files(source) == (source / "migrate.sh",)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotPrepare, match="no such folder"):
        detect(tmp_path / "nowhere", PACKS)


def test_k14_detection_runs_and_imports_nothing_of_the_project(make_tree: MakeTree) -> None:
    trap = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n"
    source = make_tree(
        {
            "setup.py": trap,
            "app.py": trap + "from flask import Flask\napp = Flask(__name__)\n",
            "conftest.py": trap,
            "package.json": '{"scripts": {"preinstall": "touch ran", "start": "touch ran"}}',
        }
    )

    found = detect(source, PACKS)
    found.pack.source_files(source)
    found.pack.manifest_files(source)

    assert not (source / "ran").exists()
