"""Python: environments made and taken, applications served, stopped and told when they fail."""

import asyncio
import http.client
import importlib.metadata
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from devstack.packs.base import CannotPrepare, Prepared
from devstack.packs.certificates import trust_the_system
from devstack.packs.python import PythonPack
from devstack.packs.python_fit import why_not_fitting
from devstack.packs.python_manifest import find_manifest, wanted_python
from tests.packs_unit.bench import Bench, MakeTree, Run, TakeSnapshot
from tests.packs_unit.serving import started
from tests.support.keepers import read_if_there
from tests.support.processes import eventually

FLASK = "from flask import Flask\n"
WSGI = """import os
import time
from urllib.parse import parse_qs

ANSWER = b"1"


def create_app():
    from bottle import Bottle
    return Bottle()


def application(environ, start_response):
    seconds = float(parse_qs(environ["QUERY_STRING"]).get("sleep", ["0"])[0])
    if seconds:
        with open(os.environ["ARRIVED"], "a") as file:
            file.write("x")
    time.sleep(seconds)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [ANSWER]


def make_app():
    return application
"""
ASGI = """import asyncio
import os


async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    seconds = float(scope["query_string"].decode().partition("=")[2] or 0)
    if seconds:
        with open(os.environ["ARRIVED"], "a") as file:
            file.write("x")
    await asyncio.sleep(seconds)
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"1"})


class FastAPI:
    async def __call__(self, scope, receive, send):
        await application(scope, receive, send)
"""
# A framework of the same name as the real one, so that no package has to be fetched.
BOTTLE = "from web import application\n\n\nclass Bottle:\n    def __call__(self, environ, start):\n        return application(environ, start)\n"


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"pyproject.toml": "", "uv.lock": "", "requirements.txt": ""}, "uv"),
        ({"pyproject.toml": "", "poetry.lock": ""}, "poetry"),
        ({"pylock.toml": ""}, "pylock"),
        ({"Pipfile": "", "Pipfile.lock": "{}", "requirements.txt": ""}, "pipenv"),
        ({"pyproject.toml": "", "requirements.txt": ""}, "requirements"),
        ({"requirements/base.txt": "", "requirements/prod.txt": "-r base.txt\n"}, "requirements"),
        ({"pyproject.toml": ""}, "pyproject"),
        ({"pyproject.toml": "[build-system]\n", "setup.cfg": "[options]\ninstall_requires =\n  x\n"}, "setup"),
        ({"setup.py": "from setuptools import setup\nsetup(install_requires=['x'])\n"}, "setup"),
        ({"setup.py": "from setuptools import setup\nsetup()\n"}, "none"),
        ({"app.py": ""}, "none"),
    ],
)  # fmt: skip
def test_a_lock_file_is_believed_before_a_list(
    make_tree: MakeTree, files: Mapping[str, str], kind: str
) -> None:
    assert find_manifest(make_tree(files)).kind == kind


def test_files_that_requirements_include_belong_to_the_manifest(make_tree: MakeTree) -> None:
    source = make_tree(
        {
            "requirements.txt": "-r more/web.txt\n-c pins.txt\n",
            "more/web.txt": "x\n",
            "pins.txt": "",
        }
    )

    files = find_manifest(source).files

    assert [str(file.relative_to(source)) for file in files] == [
        "requirements.txt", "more/web.txt", "pins.txt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({".python-version": "3.12.4\n"}, "3.12"),
        ({"pyproject.toml": '[project]\nrequires-python = ">=3.10,<4,!=3.11.1"\n'}, ">=3.10 <4"),
        ({"pyproject.toml": '[project]\nrequires-python = "~=3.12"\n'}, ">=3.12 <4"),
        ({"pyproject.toml": '[project]\nrequires-python = "~= 3.11.2"\n'}, ">=3.11.2 <3.12"),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.12"\n'}, ">=3.12 <4"),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = "~3.12"\n'}, ">=3.12 <3.13"),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = ">=3.10,<3.13"\n'}, ">=3.10 <3.13"),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = "3.12.*"\n'}, "==3.12.*"),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = "*"\n'}, None),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = "^2.7 || ^3.9"\n'}, None),
        ({"setup.cfg": "[options]\npython_requires = >=3.10\n"}, ">=3.10"),
        ({}, None),
    ],
)  # fmt: skip
def test_the_wanted_interpreter_is_read(
    make_tree: MakeTree, files: Mapping[str, str], wanted: str | None
) -> None:
    assert wanted_python(make_tree(files)) == wanted


