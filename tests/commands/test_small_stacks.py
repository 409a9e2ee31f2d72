"""Small stacks of plain programs: jobs, conditions, probes, ports, references, restart policies."""

import itertools
import json
import os
import re
import shutil
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.commands.kit import (
    PYTHON,
    Make,
    ask,
    current,
    eventually,
    free_port,
    listener,
    until_state,
    word_of,
)
from tests.faults.crew import Crew, crew_of
from tests.support.keepers import read_if_there
from tests.support.processes import is_alive
from tests.support.stacks import StackUnderTest

# ── dependencies and jobs ─────────────────────────────────────────────────────────────────────────


def test_conditions_order_the_start_and_a_list_means_completed_for_a_job(make: Make) -> None:
    stack = make(
        """\
services:
  first:
    command: "exec sleep 1000"
    port: none
    ready: {log: "now ready"}
  begun:
    command: "echo begun >> order; exec sleep 1000"
    port: none
    depends_on: {first: started}
  job:
    kind: job
    command: "sleep 0.2; echo job >> order"
  after-job:
    command: "echo after-job >> order; exec sleep 1000"
    port: none
    depends_on: [job]
  blocked:
    command: "echo blocked >> order; exec sleep 1000"
    port: none
    depends_on: {first: ready}
"""
    )

    stack.devstack("up", "-d")

    def order() -> list[str]:
        return read_if_there(stack.folder / "order").split()

    eventually(
        lambda: {"begun", "after-job"} <= {*order()}, "all that is not held back has started"
    )
    failed = stack.devstack("up", "-d", "--wait", "--timeout", "1", code=1)
    assert order().index("job") < order().index("after-job")
    assert "blocked" not in order()
    assert "first is starting: no line matches 'now ready' yet" in failed.err, failed.text
    assert "blocked is waiting for first (ready)" in failed.err
    assert "needs first (ready), which is starting" in stack.devstack("why", "blocked").out


def test_b05_dependents_of_a_failed_service_wait_with_the_reason_and_up_fails(make: Make) -> None:
    stack = make(
        """\
services:
  job:
    kind: job
    command: "echo cannot migrate; exit 7"
  alpha:
    command: [PYTHON, alpha.py]
    depends_on: [job]
"""
    )

    failed = stack.devstack("up", "-d", "--wait", code=1)

    assert "job exited with code 7" in failed.err, failed.text
    assert word_of(stack, "job") == "failed"
    alpha = stack.service("alpha")
    assert (alpha["state"], alpha["replicas"]) == ("waiting", [])
    assert alpha["reason"] == "waiting for job (completed)"
    why = stack.devstack("why", "job").out
    assert "cannot migrate" in why
    assert "code 7" in why


def test_b05_a_timeout_names_the_last_error_of_the_probe(make: Make) -> None:
    stack = make(
        """\
services:
  alpha:
    command: [PYTHON, alpha.py]
    ready: {http: /healthz}
  beta:
    command: sleep 1000
    port: none
    depends_on: [alpha]
""",
        sick="",
    )

    stack.devstack("up", "-d")
    eventually(lambda: "503" in (stack.service("alpha")["reason"] or ""), "it was asked")
    failed = stack.devstack("up", "-d", "--wait", "--timeout", "1", code=1)

    assert "alpha is starting" in failed.err
    assert "503" in failed.err, failed.text
    assert stack.service("beta")["reason"] == "waiting for alpha (ready)"
    (stack.folder / "sick").unlink()
    stack.up()


# ── probes ────────────────────────────────────────────────────────────────────────────────────────

PROBED = """\
gateway: {port: GATEWAY, routes: {/: alpha}}
services:
  alpha:
    command: [PYTHON, alpha.py]
    ready: {http: /healthz, interval: 200ms, failures: 2, timeout: 20s}
    alive: {exec: "test ! -e dead", interval: 200ms, failures: 2, timeout: 20s}
    startup: {exec: [test, -e, started]}
  told:
    command: "sleep 0.2; echo 'listening at last'; exec sleep 1000"
    port: none
    ready: {log: "listening at .ast"}
  dialled:
    command: [PYTHON, alpha.py]
    ready: {tcp: true}
  asked:
    command: sleep 1000
    port: none
    ready: {exec: "test -e asked"}
"""


