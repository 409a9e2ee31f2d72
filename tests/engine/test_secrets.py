"""K05 at its core: a secret is in the child's environment, in identity.json and in what it logs itself."""

import base64
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from devstack.keeper import processes
from tests.support.keepers import PYTHON
from tests.support.processes import eventually
from tests.support.stacks import StackUnderTest, stack_in, write_stack

CANARIES = {
    "environment": "canary-env/7f3a+1c",
    "env_file": "canary-file/b2d9+4e",
    "url": "canary-url-5a08c6",
    "file": "canary-db-91e7f2",
}
STACK = """\
name: vault
services:
  web:
    command: [PYTHON, -I, web.py]
    depends_on: [made, told]
    env_file: [web.env]
    environment:
      PASSWORD: "canary-env/7f3a+1c"
      QUEUE: "amqp://shop:canary-url-5a08c6@queue.example:5672/x"
      DSN: "${made.dsn}"
    ready: {exec: [PYTHON, -I, -c, "import os; os.environ['PASSWORD']; print(os.environ['DSN'])"]}
  broken:
    command: [PYTHON, -I, -c, "import sys; sys.exit(7)"]
    port: none
    restart: never
    depends_on: [made]
    environment: {API_TOKEN: "canary-env/7f3a+1c"}
databases:
  made: {engine: postgres}
  told: {engine: postgres, user: shop, password: canary-db-91e7f2}
"""
WEB = """\
import http.server, os
print("mine is", os.environ["PASSWORD"], flush=True)
http.server.ThreadingHTTPServer(
    ("127.0.0.1", int(os.environ["PORT"])), http.server.BaseHTTPRequestHandler
).serve_forever()
"""


def forms(secret: str) -> list[bytes]:
    """A secret as it is, and as it may be written elsewhere."""
    encoded = base64.b64encode(secret.encode()).rstrip(b"=")
    # without its last letters, which depend on what follows in the same text
    return [secret.encode(), quote(secret, safe="").encode(), encoded[:-2]]


