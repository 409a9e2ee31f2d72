"""Where this user fetches packages from: pip's and uv's settings, read with the standard library.

Mirrors, proxies, certificates and credentials that work for pip or uv work here. Where both name an
index, uv's wins; where neither does, the index named in the shipped lock is used. Settings of the
project in the current folder are not read: a repository does not choose where tools come from.
"""

import configparser
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What pip and uv together say; empty where they say nothing."""

    index: str | None = None
    """Replaces the lock's index; may carry credentials, so it is never shown as it is."""
    index_origin: str = ""
    """Which variable or file named it, for messages."""
    extra_indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    offline: bool = False
    certificates: tuple[Path, ...] = ()
    certificate_folders: tuple[Path, ...] = ()
    client_certificate: Path | None = None
    proxies: Mapping[str, str] | None = None
    """By URL scheme."""
    no_proxy: str = ""
    trusted_hosts: tuple[str, ...] = ()
    timeout_seconds: float = 30.0
    netrc: Path | None = None
    uv_reads_index_itself: bool = False
    """The index came from uv's own settings, so uv needs no word about it."""


class SettingsUnreadable(Exception):
    """A settings file of pip or uv cannot be read."""


def read_index_settings(environment: Mapping[str, str], *, offline: bool = False) -> IndexSettings:
    """Read variables first, then files, as pip and uv do."""
    pip = _pip_values(environment)
    uv = _uv_values(environment)
    index, origin, by_uv = None, "", False
    for values, is_uv in ((uv, True), (pip, False)):
        if values.index:
            index, origin, by_uv = values.index, values.index_origin, is_uv
            break
    proxy = environment.get("PIP_PROXY") or pip.proxy
    certificates = [*pip.certificates, *_paths(environment, "SSL_CERT_FILE")]
    certificates += _paths(environment, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    folders = environment.get("SSL_CERT_DIR", "").split(os.pathsep)
    home = environment.get("HOME", "")
    netrc = environment.get("NETRC") or (str(Path(home) / ".netrc") if home else "")
    client = pip.client_certificate or environment.get("SSL_CLIENT_CERT")
    return IndexSettings(
        index=index,
        index_origin=origin,
        extra_indexes=(*uv.extra, *pip.extra),
        find_links=(*uv.find_links, *pip.find_links),
        no_index=uv.no_index or pip.no_index,
        offline=offline or uv.offline,
        certificates=tuple(dict.fromkeys(path for path in certificates if path.is_file())),
        certificate_folders=tuple(Path(name) for name in folders if name and Path(name).is_dir()),
        client_certificate=Path(client) if client else None,
        proxies=_proxies(environment, proxy),
        no_proxy=environment.get("no_proxy") or environment.get("NO_PROXY", ""),
        trusted_hosts=(*uv.trusted_hosts, *pip.trusted_hosts),
        timeout_seconds=max(pip.timeout or 0.0, uv.timeout or 0.0) or 30.0,
        netrc=Path(netrc) if netrc else None,
        uv_reads_index_itself=by_uv,
    )


def variables_for_uv(settings: IndexSettings, default_index: str | None) -> dict[str, str]:
    """What uv must be told in its environment to use the same sources.

    `default_index` is used where the user named none; None leaves it to uv.

    Variables, not arguments: an index URL may carry a password, and arguments are public.
    """
    told: dict[str, str] = {}
    index = settings.index or default_index
    if index is not None and not settings.uv_reads_index_itself:
        told["UV_DEFAULT_INDEX"] = index
    if settings.extra_indexes:
        told["UV_INDEX"] = " ".join(settings.extra_indexes)
        # As pip does: the best version of all indexes. What is devstack's own is pinned by hash.
        told["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if settings.find_links:
        told["UV_FIND_LINKS"] = ",".join(settings.find_links)
    if settings.no_index:
        told["UV_NO_INDEX"] = "1"
    if settings.offline:
        told["UV_OFFLINE"] = "1"
    if settings.certificates:
        told["SSL_CERT_FILE"] = str(settings.certificates[0])
    if settings.client_certificate is not None:
        told["SSL_CLIENT_CERT"] = str(settings.client_certificate)
    if settings.trusted_hosts:
        told["UV_INSECURE_HOST"] = " ".join(settings.trusted_hosts)
    for scheme, proxy in (settings.proxies or {}).items():
        told[f"{scheme.upper()}_PROXY"] = proxy
    told["UV_HTTP_TIMEOUT"] = str(int(settings.timeout_seconds))
    return told


@dataclass(slots=True)
class _Values:
    """What one of the two programs is told; later assignments win."""

    index: str | None = None
    index_origin: str = ""
    extra: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    offline: bool = False
    certificates: tuple[Path, ...] = ()
    client_certificate: str | None = None
    proxy: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    timeout: float | None = None

    def name_index(self, url: str, origin: str) -> None:
        self.index, self.index_origin = url.rstrip("/"), origin


# ---------------------------------------------------------------- pip


def _pip_values(environment: Mapping[str, str]) -> _Values:
    values = _Values()
    for path in _pip_files(environment):
        for key, text in _pip_file(path):
            _take_pip(values, key, text, str(path))
    for variable, text in environment.items():
        if variable.startswith("PIP_") and text:
            _take_pip(values, variable[4:].lower().replace("_", "-"), text, variable)
    return values


def _pip_files(environment: Mapping[str, str]) -> Iterator[Path]:
    """From the least to the most binding: global, user, site, the one named by a variable."""
    named = environment.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return
    home = Path(environment.get("HOME", "") or Path("~").expanduser())
    if sys.platform == "darwin":
        yield Path("/Library/Application Support/pip/pip.conf")
    for folder in (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep):
        yield Path(folder) / "pip" / "pip.conf"
    yield Path("/etc/pip.conf")
    yield home / ".pip" / "pip.conf"
    if sys.platform == "darwin":
        yield home / "Library" / "Application Support" / "pip" / "pip.conf"
    yield _config_home(environment, home) / "pip" / "pip.conf"
    yield Path(environment.get("VIRTUAL_ENV") or sys.base_prefix) / "pip.conf"
    if named:
        yield Path(named).expanduser()


def _pip_file(path: Path) -> Iterator[tuple[str, str]]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text("utf-8"), str(path))
    except OSError:
        return
    except (configparser.Error, UnicodeDecodeError) as exc:
        raise SettingsUnreadable(f"cannot read pip's settings {path}: {exc}") from exc
    for section in ("global", "install"):
        if parser.has_section(section):
            for key, value in parser.items(section):
                yield key.replace("_", "-"), value


def _take_pip(values: _Values, key: str, text: str, origin: str) -> None:
    match key:
        case "index-url" | "i" | "pypi-url":
            values.name_index(text.strip(), origin)
        case "extra-index-url":
            values.extra = tuple(text.split())
        case "find-links":
            values.find_links = tuple(os.path.expandvars(word) for word in text.split())
        case "no-index":
            values.no_index = _is_true(text)
        case "cert":
            path = Path(text.strip()).expanduser()
            values.certificates = (path,)
        case "client-cert":
            values.client_certificate = text.strip()
        case "proxy":
            values.proxy = text.strip()
        case "trusted-host":
            values.trusted_hosts = tuple(text.split())
        case "timeout" | "default-timeout":
            values.timeout = _number(text)


# ---------------------------------------------------------------- uv


def _uv_values(environment: Mapping[str, str]) -> _Values:
    values = _Values()
    for path in _uv_files(environment):
        _take_uv_file(values, path, environment)
    for variable in ("UV_INDEX_URL", "UV_DEFAULT_INDEX"):
        if environment.get(variable):
            name, url = _named(environment[variable])
            values.name_index(_with_credentials(name, url, environment), variable)
    extra: list[str] = []
    for variable in ("UV_INDEX", "UV_EXTRA_INDEX_URL"):
        words = environment.get(variable, "").split()
        extra += [_with_credentials(*_named(word), environment) for word in words]
    values.extra = (*extra, *values.extra)
    links = environment.get("UV_FIND_LINKS", "").replace(",", " ").split()
    values.find_links = (*links, *values.find_links)
    values.no_index = _is_true(environment.get("UV_NO_INDEX", "")) or values.no_index
    values.offline = _is_true(environment.get("UV_OFFLINE", "")) or values.offline
    if hosts := environment.get("UV_INSECURE_HOST", "").replace(",", " ").split():
        values.trusted_hosts = tuple(hosts)
    values.timeout = _number(environment.get("UV_HTTP_TIMEOUT", ""))
    return values


def _uv_files(environment: Mapping[str, str]) -> Iterator[Path]:
    """System first, user second; a named one instead of both."""
    if _is_true(environment.get("UV_NO_CONFIG", "")):
        return
    if named := environment.get("UV_CONFIG_FILE"):
        yield Path(named).expanduser()
        return
    home = Path(environment.get("HOME", "") or Path("~").expanduser())
    folders = (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    system = [Path(folder) / "uv" / "uv.toml" for folder in folders] + [Path("/etc/uv/uv.toml")]
    yield from [path for path in system if path.is_file()][:1]
    yield _config_home(environment, home) / "uv" / "uv.toml"


def _take_uv_file(values: _Values, path: Path, environment: Mapping[str, str]) -> None:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError:
        return
    except ValueError as exc:
        raise SettingsUnreadable(f"cannot read uv's settings {path}: {exc}") from exc
    pip_table = document.get("pip")
    for table in (pip_table if isinstance(pip_table, dict) else {}, document):
        if isinstance(url := table.get("index-url"), str):
            values.name_index(url, str(path))
        values.extra = (*_texts(table.get("extra-index-url")), *values.extra)
        links = _texts(table.get("find-links"))
        values.find_links = (*(_beside(path, link) for link in links), *values.find_links)
        values.no_index = table.get("no-index") is True or values.no_index
        values.offline = table.get("offline") is True or values.offline
    values.trusted_hosts = (*_texts(document.get("allow-insecure-host")), *values.trusted_hosts)
    indexes = document.get("index")
    for index in indexes if isinstance(indexes, list) else []:
        if not isinstance(index, dict) or not isinstance(url := index.get("url"), str):
            continue
        url = _with_credentials(str(index.get("name", "")), url, environment)
        if index.get("default") is True:
            values.name_index(url, str(path))
        elif index.get("explicit") is not True:
            values.extra = (*values.extra, url)


def _named(word: str) -> tuple[str, str]:
    """uv's `name=url`; a URL with `=` in its query is not a name."""
    name, equals, url = word.partition("=")
    return (name, url) if equals and "://" in url and "/" not in name else ("", word)


def _with_credentials(name: str, url: str, environment: Mapping[str, str]) -> str:
    """uv's `UV_INDEX_<NAME>_USERNAME` and `_PASSWORD`."""
    key = "".join(letter if letter.isalnum() else "_" for letter in name).upper()
    user = environment.get(f"UV_INDEX_{key}_USERNAME", "") if name else ""
    password = environment.get(f"UV_INDEX_{key}_PASSWORD", "") if name else ""
    if not user and not password:
        return url.rstrip("/")
    parts = urlsplit(url)
    place = parts.netloc.rsplit("@", 1)[-1]
    account = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{account}@{place}")).rstrip("/")


# ---------------------------------------------------------------- both


def _proxies(environment: Mapping[str, str], pip_proxy: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for scheme in ("http", "https"):
        names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
        value = next((environment[name] for name in names if environment.get(name)), None)
        if pip_proxy:
            value = pip_proxy
        if value:
            found[scheme] = value if "://" in value else f"http://{value}"
    return found


def _paths(environment: Mapping[str, str], *names: str) -> list[Path]:
    return [Path(environment[name]) for name in names if environment.get(name)]


def _config_home(environment: Mapping[str, str], home: Path) -> Path:
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config")


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def _beside(settings_file: Path, link: str) -> str:
    is_relative = "://" not in link and not Path(link).expanduser().is_absolute()
    return str(settings_file.parent / link) if is_relative else link


def _is_true(text: str) -> bool:
    return text.strip().lower() in {"1", "true", "yes", "on", "y", "t"}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