def test_probes_of_every_kind_make_a_service_ready_and_alive_replaces_it(make: Make) -> None:
    stack = make(PROBED)
    stack.devstack("up", "-d")
    until_state(stack, "told", "ready")
    until_state(stack, "dialled", "ready")
    assert word_of(stack, "alpha") == "starting"
    assert word_of(stack, "asked") == "starting"

    (stack.folder / "asked").touch()
    (stack.folder / "started").touch()
    stack.up()

    gateway, (before,) = stack.gateway, current(stack, "alpha")
    assert ask(gateway, "/")[0] == 200
    (stack.folder / "sick").touch()
    eventually(lambda: ask(gateway, "/")[0] == 503, "the sick one gets no requests")
    assert current(stack, "alpha") == [before]
    (stack.folder / "sick").unlink()
    eventually(lambda: ask(gateway, "/")[0] == 200, "it is ready again")

    (stack.folder / "dead").touch()
    eventually(lambda: not is_alive(before), "the dead one is ended")
    (stack.folder / "dead").unlink()
    until_state(stack, "alpha", "ready")
    assert current(stack, "alpha") != [before]


# ── ports and references ──────────────────────────────────────────────────────────────────────────

TWO_PORTS = """\
import http.server, json, os, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        data = json.dumps({"port": self.server.server_port}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *a): pass
other = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT_ADMIN"])), Handler)
threading.Thread(target=other.serve_forever, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
ECHO = """\
import os, socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(b"echo " + line)
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
DIALLER = """\
import json, os, socket, sys, time, urllib.request
with socket.create_connection(("echo", 7000), timeout=5) as line:
    line.sendall(b"hello\\n")
    said = line.makefile().readline().strip()
ports = {}
for name in ("web:8080", "web:9000"):
    with urllib.request.urlopen(f"http://{name}/", timeout=5) as answer:
        ports[name] = json.load(answer)["port"]
print(json.dumps({"said": said, "ports": ports, "argv": sys.argv[1:], "mine": os.environ.get("PORT"),
                  "url": os.environ["ADMIN"], "word": os.environ["WORD"]}), flush=True)
time.sleep(1000)
"""


def test_several_ports_a_tcp_scheme_and_references_in_commands_and_variables(make: Make) -> None:
    stack = make(
        """\
gateway: {port: GATEWAY, routes: {/web: web, /admin: web.admin}}
services:
  web:
    command: [PYTHON, web.py]
    ports: {http: 8080, admin: 9000}
    ready: {http: /, port: admin}
  echo:
    command: [PYTHON, echo.py]
    scheme: tcp
    port: 7000
  dialler:
    command: [PYTHON, dialler.py, --to, "${web.address}", "${echo.host}"]
    port: none
    depends_on: [web, echo]
    environment: {ADMIN: "${web.admin.url}", WORD: "${GIVEN:-fallback}"}
""",
        web_py=TWO_PORTS,
        echo_py=ECHO,
        dialler_py=DIALLER,
    )
    stack.up()
    text = eventually(lambda: stack.devstack("logs", "dialler", "--raw").out, "it has dialled")
    told = json.loads(text)

    assert told["said"] == "echo hello"
    assert told["argv"] == ["--to", "web:8080", "echo"]
    assert told["mine"] is None
    assert told["url"] == "http://web:9000"
    assert told["word"] == "fallback"
    assert told["ports"]["web:8080"] != told["ports"]["web:9000"]
    gateway = stack.gateway
    assert ask(gateway, "/web")[1]["port"] == told["ports"]["web:8080"]
    assert ask(gateway, "/admin")[1]["port"] == told["ports"]["web:9000"]


THREE_PORTS = """\
import http.server, os, socketserver, sys, threading

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        data = str(self.server.server_port).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

ports = (int(os.environ["PORT"]), int(os.environ["PORT_ADMIN"]), int(sys.argv[1]))
for port in ports:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever).start()
"""

CALLER = """\
import json, os, urllib.request

def dial(url):
    return urllib.request.urlopen(url, timeout=5).read().decode()

named = [os.environ[name] for name in ("WEB_URL", "ADMIN", "OLD")]
print(json.dumps([[url, dial(url)] for url in [*named, "http://web:8080", "http://web:9090"]]), flush=True)
"""