@contextmanager
def watching_command_lines() -> Iterator[set[bytes]]:
    """Every command line of this machine that was there for more than a moment."""
    seen: set[bytes] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            for pid in processes.everything():
                seen.add(processes.read_file(f"/proc/{pid}/cmdline"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def found_in(folder: Path, secrets: dict[str, str]) -> dict[str, list[str]]:
    """Files below a folder in which a secret is, by their paths."""
    found: dict[str, list[str]] = {}
    for path in (Path(inner, name) for inner, _, names in os.walk(folder) for name in names):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # what runs renames and removes files of its own meanwhile
        for name, secret in secrets.items():
            if any(form in content for form in forms(secret)):
                found.setdefault(name, []).append(str(path.relative_to(folder)))
    return found


def told_by_commands(stack: StackUnderTest) -> dict[str, str]:
    """What every listing says."""
    listings: list[tuple[str, ...]] = [
        ("status",),
        ("ls",),
        ("endpoints",),
        ("validate",),
        ("tools",),
    ]
    for name in ("web", "broken", "made", "told", "gateway"):
        listings += [("why", name), ("env", name)]
    answers = {}
    for words in listings:
        for line in (words, (*words, "--json")):
            result = stack.devstack(*line, code=None)
            answers[" ".join(line)] = result.out + result.err
    return answers


def test_k05_no_secret_is_told_stored_or_on_a_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    folder.mkdir()
    env_file = "DB_PASSWORD=canary-file/b2d9+4e\nPLAIN=visible\n"
    text = STACK.replace("PYTHON", PYTHON)
    write_stack(folder, text, {"web.py": WEB, "web.env": env_file})
    with stack_in(folder) as stack, watching_command_lines() as command_lines:
        # `broken` fails for good, with its own words in the answer
        told = stack.devstack("up", "-d", "--wait", code=1)
        identity = folder / ".devstack" / "identity.json"
        assert identity.stat().st_mode & 0o777 == 0o600
        passwords: dict[str, str] = json.loads(identity.read_text())["passwords"]
        assert set(passwords) == {"made"}
        secrets = CANARIES | {"generated": passwords["made"]}

        # the child has them all (`up` did not wait for it: `broken` had failed)
        eventually(lambda: stack.service("web")["state"] == "ready", 60)
        (pid,) = stack.pids("web")
        environment = processes.environment_of(pid)
        assert environment[b"PASSWORD"].decode() == secrets["environment"]
        assert environment[b"DB_PASSWORD"].decode() == secrets["env_file"]
        assert secrets["url"] in environment[b"QUEUE"].decode()
        assert secrets["generated"] in environment[b"DSN"].decode()
        assert secrets["generated"] in environment[b"MADE_URL"].decode()
        assert secrets["file"] in environment[b"TOLD_URL"].decode()

        # nobody is told
        answers = {"up": told.out + told.err} | told_by_commands(stack)
        assert "visible" in answers["env web"]
        assert "PASSWORD" in answers["env web"]
        stack.devstack("scale", "web=2")
        stack.devstack("restart", "web")
        leaks = [
            (line, name)
            for line, answer in answers.items()
            for name, secret in secrets.items()
            if any(form.decode() in answer for form in forms(secret))
        ]
        assert leaks == []

        # and it is written nowhere else: run folder (logs of controller and keeper), snapshot, artifacts
        assert (Path(stack.places.folder) / "controller.log").exists()
        assert (folder / ".devstack" / "state" / "snapshot.json").exists()
        kept = Path(stack.places.folder)
        assert found_in(kept, secrets) == {}
        written = found_in(folder / ".devstack", secrets)
        allowed = {"generated": ["identity.json"]}
        own_words = [path for path in written.pop("environment", []) if "logs/web/" not in path]
        assert own_words == []
        assert written == allowed
        stack.devstack("down")
        assert found_in(kept, secrets) == {}

    on_command_lines = [
        (name, line)
        for name, secret in secrets.items()
        for line in command_lines
        if any(form in line for form in forms(secret))
    ]
    assert on_command_lines == []
    assert any(b"postgres" in line for line in command_lines)
    assert os.fsencode(PYTHON) in b"".join(command_lines)


TELLTALE = """\
import base64, os, sys
dsn, token = os.environ["DATABASE_URL"], os.environ["API_TOKEN"]
print("cannot use", dsn, flush=True)
print("nor", base64.b64encode(token.encode()).decode(), flush=True)
sys.exit(f"refused: {token}")
"""
TELLTALE_STACK = """\
name: telltale
services:
  web:
    command: [PYTHON, -I, web.py]
    port: none
    restart: never
    depends_on: [made]
    environment: {API_TOKEN: "canary-env/7f3a+1c"}
databases:
  made: {engine: postgres}
"""


def test_k05_a_program_that_says_its_secrets_as_it_ends_has_them_in_its_log_alone(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "telltale"
    folder.mkdir()
    write_stack(folder, TELLTALE_STACK.replace("PYTHON", PYTHON), {"web.py": TELLTALE})
    with stack_in(folder) as stack:
        up = stack.devstack("up", "-d", "--wait", code=1)
        identity = folder / ".devstack" / "identity.json"
        secrets = {
            "generated": json.loads(identity.read_text())["passwords"]["made"],
            "environment": "canary-env/7f3a+1c",
        }
        why = stack.devstack("why", "web")
        told = [up, why, stack.devstack("why", "web", "--json"), stack.devstack("status", "--json")]
        written = found_in(folder / ".devstack", secrets)

        assert re.search(r"cannot use postgresql://\w+:‹secret›@", why.out)
        assert "nor ‹secret›" in why.out
        assert "refused: ‹secret›" in why.out
        for form in (form.decode() for secret in secrets.values() for form in forms(secret)):
            assert not [answer.text for answer in told if form in answer.text]
        (log,) = written.pop("environment")
        assert log.startswith("logs/web/")
        assert sorted(written.pop("generated")) == ["identity.json", log]
        assert found_in(Path(stack.places.folder), secrets) == {}
