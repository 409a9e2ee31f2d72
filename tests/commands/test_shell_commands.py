"""`command` as text: a shell runs it, and what it runs ends as a program without a shell does."""

import subprocess

import pytest

from tests.commands.kit import PYTHON, Make, eventually, free_port

SERVER = """\
import http.server, os, pathlib, signal, threading, time

def end(*_):
    pathlib.Path("asked").touch()
    while not pathlib.Path("gate").exists():
        time.sleep(0.01)
    print("tidy", flush=True)
    os._exit(0)

signal.signal(signal.SIGNAL, end)
address = (os.environ.get("HOST", "127.0.0.1"), PORT)
http.server.HTTPServer(address, http.server.BaseHTTPRequestHandler).serve_forever()
"""


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_fixed_port_is_not_taken_before_the_one_who_has_it_has_ended(
    make: Make, name: str
) -> None:
    port = free_port()
    stack = make(
        f"""\
services:
  web:
    command: "{PYTHON} server.py; true"
    port: {{fixed: {port}}}
    stop: {{signal: {name}, grace: 60s}}
""",
        server_py=SERVER.replace("SIGNAL", f"SIG{name}").replace("PORT", str(port)),
    )
    stack.up()
    [shell] = stack.pids("web")

    restart = stack.start("restart", "web", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    eventually((stack.folder / "asked").exists, "the program behind the shell is asked to end")
    assert stack.pids("web") == [shell]
    (stack.folder / "gate").touch()
    said = restart.communicate(timeout=120)[0].decode()

    assert restart.returncode == 0, said
    assert stack.pids("web") != [shell]
    assert stack.service("web")["warnings"] == []
    assert "tidy" in stack.devstack("logs", "web").out
    stack.devstack("down")
    assert stack.devstack("logs", "web").out.count("tidy") == 2
