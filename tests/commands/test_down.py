"""`devstack down` while services take their time: first nobody is asked, then dependents end, then others."""

import os
import signal
import subprocess
import time

from devstack.keeper.processes import children_of
from tests.commands.kit import Make, ask, eventually
from tests.support.keepers import read_if_there

SLOW = '''\
"""Answers its name. On TERM it writes when that was and what callers of it are answered then; ends at the file `go`."""
import http.server, os, signal, sys, threading, time, urllib.error, urllib.request

NAME, SELF = sys.argv[1:]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(NAME)))
        self.end_headers()
        self.wfile.write(NAME.encode())

    def log_message(self, *arguments):
        pass


def write(line):
    with open("ends", "a") as ends:
        ends.write(f"{NAME} {line}\\n")


def end(*_):
    with open("told", "a") as told:
        told.write(f"{NAME} {time.monotonic()}\\n")
    try:
        status = urllib.request.urlopen(SELF, timeout=10).status
    except urllib.error.HTTPError as error:
        status = error.code
    write(f"is told to end: callers get {status}")
    while not os.path.exists("go"):
        time.sleep(0.02)
    write("ends")
    os._exit(0)


# The signal is handled beside the requests, which are still answered.
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=end).start())
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
'''
STACK = """\
gateway: {port: GATEWAY, routes: {/front: front, /back: back}}
services:
  back:
    command: [PYTHON, -I, slow.py, back, "${back.url}"]
    stop: {grace: 60s}
  front:
    command: [PYTHON, -I, slow.py, front, "${front.url}"]
    stop: {grace: 60s}
    depends_on: [back]
"""
NGINX_IS_WAITED_FOR = 2.0


def test_down_lets_the_gateway_answer_503_before_it_stops_anything_and_dependents_first(
    make: Make,
) -> None:
    stack = make(STACK, slow_py=SLOW)
    stack.up()
    gateway, ends = stack.gateway, stack.folder / "ends"
    (front,) = stack.service("front")["replicas"]
    assert [ask(gateway, path) for path in ("/front", "/back")] == [(200, "front"), (200, "back")]

    down = stack.start("down", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        told = eventually(lambda: read_if_there(ends), "somebody is told to end")
        # While it takes its time: it could answer, nobody is sent to it, and nobody else has to go.
        assert ask(f"http://{front['address']}") == (200, "front")
        assert [ask(gateway, path)[0] for path in ("/front", "/back")] == [503, 503]
        assert ends.read_text() == told == "front is told to end: callers get 503\n"
    finally:
        (stack.folder / "go").touch()
        assert down.wait(60) == 0

    assert ends.read_text().splitlines() == [
        "front is told to end: callers get 503",
        "front ends",
        "back is told to end: callers get 503",
        "back ends",
    ]


def test_down_stops_nothing_while_it_is_not_known_that_the_gateway_sends_nobody_any_more(
    make: Make,
) -> None:
    """Nor for ever: an NGINX that does not answer is given up."""
    stack = make(STACK, slow_py=SLOW)
    stack.up()
    (master,) = stack.pids("gateway")
    told = stack.folder / "told"
    (stack.folder / "go").touch()

    for pid in (master, *children_of(master)):
        os.kill(pid, signal.SIGSTOP)
    asked = time.monotonic()
    down = stack.start("down", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = eventually(lambda: read_if_there(told), "somebody is told to end")
    assert first.startswith("front ")
    for pid in (master, *children_of(master)):
        os.kill(pid, signal.SIGCONT)

    assert down.wait(60) == 0
    assert float(first.split()[1]) - asked >= NGINX_IS_WAITED_FOR
