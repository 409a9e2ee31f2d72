"""Which lines a query keeps: time, pattern, level, stream; and what a bad query is told."""

import calendar
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devstack.logs.format import BUILD, OUTPUT
from devstack.logs.levels import LEVELS, level_of
from devstack.logs.query import Line, Query, QueryError, parse_since
from devstack.logs.reader import LogStore
from devstack.logs.writer import LogWriter

SECOND = 10**9


def store(
    tmp_path: Path, *entries: tuple[int, int, bytes], rotate_bytes: int = 1 << 20
) -> LogStore:
    log = LogWriter(str(tmp_path / "auth" / "r1"), "auth.1#1", rotate_bytes=rotate_bytes)
    for second, stream, data in entries:
        log.append(data, stream, wall_ns=second * SECOND, mono_ns=second * SECOND)
    log._release()
    return LogStore(tmp_path)


def texts(logs: LogStore, query: Query) -> list[bytes]:
    return [item.text for item in logs.read(query) if isinstance(item, Line)]


@pytest.mark.parametrize("rotate_bytes", [1, 7, 1 << 20])
def test_since_gives_lines_that_ended_then_or_later(tmp_path: Path, rotate_bytes: int) -> None:
    logs = store(
        tmp_path,
        (1, OUTPUT, b"one\nbe"),
        (2, OUTPUT, b"gin"),
        (3, OUTPUT, b"ning\nthree\n"),
        (4, OUTPUT, b"four\n"),
        rotate_bytes=rotate_bytes,
    )
    if rotate_bytes > 100:
        assert texts(logs, Query(since_ns=3 * SECOND)) == [b"beginning", b"three", b"four"]
    assert texts(logs, Query(since_ns=3 * SECOND))[-2:] == [b"three", b"four"]
    assert texts(logs, Query(since_ns=0)) == [b"one", b"beginning", b"three", b"four"]
    assert texts(logs, Query(since_ns=4 * SECOND)) == [b"four"]
    assert texts(logs, Query(since_ns=5 * SECOND)) == []
    assert texts(logs, Query(since_ns=3 * SECOND, tail=1)) == [b"four"]
    assert texts(logs, Query(since_ns=4 * SECOND, tail=9)) == [b"four"]


@settings(max_examples=25)
@given(st.integers(0, 60), st.sampled_from([1, 50, 1 << 20]))
def test_since_is_the_same_as_looking_at_every_line(
    tmp_path_factory: pytest.TempPathFactory, second: int, rotate_bytes: int
) -> None:
    entries = [(n, OUTPUT, b"line %d\n" % n) for n in range(1, 60)]
    logs = store(tmp_path_factory.mktemp("logs"), *entries, rotate_bytes=rotate_bytes)

    assert texts(logs, Query(since_ns=second * SECOND)) == [
        b"line %d" % n for n in range(1, 60) if n >= second
    ]


def test_grep_sees_what_a_person_sees(tmp_path: Path) -> None:
    logs = store(
        tmp_path,
        (1, OUTPUT, b"\x1b[31mERR\x1b[1mOR\x1b[0m one\n"),
        (2, OUTPUT, "größe 12\n".encode()),
        (3, OUTPUT, b"nothing\n"),
    )
    assert len(texts(logs, Query(grep="^ERROR one$"))) == 1
    assert texts(logs, Query(grep=r"gr..e \d+")) == ["größe 12".encode()]
    assert texts(logs, Query(grep="(?i)NOTHING")) == [b"nothing"]
    assert texts(logs, Query(grep="absent")) == []


def test_the_last_lines_are_counted_after_the_filter_however_far_back(tmp_path: Path) -> None:
    entries = [
        (n, OUTPUT, b"%s %d\n" % (b"hit" if n % 500 == 1 else b"no", n)) for n in range(1, 9000)
    ]
    logs = store(tmp_path, *entries, rotate_bytes=20_000)

    assert texts(logs, Query(grep="hit", tail=3)) == [b"hit 7501", b"hit 8001", b"hit 8501"]
    assert len(texts(logs, Query(grep="hit", tail=50))) == 18


def test_a_bad_pattern_says_what_is_wrong(tmp_path: Path) -> None:
    logs = store(tmp_path, (1, OUTPUT, b"x\n"))

    with pytest.raises(QueryError, match=r"cannot search for 'a\(b': .* at character 2") as caught:
        texts(logs, Query(grep="a(b"))
    assert "regular expression" in caught.value.hint
    for pattern in ("a{99999999999}", "(" * 5000 + ")" * 5000):
        with pytest.raises(QueryError, match="cannot search for "):
            texts(logs, Query(grep=pattern))


def test_unknown_names_are_told_with_those_there_are(tmp_path: Path) -> None:
    logs = store(tmp_path, (1, OUTPUT, b"x\n"))

    with pytest.raises(QueryError, match="no logs of 'ordres'") as caught:
        texts(logs, Query(services=("ordres",)))
    assert "auth" in caught.value.hint
    with pytest.raises(QueryError, match="no run 'r9'"):
        texts(logs, Query(run="r9"))
    with pytest.raises(QueryError, match="no previous run"):
        texts(logs, Query(run="previous"))
    with pytest.raises(QueryError, match="no level 'loud'"):
        texts(logs, Query(level="loud"))


def test_an_empty_folder_has_no_lines(tmp_path: Path) -> None:
    assert list(LogStore(tmp_path / "none").read(Query())) == []
    assert list(LogStore(tmp_path / "none").read(Query(tail=5))) == []