HERE = Path(sys.prefix)
PYTEST = importlib.metadata.version("pytest")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"requirements.txt": "pytest>=7  # why\nPyYAML\n"}, None),
        ({"requirements.txt": "pytest==0.1\n"}, f"pytest is {PYTEST}, wanted ==0.1"),
        ({"requirements.txt": "no-such-thing\n"}, "no-such-thing is not installed"),
        ({"requirements.txt": 'no-such-thing; python_version < "3"\n'}, None),
        ({"requirements.txt": "-i somewhere\n-e .\n", "pyproject.toml": '[project]\ndependencies = ["nothing-such"]\n'}, "nothing-such is not installed"),
        ({"pyproject.toml": '[project]\ndependencies = ["pytest"]\n'}, None),
        ({"Pipfile.lock": '{"default": {"pytest": {"version": "==0.1"}}}'}, f"pytest is {PYTEST}, wanted ==0.1"),
        ({"pyproject.toml": '[project]\nname = "me"\n', "uv.lock": f'[[package]]\nname = "me"\nversion = "1"\ndependencies = [{{name = "pytest"}}, {{name = "gone", marker = "sys_platform == \'win32\'"}}]\n[[package]]\nname = "pytest"\nversion = "{PYTEST}"\n'}, None),
        ({"pyproject.toml": '[project]\nname = "me"\n', "uv.lock": '[[package]]\nname = "me"\ndependencies = [{name = "pytest"}]\n[[package]]\nname = "pytest"\nversion = "0.1"\n'}, f"pytest is {PYTEST}, locked 0.1"),
        ({"pyproject.toml": '[project]\nname = "me"\n', "uv.lock": '[[package]]\nname = "me"\ndependencies = [{name = "gone"}]\n'}, "gone is not installed"),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.11"\npytest = "*"\n', "poetry.lock": '[[package]]\nname = "pytest"\nversion = "0.1"\n'}, f"pytest is {PYTEST}, locked 0.1"),
    ],
)  # fmt: skip
@pytest.mark.skipif(not (HERE / "pyvenv.cfg").exists(), reason="not run in a virtual environment")
def test_an_environment_is_compared_with_what_is_asked_for(
    make_tree: MakeTree, files: Mapping[str, str], reason: str | None
) -> None:
    source = make_tree(files)

    assert why_not_fitting(HERE, find_manifest(source), source) == reason


def test_the_users_environment_is_used_as_it_is_and_never_written(
    make_tree: MakeTree, bench: Bench, run: Run, snapshot: TakeSnapshot
) -> None:
    source = make_tree({"web.py": WSGI, "bottle.py": BOTTLE, "pyproject.toml": "[project]\n"})
    uv = asyncio.run(bench.tools("uv", None)).binaries["uv"]
    subprocess.run([uv, "venv", "-q", "--no-project", source / ".venv"], check=True)
    before = snapshot(source)

    prepared = run(PythonPack(bench.tools).prepare(bench.request(source), bench.steps))
    with started(prepared, bench.folder, bench.steps.environment) as serving:
        assert serving.ask("/") == (200, 1)

    assert prepared.command is not None
    assert prepared.command.argv[0] == str(source / ".venv" / "bin" / "python")
    assert not any(path.is_relative_to(source) for path in prepared.paths)
    assert snapshot(source) == before


