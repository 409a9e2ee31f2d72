"""Opens URLs the way this user's pip or uv would: proxy, certificates, credentials, redirects.

Nothing here knows of packages. Redirects never lead from https to http, and credentials are sent
to the host they were meant for only.
"""

import base64
import http.client
import ipaddress
import netrc
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from typing import IO
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from devstack import __version__
from devstack.bootstrap.index_settings import IndexSettings
from devstack.bootstrap.stopping import Stop

_MAX_REDIRECTS = 8
_PAGE_PAUSES_SECONDS = (0.5, 1.0)


class FetchFailed(Exception):
    """Something could not be fetched; `hint` says what may help."""

    def __init__(self, message: str, hint: str = "", *, is_temporary: bool = False) -> None:
        super().__init__(message)
        self.hint = hint
        self.is_temporary = is_temporary


class NotThere(FetchFailed):
    """The server answered that it does not have it."""


def without_credentials(url: str) -> str:
    """A URL as it may be shown."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]))


class Web:
    """One user's way to the network; used from threads, one request each."""

    def __init__(self, settings: IndexSettings) -> None:
        self._settings = settings
        self._context: ssl.SSLContext | None = None
        self._accounts = _read_netrc(settings)

    def open(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """The response to a GET, redirects followed; raises `FetchFailed`."""
        for _ in range(_MAX_REDIRECTS):
            response = self._open_once(url, headers)
            if response.status not in (301, 302, 303, 307, 308):
                return response
            location = response.headers.get("Location", "")
            response.close()
            url = self._redirect(url, location)
        raise FetchFailed(f"cannot fetch {without_credentials(url)}: too many redirects")

    def _redirect(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        old, new = urlsplit(url), urlsplit(target)
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            raise FetchFailed(
                f"cannot fetch {without_credentials(url)}: it leads to {without_credentials(target)}"
            )
        if old.hostname == new.hostname and "@" in old.netloc and "@" not in new.netloc:
            account = old.netloc.rsplit("@", 1)[0]
            target = urlunsplit(new._replace(netloc=f"{account}@{new.netloc}"))
        return target

    def _open_once(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        self._check_scheme(url)
        shown = without_credentials(url)
        request = urllib.request.Request(shown)  # noqa: S310 - checked above: http or https only
        request.add_header("User-Agent", f"devstack/{__version__}")
        for name, value in headers.items():
            request.add_header(name, value)
        if account := self._account(url):
            request.add_unredirected_header("Authorization", account)
        opener = urllib.request.OpenerDirector()
        handlers: list[urllib.request.BaseHandler] = [
            urllib.request.ProxyHandler(self._proxies(url)),
            urllib.request.HTTPHandler(),
        ]
        if request.type == "https":
            handlers.append(urllib.request.HTTPSHandler(context=self._tls()))
        for handler in handlers:
            opener.add_handler(handler)
        try:
            response = opener.open(request, timeout=self._settings.timeout_seconds)
        except urllib.error.URLError as exc:
            raise _unreachable(shown, exc.reason) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise _unreachable(shown, exc) from exc
        assert isinstance(response, http.client.HTTPResponse)
        return _checked(response, shown)

    def _check_scheme(self, url: str) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            return
        if parts.scheme != "http":
            raise FetchFailed(f"cannot fetch {without_credentials(url)}: not an http address")
        trusted = {name.rsplit("://", 1)[-1].split(":")[0] for name in self._settings.trusted_hosts}
        if host not in trusted and not _is_loopback(host):
            raise FetchFailed(
                f"cannot fetch {without_credentials(url)}: it is not encrypted",
                f"name an https address, or trust the host: PIP_TRUSTED_HOST={host}",
            )

    def _proxies(self, url: str) -> dict[str, str]:
        proxies = dict(self._settings.proxies or {})
        if not proxies or _is_direct(url, self._settings.no_proxy):
            return {}
        proxy = proxies.get(urlsplit(url).scheme, "")
        if proxy.startswith("socks"):
            raise FetchFailed(
                f"cannot fetch {without_credentials(url)}: {without_credentials(proxy)} is a SOCKS "
                "proxy, and devstack speaks to HTTP proxies only",
                "name an HTTP proxy: HTTPS_PROXY=http://host:port",
            )
        return proxies

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            context = ssl.create_default_context()
            settings = self._settings
            try:
                for path in settings.certificates:
                    context.load_verify_locations(cafile=path)
                for folder in settings.certificate_folders:
                    context.load_verify_locations(capath=folder)
                if settings.client_certificate is not None:
                    context.load_cert_chain(settings.client_certificate)
            except (OSError, ssl.SSLError) as exc:
                raise FetchFailed(f"cannot load the configured certificates: {exc}") from exc
            self._context = context
        return self._context

    def _account(self, url: str) -> str | None:
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if not user and not password and self._accounts is not None:
            found = self._accounts.authenticators(parts.hostname or "")
            if found is not None:
                user, password = found[0], found[2] or ""
        if not user and not password:
            return None
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def read_page(
    web: Web, url: str, headers: Mapping[str, str], limit: int, stop: Stop
) -> tuple[bytes, str, str]:
    """A whole answer, its content type, and the address it came from in the end."""
    for pause in _PAGE_PAUSES_SECONDS:
        try:
            return _read_page_once(web, url, headers, limit)
        except FetchFailed as exc:
            if not exc.is_temporary:
                raise
        stop.pause(pause)
    return _read_page_once(web, url, headers, limit)


def _read_page_once(
    web: Web, url: str, headers: Mapping[str, str], limit: int
) -> tuple[bytes, str, str]:
    with web.open(url, headers) as response:
        try:
            content = read_up_to(response, limit)
        except (OSError, http.client.HTTPException) as exc:
            raise _unreachable(without_credentials(url), exc) from exc
        return content, response.headers.get("Content-Type", ""), response.geturl() or url


def read_up_to(stream: IO[bytes], limit: int) -> bytes:
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise FetchFailed(f"cannot read an index page: it is larger than {limit} bytes")
    return content


def _checked(response: http.client.HTTPResponse, shown: str) -> http.client.HTTPResponse:
    status = response.status
    if status in (200, 206, 301, 302, 303, 307, 308, 416):
        return response
    response.close()
    if status in (404, 410):
        raise NotThere(f"cannot fetch {shown}: the server does not have it ({status})")
    if status in (401, 403, 407):
        raise FetchFailed(
            f"cannot fetch {shown}: the server refuses access ({status})",
            "put the user name and password into the index URL or ~/.netrc",
        )
    temporary = status >= 500 or status in (408, 425, 429)
    raise FetchFailed(f"cannot fetch {shown}: the server says {status}", is_temporary=temporary)


def _unreachable(shown: str, reason: object) -> FetchFailed:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return FetchFailed(
            f"cannot fetch {shown}: its certificate is not trusted ({reason.verify_message})",
            "install ca-certificates, or name your certificate: SSL_CERT_FILE=/path/to/ca.pem",
        )
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return FetchFailed(
        f"cannot fetch {shown}: {text}",
        "check the network, or the proxy (HTTPS_PROXY) and index (PIP_INDEX_URL) settings",
        is_temporary=True,
    )


def _is_direct(url: str, no_proxy: str) -> bool:
    """Whether `no_proxy` names the host, a domain or a network it lies in; perhaps with a port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    entries = (entry.strip().lower() for entry in no_proxy.split(","))
    return any(_covers(entry, host, port) for entry in entries if entry)


def _covers(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    with suppress(ValueError):  # not a network, or the host is no number
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    name, _, only_port = entry.rpartition(":") if entry.count(":") == 1 else (entry, "", "")
    if entry.startswith("["):
        name, _, only_port = entry[1:].partition("]")
        only_port = only_port.removeprefix(":")
    if only_port and only_port != str(port):
        return False
    name = name.removeprefix("*").lstrip(".")
    return name != "" and (host == name or host.endswith(f".{name}"))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_netrc(settings: IndexSettings) -> netrc.netrc | None:
    if settings.netrc is None or not settings.netrc.is_file():
        return None
    try:
        return netrc.netrc(str(settings.netrc))
    except (OSError, netrc.NetrcParseError):
        return None
