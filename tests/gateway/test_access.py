"""Reading the access log as it grows."""

import json
from pathlib import Path

from devstack.gateway.access import AccessLog, parse_access


def text(path: str, **changes: str) -> bytes:
    told = {
        "time": "1700000000.123",
        "method": "GET",
        "path": path,
        "status": "200",
        "duration": "0.004",
        "service": "orders",
        "replica": "orders.1#7",
        "trace": "0af7651916cd43dd8448eb211c80319c",
        "entry": "gateway",
        "bytes": "312",
    }
    return json.dumps(told | changes).encode() + b"\n"


def test_a_line_is_read_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "access.log"
    log = AccessLog(place)
    assert log.read() == []
    with place.open("ab", buffering=0) as file:
        file.write(text("/1") + text("/2")[:30])
        assert [each.path for each in log.read()] == ["/1"]
        file.write(text("/2")[30:])
        (second,) = log.read()
        assert (second.path, second.time, second.duration_seconds) == ("/2", 1700000000.123, 0.004)
        assert (second.status, second.bytes_sent) == (200, 312)
        assert log.read() == []
    log.close()


def test_rotation_loses_and_doubles_nothing(tmp_path: Path) -> None:
    place = tmp_path / "access.log"
    place.write_bytes(text("/1"))
    log = AccessLog(place)
    assert [each.path for each in log.read()] == ["/1"]
    with place.open("ab") as file:
        file.write(text("/2"))
    place.rename(tmp_path / "access.log.1")
    place.write_bytes(text("/3"))

    assert [each.path for each in log.read()] == ["/2", "/3"]
    place.write_bytes(b"")
    assert log.read() == []
    with place.open("ab") as file:
        file.write(text("/4"))
    assert [each.path for each in log.read()] == ["/4"]
    log.close()


def test_what_is_no_request_is_left_out() -> None:
    assert parse_access(text("/1")) is not None
    for line in (b"", b"{", b"[]", b"null", b"{}", text("/1", status="x"), text("/1", entry="?")):
        assert parse_access(line) is None