def test_an_environment_that_does_not_fit_is_left_alone_and_said(
    make_tree: MakeTree, bench: Bench, run: Run, snapshot: TakeSnapshot
) -> None:
    source = make_tree({"worker.py": "import iniconfig\n", "requirements.txt": "iniconfig\n"})
    uv = asyncio.run(bench.tools("uv", None)).binaries["uv"]
    subprocess.run([uv, "venv", "-q", "--no-project", source / ".venv"], check=True)
    before = snapshot(source)

    prepared = run(PythonPack(bench.tools).prepare(bench.request(source), bench.steps))
    with started(prepared, bench.folder, bench.steps.environment) as script:
        assert script.process.wait(60) == 0, script.output()

    assert ".venv is not used: iniconfig is not installed" in prepared.notes
    assert snapshot(source) == before


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_a_server_told_to_stop_finishes_its_requests_and_ends_with_0(
    make_tree: MakeTree, bench: Bench, run: Run, tmp_path: Path, interface: str
) -> None:
    app = "from fastapi import FastAPI\napp = FastAPI()\n"
    files = {"web.py": WSGI, "bottle.py": BOTTLE}
    source = make_tree(files if interface == "wsgi" else {"fastapi.py": ASGI, "main.py": app})
    main = "web:application" if interface == "wsgi" else None
    request = bench.request(source, main=main)
    prepared = run(PythonPack(bench.tools).prepare(request, bench.steps))
    answers: list[object] = []
    arrived = tmp_path / "arrived"
    told = {"ARRIVED": str(arrived)}
    with started(prepared, bench.folder, bench.steps.environment, told) as serving:
        assert serving.ask("/") == (200, 1)
        asking = [
            threading.Thread(target=lambda: answers.append(serving.ask("/?sleep=1")))
            for _ in range(6)
        ]
        for thread in asking:
            thread.start()
        eventually(lambda: read_if_there(arrived) == "x" * 6)
        code = serving.stop()
        for thread in asking:
            thread.join(20)

        assert code == 0, serving.output()
    assert answers == [(200, 1)] * 6


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
@pytest.mark.parametrize(("grace", "is_answered"), [(60.0, True), (1.25, False)])
def test_a_server_told_to_stop_waits_as_long_as_the_stack_file_gives_it(
    make_tree: MakeTree,
    bench: Bench,
    run: Run,
    tmp_path: Path,
    interface: str,
    grace: float,
    is_answered: bool,
) -> None:
    app = "from fastapi import FastAPI\napp = FastAPI()\n"
    files = {"web.py": WSGI, "bottle.py": BOTTLE}
    source = make_tree(files if interface == "wsgi" else {"fastapi.py": ASGI, "main.py": app})
    main = "web:application" if interface == "wsgi" else None
    request = bench.request(source, main=main)
    prepared = run(PythonPack(bench.tools).prepare(request, bench.steps))
    arrived = tmp_path / "arrived"
    told = {"ARRIVED": str(arrived)}
    with started(prepared, bench.folder, bench.steps.environment, told, grace=grace) as serving:
        assert serving.ask("/") == (200, 1)
        connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=60)
        connection.request("GET", "/?sleep=9")
        eventually(lambda: read_if_there(arrived))
        serving.stop()
        try:
            status = connection.getresponse().status
        except (ConnectionError, http.client.HTTPException):
            status = 0  # cut; uvicorn says 500 instead
        connection.close()

    assert (status == 200) is is_answered


