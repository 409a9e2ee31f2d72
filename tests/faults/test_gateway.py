"""F02, F08, F10: what callers see at the gateway while nobody is ready to answer them."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.faults.crew import cautious
from tests.faults.worst import WEB, is_ready
from tests.support.processes import eventually
from tests.support.stacks import StackUnderTest, write_stack

SLOW = "import os, pathlib, time\nwhile not pathlib.Path('go').exists():\n    time.sleep(0.02)\n"
STACK = f"""\
name: doors
gateway: {{port: 18081, routes: {{/web: web, /slow: slow}}}}
services:
  web: {{replicas: 2, command: [{sys.executable}, -I, web.py], ready: {{http: /}}}}
  slow: {{command: [{sys.executable}, -I, slow.py], ready: {{http: /}}}}
"""

BROWSER = {"Accept": "text/html,*/*;q=0.8"}


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[StackUnderTest]:
    folder = tmp_path / "doors"
    folder.mkdir()
    write_stack(folder, STACK, {"web.py": WEB, "slow.py": SLOW + WEB})
    with cautious(folder) as stack:
        yield stack


@dataclass(slots=True)
class Caller:
    """Somebody who asks without a pause, on a kept connection, and remembers each answer."""

    url: str
    answers: list[tuple[float, int, str]] = field(default_factory=list)
    pages: list[httpx.Response] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client(trust_env=False, timeout=10, headers=BROWSER) as client:
            while not self.done.is_set():
                try:
                    answer = client.get(self.url)
                    self.answers.append((time.monotonic(), answer.status_code, ""))
                    if answer.status_code != 200:
                        self.pages.append(answer)
                except httpx.TransportError as error:
                    self.answers.append((time.monotonic(), 0, repr(error)))
                time.sleep(0.002)


def assert_is_waiting_page(answer: httpx.Response, service: str) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Content-Type"].startswith("text/html")
    assert service in answer.text
    assert "refresh" in answer.text.lower(), "the page looks again by itself"


def test_f10_from_a_cold_start_a_page_says_what_starts_and_then_it_serves(
    doors: StackUnderTest,
) -> None:
    doors.devstack("up", "-d")
    base = doors.gateway
    seen: list[int] = []

    def ask() -> httpx.Response | None:
        try:
            answer = httpx.get(f"{base}/slow", headers=BROWSER, trust_env=False, timeout=10)
        except httpx.TransportError:
            # refused; or cut, by the `nginx -t` before the start, which listens for a moment
            assert not seen, "once it has answered it always answers"
            return None
        seen.append(answer.status_code)
        return answer

    first = eventually(ask, 20)
    assert first is not None
    assert_is_waiting_page(first, "slow")
    assert re.search(r"slow is \w+", re.sub(r"<[^>]+>", "", first.text)), first.text
    assert re.search(r"\d+ s", first.text), "it says for how long"
    eventually(lambda: doors.service("web")["state"] == "ready", 20)
    eventually(lambda: httpx.get(f"{base}/web", trust_env=False).status_code == 200)

    (doors.folder / "go").touch()
    eventually(lambda: (answer := ask()) is not None and answer.status_code == 200, 20)
    assert set(seen) == {503, 200}
    for _ in range(100):
        assert httpx.get(f"{base}/slow", trust_env=False).status_code == 200


TROUBLED = f"""\
name: troubled
gateway: {{port: 18081, routes: {{/broken: broken, /looping: looping, /needy: needy}}}}
services:
  broken: {{command: [{sys.executable}, -I, fail.py, "4"], restart: never}}
  looping: {{command: [{sys.executable}, -I, fail.py, "5"]}}
  needy: {{command: "exec sleep 1000", depends_on: [broken]}}
