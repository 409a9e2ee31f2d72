"""Go: which program is meant, what the binary is named after, what a failing build says."""

import asyncio
import http.server
import io
import os
import subprocess
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from devstack.packs.base import CannotPrepare, Prepared
from devstack.packs.digest import source_digest
from devstack.packs.go import GoPack
from devstack.packs.go_mains import choose_main, find_mains, find_module
from tests.packs_unit.bench import Bench, FoundTool, MakeTree, PathTools, Run
from tests.support.steps import SubprocessSteps

MODULE = "module example.test/shop\n\ngo 1.22\n"
MAIN = "package main\n\nfunc main() {}\n"


@pytest.mark.parametrize(
    ("files", "wanted", "chosen"),
    [
        ({"main.go": MAIN}, None, "."),
        ({"cmd/api/main.go": MAIN}, None, "cmd/api"),
        ({"main.go": MAIN, "cmd/tool/main.go": MAIN}, None, "."),
        ({"cmd/service/main.go": MAIN, "cmd/tool/main.go": MAIN}, None, "cmd/service"),
        ({"cmd/a/main.go": MAIN, "cmd/b/main.go": MAIN}, "./cmd/b", "cmd/b"),
        ({"cmd/a/main.go": MAIN, "cmd/b/main.go": MAIN}, "cmd/b/", "cmd/b"),
        ({"cmd/a/main.go": MAIN, "cmd/b/main.go": MAIN}, "b", "cmd/b"),
        ({"cmd/a/main.go": MAIN, "cmd/b/main.go": MAIN}, "example.test/shop/cmd/b", "cmd/b"),
        ({"cmd/a/main.go": MAIN, "cmd/b/main.go": MAIN}, "cmd/b/main.go", "cmd/b"),
        ({"app.go": "// package no\n/* package x */\n\npackage main\n", "gen.go": "//go:build ignore\n\npackage main\n"}, None, "."),
        ({"main.go": MAIN, "vendor/x/main.go": MAIN, "testdata/main.go": MAIN, "_old/main.go": MAIN}, None, "."),
        ({"main.go": MAIN, "tools/go.mod": "module t\n", "tools/main.go": MAIN}, None, "."),
        ({"lib.go": "package lib\n", "lib_test.go": "package main\n", "x/main.go": MAIN}, None, "x"),
    ],
)  # fmt: skip
def test_the_only_program_or_the_named_one_is_chosen(
    make_tree: MakeTree, files: Mapping[str, str], wanted: str | None, chosen: str
) -> None:
    source = make_tree({"go.mod": MODULE, **files})
    module = find_module(source)
    assert module is not None

    assert choose_main(module, source, wanted, "service") == (source / chosen)


@pytest.mark.parametrize(
    ("files", "wanted", "message"),
    [
        ({"lib.go": "package lib\n"}, None, "no `package main`"),
        (
            {"cmd/a/main.go": MAIN, "cmd/b/main.go": MAIN},
            None,
            r"2 programs in .*: ./cmd/a, ./cmd/b",
        ),
        ({"cmd/a/main.go": MAIN}, "./cmd/c", r"no `package main` there; programs in .*: ./cmd/a"),
    ],
)
def test_a_program_that_cannot_be_told_is_a_question_with_the_choices(
    make_tree: MakeTree, files: Mapping[str, str], wanted: str | None, message: str
) -> None:
    source = make_tree({"go.mod": MODULE, **files})
    module = find_module(source)
    assert module is not None

    with pytest.raises(CannotPrepare, match=message):
        choose_main(module, source, wanted, "service")


def test_a_folder_inside_a_module_is_built_with_the_module_above(make_tree: MakeTree) -> None:
    source = make_tree({"go.mod": MODULE, "cmd/api/main.go": MAIN, "cmd/job/main.go": MAIN})
    module = find_module(source / "cmd/api")
    assert module is not None

    assert module.root == source
    assert find_mains(source / "cmd/api") == (source / "cmd/api",)


