"""Node: packages that another manager installed, and those of a workspace above the service."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from devstack.packs.base import CannotPrepare
from devstack.packs.digest import source_digest
from devstack.packs.node import NodePack
from tests.packs_unit.bench import Bench, MakeTree, Run
from tests.packs_unit.test_node import package, said

API = "services/api"
ROOT = json.dumps({"name": "root", "private": True, "workspaces": ["services/*", "!services/old"]})
PNPM = f"lockfileVersion: '9.0'\n\nimporters:\n\n  .: {{}}\n\n  {API}:\n    dependencies: {{}}\n"
YARN = '# yarn lockfile v1\n\n\nanswers@^1.0.0:\n  version "1.0.0"\n'
YARN_2 = '__metadata:\n  version: 8\n\n"answers@npm:^1.0.0":\n  version: 1.0.0\n'
BUN = '{"lockfileVersion": 1}\n'
INTEGRITY = json.dumps({"lockfileEntries": {"answers@^1.0.0": "https://somewhere/answers.tgz"}})
LINKER = {".yarnrc.yml": "nodeLinker: node-modules\n"}


def installed(folder: str, name: str, answer: int) -> dict[str, str]:
    place = f"{folder}node_modules/{name}"
    return {
        f"{place}/index.js": f"module.exports = {answer};\n",
        f"{place}/package.json": json.dumps({"name": name, "version": "1.0.0"}),
    }


def service(script: str, folder: str = f"{API}/", **values: object) -> dict[str, str]:
    asked = {"answers": "^1.0.0", "others": "^1.0.0"}
    return {
        f"{folder}package.json": package(dependencies=asked, **values),
        f"{folder}server.js": script,
    }


PRINTS = 'console.log(require("answers") + require("others"));\n'

FITS: Mapping[str, Mapping[str, str]] = {
    "pnpm": {"pnpm-lock.yaml": PNPM, "node_modules/.pnpm/lock.yaml": PNPM},
    "yarn": {"yarn.lock": YARN, "node_modules/.yarn-integrity": INTEGRITY},
    "yarn 2": {"yarn.lock": YARN_2, **LINKER},
    "bun": {"bun.lock": BUN},
}


@pytest.mark.parametrize("manager", FITS)
def test_the_packages_of_a_workspace_are_used_as_they_are(
    make_tree: MakeTree, bench: Bench, run: Run, manager: str
) -> None:
    """One package lies beside the service, another in the root: each manager does both."""
    root = make_tree(
        {
            "package.json": ROOT,
            **FITS[manager],
            **service(PRINTS),
            **installed("", "answers", 1),
            **installed("", "others", 2),
            **installed(f"{API}/", "answers", 40),
        }
    )

    prepared = run(NodePack(bench.tools).prepare(bench.request(root / API), bench.steps))

    assert bench.steps.ran == []
    assert said(prepared.command, bench) == "42"
    assert "NODE_OPTIONS" not in prepared.environment
    assert prepared.paths == ()
    is_compared = manager in {"pnpm", "yarn"}
    words = "matches" if is_compared else "devstack cannot compare it"
    assert any(f"workspace {root}" in note and words in note for note in prepared.notes)


def test_a_build_in_a_copy_finds_the_packages_beside_the_service_and_in_the_root(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    scripts = {"build": "node build.js", "start": "node dist/main.js"}
    build = (
        'require("fs").mkdirSync("dist"); require("fs").copyFileSync("server.js", "dist/main.js");'
    )
    root = make_tree(
        {
            "package.json": ROOT,
            **FITS["pnpm"],
            **service(PRINTS, scripts=scripts),
            f"{API}/build.js": build,
            **installed("", "answers", 1),
            **installed("", "others", 2),
            **installed(f"{API}/", "answers", 40),
        }
    )

    prepared = run(NodePack(bench.tools).prepare(bench.request(root / API), bench.steps))

    assert said(prepared.command, bench) == "42"
    assert not (root / API / "dist").exists()


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        ({"pnpm-lock.yaml": PNPM}, "node_modules: it is not there", "run `pnpm install` in "),
        ({"pnpm-lock.yaml": PNPM, "node_modules/.pnpm/lock.yaml": ""}, "made for another pnpm-lock.yaml", "run `pnpm install` in "),
        ({"yarn.lock": YARN}, "it is not there", "run `yarn install` in "),
        ({"yarn.lock": YARN_2, **LINKER}, "it is not there", "run `yarn install` in "),
        ({"yarn.lock": YARN_2}, "it is not there", "write `nodeLinker: node-modules` into .yarnrc.yml and run `yarn install` in "),
        ({"bun.lock": BUN}, "it is not there", "run `bun install` in "),
        ({"package-lock.json": json.dumps({"packages": {API: {}}})}, "it is not there", "run `npm ci` in "),
    ],
)  # fmt: skip
def test_a_workspace_without_its_packages_says_what_makes_them(
    make_tree: MakeTree,
    bench: Bench,
    run: Run,
    files: Mapping[str, str],
    message: str,
    hint: str,
) -> None:
    root = make_tree({"package.json": ROOT, **files, **service(PRINTS)})

    with pytest.raises(CannotPrepare, match=f"packages of the workspace .*{message}") as told:
        run(NodePack(bench.tools).prepare(bench.request(root / API), bench.steps))
    assert told.value.hint == hint + str(root)
    assert bench.steps.ran == []


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        ({"bun.lock": BUN}, "run `bun install`"),
        ({"yarn.lock": YARN_2}, "write `nodeLinker: node-modules`"),
        ({"yarn.lock": YARN}, "run `yarn install`"),
        ({"pnpm-lock.yaml": PNPM}, "run `pnpm install`"),
    ],
)
def test_what_the_hint_promises_of_another_managers_packages_is_kept(
    make_tree: MakeTree, bench: Bench, run: Run, files: Mapping[str, str], hint: str
) -> None:
    source = make_tree({**files, **service(PRINTS, "")})
    with pytest.raises(CannotPrepare, match="devstack installs with npm") as told:
        run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))
    assert told.value.hint.startswith(hint)

    what_it_makes = {
        **installed("", "answers", 40),
        **installed("", "others", 2),
        "node_modules/.pnpm/lock.yaml": PNPM,
        "node_modules/.yarn-integrity": INTEGRITY,
    }
    for name, text in what_it_makes.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    prepared = run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))

    assert said(prepared.command, bench) == "42"


def test_a_folder_that_is_no_member_has_nothing_of_the_workspace(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    root = make_tree(
        {"package.json": ROOT, "bun.lock": BUN, **service("console.log(1);\n", "services/old/")}
    )
    (root / "services/old/package.json").write_text(package())

    prepared = run(NodePack(bench.tools).prepare(bench.request(root / "services/old"), bench.steps))

    assert said(prepared.command, bench) == "1"
    assert not any("workspace" in note for note in prepared.notes)


def test_the_lock_file_of_the_workspace_belongs_to_the_source(
    make_tree: MakeTree, bench: Bench
) -> None:
    root: Path = make_tree({"package.json": ROOT, "bun.lock": BUN, **service(PRINTS)})
    pack = NodePack(bench.tools)
    before = source_digest(pack, root / API)

    (root / "bun.lock").write_text(BUN + "\n")

    assert source_digest(pack, root / API) != before
