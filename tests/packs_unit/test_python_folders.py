"""Python: packages that are folders of the user's: which edits count, and that they arrive."""

import asyncio
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from devstack.packs.certificates import trust_the_system
from devstack.packs.digest import source_digest
from devstack.packs.python import PythonPack
from tests.packs_unit.bench import Bench, MakeTree, PathTools, Run
from tests.packs_unit.serving import started

PROJECT = '[project]\nname = "api"\nversion = "1"\nrequires-python = ">=3.11"\n'


@pytest.mark.parametrize(
    ("requirements", "counts"),
    [("-e ../lib[x]\n", True), ("../lib\n", True), ("-e .\n", False), ("lib\n", False)],
)
def test_a_folder_that_requirements_are_installed_from_is_source(
    make_tree: MakeTree, requirements: str, counts: bool
) -> None:
    root = make_tree({"api/requirements.txt": requirements, "lib/lib.py": ""})

    assert _is_source(root / "lib/lib.py", root / "api") is counts


@pytest.mark.parametrize("edited", ["lib/lib.py", "deep/deep.py", "choice/choice.py"])
def test_a_folder_that_a_pyproject_without_a_lock_file_names_is_source(
    make_tree: MakeTree, edited: str
) -> None:
    root = make_tree(
        {
            "api/pyproject.toml": '[tool.uv.sources]\nlib = {path = "../lib", editable = true}\nchoice = [{path = "../choice", marker = "x"}]\n',
            "lib/lib.py": "",
            "lib/pyproject.toml": '[tool.uv.sources]\ndeep = {path = "../deep"}\n',
            "deep/deep.py": "",
            "choice/choice.py": "",
        }
    )

    assert _is_source(root / edited, root / "api")


@pytest.mark.parametrize(
    "asked",
    [
        {"services/api/requirements.txt": "-e ../..\n"},
        {
            "services/api/pyproject.toml": '[tool.uv.sources]\nshop = {path = "../..", editable = true}\n'
        },
        {
            "services/api/pyproject.toml": PROJECT,
            "uv.lock": 'version = 1\n\n[[package]]\nname = "api"\nsource = { editable = "services/api" }\ndependencies = [{ name = "shop" }]\n\n[[package]]\nname = "shop"\nsource = { editable = "." }\n',
        },
    ],
    ids=["requirements", "pyproject", "uv"],
)
@pytest.mark.parametrize(
    ("edited", "counts"),
    [
        ("pyproject.toml", True),
        ("settings.py", True),
        ("shop/orders/order.py", True),
        ("src/shop2/order.py", True),
        ("services/api/words.txt", True),
        ("state.txt", False),
        ("shop/state.txt", False),
        ("services/worker/state.txt", False),
        ("services/worker/worker.py", False),
    ],
)
def test_of_a_package_that_contains_the_service_what_can_be_imported_is_source(
    make_tree: MakeTree, asked: Mapping[str, str], edited: str, counts: bool
) -> None:
    root = make_tree(
        {
            "pyproject.toml": '[project]\nname = "shop"\n[tool.uv.workspace]\nmembers = ["services/*"]\n',
            "shop/__init__.py": "",
            "shop/orders/__init__.py": "",
            "src/shop2/__init__.py": "",
            "services/api/main.py": "",
            "services/worker/worker.py": "",
            **asked,
        }
    )

    assert _is_source(root / edited, root / "services/api") is counts


def test_a_uv_lock_that_takes_a_package_from_another_folder_now_is_read_again(
    make_tree: MakeTree,
) -> None:
    lock = 'version = 1\n\n[[package]]\nname = "api"\nsource = { editable = "." }\ndependencies = [{ name = "lib" }]\n\n[[package]]\nname = "lib"\nsource = { editable = "../one" }\n'
    root = make_tree(
        {"api/pyproject.toml": PROJECT, "api/uv.lock": lock, "one/lib.py": "", "other/lib.py": ""}
    )
    before = _is_source(root / "other/lib.py", root / "api")

    (root / "api/uv.lock").write_text(lock.replace("../one", "../other"))

    assert (before, _is_source(root / "other/lib.py", root / "api")) == (False, True)


# Packs what lies beside it, as setuptools would, which would have to be fetched.
BACKEND = """import os
import tomllib
import zipfile

def build_wheel(folder, config=None, metadata=None):
    return pack(folder, "vendored.py", open("vendored.py").read())

def build_editable(folder, config=None, metadata=None):
    return pack(folder, "vendored.pth", os.getcwd())

def pack(folder, name, text):
    with open("pyproject.toml", "rb") as file:
        needs = tomllib.load(file).get("project", {}).get("dependencies", [])
    said = ["Metadata-Version: 2.1", "Name: vendored", "Version: 1", *(f"Requires-Dist: {need}" for need in needs)]
    os.makedirs("build/lib", exist_ok=True)
    with open(f"build/lib/{name}", "w") as left:
        left.write(text)
    with zipfile.ZipFile(f"{folder}/vendored-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(name, text)
        wheel.writestr("vendored-1.dist-info/METADATA", "\\n".join(said) + "\\n")
        wheel.writestr("vendored-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("vendored-1.dist-info/RECORD", "")
    return "vendored-1-py3-none-any.whl"
"""
NAMELESS = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
VENDORED = f'{NAMELESS}[project]\nname = "vendored"\nversion = "1"\nrequires-python = ">=3.11"\n'
BESIDE: Mapping[str, str] = {
    "vendored/backend.py": BACKEND,
    "vendored/vendored.py": "answer = 0\n",
    "vendored/pyproject.toml": VENDORED,
    "api/main.py": "import vendored\nprint(vendored.answer)\n",
}
WISHES = f'{PROJECT}dependencies = ["vendored"]\n[tool.uv.sources]\nvendored = {{path = "../vendored"}}\n'