def test_build_output_is_a_stream_of_its_service(tmp_path: Path) -> None:
    logs = store(tmp_path, (1, BUILD, b"compiling\n"), (2, OUTPUT, b"serving\n"))

    assert texts(logs, Query(streams="build")) == [b"compiling"]
    assert texts(logs, Query(streams="run")) == [b"serving"]
    assert texts(logs, Query()) == [b"compiling", b"serving"]


def test_unmarked_lines_go_with_the_marked_one_before(tmp_path: Path) -> None:
    logs = store(
        tmp_path,
        (1, OUTPUT, b"INFO: fine\n  detail\n"),
        (2, OUTPUT, b"ERROR: broken\n  at line 3\n  at line 4\n"),
        (3, OUTPUT, b'{"level":"warn","msg":"hm"}\n'),
    )
    assert texts(logs, Query(level="error")) == [b"ERROR: broken", b"  at line 3", b"  at line 4"]
    assert len(texts(logs, Query(level="WARNING"))) == 4
    assert len(texts(logs, Query(level="info"))) == 6


@pytest.mark.parametrize(
    ("text", "level"),
    [
        (b'{"level":"error","msg":"x"}', "error"),
        (b'{"severity":"WARNING"}', "warn"),
        (b'{"lvl":"dbg"}', "debug"),
        (b'{"level":30,"msg":"pino"}', "info"),
        (b'{"level":60}', "fatal"),
        (b'{"level":"50"}', "error"),
        (b'{"level":10}', "trace"),
        (b'{"level":3}', "error"),
        (b'{"t":{"$date":"x"},"s":"W","c":"NETWORK"}', "warn"),
        (b'{"level":true,"msg":"[error] in text"}', "error"),
        (b'{"level":NaN}', None),
        (b'{"level":Infinity,"severity":"info"}', "info"),
        (b'{"level":1e999}', None),
        (b'{"level":' + b"9" * 5000 + b"}", None),
        (b'{"level":"' + b"9" * 5000 + b'"}', None),
        (b'{"level":"' + b"0" * 5000 + b'"}', None),
        (b'{"broken', None),
        (b"[" * 3000, None),
        (b"{" + b'"a":[' * 3000, None),
        (b"ERROR: x", "error"),
        (b"error: linking failed", "error"),
        (b"Warning: deprecated", "warn"),
        (b"WARNING:root:careful", "warn"),
        (b"[nats] [INF] Server is ready", "info"),
        (b"[12] 2026/01/02 03:04:05.6 [ERR] boom", "error"),
        (b"2026/01/02 03:04:05 [emerg] 7#7: bind() failed", "fatal"),
        (b"2026-01-02 03:04:05.678 UTC [9] FATAL:  no", "fatal"),
        (b"2026-01-02 03:04:05.678 UTC [9] LOG:  started", "info"),
        (b"2026-01-02T03:04:05Z 0 [Warning] [MY-010068] x", "warn"),
        (b"time=2026 level=warn msg=x", "warn"),
        (b'ts=1 level="error" msg=x', "error"),
        (b"2026-01-02 03:04:05 INFO  com.example.App - hi", "info"),
        (b"E0102 03:04:05.678901 1 main.go:3] x", "error"),
        (b"\x1b[31mERROR\x1b[0m x", "error"),
        (b"npm ERR! missing script", "error"),
        (b"npm warn deprecated", "warn"),
        (b"Traceback (most recent call last):", "error"),
        (b"panic: runtime error", "fatal"),
        (b"TypeError: x is not a function", "error"),
        (b"GET /errors/info 200", None),
        (b"information about errors", None),
        (b"hello", None),
        (b"", None),
    ],
)
def test_levels_of_the_common_formats(text: bytes, level: str | None) -> None:
    assert level_of(text) == level


@given(st.binary(max_size=300))
def test_any_bytes_have_a_level_or_none(text: bytes) -> None:
    assert level_of(text) in (None, *LEVELS)


NOW = calendar.timegm((2026, 1, 31, 12, 0, 0)) * SECOND


@pytest.mark.parametrize(
    ("text", "ago_seconds"),
    [
        ("10m", 600),
        ("2h", 7200),
        ("1h30m", 5400),
        ("45s", 45),
        ("1d", 86400),
        ("500ms", 0.5),
        ("1.5h", 5400),
    ],
)
def test_since_takes_durations(text: str, ago_seconds: float) -> None:
    assert parse_since(text, NOW) == NOW - int(ago_seconds * SECOND)


@pytest.mark.parametrize(
    ("text", "ago_seconds"),
    [
        ("2026-01-31T11:59:00Z", 60),
        ("2026-01-31T13:59:00+02:00", 60),
        ("2026-01-31T11:59:59.5Z", 0.5),
    ],
)
def test_since_takes_times_with_a_zone(text: str, ago_seconds: float) -> None:
    assert parse_since(text, NOW) == NOW - int(ago_seconds * SECOND)


def test_a_time_without_a_zone_is_local_and_a_time_of_day_has_been() -> None:
    here = time.localtime(NOW // SECOND)
    assert parse_since(time.strftime("%Y-%m-%dT%H:%M:%S", here), NOW) == NOW
    for text in ("00:00", "11:59:30", "23:59"):
        assert NOW - 86400 * SECOND <= parse_since(text, NOW) <= NOW


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "10", "10x", "m", "25:00", "2026-13-01", "1..5h", "-5m", "9" * 400 + "s"],
)
def test_since_says_what_it_takes(text: str) -> None:
    with pytest.raises(QueryError, match="cannot read the time"):
        parse_since(text, NOW)