def test_e07_an_import_that_fails_is_told_with_file_and_line(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    source = make_tree(
        {
            "app.py": FLASK + "import shop\napp = Flask('x')\n",
            "shop.py": "\n\nnothing\n",
            "flask.py": "Flask = str\n",
        }
    )
    prepared = run(PythonPack(bench.tools).prepare(bench.request(source), bench.steps))

    with started(prepared, bench.folder, bench.steps.environment) as serving:
        assert serving.process.wait(60) == 1
        told = serving.output().splitlines()

    assert told[-1] == "cannot load app:app: shop.py:3: NameError: name 'nothing' is not defined"
    assert not any("importlib" in line for line in told)


def test_e07_a_syntax_error_is_told_before_anything_is_made(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    source = make_tree({"app.py": FLASK + "app = Flask('x'\n", "requirements.txt": "flask\n"})

    with pytest.raises(CannotPrepare, match=r"cannot start service: app.py:2: SyntaxError"):
        run(PythonPack(bench.tools).prepare(bench.request(source), bench.steps))
    assert bench.steps.ran == []


def test_a_port_that_is_taken_is_told(make_tree: MakeTree, bench: Bench, run: Run) -> None:
    source = make_tree({"web.py": WSGI, "bottle.py": BOTTLE})
    prepared = run(PythonPack(bench.tools).prepare(bench.request(source), bench.steps))

    with started(prepared, bench.folder, bench.steps.environment) as first:
        first.ask("/")
        port = first.port
        with started(prepared, bench.folder / "2", bench.steps.environment, port=port) as second:
            assert second.process.wait(60) == 1
            assert f"cannot listen on 127.0.0.1:{port}" in second.output()


def test_a_quick_save_of_equal_length_runs_the_new_code(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    source = make_tree(
        {
            "app.py": "import number\n" + WSGI.replace('b"1"', "number.TEXT"),
            "number.py": 'TEXT = b"0"\n',
            "bottle.py": BOTTLE.replace("web", "app"),
        }
    )
    pack = PythonPack(bench.tools)
    seen = []
    for value in range(3):
        (source / "number.py").write_text(f'TEXT = b"{value}"\n')
        prepared = run(pack.prepare(bench.request(source), bench.steps))
        with started(prepared, bench.folder, bench.steps.environment) as serving:
            seen.append(serving.ask("/")[1])
        assert list(Path(prepared.environment["PYTHONPYCACHEPREFIX"]).rglob("number.*.pyc"))

    assert seen == [0, 1, 2]
    assert not list(source.rglob("__pycache__"))


def test_packages_are_compiled_once_and_not_again_for_each_source(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    source = make_tree({"main.py": "import iniconfig\n", "requirements.txt": "iniconfig\n"})
    pack = PythonPack(bench.tools)
    written = []
    for edit in ("", "# edited\n"):
        (source / "main.py").write_text("import iniconfig\n" + edit)
        prepared = run(pack.prepare(bench.request(source), bench.steps))
        with started(prepared, bench.folder, bench.steps.environment) as script:
            assert script.process.wait(60) == 0, script.output()
        packages = next(path for path in prepared.paths if path.name.startswith("pycache-packages"))
        written.append({path: path.stat().st_mtime_ns for path in packages.rglob("*.pyc")})

    assert written[0]
    assert written[1] == written[0]


def test_a_command_of_the_users_finds_the_environment_on_its_path(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    source = make_tree({"requirements.txt": "iniconfig\n", "x.py": ""})
    request = bench.request(source, user_command=("python", "-c", "import iniconfig"))

    prepared = run(PythonPack(bench.tools).prepare(request, bench.steps))

    assert prepared.command is None
    assert prepared.environment["PYTHONUNBUFFERED"] == "1"
    subprocess.run([prepared.path_prefix[0] / "python", "-c", "import iniconfig"], check=True)


def test_requirements_that_name_the_project_itself_install_only_what_it_needs(
    make_tree: MakeTree, bench: Bench, run: Run, snapshot: TakeSnapshot
) -> None:
    source = make_tree(
        {
            "requirements.txt": "-e .\n",
            "pyproject.toml": '[project]\nname = "me"\nversion = "1"\ndependencies = ["iniconfig"]\n',
            "src/me/__init__.py": "",
            "src/me/__main__.py": "import iniconfig, me\nif __name__ == '__main__':\n    print('ran', me.__name__)\n",
        }
    )
    before = snapshot(source)

    prepared = run(PythonPack(bench.tools).prepare(bench.request(source), bench.steps))
    with started(prepared, bench.folder, bench.steps.environment) as script:
        assert script.process.wait(60) == 0, script.output()
        assert script.output() == "ran me\n"

    assert snapshot(source) == before


def test_a_uv_lock_is_installed_exactly_and_not_written(
    make_tree: MakeTree, bench: Bench, run: Run, snapshot: TakeSnapshot
) -> None:
    source = make_tree(
        {
            "pyproject.toml": '[project]\nname = "me"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = ["iniconfig==2.0.0"]\n',
            "main.py": "from importlib.metadata import version\nprint(version('iniconfig'))\n",
        }
    )
    uv = asyncio.run(bench.tools("uv", None)).binaries["uv"]
    trust = {**bench.steps.environment, **trust_the_system(bench.steps.environment)}
    subprocess.run([uv, "lock", "-q"], cwd=source, env=trust, check=True)
    before = snapshot(source)

    prepared = run(PythonPack(bench.tools).prepare(bench.request(source), bench.steps))
    with started(prepared, bench.folder, bench.steps.environment) as script:
        assert script.process.wait(60) == 0, script.output()
        assert script.output() == "2.0.0\n"

    assert snapshot(source) == before


PRINTS = "from importlib.metadata import version\nprint(version('iniconfig'))\n"


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"setup.py": "from setuptools import setup\nsetup(name='me', install_requires=['iniconfig==2.0.0'])\n"}, "2.0.0"),
        ({"setup.cfg": "[options]\ninstall_requires =\n    iniconfig==2.0.0 # why\n", "setup.py": "import setuptools\nsetuptools.setup()\n"}, "2.0.0"),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.9"\niniconfig = "*"\n', "poetry.lock": '[[package]]\nname = "iniconfig"\nversion = "1.1.1"\nmarkers = "python_version < \\"3.5\\""\n[[package]]\nname = "iniconfig"\nversion = "2.0.0"\nmarkers = "python_version >= \\"3.5\\""\n'}, "2.0.0"),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.9"\niniconfig = "*"\n', "poetry.lock": '[[package]]\nname = "iniconfig"\nversion = "1.1.1"\n[[package]]\nname = "iniconfig"\nversion = "2.0.0"\n'}, "2.0.0"),
    ],
    ids=["setup.py", "setup.cfg", "two pins under markers", "two pins of an old poetry"],
)  # fmt: skip
def test_what_a_project_asks_for_is_installed(
    make_tree: MakeTree, bench: Bench, run: Run, files: Mapping[str, str], version: str
) -> None:
    source = make_tree({**files, "main.py": PRINTS})

    prepared = run(PythonPack(bench.tools).prepare(bench.request(source), bench.steps))

    with started(prepared, bench.folder, bench.steps.environment) as script:
        assert script.process.wait(60) == 0, script.output()
        assert script.output() == version + "\n"
    assert not list(source.glob("*.egg-info"))


def test_a_setup_file_whose_packages_cannot_be_read_says_so(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    text = "from setuptools import setup\nsetup(install_requires=open('x').read().split())\n"
    source = make_tree({"setup.py": text, "main.py": "print(1)\n"})

    prepared = run(PythonPack(bench.tools).prepare(bench.request(source), bench.steps))

    assert any("setup.py:2: install_requires" in note for note in prepared.notes)


def test_packages_that_cannot_be_had_are_told_and_nothing_is_left(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    source = make_tree({"main.py": "import x", "requirements.txt": "iniconfig==99.99\n"})

    with pytest.raises(
        CannotPrepare, match=r"cannot install packages of service from requirements"
    ) as told:
        run(PythonPack(bench.tools).prepare(bench.request(source), bench.steps))
    assert "99.99" in str(told.value)
    assert list(bench.request(source).deps.iterdir()) == []


def test_two_prepares_at_once_make_one_whole_environment(make_tree: MakeTree, bench: Bench) -> None:
    source = make_tree({"main.py": "import iniconfig\n", "requirements.txt": "iniconfig\n"})
    pack, request = PythonPack(bench.tools), bench.request(source)

    async def both() -> list[Prepared]:
        return await asyncio.gather(*(pack.prepare(request, bench.steps) for _ in range(2)))

    one, other = asyncio.run(both())

    assert one == other
    assert [path.name for path in request.deps.iterdir()] == [one.paths[0].name]


def test_an_environment_whose_interpreter_is_gone_is_made_again(
    make_tree: MakeTree, bench: Bench, run: Run
) -> None:
    source = make_tree({"main.py": "import iniconfig\n", "requirements.txt": "iniconfig\n"})
    pack, request = PythonPack(bench.tools), bench.request(source)
    first = run(pack.prepare(request, bench.steps))
    shutil.rmtree(first.paths[0] / "bin")

    again = run(pack.prepare(request, bench.steps))

    assert again == first
    assert (first.paths[0] / "bin" / "python").exists()
