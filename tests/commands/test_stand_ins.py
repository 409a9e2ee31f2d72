"""What stands in for a database is named with what it cannot do, wherever that database is told of."""

import re
import shutil

import pytest

from tests.commands.kit import Make

GAPS = {
    "mysql": (
        r"MariaDB [\d.]+ stands in for MySQL: no `->` and `->>` on JSON, "
        r"no `INSERT … AS new ON DUPLICATE KEY`, no functional indexes, no utf8mb4_0900 collations, "
        r"no caching_sha2_password"
    ),
    "mongodb": (
        r"secantusdb [\w.]+ \(beta\) stands in for MongoDB: an array inside a dotted path of an "
        r'aggregation expression counts as missing \(\{\$sum: "\$items.price"\} is 0\), \$lookup '
        r"through an array joins nothing, capped collections ignore max, and there are no text, "
        r"hashed or wildcard indexes"
    ),
}


@pytest.mark.timeout(400)  # a fresh machine fetches the servers first
@pytest.mark.parametrize(("engine", "real"), [("mysql", "mysqld"), ("mongodb", "mongod")])
def test_up_status_and_why_name_a_stand_in_with_its_gaps_and_warn_of_nobody_else(
    make: Make, engine: str, real: str
) -> None:
    if shutil.which(real) is not None:
        pytest.skip(f"{real} is on PATH: nothing stands in for it")
    stack = make(
        f"""\
databases:
  store: {{engine: {engine}}}
  ledger: {{engine: postgres}}
"""
    )

    up = stack.up()

    (warning,) = stack.service("store")["warnings"]
    assert re.fullmatch(GAPS[engine], warning), warning
    assert stack.service("ledger")["warnings"] == []
    assert f"note: store: {warning}" in up.err.splitlines()
    assert f"! store: {warning}" in stack.devstack("status").out.splitlines()
    assert f"warning: {warning}" in stack.devstack("why", "store").out.splitlines()
    # who comes later, and finds it running, is told as well
    assert f"note: store: {warning}" in stack.up().err.splitlines()