def test_sources_taken_by_replace_and_workspaces_count_and_tests_do_not(
    make_tree: MakeTree,
) -> None:
    source = make_tree(
        {
            "api/go.mod": MODULE + "replace example.test/lib => ../lib\n",
            "api/main.go": MAIN,
            "api/main_test.go": "package main\n",
            "api/web/page.html": "",
            "lib/lib.go": "package lib\n",
            "other/other.go": "package other\n",
            "go.work": "go 1.22\n\nuse (\n\t./api\n\t./other\n)\n",
        }
    )

    files = GoPack(PathTools()).source_files(source / "api")

    assert {str(file.relative_to(source)) for file in files} == {
        "go.work", "api/go.mod", "api/main.go", "api/web/page.html", "lib/lib.go", "other/other.go",
    }  # fmt: skip


EMBEDS = """package main

import "embed"

//go:embed all:dist
//go:embed rules.db "notes/*.log"
var files embed.FS

func main() {
	for _, name := range []string{"dist/page.html", "dist/_part/x.tmp", "rules.db", "notes/a.log"} {
		text, _ := files.ReadFile(name)
		print(string(text))
	}
	print(coverage.Word())
}
"""


@pytest.mark.parametrize(
    "edited",
    ["dist/page.html", "dist/_part/x.tmp", "rules.db", "notes/a.log", "internal/coverage/word.go"],
)
def test_what_go_builds_in_is_source_whatever_its_name_and_whoever_ignores_it(
    make_tree: MakeTree, bench: Bench, run: Run, edited: str
) -> None:
    source = make_tree(
        {
            "go.mod": MODULE,
            ".gitignore": "dist/\n*.db\ncoverage/\n",
            "main.go": EMBEDS.replace('"embed"', '"embed"\n\nimport "example.test/shop/internal/coverage"'),
            "dist/page.html": "old",
            "dist/_part/x.tmp": "old",
            "rules.db": "old",
            "notes/a.log": "old",
            "internal/coverage/word.go": 'package coverage\n\nfunc Word() string { return "old" }\n',
        }
    )  # fmt: skip
    pack = GoPack(bench.tools)
    before = run(pack.prepare(bench.request(source), bench.steps))
    seen = source_digest(pack, source)

    file = source / edited
    file.write_text(file.read_text().replace("old", "new"))
    after = run(pack.prepare(bench.request(source), bench.steps))

    assert source_digest(pack, source) != seen
    assert said(before).count("old") == 5
    assert (said(after).count("new"), said(after).count("old")) == (1, 4)


def test_what_a_running_go_service_writes_beside_its_code_is_no_source(
    make_tree: MakeTree,
) -> None:
    source = make_tree(
        {"go.mod": MODULE, "main.go": MAIN, "shop.db": "", "shop.log": "", "dist/x": "", ".gitignore": "dist/\n"}
    )  # fmt: skip

    files = GoPack(PathTools()).source_files(source)

    assert {file.name for file in files} == {"go.mod", "main.go", ".gitignore"}


def said(prepared: Prepared) -> str:
    assert prepared.command is not None
    finished = subprocess.run(
        prepared.command.argv, capture_output=True, text=True, timeout=60, check=True
    )
    return finished.stderr


