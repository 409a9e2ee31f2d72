"""Where one locked file can be had: the user's folders, pages and indexes, in their order.

Reads the simple repository API (PEP 503 as HTML, PEP 691 as JSON). Where the user's index is the
one the lock was made from, the lock's own URL is used and no page is read.
"""

import html.parser
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit
from urllib.request import url2pathname

from devstack.bootstrap.index_settings import IndexSettings
from devstack.bootstrap.lockfile import Package, Wheel
from devstack.bootstrap.stopping import Stop
from devstack.bootstrap.web import FetchFailed, NotThere, Web, read_page, without_credentials

_PAGE_LIMIT = 64 << 20
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass(frozen=True, slots=True)
class LocalFile:
    path: Path


@dataclass(frozen=True, slots=True)
class RemoteFile:
    url: str


def places_of(
    package: Package,
    wheel: Wheel,
    settings: IndexSettings,
    web: Web,
    stop: Stop,
    failures: list[FetchFailed],
) -> Iterator[LocalFile | RemoteFile]:
    """Every place that claims to have the file, best first; pages are read only when reached.

    A page that cannot be read is passed over, and why is added to `failures`; the caller adds why
    a place was not good.
    """
    for link in settings.find_links:
        try:
            yield from _linked(link, wheel, settings, web, stop)
        except FetchFailed as exc:
            failures.append(exc)
    if settings.no_index or settings.offline:
        return
    for index in indexes(settings, package.index):
        if _same_index(index, package.index):
            before = len(failures)
            yield RemoteFile(wheel.url)
            if any(not isinstance(failure, NotThere) for failure in failures[before:]):
                continue  # its page leads to the same file
        page = f"{index.rstrip('/')}/{re.sub(r'[-_.]+', '-', package.name).lower()}/"
        try:
            yield from _on_page(page, wheel, web, stop)
        except FetchFailed as exc:
            failures.append(exc)


def indexes(settings: IndexSettings, default: str) -> tuple[str, ...]:
    return (settings.index or default, *settings.extra_indexes)


def _same_index(one: str, other: str) -> bool:
    return without_credentials(one).rstrip("/") == without_credentials(other).rstrip("/")


def _linked(
    link: str, wheel: Wheel, settings: IndexSettings, web: Web, stop: Stop
) -> Iterator[LocalFile | RemoteFile]:
    parts = urlsplit(link)
    if parts.scheme in ("http", "https"):
        if settings.offline:
            return
        if unquote(parts.path.rsplit("/", 1)[-1]) == wheel.file_name:
            yield RemoteFile(link)
            return
        yield from _on_page(link, wheel, web, stop)
        return
    path = Path(url2pathname(parts.path) if parts.scheme == "file" else link).expanduser()
    file = path / wheel.file_name if path.is_dir() else path
    if file.name == wheel.file_name and file.is_file():
        yield LocalFile(file)


def _on_page(page: str, wheel: Wheel, web: Web, stop: Stop) -> Iterator[RemoteFile]:
    content, content_type, address = read_page(web, page, {"Accept": _ACCEPT}, _PAGE_LIMIT, stop)
    is_json = "json" in content_type.lower()
    links = _json_links(content, page) if is_json else _html_links(content)
    # Relative links belong to the address the page came from; the account to the index it is on.
    for name, link in links:
        if name == wheel.file_name:
            yield RemoteFile(_with_account(urljoin(address, link.split("#", 1)[0]), page))


def _json_links(content: bytes, page: str) -> list[tuple[str, str]]:
    try:
        files = json.loads(content)["files"]
        return [(str(file["filename"]), str(file["url"])) for file in files]
    except (ValueError, KeyError, TypeError) as exc:
        shown = without_credentials(page)
        raise FetchFailed(f"cannot read the index page {shown}: not the simple API") from exc


def _html_links(content: bytes) -> list[tuple[str, str]]:
    parser = _Anchors()
    parser.feed(content.decode("utf-8", "replace"))
    base = parser.base
    return [
        (unquote(urlsplit(link).path.rsplit("/", 1)[-1]), urljoin(base, link) if base else link)
        for link in parser.links
    ]


def _with_account(url: str, page: str) -> str:
    old, new = urlsplit(page), urlsplit(url)
    if "@" not in old.netloc or "@" in new.netloc or old.hostname != new.hostname:
        return url
    account = old.netloc.rsplit("@", 1)[0]
    return urlunsplit(new._replace(netloc=f"{account}@{new.netloc}"))


class _Anchors(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.base = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href")
        if tag == "base" and target:
            self.base = target
        elif tag == "a" and target:
            self.links.append(target)