def test_a_fixed_port_beside_others_is_dialled_directly_and_the_others_by_the_gateway(
    make: Make,
) -> None:
    fixed = free_port(free_port() + 1)
    stack = make(
        f"""\
gateway: {{port: GATEWAY, routes: {{/web: web, /old: web.old}}}}
services:
  web:
    command: [PYTHON, web.py, "{fixed}"]
    ports: {{web: 8080, admin: {{port: 9090, scheme: tcp}}, old: {{fixed: {fixed}}}}}
  caller:
    command: "PYTHON caller.py && exec sleep 1000"
    port: none
    depends_on: [web]
    environment: {{ADMIN: "http://${{web.admin.address}}", OLD: "${{web.old.url}}"}}
""",
        web_py=THREE_PORTS,
        caller_py=CALLER,
    )
    stack.up()
    text = eventually(lambda: stack.devstack("logs", "caller", "--raw").out, "it has dialled")

    told = dict(json.loads(text))
    assert list(told) == [
        "http://web:8080",
        "http://web:9090",
        f"http://127.0.0.1:{fixed}",
    ], "references and names give the same"
    assert told[f"http://127.0.0.1:{fixed}"] == str(fixed)
    assert len(set(told.values())) == 3
    web = stack.service("web")
    assert str(ask(web["url"], "/")[1]) == told["http://web:8080"], "from outside of the stack"
    assert ask(stack.gateway, "/web") == (200, int(told["http://web:8080"]))
    assert ask(stack.gateway, "/old") == (200, fixed)
    refused = stack.devstack("scale", "web=2", code=2)
    assert "it listens on a fixed port" in refused.err
    before = web["replicas"][0]["pid"]
    stack.devstack("restart", "web")
    assert stack.pids("web") != [before]
    assert ask(stack.gateway, "/old") == (200, fixed)
    assert ask(stack.gateway, "/web")[0] == 200


def test_a_service_that_listens_elsewhere_is_told_what_would_help(make: Make) -> None:
    port = free_port()
    stack = make(
        f"""\
services:
  alpha:
    command: "PORT={port} exec PYTHON alpha.py"
"""
    )
    stack.devstack("up", "-d")

    def why() -> str:
        return stack.devstack("why", "alpha").out

    eventually(lambda: f"127.0.0.1:{port}" in why(), "why says where it listens")
    assert f"alpha listens on 127.0.0.1:{port}, not on $PORT (" in why()
    assert "read PORT" in why()
    assert word_of(stack, "alpha") == "starting"


def test_a_listener_of_somebody_else_is_named_with_its_pid(make: Make) -> None:
    stack = make(
        """\
services:
  alpha:
    command: sleep 1000
"""
    )
    stack.devstack("up", "-d")

    def addresses() -> list[str]:
        return [r["address"] for r in stack.service("alpha")["replicas"] if r["address"]]

    port = int(eventually(addresses, "it has an address")[0].rpartition(":")[2])

    with listener(port):
        eventually(
            lambda: (
                f"port {port} is in use by pid {os.getpid()}" in stack.devstack("why", "alpha").out
            ),
            "why names this test",
        )
        assert word_of(stack, "alpha") == "starting"


def test_a_listener_that_other_machines_can_reach_is_named(make: Make) -> None:
    stack = make(
        """\
services:
  alpha:
    command: [PYTHON, alpha.py]
    environment: {HOST: 0.0.0.0}
"""
    )
    stack.up()

    warnings = stack.service("alpha")["warnings"]
    assert any("alpha listens on 0.0.0.0:" in w and "other machines" in w for w in warnings)
    assert "alpha listens on 0.0.0.0:" in stack.devstack("status").out


def slot_ports(stack: StackUnderTest, slot: str = "alpha.1") -> list[int]:
    identity = json.loads((stack.folder / ".devstack/identity.json").read_text())
    ports: list[int] = identity["ports"][slot]
    return ports


def test_c05_a_taken_port_of_a_slot_is_passed_over_and_four_are_told(make: Make) -> None:
    stack = make(
        """\
gateway: {port: GATEWAY, routes: {/: alpha}}
services:
  alpha:
    command: [PYTHON, alpha.py]
"""
    )
    stack.up()
    ports = slot_ports(stack)
    assert len(set(ports)) == 4
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not any(low <= port <= high for port in ports)
    assert stack.service("alpha")["replicas"][0]["address"] == f"127.0.0.1:{ports[0]}"
    stack.devstack("down")

    with listener(ports[0]):
        stack.up()
        assert stack.service("alpha")["replicas"][0]["address"] == f"127.0.0.1:{ports[1]}"
        assert ask(stack.gateway, "/")[0] == 200
        stack.devstack("down")
        with ExitStack() as taken:
            for port in ports[1:]:
                taken.enter_context(listener(port))
            stack.devstack("up", "-d")
            reason = eventually(
                lambda: r if "in use" in (r := stack.service("alpha")["reason"] or "") else "",
                "status says that the ports are taken",
            )
            assert f"{ports[0]} by pid {os.getpid()} (" in reason, reason
            assert "hint: stop what has one of them" in stack.devstack("why", "alpha").out
    stack.devstack("restart", "alpha")
    assert ask(stack.gateway, "/")[0] == 200


