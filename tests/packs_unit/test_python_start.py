"""Which application or script of a Python folder is started, by its syntax trees."""

from collections.abc import Mapping

import pytest

from devstack.packs.python_apps import App
from devstack.packs.python_modules import Broken
from devstack.packs.python_start import find_app, resolve_app
from tests.packs_unit.bench import MakeTree

FLASK = "from flask import Flask\n"
GUARD = 'if __name__ == "__main__":\n    pass\n'
FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"
GEVENT = "from gevent.pywsgi import WSGIServer\ndef main():\n    WSGIServer(('', 80), None)\n"
WEB = "from aiohttp import web\ndef main():\n    web.run_app(web.Application())\n"
DJANGO_WSGI = (
    "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
)
DJANGO_ASGI = "from django.core.asgi import get_asgi_application\n"


@pytest.mark.parametrize(
    ("files", "interface", "target"),
    [
        ({"app.py": FLASK + "app = Flask(__name__)\n" + GUARD}, "wsgi", "app:app"),
        ({"hello.py": "import flask as f\nweb = f.Flask(__name__)\n"}, "wsgi", "hello:web"),
        ({"app.py": FLASK + "class Mine(Flask): ...\napp = Mine(__name__)\n"}, "wsgi", "app:app"),
        ({"main.py": "from fastapi import FastAPI\napp: FastAPI = FastAPI()\n"}, "asgi", "main:app"),
        ({"main.py": "import fastapi\nif True:\n    api = fastapi.FastAPI()\n"}, "asgi", "main:api"),
        ({"a.py": "from starlette.applications import Starlette\napplication = Starlette()\n"}, "asgi", "a:application"),
        ({"app.py": "import quart\napp = quart.Quart('x')\n"}, "asgi", "app:app"),
        ({"app.py": "import falcon\napp = falcon.App()\n"}, "wsgi", "app:app"),
        ({"app.py": "import falcon.asgi\napp = falcon.asgi.App()\n"}, "asgi", "app:app"),
        ({"app.py": FLASK + "def create_app():\n    a = Flask('x')\n    return a\n"}, "wsgi", "app:create_app()"),
        ({"shop/__init__.py": FLASK + "def create_app(config=None):\n    return Flask('x')\n"}, "wsgi", "shop:create_app()"),
        ({"shop/__init__.py": "", "shop/factory.py": FLASK + "def make_app(*, test=False):\n    return Flask('x')\n"}, "wsgi", "shop.factory:make_app()"),
        ({"wsgi.py": "from shop import create_app\napp = create_app()\n", "shop/__init__.py": FLASK + "def create_app():\n    return Flask('x')\n"}, "wsgi", "wsgi:app"),
        ({"asgi.py": "from shop.web import app\n", "shop/web.py": "from fastapi import FastAPI\napp = FastAPI()\n"}, "asgi", "shop.web:app"),
        ({"src/shop/__init__.py": "", "src/shop/main.py": "from fastapi import FastAPI\napp = FastAPI()\n"}, "asgi", "shop.main:app"),
        ({"shop/__init__.py": "from .app import create_app\n", "shop/app.py": "from .core import build\ndef create_app():\n    return build()\n", "shop/core.py": FLASK + "def build():\n    return Flask('x')\n"}, "wsgi", "shop.app:create_app()"),
        ({"manage.py": GUARD, "site/wsgi.py": "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n", "site/__init__.py": ""}, "wsgi", "site.wsgi:application"),
        ({"tests/app.py": FLASK + "app = Flask('t')\n", "service.py": FLASK + "app = Flask('s')\n"}, "wsgi", "service:app"),
        ({".venv/lib/app.py": FLASK + "app = Flask('t')\n", "x.py": FLASK + "app = Flask('s')\n"}, "wsgi", "x:app"),
        ({".flaskenv": "FLASK_APP=second.py\n", "first.py": FLASK + "app = Flask('a')\n", "second.py": FLASK + "app = Flask('b')\n"}, "wsgi", "second:app"),
        ({"a.py": "def application(environ, start_response):\n    return []\n"}, "wsgi", "a:application"),
        ({"a.py": "async def app(scope, receive, send):\n    pass\n"}, "asgi", "a:app"),
        ({"app/main.py": FASTAPI, "app/crawl.py": "import aiohttp\n" + GUARD, "app/__init__.py": ""}, "asgi", "app.main:app"),
        ({"app.py": FLASK + "app = Flask('x')\n", "bench.py": GEVENT + GUARD}, "wsgi", "app:app"),
        ({"app.py": FLASK + "app = Flask('x')\n", "tools/server.py": WEB + GUARD}, "wsgi", "app:app"),
        ({"main.py": "import aiohttp, uvicorn\n" + FASTAPI + "async def ask():\n    aiohttp.ClientSession()\n" + 'if __name__ == "__main__":\n    uvicorn.run(app, port=8000)\n'}, "asgi", "main:app"),
        ({"manage.py": GUARD, "site/__init__.py": "", "site/wsgi.py": DJANGO_WSGI, "site/asgi.py": DJANGO_ASGI + "from channels.routing import ProtocolTypeRouter\napplication = ProtocolTypeRouter({'http': get_asgi_application()})\n"}, "asgi", "site.asgi:application"),
        ({"manage.py": GUARD, "site/__init__.py": "", "site/wsgi.py": DJANGO_WSGI, "site/asgi.py": DJANGO_ASGI + "application = get_asgi_application()\n"}, "wsgi", "site.wsgi:application"),
        ({"a.py": FLASK + "def mw(environ, start_response):\n    return []\nserver = Flask('x')\n"}, "wsgi", "a:server"),
        ({"main.py": "import socketio\n" + FASTAPI + "sio = socketio.AsyncServer(async_mode='asgi')\nwith_sockets = socketio.ASGIApp(sio, app)\n" + GUARD}, "asgi", "main:with_sockets"),
        ({"dash_app.py": "import dash\nx = dash.Dash('x')\nserver = x.server\n"}, "wsgi", "dash_app:server"),
    ],
)  # fmt: skip
def test_an_application_object_or_a_factory_is_found(
    make_tree: MakeTree, files: Mapping[str, str], interface: str, target: str
) -> None:
    found = find_app(make_tree(files))

    assert isinstance(found, App)
    assert (found.interface, found.target) == (interface, target)