@pytest.mark.parametrize(
    ("files", "is_locked"),
    [
        ({"api/pyproject.toml": WISHES}, True),
        ({"api/pyproject.toml": WISHES}, False),
        ({"api/requirements.txt": "../vendored\n"}, False),
        ({"api/requirements.txt": "../vendored\n", "vendored/pyproject.toml": NAMELESS}, False),
    ],
    ids=["uv", "pyproject", "requirements", "requirements without a name"],
)
def test_a_package_that_is_copied_from_a_folder_is_copied_again_when_it_is_edited(
    make_tree: MakeTree, bench: Bench, run: Run, files: Mapping[str, str], is_locked: bool
) -> None:
    root = make_tree({**BESIDE, **files})
    if is_locked:
        _uv(bench, "lock", root / "api")
    said: list[str] = []

    for answer, is_offline in (("1", False), ("2", False), ("3", True)):
        (root / "vendored/vendored.py").write_text(f"answer = {answer}\n")
        said.append(_says(root / "api", bench, run, is_offline=is_offline))

    assert said == ["1\n", "2\n", "3\n"]


def test_what_the_building_of_a_package_leaves_in_its_folder_is_no_source(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    root = make_tree({**BESIDE, "api/requirements.txt": "../vendored\n"})
    pack, request = PythonPack(bench.tools), bench.request(root / "api")

    prepared = run(pack.prepare(request, bench.steps))

    assert (root / "vendored/build/lib/vendored.py").exists()
    assert run(pack.prepare(request, bench.steps)) == prepared


def test_a_package_that_is_imported_from_its_folder_gets_what_it_asks_for_later(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    root = make_tree({**BESIDE, "api/requirements.txt": "-e ../vendored\n"})
    before = _says(root / "api", bench, run)

    (root / "vendored/pyproject.toml").write_text(f'{VENDORED}dependencies = ["iniconfig"]\n')
    (root / "vendored/vendored.py").write_text("from iniconfig import __name__ as answer\n")

    assert (before, _says(root / "api", bench, run)) == ("0\n", "iniconfig\n")


def test_an_edit_of_a_service_copies_no_package_again_that_contains_it(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    root = make_tree(
        {
            "backend.py": BACKEND,
            "vendored.py": "answer = 0\n",
            "pyproject.toml": VENDORED,
            "api/__init__.py": "",
            "api/main.py": "print(1)\n",
            "api/requirements.txt": "..\n",
        }
    )
    pack, request = PythonPack(bench.tools), bench.request(root / "api")
    made = []

    for edited in ("api/main.py", "api/main.py", "vendored.py"):
        _edit(root / edited)
        made.append(run(pack.prepare(request, bench.steps)).paths[0])

    assert made[0] == made[1]
    assert made[1] != made[2]


def test_a_copy_in_the_users_environment_is_told_as_no_edit_arrives_there(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    root = make_tree({**BESIDE, "api/pyproject.toml": WISHES})
    _uv(bench, "sync", root / "api")

    prepared = run(PythonPack(bench.tools).prepare(bench.request(root / "api"), bench.steps))

    assert prepared.path_prefix == (root / "api/.venv/bin",)
    assert (
        f".venv has a copy of {root / 'vendored'}: after an edit install it there again and restart"
        in prepared.notes
    )


def _is_source(file: Path, source: Path) -> bool:
    pack = PythonPack(PathTools())
    before = source_digest(pack, source)
    _edit(file)
    return source_digest(pack, source) != before


def _edit(file: Path) -> None:
    with file.open("a") as opened:
        opened.write("# edited\n")


def _says(source: Path, bench: Bench, run: Run, *, is_offline: bool = False) -> str:
    request = bench.request(source, offline=is_offline)
    prepared = run(PythonPack(bench.tools).prepare(request, bench.steps))
    with started(prepared, bench.folder, bench.steps.environment) as script:
        assert script.process.wait(60) == 0, script.output()
        return script.output()


def _uv(bench: Bench, command: str, folder: Path) -> None:
    uv = asyncio.run(bench.tools("uv", None)).binaries["uv"]
    trust = {**bench.steps.environment, **trust_the_system(bench.steps.environment)}
    subprocess.run([uv, command, "-q"], cwd=folder, env=trust, check=True)
