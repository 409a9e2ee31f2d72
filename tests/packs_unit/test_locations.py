"""Which file and line a failure's output names."""

from pathlib import Path

import pytest

from devstack.packs.locations import find_location

SOURCE = Path("/home/me/shop")

GO = """# example.test/shop/cmd/api
cmd/api/main.go:12:5: undefined: foo
cmd/api/main.go:13:1: too many errors
"""
PYTHON = """Traceback (most recent call last):
  File "/home/me/shop/app.py", line 12, in <module>
    import orders
  File "/home/me/shop/orders.py", line 3, in <module>
    from json import nothing
  File "/usr/lib/python3.11/json/x.py", line 99, in x
ImportError: cannot import name 'nothing' from 'json'
cannot load app:app: orders.py:3: ImportError: cannot import name 'nothing' from 'json'
"""
PYTHON_SYNTAX = """Traceback (most recent call last):
  File "/home/me/shop/app.py", line 7
    def broken(:
               ^
SyntaxError: invalid syntax
"""
NODE = """file:///home/me/shop/src/server.js:4
import nothing from "nothing";
^

TypeError: boom
    at run (file:///home/me/shop/node_modules/x/index.js:1:1)
    at file:///home/me/shop/src/server.js:4:7
"""
NODE_COMMONJS = """/home/me/shop/index.js:2
throw new Error("no");
^

Error: no
    at Object.<anonymous> (/home/me/shop/index.js:2:7)
"""
GO_PANIC = """panic: no database

goroutine 1 [running]:
main.main()
\t/home/me/shop/cmd/api/main.go:20 +0x1d
exit status 2
"""
TYPESCRIPT = "src/app.ts(3,7): error TS2322: Type 'string' is not assignable to type 'number'.\n"


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (GO, "cmd/api/main.go:12:5 undefined: foo"),
        (PYTHON, "orders.py:3 ImportError: cannot import name 'nothing' from 'json'"),
        (PYTHON_SYNTAX, "app.py:7 SyntaxError: invalid syntax"),
        (NODE, "src/server.js:4 TypeError: boom"),
        (NODE_COMMONJS, "index.js:2 Error: no"),
        (GO_PANIC, "cmd/api/main.go:20 panic: no database"),
        (
            TYPESCRIPT,
            "src/app.ts:3 error TS2322: Type 'string' is not assignable to type 'number'.",
        ),
    ],
)
def test_e07_the_place_in_the_users_own_source_is_found(output: str, told: str) -> None:
    assert str(find_location(output, SOURCE)) == told


@pytest.mark.parametrize("output", ["", "all fine\n", "2024-01-01 12:00:00: hello\n"])
def test_ordinary_output_names_no_place(output: str) -> None:
    assert find_location(output, SOURCE) is None