@pytest.mark.parametrize(
    ("files", "script"),
    [
        ({"worker.py": "import time\n" + GUARD}, "worker.py"),
        ({"only.py": "print('hello')\n"}, "only.py"),
        ({"a.py": "x = 1\n", "main.py": "import a\n"}, "main.py"),
        ({"a.py": GUARD, "server.py": GUARD}, "server.py"),
        ({"app.py": "from flask import Flask\nfrom flask_socketio import SocketIO\napp = Flask('x')\nSocketIO(app)\n" + GUARD}, "app.py"),
        ({"app.py": FLASK + "app = Flask('x')\n", "run.py": "from app import app\n" + GEVENT + GUARD}, "run.py"),
        ({"web.py": WEB + GUARD, "crawl.py": "import aiohttp\n" + GUARD}, "web.py"),
        ({"main.py": "import tornado.web\nclass Shop(tornado.web.Application): ...\n" + GUARD, "app.py": GUARD}, "main.py"),
        ({"main.py": "from tornado import web, httpserver\nhttpserver.HTTPServer(None)\n" + GUARD}, "main.py"),
        ({"app.py": "from flask_socketio import SocketIO\nsio = SocketIO()\n" + FLASK + "app = Flask('x')\n", "run.py": "from app import app, sio\n" + 'if __name__ == "__main__":\n    sio.run(app)\n'}, "run.py"),
        ({"app.py": FLASK + "def create_app(needed):\n    return Flask('x')\n" + GUARD}, "app.py"),
    ],
)  # fmt: skip
def test_what_no_server_can_serve_is_run_as_a_script(
    make_tree: MakeTree, files: Mapping[str, str], script: str
) -> None:
    source = make_tree(files)

    found = find_app(source)

    assert isinstance(found, App)
    assert (found.interface, found.file) == ("script", source / script)


def test_a_src_layout_is_imported_from_src(make_tree: MakeTree) -> None:
    source = make_tree({"src/shop/__init__.py": FLASK + "app = Flask('x')\n"})

    found = find_app(source)

    assert isinstance(found, App)
    assert found.root == source / "src"


def test_a_top_folder_that_is_a_package_is_imported_from_its_parent(make_tree: MakeTree) -> None:
    source = make_tree(
        {
            "__init__.py": "",
            "views.py": "",
            "app.py": FLASK + "from . import views\napp = Flask('x')\n",
        }
    )

    found = find_app(source)

    assert isinstance(found, App)
    assert (found.root, found.target) == (source.parent, "service.app:app")


def test_e07_a_syntax_error_is_told_with_its_line(make_tree: MakeTree) -> None:
    source = make_tree({"app.py": FLASK + "app = Flask('x')\ndef broken(:\n    pass\n"})

    found = find_app(source)

    assert isinstance(found, Broken)
    assert (found.file, found.line) == (source / "app.py", 3)


def test_a_broken_file_beside_a_good_application_does_not_matter(make_tree: MakeTree) -> None:
    source = make_tree({"app.py": FLASK + "app = Flask('x')\n", "notes.py": "(\n"})

    assert isinstance(find_app(source), App)


def test_a_folder_without_any_program_holds_none(make_tree: MakeTree) -> None:
    assert find_app(make_tree({"a.py": "x = 1\n", "b.py": "y = 2\n"})) is None


@pytest.mark.parametrize(
    ("wanted", "target", "interface"),
    [
        ("shop.web:site", "shop.web:site", "wsgi"),
        ("shop.web:make", "shop.web:make()", "asgi"),
        ("shop.web:make()", "shop.web:make()", "asgi"),
        ("shop.web", "shop.web:site", "wsgi"),
    ],
)
def test_a_named_application_is_taken_as_named(
    make_tree: MakeTree, wanted: str, target: str, interface: str
) -> None:
    text = (
        FLASK
        + "from fastapi import FastAPI\nsite = Flask('x')\ndef make():\n    return FastAPI()\n"
    )
    source = make_tree({"app.py": FLASK + "app = Flask('x')\n", "shop/web.py": text})

    found = resolve_app(source, wanted)

    assert isinstance(found, App)
    assert (found.target, found.interface) == (target, interface)


def test_a_named_package_that_is_a_program_is_run_as_one(make_tree: MakeTree) -> None:
    source = make_tree({"shop/__init__.py": "", "shop/__main__.py": "print('here')\n"})

    found = resolve_app(source, "shop")

    assert isinstance(found, App)
    assert (found.interface, found.module) == ("script", "shop.__main__")


def test_a_name_that_is_not_there_is_none(make_tree: MakeTree) -> None:
    source = make_tree({"app.py": ""})

    assert resolve_app(source, "app:nothing") is None
    assert resolve_app(source, "missing.module:app") is None


def test_nothing_is_imported_while_looking(make_tree: MakeTree) -> None:
    source = make_tree({"app.py": "raise SystemExit('imported')\n" + FLASK + "app = Flask('x')\n"})

    assert isinstance(find_app(source), App)
