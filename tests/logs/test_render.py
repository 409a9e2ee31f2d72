"""What reaches a terminal is harmless, what reaches a program is exact."""

import base64
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devstack.logs.ansi import coloured_text, plain_text
from devstack.logs.query import Gap, Line, Query, QueryError
from devstack.logs.reader import LogStore
from devstack.logs.render import Renderer, line_object, raw_bytes, utc_time
from devstack.logs.writer import LogWriter


def line(text: bytes, *, producer: str = "orders.1#7", partial: bool = False) -> Line:
    return Line(
        "orders", "r1", producer, "output", 1_700_000_000_123_456_789, 5, text, partial, False
    )


@pytest.mark.parametrize(
    ("data", "plain", "coloured"),
    [
        (b"plain\ttext", "plain\ttext", "plain\ttext"),
        (b"\x1b[1;31mred\x1b[0m", "red", "\x1b[1;31mred\x1b[0m\x1b[0m"),
        (b"\x1b[2J\x1b[H\x1b[10;5Hhi\x1b[K\x1b[?25l", "hi", "hi"),
        (b"\x1b]52;c;ZXZpbA==\x07hi", "hi", "hi"),
        (b"\x1b]0;title\x1b\\hi", "hi", "hi"),
        (b"\x1bP+q544e\x1b\\hi", "hi", "hi"),
        (b"\x1b_apc\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\hi", "hi", "hi"),
        (b"\x1bchi\x1b(B\x1b7", "hi", "hi"),
        ("\x9b2J\x9d52;c;x\x9chi".encode(), "hi", "hi"),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link", "link"),
        (b"a\x1b]52;c;never ends", "a52;c;never ends", "a52;c;never ends"),
        (b"a\x1b", "a", "a"),
        (b"a\x1b[3", "a3", "a3"),
        (b"bell\x07 back\x08", "bell back", "bell back"),
        (b"nul\0", "nul\ufffd", "nul\ufffd"),
        (b"bad\xff", "bad\ufffd", "bad\ufffd"),
        (b"10%\r50%\r100%", "100%", "100%"),
        (b"windows\r", "windows", "windows"),
        (b"\x1b[2K\rdone", "done", "done"),
        ("é ü 漢 🎉".encode(), "é ü 漢 🎉", "é ü 漢 🎉"),
        (b"two\nlines", "two\ufffdlines", "two\ufffdlines"),
    ],
)
def test_d10_only_colours_reach_a_terminal(data: bytes, plain: str, coloured: str) -> None:
    assert plain_text(data) == plain
    assert coloured_text(data) == coloured


NASTY = st.lists(
    st.one_of(
        st.binary(max_size=5),
        st.sampled_from([b"\x1b", b"\x1b[", b"\x1b]52;c;", b"\x07", b"\x1b\\", b"m", b"2J", "\x9b".encode(), b"\r", b"1;31"]),
    ),
    max_size=20,
).map(b"".join)  # fmt: skip


@given(NASTY)
def test_d10_no_bytes_make_a_control_sequence(data: bytes) -> None:
    assert re.search("[\x00-\x08\x0a-\x1f\x7f-\x9f]", plain_text(data)) is None
    without_colours = re.sub("\x1b\\[[0-9;:]*m", "", coloured_text(data))
    assert re.search("[\x00-\x08\x0a-\x1f\x7f-\x9f]", without_colours) is None


NASTY_NAME = "\x1b]52;c;ZXZpbA==\x07x\x9b2J\r"


def test_d10_names_of_files_that_a_repository_brings_make_no_control_sequence(
    tmp_path: Path,
) -> None:
    for service, run in (
        ("orders", "r1"),
        (NASTY_NAME, "r1"),
        ("orders", NASTY_NAME),
        (".x", "r1"),
    ):
        log = LogWriter(str(tmp_path / service / run), f"{NASTY_NAME}\udcff#1")
        log.append(b"hi\n")
        log.close()
    store = LogStore(tmp_path)
    (found,) = store.read(Query(run="all"))

    assert store.services() == ("orders",)
    assert store.runs() == store.runs("orders") == store.run_folders("orders") == ("r1",)
    for colour in (False, True):
        shown = Renderer(colour=colour).render(found)
        assert re.search("[\x00-\x1a\x1c-\x1f\x7f-\x9f]|\x1b(?!\\[[0-9;]*m)", shown) is None
        assert shown.encode()
    json.dumps(line_object(found), ensure_ascii=False).encode()
    for query in (Query(services=("none",)), Query(run="none")):
        with pytest.raises(QueryError) as caught:
            list(store.read(query))
        assert "\x1b" not in caught.value.message + caught.value.hint


def test_prefixes_are_aligned_and_grow() -> None:
    renderer = Renderer(["auth.1", "orders.1"])

    assert renderer.render(line(b"hi")) == "orders.1 | hi"
    assert renderer.render(line(b"go", producer="build")) == "orders build | go"
    assert renderer.render(line(b"hi")) == "orders.1     | hi"
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.123 orders\.1 \| hi", Renderer(times=True).render(line(b"hi"))
    )


def test_colour_only_when_asked() -> None:
    coloured = Renderer(colour=True).render(line(b"\x1b[31mhi"))

    assert coloured == "\x1b[36morders.1 | \x1b[0m\x1b[31mhi\x1b[0m"
    assert Renderer().render(line(b"\x1b[31mhi")) == "orders.1 | hi"


def test_gaps_are_told() -> None:
    gap = Gap("orders", "r1", "orders.1#7", 0, 0, 5_000, 1_234, "skipped")

    assert (
        Renderer().render(gap) == "orders.1 | [devstack: skipped 1,234 lines; they are in the log]"
    )
    lost = gap._replace(lines=None, reason="lost")
    assert "5,000 bytes were lost" in Renderer().render(lost)
    assert raw_bytes(gap) == b""
    assert line_object(gap)["bytes"] == 5_000


@given(st.binary(max_size=50), st.booleans())
def test_objects_are_json_and_lose_nothing(text: bytes, partial: bool) -> None:
    entry = json.loads(json.dumps(line_object(line(text, partial=partial))))

    whole = base64.b64decode(entry["base64"]) if "base64" in entry else entry["text"].encode()
    assert whole == text
    assert entry["schema"] == 1
    assert entry["kind"] == "line"
    assert entry["partial"] is partial
    assert entry["time"] == "2023-11-14T22:13:20.123456Z"


def test_times_are_rfc_3339() -> None:
    assert utc_time(0) == "1970-01-01T00:00:00.000000Z"
