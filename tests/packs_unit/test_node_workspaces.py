"""Node: packages that another manager installed, and those of a workspace above the service."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from devstack.packs.base import CannotPrepare
from devstack.packs.digest import source_digest
from devstack.packs.node import NodePack
from devstack.packs.node_files import program_files
from tests.packs_unit.bench import Bench, MakeTree, Run, TakeSnapshot
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


COMPILES = """const fs = require("fs");
const base = fs.readFileSync("../../tsconfig.base.json", "utf8");
fs.mkdirSync("../../packages/lib/dist");
fs.copyFileSync("../../packages/lib/lib.js", "../../packages/lib/dist/lib.js");
fs.mkdirSync("dist");
fs.writeFileSync("dist/main.js", `console.log(require("@acme/lib") + ${base.length});`);
"""
"""What `tsc -b` does: reads what a tsconfig extends, and compiles what it refers to in its place."""


def typescript(make_tree: MakeTree, manager: str, **values: object) -> Path:
    """A workspace whose service takes a library, that a helper, and the tsconfig of both one above."""
    scripts = {"build": "node build.js", "start": "node dist/main.js"}
    config = '{\n  // shared\n  "extends": ["../../tsconfig.base.json"], /* and */ "include": ["../types/*.ts",],\n}\n'
    root = make_tree(
        {
            "package.json": ROOT,
            "tsconfig.base.json": '{"extends": "./tsconfig.strict"}',
            "tsconfig.strict.json": '{"extends": "./node_modules/kept/tsconfig.json"}',
            "README.md": "",
            **FITS[manager],
            f"{API}/package.json": package(
                **{"scripts": scripts, "dependencies": {"@acme/lib": "*", "kept": "*"}, **values}
            ),
            f"{API}/tsconfig.json": config,
            f"{API}/build.js": COMPILES,
            "services/types/request.d.ts": "",
            "packages/lib/package.json": package(
                name="@acme/lib", main="dist/lib.js", devDependencies={"helper": "*"}
            ),
            "packages/lib/lib.js": 'module.exports = require("helper") - require("kept");\n',
            "packages/lib/tsconfig.build.json": '{"references": [{"path": "../compiled/tsconfig.json"}]}',
            "packages/compiled/tsconfig.json": "{}",
            "packages/compiled/index.js": "",
            "packages/helper/package.json": package(name="helper", main="helper.js"),
            "packages/helper/helper.js": "module.exports = 20;\n",
            "packages/other/package.json": package(name="@acme/other"),
            **installed("", "kept", 10),
        }
    )
    for modules, names in (
        ("node_modules", ("@acme/lib", "@acme/other")),
        ("packages/lib/node_modules", ("helper",)),
    ):
        for name in names:
            link = root / modules / name
            link.parent.mkdir(parents=True, exist_ok=True)
            folder = root / "packages" / link.name
            link.symlink_to(os.path.relpath(folder, link.parent))
    return root


@pytest.mark.parametrize("manager", FITS)
def test_a_build_finds_what_a_member_takes_from_beside_and_above_it(
    make_tree: MakeTree, bench: Bench, run: Run, snapshot: TakeSnapshot, manager: str
) -> None:
    root = typescript(make_tree, manager)
    before = snapshot(root)

    prepared = run(NodePack(bench.tools).prepare(bench.request(root / API), bench.steps))

    assert said(prepared.command, bench) == str(20 - 10 + len('{"extends": "./tsconfig.strict"}'))
    assert snapshot(root) == before
    (copy,) = prepared.paths
    lock = next(iter(FITS[manager]))
    copied = {str(path.relative_to(copy)) for path in copy.rglob("*") if not path.is_symlink()}
    assert {name for name in copied if "/" not in name} == {
        "packages", "services", "node_modules", "package.json", "tsconfig.base.json", "tsconfig.strict.json", lock,
    }  # fmt: skip
    assert {name for name in copied if name.count("/") == 1} == {
        "packages/lib", "packages/helper", "packages/compiled", "services/api", "services/types", "node_modules/@acme",
    }  # fmt: skip


def test_a_build_runs_a_script_of_another_member_through_the_workspace(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    build = "npm run build -w @acme/lib && node build.js"
    root = typescript(make_tree, "bun", scripts={"build": build, "start": "node dist/main.js"})
    (root / "package.json").write_text(json.dumps({"workspaces": ["services/*", "packages/*"]}))
    (root / ".npmrc").write_text("color=false\n")
    lib = root / "packages/lib"
    lib.joinpath("package.json").write_text(
        package(name="@acme/lib", scripts={"build": "mkdir built"})
    )
    (root / API / "build.js").write_text(
        'require("fs").mkdirSync("dist"); require("fs").copyFileSync("../../.npmrc", "dist/main.js");'
        'require("fs").readdirSync("../../packages/lib/built");'
    )

    prepared = run(NodePack(bench.tools).prepare(bench.request(root / API), bench.steps))

    assert prepared.command is not None
    assert (prepared.command.cwd / "dist/main.js").read_text() == "color=false\n"
    assert not (lib / "built").exists()


@pytest.mark.parametrize("start", ["node dist/main.js", "node build.js"], ids=["built", "as it is"])
@pytest.mark.parametrize(
    ("edited", "counts"),
    [
        (f"{API}/tsconfig.json", True),
        ("tsconfig.base.json", True),
        ("tsconfig.strict.json", True),
        ("services/types/request.d.ts", True),
        ("packages/lib/lib.js", True),
        ("packages/helper/helper.js", True),
        ("packages/compiled/tsconfig.json", True),
        ("packages/compiled/index.js", True),
        ("packages/other/package.json", False),
        ("README.md", False),
    ],
)
def test_what_a_member_takes_from_beside_and_above_it_is_source(
    make_tree: MakeTree, bench: Bench, start: str, edited: str, counts: bool
) -> None:
    root = typescript(make_tree, "pnpm", scripts={"build": "node build.js", "start": start})
    pack = NodePack(bench.tools)
    before = source_digest(pack, root / API)

    (root / edited).write_text('{"edited": true}')

    assert (source_digest(pack, root / API) != before) is counts


@pytest.mark.parametrize(
    ("start", "counts"), [("node dist/main.js", True), ("node build.js", False)]
)
def test_the_manifest_of_the_workspace_is_source_of_what_is_built(
    make_tree: MakeTree, bench: Bench, start: str, counts: bool
) -> None:
    root = typescript(make_tree, "pnpm", scripts={"build": "node build.js", "start": start})
    pack = NodePack(bench.tools)
    before = source_digest(pack, root / API)

    (root / "package.json").write_text("{}")

    assert (source_digest(pack, root / API) != before) is counts


@pytest.mark.parametrize("written", ["state.db", "run.log", "logs/today.log"])
def test_what_programs_write_into_a_package_beside_a_service_is_no_source(
    make_tree: MakeTree, bench: Bench, written: str
) -> None:
    """The service runs in the copy, but what runs from the tree may write into the package."""
    root = typescript(make_tree, "pnpm")
    pack = NodePack(bench.tools)
    before = source_digest(pack, root / API)

    file = root / "packages/lib" / written
    file.parent.mkdir(exist_ok=True)
    file.write_text("running")

    assert source_digest(pack, root / API) == before


@pytest.mark.parametrize("is_built", [True, False], ids=["built", "as it is"])
def test_a_service_with_nothing_outside_has_the_files_of_its_walk_as_they_come(
    make_tree: MakeTree, is_built: bool
) -> None:
    """Not sorted again: with thousands of files that costs as much as the walk, at each save."""
    names = ("a-b/x.js", "a/x.js", "package.json", "tsconfig.json")
    source = make_tree(dict.fromkeys(names, "{}"))

    files = program_files(source, is_built=is_built).files

    assert files == tuple(source / name for name in names)


def test_a_service_of_its_own_finds_the_tsconfig_above_it(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    """No workspace: what it extends lies above all the same."""
    build = 'require("fs").cpSync("../tsconfig.base.json", "dist/main.json");'
    scripts = {"build": f"node -e '{build}'", "start": "node dist/main.json"}
    root = make_tree(
        {
            "tsconfig.base.json": "{}",
            "api/tsconfig.json": '{"extends": "../tsconfig.base", "references": [{"path": "../.."}]}',
            "api/package.json": package(scripts=scripts),
        }
    )

    prepared = run(NodePack(bench.tools).prepare(bench.request(root / "api"), bench.steps))

    assert prepared.command is not None
    assert (prepared.command.cwd / "dist/main.json").is_file()
    assert not (root / "api/dist").exists()


def test_a_build_finds_packages_in_a_node_modules_that_is_a_link_and_does_not_write_there(
    make_tree: MakeTree, bench: Bench, run: Run, snapshot: TakeSnapshot
) -> None:
    build = 'require("fs").mkdirSync("dist"); require("fs").copyFileSync("server.js", "dist/a.js");'
    scripts = {"build": "node build.js", "start": "node dist/a.js"}
    root = make_tree(
        {
            "api/bun.lock": BUN,
            "api/build.js": build,
            **service(PRINTS, "api/", scripts=scripts),
            **installed("elsewhere/", "answers", 40),
            **installed("elsewhere/", "others", 2),
        }
    )
    (root / "api/node_modules").symlink_to("../elsewhere/node_modules")
    before = snapshot(root)

    prepared = run(NodePack(bench.tools).prepare(bench.request(root / "api"), bench.steps))

    assert said(prepared.command, bench) == "42"
    assert snapshot(root) == before


def test_a_folder_that_is_made_beside_the_service_moves_the_copy_and_so_makes_another(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    """Not one file more, but what the tsconfig refers to has to be in the copy, beside the service."""
    scripts = {"build": "mkdir dist && cp server.js dist/main.js", "start": "node dist/main.js"}
    root = make_tree(
        {
            "api/package.json": package(scripts=scripts),
            "api/tsconfig.json": '{"references": [{"path": "../lib"}]}',
            "api/server.js": "console.log(1);",
        }
    )
    before = run(NodePack(bench.tools).prepare(bench.request(root / "api"), bench.steps))

    (root / "lib").mkdir()
    after = run(NodePack(bench.tools).prepare(bench.request(root / "api"), bench.steps))

    assert said(before.command, bench) == said(after.command, bench) == "1"


def test_the_links_of_a_package_json_with_a_byte_order_mark_are_followed(
    make_tree: MakeTree, bench: Bench
) -> None:
    root = typescript(make_tree, "bun")
    manifest = root / API / "package.json"
    manifest.write_text("\ufeff" + manifest.read_text())

    assert root / "packages/lib/lib.js" in NodePack(bench.tools).source_files(root / API)


def test_a_tsconfig_that_is_nested_too_deeply_to_be_read_is_left_to_the_compiler(
    make_tree: MakeTree, bench: Bench
) -> None:
    source = make_tree({"package.json": package(), "tsconfig.json": '{"a":' * 100_000})

    files = NodePack(bench.tools).source_files(source)

    assert files == (source / "package.json", source / "tsconfig.json")


def test_a_folder_that_a_tsconfig_names_by_its_whole_path_stays_where_it_is(
    make_tree: MakeTree, tmp_path: Path
) -> None:
    """The compiler finds it there from a copy as well; it may be anywhere, and of any size."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "types.d.ts").touch()
    named = {"include": [f"{elsewhere}/*"], "references": [{"path": str(elsewhere)}]}
    source = make_tree({"package.json": package(), "tsconfig.json": json.dumps(named)})

    program = program_files(source, is_built=True)

    assert (program.top, program.folders) == (source, (source,))