"""
FAIL = SLOW + "import sys\nprint('<b>no table</b> & \"more\"')\nsys.exit(int(sys.argv[1]))\n"


def test_f10_the_page_of_what_failed_or_waits_says_why_and_cannot_be_written_by_a_program(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "troubled"
    folder.mkdir()
    write_stack(folder, TROUBLED, {"fail.py": FAIL})
    with cautious(folder) as stack:
        stack.devstack("up", "-d")
        eventually(lambda: stack.service("gateway")["state"] == "ready", 20)
        base = stack.gateway
        (stack.folder / "go").touch()  # not before: the first of five failures soon is long ago

        def page(path: str, **headers: str) -> str:
            answer = httpx.get(f"{base}{path}", headers=headers, trust_env=False, timeout=10)
            assert answer.status_code == 503
            return answer.text

        def says(path: str, words: str) -> bool:
            return page(path).startswith(words)

        last = """<b>no table</b> & "more\""""
        again = "looping is starting: the last replica exited with code 5"
        eventually(lambda: says("/looping", f"{again}: {last}"), 20)  # a crash loop soon
        eventually(lambda: says("/broken", f"broken failed: broken exited with code 4: {last}"), 20)
        eventually(lambda: says("/needy", "needy is waiting for broken (ready)"), 20)
        html = page("/broken", **BROWSER)
        assert "&lt;b&gt;no table&lt;/b&gt; &amp; " in html
        assert "<b>" not in html
        assert html.count("</p>") == 1


def test_f02_all_replicas_are_killed_under_requests_and_none_fails_once_one_is_ready(
    doors: StackUnderTest,
) -> None:
    (doors.folder / "go").touch()
    doors.up()
    caller = Caller(f"{doors.gateway}/web")
    thread = threading.Thread(target=caller.run)
    thread.start()
    try:
        eventually(lambda: len(caller.answers) > 200, 60)
        before = doors.pids("web")
        killed = time.monotonic()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not set(before) & set(doors.pids("web")) and is_ready(doors), 30)
        count = len(caller.answers)
        eventually(lambda: len(caller.answers) > count + 500, 60)
    finally:
        caller.done.set()
        thread.join()
    broken = [
        (at - killed, code, why) for at, code, why in caller.answers if code not in (200, 503)
    ]
    assert broken == []
    assert 503 in {code for _, code, _ in caller.answers}, "there was a time without any replica"
    for page in caller.pages:
        assert_is_waiting_page(page, "web")
    back = next(at for at, code, _ in caller.answers if code == 200 and at > caller_gap(caller))
    late = [(at - killed, code) for at, code, _ in caller.answers if at > back and code != 200]
    assert late == [], "failed though a replica was ready"
    assert back - killed < 20


def caller_gap(caller: Caller) -> float:
    """When the first request was refused."""
    return next(at for at, code, _ in caller.answers if code != 200)


def is_replaced(stack: StackUnderTest, pid: int) -> bool:
    # in this order: before it is seen to be gone the stack is ready with it
    return pid not in stack.pids("web") and is_ready(stack)


def test_f02_replicas_bounced_one_after_the_other_fail_no_request(doors: StackUnderTest) -> None:
    (doors.folder / "go").touch()
    doors.up()
    caller = Caller(f"{doors.gateway}/web")
    thread = threading.Thread(target=caller.run)
    thread.start()
    try:
        eventually(lambda: len(caller.answers) > 200, 60)
        for pid in doors.pids("web"):
            os.kill(pid, signal.SIGKILL)
            eventually(partial(is_replaced, doors, pid), 30)
            doors.up()  # returns when the routes to the new one are in force
    finally:
        caller.done.set()
        thread.join()
    failed = [answer for answer in caller.answers if answer[1] != 200]
    assert failed == []


def test_f08_the_gateways_configuration_has_literal_addresses_only(doors: StackUnderTest) -> None:
    doors.devstack("up", "-d")
    # `slow` is not there and will not be: NGINX has started and serves all the same
    eventually(lambda: doors.service("web")["state"] == "ready", 20)
    eventually(lambda: doors.service("gateway")["state"] == "ready", 20)
    folder = doors.folder / ".devstack" / "state" / "gateway"
    texts = {path: path.read_text() for path in folder.rglob("*.conf")}
    assert texts
    servers = [
        found
        for text in texts.values()
        for found in re.findall(r"^\s*server\s+([^\s;{]+)[^;{]*;", text, re.MULTILINE)
    ]
    assert servers
    for server in servers:
        assert re.fullmatch(r"127\.\d+\.\d+\.\d+:\d+|\[::1\]:\d+|unix:\S+", server), server
    for text in texts.values():
        assert not re.search(r"^\s*resolver\b", text, re.MULTILINE)
    page = httpx.get(f"{doors.gateway}/slow", headers=BROWSER, trust_env=False)
    assert_is_waiting_page(page, "slow")
    plain = httpx.get(f"{doors.gateway}/slow", trust_env=False)
    assert plain.status_code == 503
    assert plain.headers["Content-Type"].startswith("text/plain")
