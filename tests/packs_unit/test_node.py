"""Node: what starts, whose node_modules are used, and how a working tree finds its packages."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from devstack.packs.base import CannotPrepare, Command, Prepared, Toolchain
from devstack.packs.digest import source_digest
from devstack.packs.node import NodePack
from devstack.packs.node_locks import find_lock, why_not_fitting
from devstack.packs.node_manifest import read_package_json
from devstack.packs.node_start import find_start
from devstack.provision.find import find_tool
from devstack.provision.tool import Settings, Tool, ToolUnavailable
from tests.packs_unit.bench import Bench, MakeTree, Run, TakeSnapshot


def package(**values: object) -> str:
    return json.dumps({"name": "shop", "version": "1.0.0", **values})


LOCAL = {
    "pkg/index.js": "module.exports = {answer: () => 42};\n",
    "pkg/package.json": json.dumps({"name": "answers", "version": "1.0.0"}),
}


@pytest.mark.parametrize(
    ("scripts", "files", "main", "kind", "words"),
    [
        ({"start": "node server.js"}, ["server.js"], None, "node", ("server.js",)),
        ({"start": "node --enable-source-maps ./src/a.mjs --fast"}, [], None, "node", ("--enable-source-maps", "./src/a.mjs", "--fast")),
        ({"start": "NODE_ENV=production node a.js"}, ["a.js"], None, "node", ("a.js",)),
        ({"start": "cross-env A=1 B=2 node a.js"}, ["a.js"], None, "node", ("a.js",)),
        ({"start": "nodemon a.js"}, ["a.js"], None, "node", ("a.js",)),
        ({"start": "node --watch a.js"}, ["a.js"], None, "node", ("a.js",)),
        ({"start": "npm run serve", "serve": "node a.js"}, ["a.js"], None, "node", ("a.js",)),
        ({"start": "tsx src/index.ts"}, [], None, "program", ("tsx", "src/index.ts")),
        ({"start": "npm run a && node b.js"}, [], None, "shell", ("npm run a && node b.js",)),
        ({"start": "node ."}, ["lib/a.js"], None, "node", (".",)),
        ({"start": "node --title foo a.js"}, ["a.js"], None, "node", ("--title", "foo", "a.js")),
        ({"start": "node --watch --watch-path ./src a.js"}, ["a.js"], None, "node", ("a.js",)),
        ({}, ["index.js", "server.js"], None, "node", ("server.js",)),
        ({}, ["src/index.js"], None, "node", ("src/index.js",)),
        ({"start": "node a.js"}, ["b.js"], "b.js", "node", ("b.js",)),
    ],
)  # fmt: skip
def test_the_start_script_is_run_without_npm_around_it(
    make_tree: MakeTree,
    scripts: Mapping[str, str],
    files: list[str],
    main: str | None,
    kind: str,
    words: tuple[str, ...],
) -> None:
    source = make_tree({"package.json": package(scripts=scripts), **dict.fromkeys(files, "")})

    start = find_start(source, read_package_json(source), main)

    assert start is not None
    assert (start.kind, start.words) == (kind, words)


@pytest.mark.parametrize(
    ("start", "file"),
    [
        ("node .", "lib/a.js"),
        ("node ./", "lib/a.js"),
        ("node lib", "lib/index.js"),
        ("node --title foo server.js", "server.js"),
        ("node --watch-path ./src server.js", "server.js"),
        ("node --max-http-header-size 99 server.js", "server.js"),
        ("node --no-warnings server", "server.js"),
    ],
)
def test_the_file_that_a_start_script_means_is_run(
    make_tree: MakeTree, bench: Bench, run: Run, start: str, file: str
) -> None:
    tells = 'console.log(require("node:path").relative(process.cwd(), __filename));\n'
    source = make_tree(
        {
            "package.json": package(scripts={"start": start, "build": "exit 1"}, main="lib/a.js"),
            **dict.fromkeys(("lib/a.js", "lib/index.js", "server.js"), tells),
        }
    )

    prepared = run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))

    assert said(prepared.command, bench) == file
    assert bench.steps.ran == []


def test_a_port_set_within_a_shell_command_is_told(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    scripts = {"start": "PORT=3000 node a.js | cat"}
    source = make_tree({"package.json": package(scripts=scripts), "a.js": ""})

    prepared = run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))

    assert any("scripts.start sets PORT itself" in note for note in prepared.notes)


@pytest.mark.parametrize(
    ("engines", "asked", "is_told"),
    [
        (">=20.6", [">=20.6"], False),
        ("^1.0.0 || >=20", [">=20.6"], False),
        ("18 - 99", [">=20.6"], False),
        ("*", [">=20.6"], False),
        ("1.x || ^2.0.0", [">=20.6", "^2.0.0", "1.x"], True),
    ],
)
def test_the_version_that_engines_asks_for_is_looked_for_and_told_where_it_is_not_to_be_had(
    make_tree: MakeTree, bench: Bench, run: Run, engines: str, asked: list[str], is_told: bool
) -> None:
    source = make_tree({"package.json": package(engines={"node": engines}), "server.js": ""})
    wanted: list[str | None] = []

    async def tools(name: str, version: str | None) -> Toolchain:
        wanted.append(version)
        if len(wanted) > 1:
            raise ToolUnavailable(f"no {name} {version}")
        return await bench.tools(name, version)

    prepared = run(NodePack(tools).prepare(bench.request(source), bench.steps))

    assert wanted == asked
    assert any("engines.node" in note for note in prepared.notes) is is_told


def test_the_main_of_package_json_is_resolved_as_node_does(make_tree: MakeTree) -> None:
    source = make_tree({"package.json": package(main="./lib"), "lib/index.js": "", "index.js": ""})

    start = find_start(source, read_package_json(source), None)

    assert start is not None
    assert start.file == "lib/index.js"


def test_variables_in_front_of_a_start_script_are_kept(make_tree: MakeTree) -> None:
    source = make_tree({"package.json": package(scripts={"start": "A=1 B='x y' node a.js"})})

    start = find_start(source, read_package_json(source), None)

    assert start is not None
    assert start.environment == {"A": "1", "B": "x y"}


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        ({"package.json": package()}, "no scripts.start", "main: FILE"),
        ({"package.json": "{,}"}, r"package.json:1:2: ", "correct that line"),
        ({"package.json": '{"a":' * 100_000}, "package.json:1:1: nested too deeply", "correct that line"),
        ({"package.json": package(scripts={"start": "node gone.js"})}, "names gone.js, which is not in", "scripts.build"),
        ({"package.json": package(dependencies={"x": "1"}), "server.js": "", "pnpm-lock.yaml": ""}, "lock file of pnpm", "pnpm install"),
        ({"package.json": package(dependencies={"x": "file:../x"}), "server.js": ""}, "x is a folder beside it", "npm install"),
        ({"package.json": package(dependencies={"x": "1"}), "server.js": "", "yarn.lock": ""}, "lock file of yarn", "yarn install"),
    ],
)  # fmt: skip
def test_what_cannot_be_prepared_says_why_and_what_would_help(
    make_tree: MakeTree, bench: Bench, run: Run, files: Mapping[str, str], message: str, hint: str
) -> None:
    source = make_tree(files)

    with pytest.raises(CannotPrepare, match=message) as told:
        run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))
    assert hint in told.value.hint


def test_without_packages_nothing_is_installed(make_tree: MakeTree, bench: Bench, run: Run) -> None:
    source = make_tree({"package.json": package(), "server.js": "console.log('here')"})

    prepared = run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))

    assert bench.steps.ran == []
    assert said(prepared.command, bench) == "here"


IMPORTS = 'import isNumber from "is-number";\nconsole.log(isNumber("7"));\n'
REQUIRES = 'console.log(require("is-number")("7"));\n'
MIXED = """import { createRequire } from "node:module";
const require = createRequire(import.meta.url);
const isNumber = require("is-number");
const { default: again } = await import("is-number");
import("./own.cjs").then((own) => console.log(isNumber("7") && again === isNumber && own.default));
"""
REQUIRES_MAPPED = 'console.log(require("#number")("7") && require("#own"));\n'
MAPPED = """import isNumber from "#number";
import own from "#own";
console.log(isNumber("7") && own);
"""
OWN = 'module.exports = require("is-number")(require("node:path").sep === "/" ? 1 : 0);\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [("server.mjs", IMPORTS), ("server.cjs", REQUIRES), ("server.mjs", MIXED)],
    ids=["import", "require", "mixed"],
)
def test_packages_without_a_lock_file_are_installed_elsewhere_and_found(
    make_tree: MakeTree,
    bench: Bench,
    run: Run,
    snapshot: TakeSnapshot,
    name: str,
    text: str,
) -> None:
    files = {"package.json": package(dependencies={"is-number": "7.0.0"}, main=name)}
    source = make_tree({**files, name: text, "own.cjs": OWN})
    before = snapshot(source)

    prepared = run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))

    assert said(prepared.command, bench) == "true"
    assert snapshot(source) == before
    assert any("no lock file" in note for note in prepared.notes)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("server.mjs", IMPORTS),
        ("server.cjs", REQUIRES),
        ("server.mjs", MIXED),
        ("server.mjs", MAPPED),
        ("server.cjs", REQUIRES_MAPPED),
    ],
    ids=["import", "require", "mixed", "mapped", "require mapped"],
)
def test_the_node_that_devstack_brings_finds_packages_too(
    make_tree: MakeTree, bench: Bench, run: Run, name: str, text: str
) -> None:
    """It has hooks that Node 20 lacks, and npm as a script."""
    wheel = asyncio.run(brought_node(bench))

    async def tools(asked: str, wanted: str | None) -> Tool:
        return wheel

    source = make_tree({"package.json": mapped_package(name), name: text, "own.cjs": OWN})

    prepared = run(NodePack(tools).prepare(bench.request(source), bench.steps))

    assert said(prepared.command, bench) == "true"


@pytest.mark.parametrize(
    ("name", "text"),
    [("server.mjs", MAPPED), ("server.cjs", REQUIRES_MAPPED)],
    ids=["import", "require"],
)
def test_names_that_the_package_maps_to_a_package_are_found(
    make_tree: MakeTree, bench: Bench, run: Run, name: str, text: str
) -> None:
    source = make_tree({"package.json": mapped_package(name), name: text, "own.cjs": OWN})

    prepared = run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))

    assert said(prepared.command, bench) == "true"


def test_a_stale_node_modules_in_the_tree_is_neither_used_nor_written(
    make_tree: MakeTree, bench: Bench, run: Run, snapshot: TakeSnapshot
) -> None:
    source = make_tree(
        {
            "package.json": package(dependencies={"is-number": "7.0.0"}, main="a.js"),
            "a.js": REQUIRES,
            "node_modules/is-number/index.js": "module.exports = () => 'stale';",
            "node_modules/is-number/package.json": '{"name": "is-number", "version": "1.0.0"}',
        }
    )
    before = snapshot(source)

    prepared = run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))

    assert said(prepared.command, bench) == "true"
    assert snapshot(source) == before


def test_the_users_node_modules_is_used_as_it_is_when_it_matches_its_lock_file(
    strangers: Path,
    tmp_path: Path,
    bench: Bench,
    run: Run,
    snapshot: TakeSnapshot,
) -> None:
    source = tmp_path / "greeter"
    shutil.copytree(strangers / "greeter", source)
    elsewhere = run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))
    shutil.copytree(elsewhere.paths[0] / "node_modules", source / "node_modules", symlinks=True)
    before = snapshot(source)
    bench.steps.ran.clear()

    theirs = run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))

    assert bench.steps.ran == []
    assert theirs.paths == ()
    assert "NODE_OPTIONS" not in theirs.environment
    assert snapshot(source) == before

    lock = json.loads((source / "package-lock.json").read_text())
    lock["packages"]["node_modules/express"]["version"] = "5.0.0"
    (source / "package-lock.json").write_text(json.dumps(lock))
    found = find_lock(source)
    assert found is not None
    assert "locked 5.0.0" in str(why_not_fitting(source / "node_modules", found))


def test_two_installs_at_once_make_one_whole_folder(strangers: Path, bench: Bench) -> None:
    request = bench.request(strangers / "greeter")
    pack = NodePack(bench.tools)

    async def both() -> list[Prepared]:
        return await asyncio.gather(*(pack.prepare(request, bench.steps) for _ in range(2)))

    one, other = asyncio.run(both())

    assert one == other
    assert [path.name for path in request.deps.iterdir()] == [one.paths[0].name]
    assert (one.paths[0] / "node_modules" / "express" / "package.json").is_file()


def test_a_lock_file_that_differs_from_its_manifest_is_told(
    strangers: Path, tmp_path: Path, bench: Bench, run: Run
) -> None:
    source = tmp_path / "greeter"
    shutil.copytree(strangers / "greeter", source)
    document = json.loads((source / "package.json").read_text())
    document["dependencies"]["is-number"] = "7.0.0"
    (source / "package.json").write_text(json.dumps(document))

    with pytest.raises(
        CannotPrepare, match=r"asks for is-number 7\.0\.0, .* made for none"
    ) as told:
        run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))
    assert "npm install" in told.value.hint
    assert bench.steps.ran == []


def test_a_failing_install_leaves_nothing_behind(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    source = make_tree(
        {"package.json": package(dependencies={"is-number": "99.99.99"}), "a.js": ""}
    )

    with pytest.raises(CannotPrepare, match="cannot install packages of service"):
        run(NodePack(bench.tools).prepare(bench.request(source, main="a.js"), bench.steps))
    assert list(bench.request(source).deps.iterdir()) == []


BUILD = 'require("fs").mkdirSync("dist"); require("fs").copyFileSync("in.js", "dist/main.js");'


def test_what_a_build_script_makes_is_made_in_a_copy(
    make_tree: MakeTree, bench: Bench, run: Run, snapshot: TakeSnapshot
) -> None:
    scripts = {"build": "node build.js", "start": "node dist/main.js"}
    source = make_tree(
        {
            "package.json": package(scripts=scripts, dependencies={"is-number": "7.0.0"}),
            "build.js": BUILD,
            "in.js": REQUIRES,
        }
    )
    before = snapshot(source)

    prepared = run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))

    assert said(prepared.command, bench) == "true"
    assert not prepared.needs_source
    assert snapshot(source) == before


COUNTS = """const fs = require("fs");
const kept = "node_modules/.cache/counter/builds";
const before = fs.existsSync(kept) ? fs.readFileSync(kept, "utf8") : "";
fs.mkdirSync("node_modules/.cache/counter", {recursive: true});
fs.writeFileSync(kept, before + "I");
fs.mkdirSync("dist");
fs.writeFileSync("dist/main.js", `console.log("${before}I")`);
"""


def test_what_a_build_tool_keeps_in_node_modules_outlives_a_build(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    scripts = {"build": "node build.js", "start": "node dist/main.js"}
    source = make_tree(
        {
            "package.json": package(scripts=scripts),
            "bun.lock": "",
            "build.js": COUNTS,
            "node_modules/answers/package.json": package(),
        }
    )
    first = run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))

    (source / "build.js").write_text(COUNTS + "// edited\n")
    second = run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))

    assert (said(first.command, bench), said(second.command, bench)) == ("I", "II")
    assert second.command is not None
    assert (second.command.cwd / "node_modules").readlink() == source / "node_modules"


def test_a_copy_leaves_the_event_loop_free_and_nothing_behind_when_it_is_cancelled(
    make_tree: MakeTree, bench: Bench
) -> None:
    scripts = {"build": "node build.js", "start": "node dist/main.js"}
    assets = {f"assets/{number}/a.txt": "" for number in range(500)}
    source = make_tree({"package.json": package(scripts=scripts), **assets})
    request = bench.request(source)

    async def give_up() -> None:
        await bench.tools("node", None)  # known from here on: the copy is what is waited for first
        preparing = asyncio.create_task(NodePack(bench.tools).prepare(request, bench.steps))
        await asyncio.sleep(0)
        preparing.cancel()
        await preparing

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(give_up())
    assert bench.steps.ran == []
    assert list(request.build.iterdir()) == []


READS = """const fs = require("fs");
const names = [".env", "src/generated/client.txt", "src/coverage/plan.txt", "src/tmpl/mail.log"];
const text = names.map((name) => fs.readFileSync(name, "utf8").trim()).join(" ");
fs.mkdirSync("dist");
fs.writeFileSync("dist/main.js", `console.log(${JSON.stringify(text)})`);
"""


@pytest.mark.parametrize(
    "edited", [".env", "src/generated/client.txt", "src/coverage/plan.txt", "src/tmpl/mail.log"]
)
def test_a_build_script_finds_every_file_of_the_tree_and_each_is_source(
    make_tree: MakeTree, bench: Bench, run: Run, edited: str
) -> None:
    scripts = {"build": "node build.js", "start": "node dist/main.js"}
    source = make_tree(
        {
            "package.json": package(scripts=scripts),
            ".gitignore": ".env\nsrc/generated/\ndist/\n",
            "build.js": READS,
            ".env": "old",
            "src/generated/client.txt": "old",
            "src/coverage/plan.txt": "old",
            "src/tmpl/mail.log": "old",
            "tools env/pyvenv.cfg": "",
            "node_modules/stale/index.js": "",
            ".git/HEAD": "",
        }
    )
    pack = NodePack(bench.tools)
    before = run(pack.prepare(bench.request(source), bench.steps))
    seen = source_digest(pack, source)

    (source / edited).write_text("new")
    after = run(pack.prepare(bench.request(source), bench.steps))

    assert said(before.command, bench) == "old old old old"
    assert sorted(said(after.command, bench).split()) == ["new", "old", "old", "old"]
    assert source_digest(pack, source) != seen
    assert after.command is not None
    brought = {".git", "node_modules", "tools env"}
    assert not brought & {path.name for path in after.command.cwd.iterdir()}


def test_e07_a_failing_build_script_names_the_place(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    source = make_tree(
        {
            "package.json": package(scripts={"build": "node build.js", "start": "node dist/x.js"}),
            "build.js": "\n\nthrow new Error('no way');\n",
        }
    )

    with pytest.raises(
        CannotPrepare, match=r"cannot build service: build.js:3 Error: no way"
    ) as told:
        run(NodePack(bench.tools).prepare(bench.request(source), bench.steps))
    assert "npm run build" in told.value.hint
    assert "in a copy" in told.value.hint


def mapped_package(main: str) -> str:
    imports = {"#number": "is-number", "#own": "./own.cjs"}
    return package(dependencies={"is-number": "7.0.0"}, main=main, imports=imports)


async def brought_node(bench: Bench) -> Tool:
    """The one from the wheel, whatever is on PATH."""
    settings = Settings(bench.cache, False, "/nowhere", bench.steps.environment)
    try:
        return await find_tool("node", wanted=">=20.6", steps=bench.steps, settings=settings)
    except ToolUnavailable as why:
        pytest.skip(str(why))


def said(command: Command | None, bench: Bench) -> str:
    assert command is not None
    finished = subprocess.run(
        command.argv,
        cwd=command.cwd,
        env={**bench.steps.environment, **command.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip() or os.linesep
