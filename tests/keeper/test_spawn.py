"""Starting programs: what they get, and what is said when they cannot start."""

import asyncio
import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from devstack.keeper import processes
from devstack.keeper.answers import LogProblem
from devstack.keeper.client import KeeperClient
from devstack.keeper.errors import KeeperRefused, SpawnError
from devstack.keeper.places import Places
from devstack.keeper.requests import LogTarget
from tests.support.keepers import PYTHON, environment, exit_of, run_to_end, running_keeper, spec
from tests.support.processes import eventually_async, is_alive
from tests.support.stacks import REPOSITORY


def test_output_exit_code_and_times_are_told(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            process = await keeper.spawn(
                replace(
                    spec("a", "sh", "-c", "echo out; echo err >&2; sleep 0.02; exit 3"), meta="note"
                )
            )
            ended = await exit_of(keeper, "a")
            listing = await keeper.list()
            await keeper.ack("a")
            after = await keeper.list()

        assert process.start_time > 0
        assert (ended.key, ended.group, ended.pid) == ("a", "service", process.pid)
        assert (ended.code, ended.signal, ended.output) == (3, None, b"out\nerr\n")
        assert (ended.left_behind, ended.meta) == ((), "note")
        assert listing.exits == (ended,)
        assert listing.processes == ()
        assert after.exits == ()

    asyncio.run(scenario())


def test_a_running_process_is_listed_until_it_ends(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            process = await keeper.spawn(spec("a", "sleep", "1000"))
            listing = await keeper.list()
            with pytest.raises(KeeperRefused, match="a was started already"):
                await keeper.spawn(spec("a", "true"))
            await keeper.kill("a")
            ended = await exit_of(keeper, "a")

        assert listing.processes == (process,)
        assert (ended.code, ended.signal) == (None, 9)

    asyncio.run(scenario())


def test_d01_the_last_line_is_kept_without_its_newline(places: Places, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            log = LogTarget(str(tmp_path / "run"), "a.1#1")
            asked = spec("a", "sh", "-c", r"printf 'a\nPANIC no newline'; exit 1", log=log)
            ended = await run_to_end(keeper, asked)
            killed = LogTarget(str(tmp_path / "run"), "b.1#1")
            await keeper.spawn(
                spec("b", "sh", "-c", r"printf 'b\nlast words'; kill -9 $$", log=killed)
            )
            await exit_of(keeper, "b")

        assert ended.output == b""
        assert (tmp_path / "run" / "a.1#1.log").read_bytes() == b"a\nPANIC no newline"
        assert (tmp_path / "run" / "b.1#1.log").read_bytes() == b"b\nlast words"

    asyncio.run(scenario())


def test_a_log_can_be_captured_too(places: Places, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            log = LogTarget(str(tmp_path), "build", "build")
            asked = spec("prepare:a", "echo", "hello", log=log, capture_bytes=3)
            ended = await run_to_end(keeper, asked)

        assert ended.output == b"lo\n"
        assert (tmp_path / "build.log").read_bytes() == b"hello\n"

    asyncio.run(scenario())


def test_captured_output_is_the_end_of_it_byte_for_byte(places: Places) -> None:
    program = "import os; os.write(1, b'x' * 200_000 + bytes(range(256)))"

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            ended = await run_to_end(keeper, spec("a", PYTHON, "-c", program))

        assert len(ended.output) == 64 << 10
        assert ended.output.endswith(b"x" + bytes(range(256)))

    asyncio.run(scenario())


def test_a_megabyte_burst_is_complete(places: Places, tmp_path: Path) -> None:
    program = "import os\nfor n in range(64): os.write(1, b'%07d\\n' % n * 4096)"

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            log = LogTarget(str(tmp_path), "a")
            await run_to_end(keeper, spec("a", PYTHON, "-c", program, log=log))

        expected = b"".join(b"%07d\n" % number * 4096 for number in range(64))
        assert (tmp_path / "a.log").read_bytes() == expected

    asyncio.run(scenario())


SURROUNDINGS = """
import json, os, resource, signal, sys
json.dump({
    "session": os.getsid(0) == os.getpid(),
    "open": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "nice": os.nice(0),
    "cwd": os.getcwd(),
    "stdin": sys.stdin.read(),
    "handlers": [int(s) for s in signal.valid_signals() if signal.getsignal(s) == signal.SIG_IGN],
    "blocked": [int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    "umask": os.umask(0o22),
    "env": dict(os.environ),
}, sys.stdout)
"""


def test_a_process_starts_in_a_clean_place(places: Places, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("given")

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            asked = spec(
                "a",
                PYTHON,
                "-I",
                "-c",
                SURROUNDINGS,
                env={"PATH": "/bin", "LANG": "C.UTF-8"},
                cwd=str(tmp_path),
                nice=3,
                stdin=str(tmp_path / "in"),
            )
            ended = await run_to_end(keeper, asked)
            run_id = keeper.greeting.run_id
        told = json.loads(ended.output)

        assert told["session"]
        assert len([number for number in told["open"] if number > 2]) <= 2  # the mark, the listing
        assert told["nice"] == os.nice(0) + 3
        assert told["cwd"] == str(tmp_path)
        assert told["stdin"] == "given"
        # what Python itself ignores in every program of its own
        assert set(told["handlers"]) <= {13, 25}
        assert told["blocked"] == []
        umask = os.umask(0o022)
        os.umask(umask)
        assert told["umask"] == umask
        env = told["env"]
        assert env["PATH"] == "/bin"
        assert env["DEVSTACK_RUN"] == run_id
        assert set(env) <= {"PATH", "LANG", "LC_CTYPE", "DEVSTACK_RUN", "DEVSTACK_SPAWN"}

    asyncio.run(scenario())


def test_children_get_the_users_limit_of_open_files_and_the_keeper_all(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            shell = "ulimit -Sn; ulimit -Hn"
            ended = await run_to_end(keeper, spec("a", "sh", "-c", shell))
            limits = processes.read_file(f"/proc/{keeper.greeting.pid}/limits").decode()

        soft, hard = ended.output.split()
        line = next(line for line in limits.splitlines() if line.startswith("Max open files"))
        assert line.split()[3] == line.split()[4] == hard.decode()
        assert int(soft) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    asyncio.run(scenario())


async def refusal(keeper: KeeperClient, *argv: str, cwd: str = "/", path: str = "") -> SpawnError:
    env = environment() if not path else {"PATH": path}
    with pytest.raises(SpawnError) as raised:
        await keeper.spawn(spec("a", *argv, cwd=cwd, env=env))
    listing = await keeper.list()
    assert listing.processes == ()
    assert listing.exits == ()
    return raised.value


def test_a12_a_missing_program_fails_without_retry(places: Places, tmp_path: Path) -> None:
    (tmp_path / "gunicorn").write_text("#!/bin/sh\n")

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            bare = await refusal(keeper, "gunicornn", path=str(tmp_path))
            named = await refusal(keeper, f"{tmp_path}/gunicrn")
            through_file = await refusal(keeper, f"{tmp_path}/gunicorn/x")

        assert str(bare) == "cannot start gunicornn: it is not in PATH"
        assert bare.hint == "did you mean gunicorn?"
        assert (bare.errno, bare.permanent) == (errno.ENOENT, True)
        assert str(named).endswith(f"{tmp_path}/gunicrn: no such file or directory")
        assert named.hint == "did you mean gunicorn?"
        assert named.permanent
        assert (through_file.errno, through_file.permanent) == (errno.ENOTDIR, True)

    asyncio.run(scenario())


def test_a12_a_program_that_is_not_executable_fails_without_retry(
    places: Places, tmp_path: Path
) -> None:
    program = tmp_path / "run.sh"
    program.write_text("#!/bin/sh\n")

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            plain = await refusal(keeper, str(program))
            folder = await refusal(keeper, str(tmp_path))

        assert str(plain) == f"cannot start {program}: {program}: permission denied"
        assert plain.hint == f"make it executable: chmod +x {program}"
        assert (plain.errno, plain.path, plain.permanent) == (errno.EACCES, str(program), True)
        assert folder.hint == "it is a folder"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("content", "stage", "said"),
    [
        ("#!/no/such/interpreter -x\n", "interpreter", "asks for '/no/such/interpreter'"),
        ("#!/bin/sh\r\n", "interpreter", r"asks for '/bin/sh\r'"),
        ("no shebang at all\n", "program", "exec format error"),
        ("", "program", "exec format error"),
    ],
)
def test_a12_a_bad_shebang_names_what_is_missing(
    places: Places, tmp_path: Path, content: str, stage: str, said: str
) -> None:
    program = tmp_path / "run.sh"
    program.write_bytes(content.encode())
    program.chmod(0o755)

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            error = await refusal(keeper, str(program))

        assert said in str(error)
        assert error.stage == stage
        assert error.path == str(program)
        assert error.permanent

    asyncio.run(scenario())


def test_a12_a_binary_of_another_system_is_told_apart(places: Places, tmp_path: Path) -> None:
    loader = b"/lib64/ld-linux-x86-64.so.2"
    content = Path(os.path.realpath(sys.executable)).read_bytes()
    if loader not in content:
        pytest.skip("this interpreter has another loader than the one that is exchanged here")
    program = tmp_path / "foreign"
    program.write_bytes(content.replace(loader, b"/lib64/no-linux-x86-64.so.2", 1))
    program.chmod(0o755)

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            error = await refusal(keeper, str(program))

        assert error.stage == "loader"
        assert "loader" in str(error)
        assert error.permanent

    asyncio.run(scenario())


def test_a12_a_missing_working_folder_is_not_a_missing_program(
    places: Places, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            missing = await refusal(keeper, "true", cwd=f"{tmp_path}/nowhere")
            file = await refusal(keeper, "true", cwd=f"{tmp_path}/file")

        assert missing.stage == file.stage == "cwd"
        assert str(missing) == (
            f"cannot start true: working folder {tmp_path}/nowhere: no such file or directory"
        )
        assert missing.permanent
        assert file.permanent

    asyncio.run(scenario())


def test_a12_too_long_arguments_are_said_to_be_too_long(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            error = await refusal(keeper, "true", "x" * (4 << 20))

        assert (error.stage, error.errno) == ("arguments", errno.E2BIG)
        assert str(error) == "cannot start true: argument list too long"

    asyncio.run(scenario())


def test_a12_a_shortage_of_processes_is_not_permanent(places: Places) -> None:
    from devstack.keeper.refusals import explain_failure

    for number in (errno.EAGAIN, errno.EMFILE, errno.ENOMEM):
        assert not explain_failure("fork", number, "x", "x", None).is_permanent


def test_a12_the_key_of_a_failed_start_can_be_used_again(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            await refusal(keeper, "no-such-program-anywhere")
            ended = await run_to_end(keeper, spec("a", "true"))

        assert ended.code == 0

    asyncio.run(scenario())


def test_a15_processes_outlive_every_thread_and_die_with_the_keeper(places: Places) -> None:
    """PDEATHSIG follows the thread that forked: the keeper has one, and forks from it."""

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            started = [await keeper.spawn(spec(f"a{n}", "sleep", "1000")) for n in range(20)]
            tasks = os.listdir(f"/proc/{keeper.greeting.pid}/task")
            listing = await keeper.list()
            first = processes.look(started[0].pid)

            os.kill(keeper.greeting.warden, signal.SIGSTOP)  # so that it is not what ends them
            os.kill(keeper.greeting.pid, signal.SIGKILL)
            try:
                await eventually_async(lambda: not any(is_alive(each.pid) for each in started))
            finally:
                os.kill(keeper.greeting.warden, signal.SIGCONT)
            await asyncio.wait_for(keeper.closed.wait(), 10)

        assert tasks == [str(keeper.greeting.pid)]
        assert len(listing.processes) == 20
        assert first is not None
        assert first.parent == keeper.greeting.pid

    asyncio.run(scenario())


ORPHAN = f"""\
import os, signal, sys, time
sys.path.insert(0, {str(REPOSITORY)!r})
from devstack.keeper.namespaces import die_with_parent
keeper = os.getpid()
if os.fork() == 0:
    while sys.argv[1] == "late" and os.getppid() == keeper:
        time.sleep(0.01)
    die_with_parent(keeper, signal.SIGKILL)
    print("goes on", flush=True)
    os._exit(0)
if sys.argv[1] == "in-time":
    os.wait()
"""


@pytest.mark.parametrize(("when", "said"), [("in-time", b"goes on\n"), ("late", b"")])
def test_a15_a_child_whose_keeper_died_before_it_could_follow_ends_itself(
    when: str, said: bytes
) -> None:
    """The kernel tells of deaths that come after prctl: an earlier one shows in getppid."""
    argv = [PYTHON, "-I", "-S", "-c", ORPHAN, when]

    done = subprocess.run(argv, stdout=subprocess.PIPE, timeout=20, check=True)

    assert done.stdout == said


def test_a15_the_death_signal_is_set_for_another_user_too(places: Places) -> None:
    """A change of user clears it, so it must come after."""
    from devstack.keeper.requests import View

    program = (
        "import ctypes; n = ctypes.c_int(); "
        "ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print(n.value)"
    )

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            same = await run_to_end(keeper, spec("a", "/usr/bin/python3", "-c", program))
            view = View(as_user="unprivileged", hosts="127.0.0.1 localhost\n")
            other = await run_to_end(
                keeper, spec("b", "/usr/bin/python3", "-c", program, view=view)
            )

        assert same.output == b"9\n"
        assert other.output == b"9\n"

    asyncio.run(scenario())


def test_the_run_mark_is_for_us_alone(places: Places) -> None:
    async def scenario() -> str:
        async with running_keeper(places) as keeper:
            mark = f"{places.folder}/run-{keeper.greeting.run_id}.mark"
            mode = stat.S_IMODE(os.stat(mark).st_mode)

        assert mode == 0o600
        return mark

    assert not Path(asyncio.run(scenario())).exists()


def test_a_log_that_cannot_be_written_is_told_and_made_up_for(
    places: Places, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "logs"
    in_the_way.write_text("")

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            log = LogTarget(str(in_the_way / "run"), "a")
            await keeper.spawn(spec("a", "sh", "-c", "echo hello; exec sleep 1000", log=log))
            async with asyncio.timeout(10):
                broken = await keeper.notices.get()
                in_the_way.unlink()
                mended = await keeper.notices.get()
            assert isinstance(broken, LogProblem)
            assert isinstance(mended, LogProblem)
            assert broken.problem == "Not a directory"
            assert (mended.problem, mended.dropped_bytes) == (None, 0)

        assert (in_the_way / "run" / "a.log").read_bytes() == b"hello\n"

    asyncio.run(scenario())