def test_what_the_paths_of_a_tsconfig_lead_to_is_source(make_tree: MakeTree, bench: Bench) -> None:
    """The compiler follows an import to there, and so does a program that loads TypeScript itself."""
    base = {"baseUrl": "libs", "paths": {"@acme/log": ["log/src/index.ts"]}}
    own = {
        "paths": {"@acme/util/*": ["../util/src/*"], "own/*": ["./src/*"]},
        "typeRoots": ["../types", "node_modules/@types"],
    }
    root = make_tree(
        {
            "tsconfig.base.json": json.dumps({"compilerOptions": base}),
            "api/tsconfig.json": json.dumps(
                {"extends": "../tsconfig.base.json", "compilerOptions": own}
            ),
            "api/package.json": package(),
            "libs/log/src/index.ts": "",
            "libs/log/src/format.ts": "",
            "libs/log/README.md": "",
            "types/request.d.ts": "",
            "util/src/clock.ts": "",
        }
    )

    files = NodePack(bench.tools).source_files(root / "api")

    assert {str(file.relative_to(root)) for file in files} == {
        "api/package.json", "api/tsconfig.json", "libs/log/src/format.ts", "libs/log/src/index.ts",
        "tsconfig.base.json", "types/request.d.ts", "util/src/clock.ts",
    }  # fmt: skip