ASKING = f"""\
#!/bin/sh
echo $PORT >> asked
while ! test -e may-start-on-$PORT; do sleep 0.02; done
exec {PYTHON} alpha.py
"""


def test_c05_a_port_stolen_between_choice_and_bind_is_passed_over_three_times_at_once(
    make: Make,
) -> None:
    stack = make(
        """\
gateway: {port: GATEWAY, routes: {/: alpha}}
services:
  alpha: {command: ./asking.sh}
""",
        asking_sh=ASKING,
    )
    stack.devstack("up", "-d")

    def asked(number: int) -> int:
        """The port that the service was given the n-th time it was started."""
        ports = eventually(
            lambda: found if len(found := ports_asked()) >= number else [],
            f"it is started time {number}",
        )
        return ports[number - 1]

    def ports_asked() -> list[int]:
        return list(map(int, read_if_there(stack.folder / "asked").splitlines()))

    def may_start_on(port: int) -> Path:
        return stack.folder / f"may-start-on-{port}"

    def steal(port: int, taken: ExitStack) -> None:
        taken.enter_context(listener(port))
        may_start_on(port).touch()

    with ExitStack() as taken:
        first = taken.enter_context(ExitStack())
        steal(asked(1), first)
        steal(asked(2), taken)
        steal(asked(3), taken)
        last = asked(4)
        assert sorted(ports_asked()) == sorted(slot_ports(stack))
        # no failure was counted, and so nothing was waited for
        assert "failed" not in stack.devstack("why", "alpha").out

        # whoever comes after the fourth gets the first port and is held there: there is time to look
        may_start_on(asked(1)).unlink()
        first.close()
        began = time.monotonic()
        steal(last, taken)
        assert asked(5) == asked(1)
        assert time.monotonic() - began >= 0.5 * 0.75, "it backed off"
        told = f"found its port in use: 127.0.0.1:{last} of pid {os.getpid()}"
        assert f"alpha.1 failed once; the last one {told}" in stack.devstack("why", "alpha").out
        assert stack.service("alpha")["last_exit"]["message"].startswith(told)
        may_start_on(asked(1)).touch()
    stack.up()  # returns when the routes to it are in force
    assert ask(stack.gateway)[0] == 200


def cpu_seconds_of(crew: Crew) -> float:
    """What controller, keeper and warden have used so far (proc(5): utime and stime of stat)."""
    ticks = 0
    for pid, _ in (crew.controller, crew.keeper, crew.warden):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


# ── ends ──────────────────────────────────────────────────────────────────────────────────────────


def test_b01_a_crash_loop_backs_off_and_is_told_with_its_last_lines(make: Make) -> None:
    stack = make(
        """\
services:
  crashing:
    command: "date +%s.%N >> starts; echo about to fail; echo 'no such table: users' >&2; exit 3"
    port: none
  worker: {command: sleep 1000, port: none}
"""
    )
    failed = stack.devstack("up", "-d", "--wait", code=1)
    crew = crew_of(stack)

    def starts() -> list[float]:
        """When it was started, since the file is there."""
        return [float(line) for line in read_if_there(stack.folder / "starts").split()]

    # from here to the sixth start nothing is asked: all that is used is used for the loop
    used, since = cpu_seconds_of(crew), time.monotonic()
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts()[:5])]
    for gap, wanted in zip(gaps, (0.5, 1.0, 2.0, 4.0), strict=True):
        assert wanted * 0.75 <= gap <= wanted * 1.25 + 5, gaps
    eventually(lambda: len(starts()) >= 6, "it is still tried", 30)
    share = (cpu_seconds_of(crew) - used) / (time.monotonic() - since)
    assert share < 0.01, f"{share:.2%} of a core for a crash loop"

    # the next one is 12 s away at least: time to look
    eventually(lambda: "failed 6 times" in stack.devstack("why", "crashing").out, "it failed again")
    assert "crashing" in failed.err
    service = stack.service("crashing")
    assert service["state"] == "crash-loop"
    assert service["last_exit"]["code"] == 3
    assert "no such table: users" in service["reason"]
    why = stack.devstack("why", "crashing").out
    assert "exited with code 3" in why
    assert "about to fail" in why
    assert "no such table: users" in why
    assert "failed 6 times in a row" in why
    again = re.search(r"tried again in ([\d.]+) s", why)
    assert again is not None
    assert float(again[1]) <= 16 * 1.25
    assert word_of(stack, "worker") == "ready"
    lines = stack.devstack("logs", "crashing", "--raw").out.splitlines()
    assert lines.count("about to fail") >= 5

    (stack.folder / "starts").unlink()
    stack.devstack("restart", "crashing", "--no-wait")
    eventually(lambda: len(starts()) >= 2, "a restart by hand begins again with short waits", 10)
    stack.devstack("stop", "crashing")
    assert word_of(stack, "crashing") == "stopped"


