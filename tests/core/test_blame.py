"""Why a program did not start, in one line."""

import pytest

from devstack.core.blame import summary
from devstack.core.events import Exit


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ((), "exited with code 1"),
        (("", "cannot open /etc/shop.conf", " "), "exited with code 1: cannot open /etc/shop.conf"),
        (
            (
                '  File "/shop/auth/app.py", line 7, in <module>',
                '  File "/shop/auth/db.py", line 31, in connect',
                '  File "/shop/.venv/lib/python3.12/site-packages/psycopg/x.py", line 9, in y',
                "psycopg.OperationalError: connection refused",
            ),
            "db.py:31 psycopg.OperationalError: connection refused",
        ),
        (
            (
                '  File "/shop/auth/app.py", line 3',
                "    def x(",
                "SyntaxError: '(' was never closed",
            ),
            "app.py:3 SyntaxError: '(' was never closed",
        ),
        (
            (
                "file:///shop/payments/server.js:14",
                "const x = ;",
                "          ^",
                "SyntaxError: Unexpected token ';'",
                "    at ModuleLoader.moduleStrategy (node:internal/modules/esm/translators:168:18)",
                "Node.js v22.1.0",
            ),
            "server.js:14 SyntaxError: Unexpected token ';'",
        ),
        (
            (
                "Error: Cannot find module 'express'",
                "    at Function.resolve (node:internal/modules/cjs/loader:1:2)",
                "    at Object.<anonymous> (/shop/payments/src/app.js:5:17)",
                "    at next (/shop/payments/node_modules/x/y.js:1:1)",
            ),
            "app.js:5 Error: Cannot find module 'express'",
        ),
        (
            (
                "panic: no DATABASE_URL",
                "goroutine 1 [running]:",
                "main.main()",
                "\t/shop/orders/main.go:12 +0x1d",
            ),
            "main.go:12 panic: no DATABASE_URL",
        ),
    ],
)
def test_the_place_is_the_users_own_and_the_words_are_the_errors(
    tail: tuple[str, ...], expected: str
) -> None:
    assert summary(Exit(1, tail=tail)) == expected


def test_what_is_known_beyond_its_words_comes_first() -> None:
    tail = ('  File "/shop/auth/app.py", line 7, in <module>', "OSError: Address already in use")

    told = summary(Exit(1, message="found its port in use: 127.0.0.1:21034 of pid 4242", tail=tail))

    assert told == (
        "found its port in use: 127.0.0.1:21034 of pid 4242: app.py:7 OSError: Address already in use"
    )
