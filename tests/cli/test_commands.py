"""Commands as users write them: exit codes, words of errors, listings by their schemas."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from devstack.api.client import lock_holder
from devstack.cli.table import COMMANDS
from tests.api.test_listings import schema_of
from tests.support.processes import eventually, is_alive
from tests.support.stacks import REPOSITORY, StackUnderTest, stack_in, write_stack

BOUND_BY_MODES = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
)
"""What a command is run with for whom the modes of files count, even as root."""


def listing(stack: StackUnderTest, name: str, *words: str) -> dict[str, Any]:
    """A `--json` listing, held to its schema."""
    found: dict[str, Any] = json.loads(stack.devstack(*words, "--json").out)
    jsonschema.validate(found, schema_of(name))
    return found


def entry_of(stack: StackUnderTest) -> dict[str, Any] | None:
    """The stack in `devstack ls`, once its controller has told it there."""
    stacks = listing(stack, "ls", "ls")["stacks"]
    return next((s for s in stacks if s["folder"] == str(stack.folder)), None)


def kill_controllers(stack: StackUnderTest, count: int) -> None:
    """The one that has the stack, and those that follow it."""
    killed: set[int] = set()

    def kill_another() -> bool:
        pid = lock_holder(stack.places)
        if pid and pid not in killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        return len(killed) == count

    eventually(kill_another, 40)  # less than the minute for which the keeper then starts no other


class TestWithoutAStack:
    def test_every_command_has_its_page(self, stack: StackUnderTest) -> None:
        overview = stack.devstack("--help").out
        for name in COMMANDS:
            assert f"  {name} " in overview
            page = stack.devstack(name, "--help").out
            assert page.startswith(f"usage: devstack {name}"), page
            assert stack.devstack("help", name).out == page

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ([], ""),
            (["stauts"], "there is no command 'stauts' (did you mean 'status'?)"),
            (["status", "--jsn"], "devstack status has no option --jsn"),
            (["status", "orders"], "devstack status does not know what to do with 'orders'"),
            (["why"], "devstack why needs a service"),
            (["scale", "orders"], "cannot read 'orders'"),
            (["scale", "orders=-1"], "cannot read 'orders=-1'"),
            (["scale", "orders=many"], "cannot read 'orders=many'"),
            (["up", "--timeout", "soon"], "cannot read --timeout soon"),
            (["up", "--timeout"], "--timeout needs a value"),
            (["--fast", "up"], "devstack has no option --fast"),
            (["-C", "nowhere", "up"], "cannot enter nowhere: no such file or directory"),
            (["-f", "nothing.yaml", "validate"], "cannot read nothing.yaml: there is no such file"),
            (["-f", ".", "validate"], "cannot read .: it is not a file"),
            (
                ["-f", "logs", "validate"],
                "cannot use logs as a stack file: .devstack/logs belongs to the stack of stack.yaml",
            ),
            (["logs", "--grep", "("], "cannot search for '('"),
            (["logs", "--level", "loud"], "there is no level 'loud'"),
            (["logs", "--raw", "--json"], "cannot print raw bytes as JSON"),
            (["logs", "--tail", "x"], "cannot read --tail x"),
            (["down", "--stack", "../etc"], "there is no stack '../etc'"),
        ],
    )
    def test_j08_wrong_words_end_with_2(
        self, stack: StackUnderTest, words: list[str], says: str
    ) -> None:
        (stack.folder / "logs").touch()
        result = stack.devstack(*words, code=2)
        assert says in result.err
        assert "Traceback" not in result.err

    @pytest.mark.parametrize(
        "words",
        [
            ["status"], ["status", "--json"], ["why", "api"], ["env", "api"], ["endpoints"],
            ["scale", "api=2"], ["restart", "api"], ["stop", "api"], ["start", "api"],
            ["reset", "db", "--yes"],
        ],
    )  # fmt: skip
    def test_j08_without_a_controller_they_end_with_3(
        self, stack: StackUnderTest, words: list[str]
    ) -> None:
        result = stack.devstack(*words, code=3)
        assert result.err == "stack.yaml is not running\nhint: devstack up starts it\n"
        assert result.out == ""

    def test_down_of_nothing_is_fine(self, stack: StackUnderTest) -> None:
        assert stack.devstack("down").err == "nothing was running\n"

    def test_down_says_why_it_may_not_remove_what_another_user_made(
        self, stack: StackUnderTest
    ) -> None:
        state = stack.folder / ".devstack" / "state"
        state.mkdir(parents=True)
        state.chmod(0)
        stack.prefix = BOUND_BY_MODES

        refused = stack.devstack("down", code=1)

        assert refused.err == (
            f"cannot forget what scale and stop asked for: {state}/snapshot.json: Permission denied\n"
            f"hint: devstack keeps data, logs and state in {state.parent}: that folder cannot be "
            "written to\n"
        )

    def test_up_in_a_folder_that_cannot_be_written_to_says_so(self, stack: StackUnderTest) -> None:
        stack.prefix = BOUND_BY_MODES
        stack.folder.chmod(0o555)

        refused = stack.devstack("up", "-d", code=1)

        stack.folder.chmod(0o755)
        own = stack.folder / ".devstack"
        assert refused.err.endswith(
            f"cannot start the stack: {own}: Permission denied\n"
            f"hint: devstack keeps data, logs and state in {own}: that folder cannot be written to\n"
        )

    def test_without_a_stack_file_they_say_where_they_looked(
        self, stack: StackUnderTest, tmp_path: Path
    ) -> None:
        bare = tmp_path / "bare"
        bare.mkdir()
        result = stack.devstack("-C", str(bare), "status", code=2)
        assert result.err.startswith(f"there is no stack.yaml in {bare} or above it\n")
        (bare / "stack.yml").touch()
        assert (
            "hint: rename stack.yml to stack.yaml"
            in stack.devstack("-C", str(bare), "status", code=2).err
        )

    def test_the_stack_file_is_searched_upwards(self, stack: StackUnderTest) -> None:
        below = stack.folder / "a" / "b"
        below.mkdir(parents=True)
        assert "stack.yaml is valid: 2 services" in stack.devstack("-C", str(below), "validate").out

    def test_validate_lists_every_problem(self, stack: StackUnderTest) -> None:
        assert listing(stack, "validate", "validate")["valid"] is True
        (stack.folder / "stack.yaml").write_text("services:\n  api: {comand: x}\n  b: {port: no}\n")
        result = stack.devstack("validate", code=2)
        assert "stack.yaml:2:9: unknown key 'comand' (did you mean 'command'?)" in result.err
        found = json.loads(stack.devstack("validate", "--json", code=2).out)
        jsonschema.validate(found, schema_of("validate"))
        assert len(found["problems"]) >= 2

    def test_schema_is_a_json_schema(self, stack: StackUnderTest) -> None:
        schema = json.loads(stack.devstack("schema").out)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert "services" in schema["properties"]

    def test_a_dry_run_tells_what_would_run_and_runs_nothing(self, alone: StackUnderTest) -> None:
        stack = alone
        result = stack.devstack("up", "--dry-run")
        assert "worker (service, 1): sh -c 'exec sleep 1000'; after api ready" in result.out
        assert not (stack.folder / ".devstack").exists()
        assert listing(stack, "ls", "ls")["stacks"] == []

    def test_a_dry_run_says_what_the_packs_find(self, stack: StackUnderTest) -> None:
        write_stack(
            stack.folder,
            "services:\n  web: {source: web}\n  tick: {source: tick}\n  api: {source: api}\n"
            "  ui: {source: ui}\n",
            {
                "web/app.py": "from flask import Flask\napp = Flask(__name__)\n",
                "tick/tick.py": "print('tick')\n",
                "api/go.mod": "module api\n",
                "api/main.go": "package main\nfunc main() {}\n",
                "ui/package.json": '{"scripts": {"start": "node src/ui.js"}}',
                "ui/src/ui.js": "",
            },
        )

        lines = stack.devstack("up", "--dry-run").out.splitlines()

        source = stack.folder
        assert [line.partition(" prepare ")[2] for line in lines[:4]] == [
            f"{source}/web as python (python files), run app:app (app.py:2) with waitress",
            f"{source}/tick as python (python files), run python tick.py",
            f"{source}/api as go (go.mod), run the program in {source}/api",
            f"{source}/ui as node (package.json), run node src/ui.js (scripts.start)",
        ]

    def test_a_dry_run_of_what_cannot_be_prepared_ends_with_1_and_the_reason(
        self, stack: StackUnderTest
    ) -> None:
        write_stack(
            stack.folder,
            "services:\n  a: {source: empty}\n  b: {source: broken}\n  c: {source: lib}\n"
            "  d: {command: x}\n",
            {"empty/x": "", "broken/app.py": "def\n", "lib/package.json": "{}"},
        )

        result = stack.devstack("up", "--dry-run", code=1)

        assert result.out.startswith("d (service, 1): sh -c 'x'\n")
        assert f"cannot prepare {stack.folder}/empty: its language is not known" in result.err
        assert "cannot start b: app.py:1: " in result.err
        assert f"cannot start c: no program found in {stack.folder}/lib\nhint: " in result.err

    def test_j08_an_invalid_file_ends_up_with_2_and_leaves_no_controller(
        self, stack: StackUnderTest
    ) -> None:
        (stack.folder / "stack.yaml").write_text("services:\n  api: {comand: x}\n")
        result = stack.devstack("up", "-d", code=2)
        assert "stack.yaml:2:9: unknown key 'comand'" in result.err
        stack.assert_nothing_left()
        assert not Path(stack.places.control_socket).exists()

    def test_version_needs_no_stack(self, stack: StackUnderTest, tmp_path: Path) -> None:
        found = json.loads(stack.devstack("-C", str(tmp_path), "version", "--json").out)
        jsonschema.validate(found, schema_of("version"))
        assert found["controller"] is None
        assert stack.devstack("--version").out.startswith("devstack ")


def test_a_command_whose_output_is_closed_does_its_work(stack: StackUnderTest) -> None:
    shell = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *stack.command("ls")]

    assert (
        subprocess.run(shell, cwd=stack.folder, env=stack.environment, check=False).returncode == 0
    )


class TestARunningStack:
    def test_listings_are_as_their_schemas_say(self, stack: StackUnderTest) -> None:
        stack.up()
        status = listing(stack, "status", "status")
        assert [s["name"] for s in status["services"]] == ["api", "worker"]
        assert listing(stack, "why", "why", "api")["state"] == "ready"
        listing(stack, "endpoints", "endpoints")
        variables = listing(stack, "env", "env", "api")["variables"]
        assert any(v["name"] == "OTEL_SERVICE_NAME" and v["value"] == "api" for v in variables)
        assert listing(stack, "version", "version")["controller"]["pid"] == stack.controller_pid
        entry = eventually(lambda: entry_of(stack))
        assert entry is not None
        assert (entry["name"], entry["state"]) == ("shop", "running")
        assert entry["folder"] == str(stack.folder)
        for line in stack.devstack("logs", "--json", "--tail", "5").out.splitlines():
            jsonschema.validate(json.loads(line), schema_of("logs"))
        text = stack.devstack("status").out
        assert text.startswith("shop  2 of 2 settled\n")
        assert "\x1b" not in text

    def test_scale_sets_several_at_once_and_goes_back_to_the_file(
        self, stack: StackUnderTest
    ) -> None:
        stack.up()
        result = stack.devstack("scale", "api=3", "worker=2")
        assert sorted(result.out.splitlines()) == ["api: 3 serving", "worker: 2 serving"]
        assert stack.service("api")["overridden"] is True
        assert "3/3 (file says 1)" in stack.devstack("status").out
        stack.devstack("scale", "api=file", "worker=file")
        assert stack.service("api")["overridden"] is False
        assert stack.devstack("scale", "apy=2", code=2).err.startswith("there is no service 'apy'")

    def test_stop_start_restart(self, stack: StackUnderTest) -> None:
        stack.up()
        before = stack.pids("worker")
        stack.devstack("restart", "worker")
        assert stack.pids("worker") != before
        stack.devstack("stop", "worker")
        assert stack.service("worker")["state"] == "stopped"
        stack.devstack("start", "worker")
        assert stack.service("worker")["state"] == "ready"
        assert (
            "it is a service, not a database" in stack.devstack("reset", "api", "--yes", code=2).err
        )

    def test_j08_up_wait_ends_with_1_and_the_reasons(self, folder: Path) -> None:
        write_stack(
            folder,
            "services:\n  fine: {command: sleep 1000, port: none}\n"
            "  bad: {command: /no/such/program --x, port: none, restart: never}\n",
        )
        with stack_in(folder) as stack:
            result = stack.devstack("up", "-d", "--wait", code=1)
            assert "bad: " in result.err
            assert "devstack down stops it" in result.err
            eventually(lambda: stack.service("fine")["state"] == "ready")

    def test_up_wait_ends_with_1_when_time_is_up(self, folder: Path) -> None:
        write_stack(
            folder,
            "services:\n  slow: {command: sleep 1000, port: none, ready: {exec: test -e go}}\n",
        )
        with stack_in(folder) as stack:
            result = stack.devstack("up", "--wait", "--timeout", "1", code=1)
            assert "not ready after 1 s" in result.err

    def test_who_waits_ends_with_1_when_the_stack_is_taken_down_meanwhile(
        self, folder: Path
    ) -> None:
        write_stack(
            folder,
            "services:\n  slow: {command: exec sleep 1000, port: none, ready: {exec: test -e go}}\n",
        )
        with stack_in(folder) as stack:
            up = stack.start("up", "-d", "--wait", stderr=subprocess.PIPE, bufsize=0)
            assert up.stderr is not None
            assert any(b"slow.1#1 started" in line for line in up.stderr)
            restart = stack.start("restart", "slow", stderr=subprocess.PIPE)
            assert any(b"slow.1#2 started" in line for line in up.stderr)
            stack.devstack("down")

            for waiting in (up, restart):
                _, told = waiting.communicate(timeout=90)
                assert waiting.returncode == 1, told
                assert b"the stack was stopped meanwhile\n" in told
                assert b"hint: " not in told

    def test_the_death_of_the_controller_while_a_client_waits_is_told(self, folder: Path) -> None:
        write_stack(
            folder,
            "services:\n  slow: {command: sleep 1000, port: none, ready: {exec: test -e go}}\n",
        )
        with stack_in(folder) as stack:
            stack.devstack("up", "-d")
            waiting = stack.start("scale", "slow=3", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            eventually(lambda: stack.service("slow")["overridden"])
            pid = stack.controller_pid
            os.kill(pid, signal.SIGKILL)
            _, said = waiting.communicate(timeout=20)
            assert waiting.returncode == 1
            assert said.decode() == (
                f"cannot tell how it went: the controller (pid {pid}) ended meanwhile\n"
                "hint: devstack status tells what runs\n"
            )

    def test_a_controller_that_was_stopped_is_told_by_who_only_reads(
        self, stack: StackUnderTest
    ) -> None:
        stack.up()
        pid = stack.controller_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            asked = [
                stack.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                for words in (["status"], ["why", "api"], ["env", "api"], ["endpoints"], ["ls"])
            ]
            ends = [(*asking.communicate(timeout=60), asking.returncode) for asking in asked]
        finally:
            os.kill(pid, signal.SIGCONT)

        down = "devstack down ends it and all it runs"
        for out, err, code in ends[:-1]:
            assert (out, code) == (b"", 1)
            assert err.decode().splitlines() == [
                f"the controller (pid {pid}) does not answer",
                f"hint: kill -CONT {pid} lets it go on if it was stopped; {down}",
            ]
        assert ends[-1][2] == 0
        assert stack.service("api")["state"] == "ready"


class TestDown:
    def test_it_returns_when_the_controller_has_ended(self, stack: StackUnderTest) -> None:
        stack.up()
        pid = stack.controller_pid
        stack.devstack("down")
        assert not is_alive(pid)

    def test_it_asks_before_it_removes_data_and_lists_it(self, stack: StackUnderTest) -> None:
        stack.up()
        data = stack.folder / ".devstack" / "data" / "orders-db"
        data.mkdir(parents=True)
        (data / "file").write_text("precious")

        refused = stack.devstack("down", "--volumes", code=2)

        assert str(data) in refused.err
        assert "cannot remove data without a yes" in refused.err
        assert data.exists()
        assert stack.status()["stack"] == "shop", "nothing was stopped either"

        stack.devstack("down", "--volumes", "--yes")
        assert not data.exists()
        stack.assert_nothing_left()

    def test_data_of_a_stack_that_is_down_is_removed_as_well(self, stack: StackUnderTest) -> None:
        data = stack.folder / ".devstack" / "data" / "orders-db"
        data.mkdir(parents=True)
        elsewhere = stack.folder / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "kept").touch()
        (data.parent / "linked").symlink_to(elsewhere)
        lock = data.parent / ".orders-db.lock"
        lock.touch()
        result = stack.devstack("down", "--volumes", "--yes")
        assert str(data) in result.err
        assert not data.exists()
        assert not lock.exists()
        assert "lock" not in result.text, "no data of anybody's"
        assert not os.path.lexists(data.parent / "linked")
        assert (elsewhere / "kept").exists(), "a link is removed, not what it leads to"

    def test_a_stack_whose_folder_is_gone_is_stopped_by_its_id(self, stack: StackUnderTest) -> None:
        stack.up()
        pids = stack.pids("api") + stack.pids("worker")
        entry = eventually(lambda: entry_of(stack))
        assert entry is not None
        moved = stack.folder.with_name("moved")
        stack.folder.rename(moved)
        try:
            result = subprocess.run(
                stack.command("down", "--stack", entry["id"]),
                cwd=moved,
                env=stack.environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            if not stack.folder.exists():
                moved.rename(stack.folder)
        assert result.returncode == 0, result.stderr
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)

    def test_i02_what_a_killed_stack_left_is_told_and_the_next_command_just_works(
        self, stack: StackUnderTest
    ) -> None:
        stack.up()
        wardens: list[int] = []
        for record in Path(stack.places.folder).glob("run-*.json"):
            run, controller = json.loads(record.read_text()), stack.controller_pid
            os.kill(run["keeper"][0], signal.SIGSTOP)  # or it might start another controller
            os.kill(controller, signal.SIGKILL)
            os.kill(run["keeper"][0], signal.SIGKILL)
            wardens.append(run["warden"][0])
        eventually(lambda: not any(map(is_alive, wardens)))
        result = stack.devstack("status", code=3, seconds=30)
        assert "the last run ended because" in result.err
        again = stack.up()
        assert "the last run ended because" in again.err
        assert stack.service("api")["state"] == "ready"
        assert "the last run" not in stack.devstack("down").err

    def test_what_a_keeper_runs_without_a_controller_is_told_as_such_and_up_takes_it_over(
        self, stack: StackUnderTest
    ) -> None:
        """The keeper starts three in a minute: after that nobody answers, and everything runs on."""
        stack.up()
        before = stack.pids("api")
        kill_controllers(stack, 4)

        told = stack.devstack("status", code=3)
        listed = entry_of(stack)
        for_people = stack.devstack("ls")

        hint = "devstack up takes over what runs, devstack down ends it"
        assert told.err == f"stack.yaml runs without a controller\nhint: {hint}\n"
        assert listed is not None
        assert (listed["state"], listed["pid"]) == ("no-controller", None)
        assert " no-controller " in for_people.out
        stack.up()
        assert stack.pids("api") == before

    def test_i02_a_stale_socket_and_lock_are_no_obstacle(self, stack: StackUnderTest) -> None:
        stack.devstack("status", code=3)
        folder = Path(stack.places.folder)
        folder.mkdir(mode=0o700, parents=True)
        folder.parent.chmod(0o700)
        (folder / "controller.lock").write_text("4242\n")
        for name in ("control.sock", "keeper.sock"):
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(folder / name))
        stack.devstack("status", code=3)
        stack.up()


class TestPlaces:
    def test_j11_a_deep_project_path_works(self, tmp_path: Path) -> None:
        deep = tmp_path.joinpath(*["a-rather-long-folder-name"] * 6, "shop")
        deep.mkdir(parents=True)
        assert len(str(deep)) > 108
        write_stack(deep, "services:\n  api: {command: sleep 1000, port: none}\n")
        runtime = tmp_path / "r"
        runtime.mkdir(mode=0o700)
        stack = StackUnderTest(deep, runtime)
        try:
            stack.up()
            assert stack.service("api")["state"] == "ready"
            assert len(stack.places.control_socket) < 108
        finally:
            stack.devstack("down")
            stack.assert_nothing_left()

    def test_k03_a_run_folder_of_somebody_else_is_refused_with_a_hint(
        self, alone: StackUnderTest, tmp_path: Path
    ) -> None:
        stack = alone
        (tmp_path / "evil").mkdir(mode=0o700)
        (stack.runtime / "devstack").symlink_to(tmp_path / "evil")
        for words in (["up", "-d"], ["status"], ["ls"]):
            result = stack.devstack(*words, code=1)
            assert "for sockets: it is a symlink" in result.err
            assert "hint: remove it" in result.err
        (stack.runtime / "devstack").unlink()

    def test_a_stack_file_of_another_name_is_another_stack(self, stack: StackUnderTest) -> None:
        other = stack.folder / "other.yaml"
        other.write_text(
            "name: other\nservices:\n  one: {command: echo hi; sleep 1000, port: none}\n"
        )
        stack.devstack("-f", "other.yaml", "up", "-d", "--wait")
        try:
            stack.devstack("status", code=3)
            eventually(lambda: "one.1 | hi" in stack.devstack("-f", "other.yaml", "logs").out)
            assert (stack.folder / ".devstack" / "other.yaml" / "logs" / "one").is_dir()
        finally:
            stack.devstack("-f", "other.yaml", "down")


class TestManyAtOnce:
    def test_i03_of_twenty_ups_one_controller_wins(self, stack: StackUnderTest) -> None:
        ups = [
            stack.start("up", "-d", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(20)
        ]
        said = [up.communicate(timeout=150) for up in ups]
        assert [up.returncode for up in ups] == [0] * 20, said
        controllers = [
            int(found.name)
            for found in Path("/proc").glob("[0-9]*")
            if is_controller(found, stack.folder)
        ]
        assert controllers == [stack.controller_pid]
        stack.up()

    def test_a_newer_devstack_replaces_the_controller_and_pids_stay(
        self, stack: StackUnderTest
    ) -> None:
        stack.up()
        before = (stack.controller_pid, stack.pids("api"), stack.pids("worker"))
        done = up_with_newer(stack)
        assert done.returncode == 0, done.stderr
        assert "replacing the controller (devstack " in done.stderr
        assert stack.controller_pid != before[0]
        assert (stack.pids("api"), stack.pids("worker")) == before[1:]


def up_with_newer(stack: StackUnderTest) -> subprocess.CompletedProcess[str]:
    """`up -d --wait` of a devstack that calls itself newer."""
    newer = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "import devstack; devstack.__version__ = '99.0.0'\n"
        "from devstack.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-I", "-c", newer, "up", "-d", "--wait"],
        cwd=stack.folder,
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def is_controller(process: Path, folder: Path) -> bool:
    """Whether a process is the controller of the stack in a folder."""
    try:
        words = (process / "cmdline").read_bytes()
    except OSError:
        return False
    return b"devstack.controller" in words and f"{folder}/stack.yaml".encode() in words


class TestLogs:
    def test_they_are_read_with_no_controller_running(self, stack: StackUnderTest) -> None:
        stack.up()
        eventually(lambda: "tick 2\n" in stack.devstack("logs", "api").out)
        stack.devstack("down")
        result = stack.devstack("logs", "api", "--grep", "tick [12]$")
        assert result.out == "api.1 | tick 1\napi.1 | tick 2\n"
        assert stack.devstack("logs", "api", "--raw", "--tail", "1").out.startswith("tick ")
        nobody = stack.devstack("logs", "nobody", code=2)
        assert nobody.err == "there are no logs of 'nobody'\nhint: there are logs of api, worker\n"

    def test_d14_a_reader_that_has_seen_enough_ends_them_quietly(
        self, stack: StackUnderTest
    ) -> None:
        stack.up()
        for words in (["logs", "-f"], ["logs", "--json", "-f"], ["logs", "--raw", "-f"]):
            process = stack.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert process.stdout is not None
            assert process.stdout.readline(), "a line comes at once"
            process.stdout.close()
            assert process.wait(20) == 141
            assert process.stderr is not None
            assert process.stderr.read() == b""
            process.stderr.close()

    def test_follow_ends_with_130_at_ctrl_c(self, stack: StackUnderTest) -> None:
        stack.up()
        process = stack.start("logs", "-f", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert (process.returncode, said) == (130, b"")