def test_restart_policies_say_what_happens_after_an_end(make: Make) -> None:
    stack = make(
        """\
services:
  usual-fine: {command: "echo x >> usual-fine; sleep 0.1", port: none}
  always-fine: {command: "echo x >> always-fine; sleep 0.1", port: none, restart: always}
  never-bad: {command: "echo x >> never-bad; sleep 0.1; exit 4", port: none, restart: never}
"""
    )
    stack.devstack("up", "-d")

    def starts(name: str) -> int:
        path = stack.folder / name
        return path.read_text().count("x") if path.exists() else 0

    until_state(stack, "usual-fine", "done")
    until_state(stack, "never-bad", "failed")
    eventually(lambda: starts("always-fine") >= 3, "always is started again")
    assert starts("usual-fine") == 1
    assert starts("never-bad") == 1
    assert word_of(stack, "usual-fine") == "done"
    assert word_of(stack, "never-bad") == "failed"
    assert "code 4" in stack.service("never-bad")["reason"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        pytest.param("[./no-such-program]", ("no-such-program", "no such file"), id="no-file"),
        pytest.param("[pyhton3, x.py]", ("pyhton3", "did you mean"), id="misspelt"),
        pytest.param("[./plain.txt]", ("plain.txt", "permission denied"), id="not-executable"),
        pytest.param("[./bad]", ("/no/such/interpreter",), id="bad-shebang"),
    ],
)
def test_a12_a_program_that_cannot_be_started_fails_without_retry(
    make: Make, command: str, words: tuple[str, ...]
) -> None:
    stack = make(
        f"services:\n  alpha: {{command: {command}, port: none}}\n",
        plain_txt="hello",
        bad="#!/no/such/interpreter\n",
    )

    failed = stack.devstack("up", "-d", "--wait", code=1)

    for word in words:
        assert word in failed.err.lower(), failed.text
    service = stack.service("alpha")
    assert (service["state"], service["replicas"]) == ("failed", [])
    assert words[0] in service["reason"]
    assert words[0] in stack.devstack("why", "alpha").out


def test_a12_arguments_too_long_and_a_folder_that_has_gone_fail_without_retry(make: Make) -> None:
    stack = make(
        f"""\
services:
  long: {{command: [sleep, "1000"], port: none, environment: {{LONG: "{"x" * 140_000}"}}}}
  homeless: {{source: home, command: [sleep, "1000"], port: none}}
""",
        **{"home/x_txt": "hello"},
    )

    failed = stack.devstack("up", "-d", "--wait", code=1)
    assert "argument list too long" in failed.err
    assert "hint: arguments and environment" in failed.err
    long = stack.service("long")
    assert (long["state"], long["replicas"]) == ("failed", [])

    until_state(stack, "homeless", "ready")  # `up` did not wait for it
    (pid,) = stack.pids("homeless")
    shutil.rmtree(stack.folder / "home")
    os.kill(pid, signal.SIGKILL)
    until_state(stack, "homeless", "failed")
    homeless = stack.service("homeless")
    assert homeless["replicas"] == []
    assert str(stack.folder / "home") in homeless["reason"]
    assert str(stack.folder / "home") in stack.devstack("restart", "homeless", code=1).err


def test_b01_the_last_twenty_lines_of_a_crash_are_shown_and_its_last_one_in_the_status(
    make: Make,
) -> None:
    stack = make(
        """\
services:
  talking: {command: "seq -f 'line %g' 30; exit 1", port: none, restart: never}
"""
    )
    last = [f"line {number}" for number in range(11, 31)]

    failed = stack.devstack("up", "-d", "--wait", code=1)

    assert "line 30" in failed.err, failed.text
    why = stack.devstack("why", "talking").out
    assert re.findall(r"(?<=\| )line \d+", why) == last
    service = stack.service("talking")
    assert service["last_exit"]["code"] == 1
    assert re.findall(r"line \d+", service["reason"]) == last[-1:]


