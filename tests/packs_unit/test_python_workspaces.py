"""Python: packages that a service takes from folders beside it, as members of uv's workspace or not."""

import asyncio
import subprocess

import pytest

from devstack.packs.certificates import trust_the_system
from devstack.packs.digest import source_digest
from devstack.packs.python import PythonPack
from tests.packs_unit.bench import Bench, MakeTree, PathTools, Run
from tests.packs_unit.serving import started
from tests.packs_unit.test_python import PRINTS


def test_a_member_of_a_uv_workspace_gets_what_the_lock_file_of_the_root_says(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    member = '[project]\nname = "api"\nversion = "1"\nrequires-python = ">=3.9"\n'
    root = make_tree(
        {
            "pyproject.toml": '[tool.uv.workspace]\nmembers = ["services/*"]\n',
            "services/api/pyproject.toml": member + 'dependencies = ["iniconfig<2.1", "lib"]\n[tool.uv.sources]\nlib = {workspace = true}\n',
            "services/api/main.py": PRINTS,
            "services/lib/pyproject.toml": member.replace("api", "lib") + 'dependencies = ["iniconfig<2"]\n',
        }
    )  # fmt: skip
    source = root / "services" / "api"
    pack = PythonPack(bench.tools)
    uv = asyncio.run(bench.tools("uv", None)).binaries["uv"]
    trust = {**bench.steps.environment, **trust_the_system(bench.steps.environment)}
    subprocess.run([uv, "lock", "-q"], cwd=root, env=trust, check=True)

    prepared = run(pack.prepare(bench.request(source), bench.steps))
    with started(prepared, bench.folder, bench.steps.environment) as script:
        assert script.process.wait(60) == 0, script.output()
        assert script.output() == "1.1.1\n"
    subprocess.run([uv, "sync", "-q", "--package", "api"], cwd=root, env=trust, check=True)
    theirs = run(pack.prepare(bench.request(source), bench.steps))

    assert any(f"uv.lock of the workspace {root}" in note for note in prepared.notes)
    assert theirs.path_prefix == (root / ".venv" / "bin",)
    before = source_digest(pack, source)
    (root / "uv.lock").write_text((root / "uv.lock").read_text() + "\n")
    assert source_digest(pack, source) != before


LOCK = """version = 1

[[package]]
name = "api"
source = { editable = "services/api" }
dependencies = [
    { name = "lib", extra = ["fast"] },
    { name = "iniconfig" },
]

[package.dev-dependencies]
server = [
    { name = "serving" },
]

[[package]]
name = "deep"
source = { virtual = "deep" }

[[package]]
name = "iniconfig"
version = "2.0.0"
source = { registry = "https://index.example/simple" }

[[package]]
name = "lib"
source = { editable = "libs/lib" }

[package.optional-dependencies]
fast = [
    { name = "vendored" },
]

[[package]]
name = "other"
source = { editable = "libs/other" }

[[package]]
name = "serving"
source = { editable = "libs/serving" }

[[package]]
name = "vendored"
source = { directory = "vendored" }
dependencies = [
    { name = "api" },
    { name = "deep" },
]
"""


@pytest.mark.parametrize(
    ("edited", "counts"),
    [
        ("services/api/main.py", True),
        ("uv.lock", True),
        ("libs/lib/src/lib.py", True),
        ("libs/serving/serving.py", True),
        ("vendored/vendored.py", True),
        ("deep/page.html", True),
        ("libs/lib/run.log", False),
        ("libs/other/other.py", False),
        ("services/web/main.py", False),
    ],
)
def test_the_packages_that_a_uv_lock_takes_from_folders_are_source(
    make_tree: MakeTree, edited: str, counts: bool
) -> None:
    root = make_tree(
        {
            "pyproject.toml": '[tool.uv.workspace]\nmembers = ["services/*", "libs/*"]\n',
            "uv.lock": LOCK,
            "services/api/pyproject.toml": "",
            "services/web/main.py": "",
            "libs/lib/src/lib.py": "",
            "libs/other/other.py": "",
            "libs/serving/serving.py": "",
            "vendored/vendored.py": "",
            "deep/page.html": "",
        }
    )
    pack = PythonPack(PathTools())
    before = source_digest(pack, root / "services/api")

    with (root / edited).open("a") as file:
        file.write("# edited\n")

    assert (source_digest(pack, root / "services/api") != before) is counts