def test_a_go_too_old_for_the_module_is_told_before_building(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    source = make_tree({"go.mod": "module x\n\ngo 1.99.0\n", "main.go": MAIN})
    asked: list[str | None] = []

    async def old_go(name: str, wanted: str | None) -> FoundTool:
        asked.append(wanted)
        return FoundTool("1.26.1", "PATH", {"go": Path("/nowhere/go")})

    with pytest.raises(CannotPrepare, match=r"go.mod asks for go 1.99.0, found 1.26.1 \(PATH\)"):
        run(GoPack(old_go).prepare(bench.request(source), bench.steps))
    assert asked == [None, ">=1.99.0"]
    assert bench.steps.ran == []


def test_no_go_mod_is_told_with_the_command_that_makes_one(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    source = make_tree({"main.go": MAIN})

    with pytest.raises(CannotPrepare, match=r"no go\.mod") as told:
        run(GoPack(bench.tools).prepare(bench.request(source), bench.steps))
    assert "go mod init" in told.value.hint


def test_e07_a_failing_build_names_file_line_and_column_and_leaves_the_good_binary(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    source = make_tree({"go.mod": MODULE, "cmd/api/main.go": MAIN})
    pack = GoPack(bench.tools)
    good = run(pack.prepare(bench.request(source), bench.steps))
    (source / "cmd/api/main.go").write_text("package main\n\nfunc main() {\n\tundefined()\n}\n")

    with pytest.raises(
        CannotPrepare, match=r"^cannot build service: cmd/api/main.go:4:2 undefined: undefined$"
    ):
        run(pack.prepare(bench.request(source), bench.steps))
    assert good.command is not None
    assert os.access(good.command.argv[0], os.X_OK)
    assert sorted(path.name for path in bench.request(source).build.iterdir()) == [
        f"go-{good.digest}"
    ]

    (source / "cmd/api/main.go").write_text(MAIN)
    assert run(pack.prepare(bench.request(source), bench.steps)) == good


def test_an_unchanged_source_is_not_built_again_and_an_edited_one_is_another_artifact(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    source = make_tree({"go.mod": MODULE, "main.go": MAIN})
    pack = GoPack(bench.tools)
    first = run(pack.prepare(bench.request(source), bench.steps))
    again = run(pack.prepare(bench.request(source), bench.steps))
    (source / "main.go").write_text(MAIN + "\n// edited\n")
    edited = run(pack.prepare(bench.request(source), bench.steps))

    assert again == first
    assert len(bench.steps.ran) == 2
    assert edited.digest != first.digest
    assert all(path.exists() for path in (*first.paths, *edited.paths))
    assert not first.needs_source


def test_two_prepares_at_once_make_one_whole_artifact(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    source = make_tree({"go.mod": MODULE, "main.go": MAIN})
    pack = GoPack(bench.tools)
    request = bench.request(source)

    async def both() -> list[Prepared]:
        return await asyncio.gather(*(pack.prepare(request, bench.steps) for _ in range(2)))

    one, other = asyncio.run(both())

    assert one == other
    assert [path.name for path in request.build.iterdir()] == [f"go-{one.digest}"]


def test_the_users_go_settings_win_and_change_the_artifact(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    source = make_tree({"go.mod": MODULE, "main.go": MAIN})
    pack = GoPack(bench.tools)
    usual = run(pack.prepare(bench.request(source), bench.steps))
    environment = {**bench.steps.environment, "GOFLAGS": "-buildvcs=false -trimpath"}
    other = run(pack.prepare(bench.request(source, environment=environment), bench.steps))

    assert usual.digest != other.digest


@contextmanager
def module_proxy(cuts: int) -> Iterator[tuple[str, list[str]]]:
    """Serves example.test/dep v1.0.0 (go.dev/ref/mod#goproxy-protocol); the first transfers end early."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("example.test/dep@v1.0.0/go.mod", "module example.test/dep\n")
        made.writestr("example.test/dep@v1.0.0/dep.go", "package dep\n\nconst Word = 1\n")
    files = {
        "v1.0.0.info": b'{"Version": "v1.0.0"}',
        "v1.0.0.mod": b"module example.test/dep\n",
        "v1.0.0.zip": archive.getvalue(),
    }
    asked: list[str] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            asked.append(name)
            content = files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            is_cut = name.endswith(".zip") and asked.count(name) <= cuts
            self.wfile.write(content[:10] if is_cut else content)

        def log_message(self, *_: object) -> None:
            """It is not told."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("cuts", "is_made"), [(2, True), (3, False)])
def test_a_module_whose_transfer_was_cut_off_is_fetched_again_but_not_for_ever(
    make_tree: MakeTree, bench: Bench, run: Run, tmp_path: Path, cuts: int, is_made: bool
) -> None:
    source = make_tree(
        {
            "go.mod": MODULE + "\nrequire example.test/dep v1.0.0\n",
            "main.go": 'package main\n\nimport "example.test/dep"\n\nfunc main() { println(dep.Word) }\n',
        }
    )
    pack = GoPack(bench.tools)
    with module_proxy(cuts) as (url, asked):
        environment = {
            **bench.steps.environment,
            "GOPROXY": url,
            "GONOSUMDB": "example.test",
            "GOFLAGS": "-mod=mod -modcacherw",
            "GOMODCACHE": str(tmp_path / "modules"),
        }
        steps = SubprocessSteps(environment=environment)
        preparing = pack.prepare(bench.request(source, environment=environment), steps)
        if is_made:
            assert run(preparing).command is not None
        else:
            with pytest.raises(CannotPrepare, match="unexpected EOF"):
                run(preparing)
        assert asked.count("v1.0.0.zip") == 3