def test_a07_a_slot_is_filled_again_while_a_grandchild_of_the_last_one_holds_its_pipe(
    make: Make,
) -> None:
    """The grandchild has two seconds; that is longer than the first waits of a service that fails."""
    stack = make(
        """\
services:
  leaving: {command: ./leaving.sh, port: none}
""",
        leaving_sh="""\
#!/bin/sh
test -e grandchild && kill -0 $(cat grandchild) && cp grandchild beside
sleep 98765 &
echo $! > grandchild
test -e beside && exec sleep 1000
exit 1
""",
    )
    stack.devstack("up", "-d")

    grandchild = int(
        eventually(lambda: read_if_there(stack.folder / "beside"), "one runs beside it")
    )
    eventually(lambda: not is_alive(grandchild), "it is ended in the end")
    until_state(stack, "leaving", "ready")


DAEMON = """\
#!/bin/sh
setsid sh -c 'setsid sleep 98765 & echo $! > NAME.pid' > /dev/null 2>&1 < /dev/null &
wait
echo left one
exec sleep 1000
"""


def test_a04_the_daemon_that_a_service_left_is_ended_with_it_and_a_siblings_is_not(
    make: Make,
) -> None:
    stack = make(
        """\
services:
  leaving: {command: ./leaving.sh, port: none}
  sibling: {command: ./sibling.sh, port: none}
""",
        leaving_sh=DAEMON.replace("NAME", "leaving"),
        sibling_sh=DAEMON.replace("NAME", "sibling"),
    )
    stack.up()

    def daemon(name: str, after: int = 0) -> int:
        """Its pid, once it is another one than that of the daemon before it."""

        def pid() -> int:
            return int(read_if_there(stack.folder / f"{name}.pid").strip() or after)

        return eventually(lambda: pid() != after and pid(), f"the daemon of {name} is there")

    left, other = daemon("leaving"), daemon("sibling")
    assert is_alive(left)
    assert is_alive(other)

    stack.devstack("restart", "leaving")

    eventually(lambda: not is_alive(left), "the daemon is ended")
    assert is_alive(other)
    eventually(
        lambda: any("sleep" in w and "behind" in w for w in stack.service("leaving")["warnings"]),
        f"a warning names it: {stack.service('leaving')['warnings']}",
    )
    assert not any("behind" in w for w in stack.service("sibling")["warnings"])

    again = daemon("leaving", after=left)
    assert is_alive(again)
    stack.devstack("stop", "leaving")
    eventually(lambda: not is_alive(again), "stop ends it too")
    assert is_alive(other)
    stack.devstack("down")
    assert not is_alive(other)


def test_data_of_another_version_is_held_with_the_choice(make: Make) -> None:
    stack = make("databases:\n  well: {engine: postgres}\n")
    stack.up()
    stack.devstack("down")
    (stamp,) = (stack.folder / ".devstack/data/well").glob("*stamp*")
    told = json.loads(stamp.read_text())
    told["major"] = "9"
    stamp.write_text(json.dumps(told))

    failed = stack.devstack("up", "-d", "--wait", code=1)

    assert word_of(stack, "well") == "failed"
    assert "9" in failed.err
    for way in ("version:", "devstack reset well", "dump"):
        assert way in failed.err, failed.text
    stack.devstack("reset", "well", "--yes")
    assert word_of(stack, "well") == "ready"


def test_d01_last_words_are_kept_also_without_a_newline_and_on_kill(make: Make) -> None:
    stack = make(
        """\
services:
  panicking: {command: "printf 'a\\\\nPANIC no newline'; exit 1", port: none, restart: never}
  killed: {command: "printf 'b\\\\nlast words'; kill -9 $$$$", port: none, restart: never}
"""
    )
    stack.devstack("up", "-d", "--wait", code=1)
    for name in ("panicking", "killed"):  # `up` waits for the first of them
        until_state(stack, name, "failed")

    for name, words in (("panicking", ["a", "PANIC no newline"]), ("killed", ["b", "last words"])):
        assert stack.devstack("logs", name, "--raw").out == "\n".join(words)
        lines = [json.loads(x) for x in stack.devstack("logs", name, "--json").out.splitlines()]
        assert [(x["text"], x["partial"]) for x in lines] == [(words[0], False), (words[1], True)]
        assert words[1] in stack.devstack("why", name).out
