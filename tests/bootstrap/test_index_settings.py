"""Settings that work for pip or uv work for devstack."""

import os
from pathlib import Path

import pytest

from devstack.bootstrap.index_settings import (
    SettingsUnreadable,
    read_index_settings,
    variables_for_uv,
)

Files = dict[str, str]


def write(home: Path, files: Files) -> dict[str, str]:
    """An environment whose home holds these files; the system's own settings are out of reach."""
    for name, text in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    # The system's /etc/pip.conf may name a certificate here; indexes are what is compared.
    return {"HOME": str(home), "XDG_CONFIG_DIRS": str(home / "xdg")}


PIP = "[global]\nindex-url = https://pip.invalid/simple/\n"
UV = 'index-url = "https://uv.invalid/simple"\n'


@pytest.mark.parametrize(
    ("files", "variables", "index", "extra"),
    [
        ({}, {}, None, ()),
        ({}, {"PIP_INDEX_URL": "https://a.invalid/s/"}, "https://a.invalid/s", ()),
        ({".config/pip/pip.conf": PIP}, {}, "https://pip.invalid/simple", ()),
        ({".pip/pip.conf": PIP}, {}, "https://pip.invalid/simple", ()),
        ({"xdg/pip/pip.conf": PIP}, {}, "https://pip.invalid/simple", ()),
        ({"venv/pip.conf": PIP}, {"VIRTUAL_ENV": "venv"}, "https://pip.invalid/simple", ()),
        ({"my.conf": PIP}, {"PIP_CONFIG_FILE": "my.conf"}, "https://pip.invalid/simple", ()),
        ({".config/pip/pip.conf": PIP}, {"PIP_CONFIG_FILE": os.devnull}, None, ()),
        (
            {".config/pip/pip.conf": PIP, ".pip/pip.conf": PIP.replace("pip.", "old.")},
            {},
            "https://pip.invalid/simple",
            (),
        ),
        (
            {".config/pip/pip.conf": PIP},
            {"PIP_INDEX_URL": "https://a.invalid/s"},
            "https://a.invalid/s",
            (),
        ),
        (
            {".config/pip/pip.conf": PIP + "[install]\nindex-url = https://b.invalid/s\n"},
            {},
            "https://b.invalid/s",
            (),
        ),
        (
            {},
            {"PIP_EXTRA_INDEX_URL": "https://x.invalid/s https://y.invalid/s"},
            None,
            ("https://x.invalid/s", "https://y.invalid/s"),
        ),
        (
            {".config/pip/pip.conf": "[global]\nextra-index-url =\n  https://x.invalid/s\n"},
            {},
            None,
            ("https://x.invalid/s",),
        ),
        ({}, {"UV_INDEX_URL": "https://u.invalid/s"}, "https://u.invalid/s", ()),
        ({}, {"UV_DEFAULT_INDEX": "corp=https://u.invalid/s"}, "https://u.invalid/s", ()),
        (
            {},
            {"UV_DEFAULT_INDEX": "https://u.invalid/s", "PIP_INDEX_URL": "https://p.invalid/s"},
            "https://u.invalid/s",
            (),
        ),
        ({}, {"UV_INDEX": "corp=https://u.invalid/s"}, None, ("https://u.invalid/s",)),
        (
            {},
            {
                "UV_INDEX": "my-corp=https://u.invalid/s",
                "UV_INDEX_MY_CORP_USERNAME": "me",
                "UV_INDEX_MY_CORP_PASSWORD": "p@ss",
            },
            None,
            ("https://me:p%40ss@u.invalid/s",),
        ),
        ({".config/uv/uv.toml": UV}, {}, "https://uv.invalid/simple", ()),
        ({".config/uv/uv.toml": UV}, {"UV_NO_CONFIG": "1"}, None, ()),
        ({"my.toml": UV}, {"UV_CONFIG_FILE": "my.toml"}, "https://uv.invalid/simple", ()),
        ({"xdg/uv/uv.toml": UV}, {}, "https://uv.invalid/simple", ()),
        ({".config/uv/uv.toml": "[pip]\n" + UV}, {}, "https://uv.invalid/simple", ()),
        (
            {
                ".config/uv/uv.toml": (
                    '[[index]]\nurl = "https://d.invalid/s"\ndefault = true\n'
                    '[[index]]\nname = "c"\nurl = "https://c.invalid/s"\n'
                    '[[index]]\nname = "e"\nurl = "https://e.invalid/s"\nexplicit = true\n'
                )
            },
            {},
            "https://d.invalid/s",
            ("https://c.invalid/s",),
        ),
        (
            {
                ".config/uv/uv.toml": (
                    '[[index]]\nname = "corp"\nurl = "https://d.invalid/s"\ndefault = true\n'
                    '[[index]]\nname = "more-of-it"\nurl = "https://c.invalid/s"\n'
                )
            },
            {
                "UV_INDEX_CORP_USERNAME": "me",
                "UV_INDEX_CORP_PASSWORD": "p@ss",
                "UV_INDEX_MORE_OF_IT_PASSWORD": "token",
            },
            "https://me:p%40ss@d.invalid/s",
            ("https://:token@c.invalid/s",),
        ),
    ],
)
def test_the_users_index_is_found_where_pip_and_uv_look(
    tmp_path: Path,
    files: Files,
    variables: dict[str, str],
    index: str | None,
    extra: tuple[str, ...],
) -> None:
    environment = write(tmp_path, files)
    for name, value in variables.items():
        is_file = name in ("VIRTUAL_ENV", "PIP_CONFIG_FILE", "UV_CONFIG_FILE")
        is_ours = is_file and value != os.devnull
        environment[name] = str(tmp_path / value) if is_ours else value

    settings = read_index_settings(environment)

    assert settings.index == index
    assert settings.extra_indexes == extra


def test_the_origin_of_the_index_is_known_for_messages(tmp_path: Path) -> None:
    environment = write(tmp_path, {".config/pip/pip.conf": PIP})

    assert read_index_settings(environment).index_origin == str(tmp_path / ".config/pip/pip.conf")
    environment["PIP_INDEX_URL"] = "https://a.invalid/s"
    assert read_index_settings(environment).index_origin == "PIP_INDEX_URL"


def test_certificates_of_pip_and_of_the_system_are_used(tmp_path: Path) -> None:
    mine = tmp_path / "mine.pem"
    mine.write_text("")
    environment = write(tmp_path, {".config/pip/pip.conf": f"[global]\ncert = {mine}\n"})
    environment["SSL_CERT_FILE"] = str(tmp_path / "gone.pem")

    assert mine in read_index_settings(environment).certificates
    assert tmp_path / "gone.pem" not in read_index_settings(environment).certificates


@pytest.mark.parametrize(
    ("variables", "https"),
    [
        ({"HTTPS_PROXY": "http://p.invalid:3128"}, "http://p.invalid:3128"),
        ({"https_proxy": "p.invalid:3128"}, "http://p.invalid:3128"),
        ({"ALL_PROXY": "http://all.invalid:1"}, "http://all.invalid:1"),
        (
            {"PIP_PROXY": "http://pip.invalid:1", "HTTPS_PROXY": "http://p.invalid:1"},
            "http://pip.invalid:1",
        ),
    ],
)
def test_proxies_are_found(tmp_path: Path, variables: dict[str, str], https: str) -> None:
    settings = read_index_settings({**write(tmp_path, {}), **variables})

    assert settings.proxies is not None
    assert settings.proxies["https"] == https


def test_offline_may_be_asked_for_or_be_uvs_setting(tmp_path: Path) -> None:
    environment = write(tmp_path, {})

    assert not read_index_settings(environment).offline
    assert read_index_settings(environment, offline=True).offline
    assert read_index_settings({**environment, "UV_OFFLINE": "1"}).offline


def test_folders_of_wheels_are_found(tmp_path: Path) -> None:
    environment = write(tmp_path, {".config/uv/uv.toml": 'find-links = ["wheels", "/abs"]\n'})
    environment["PIP_FIND_LINKS"] = "/one /two"

    links = read_index_settings(environment).find_links

    assert links == (str(tmp_path / ".config/uv/wheels"), "/abs", "/one", "/two")


@pytest.mark.parametrize(
    "files",
    [{".config/pip/pip.conf": "no section\n"}, {".config/uv/uv.toml": "index-url = \n"}],
)
def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path, files: Files) -> None:
    with pytest.raises(SettingsUnreadable, match=next(iter(files))):
        read_index_settings(write(tmp_path, files))


def test_a_settings_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    environment = write(tmp_path, {".config/pip/pip.conf": ""})
    (tmp_path / ".config/pip/pip.conf").write_bytes(b"# f\xfcr uns\n[global]\n")

    with pytest.raises(SettingsUnreadable, match=r"pip\.conf"):
        read_index_settings(environment)


def test_uv_is_told_of_pips_settings_in_variables_not_arguments(tmp_path: Path) -> None:
    environment = write(tmp_path, {})
    environment |= {
        "PIP_INDEX_URL": "https://me:secret@pip.invalid/simple",
        "PIP_FIND_LINKS": "/one /two",
        "PIP_DEFAULT_TIMEOUT": "60",
    }

    told = variables_for_uv(read_index_settings(environment), "https://lock.invalid/simple")

    assert told["UV_DEFAULT_INDEX"] == "https://me:secret@pip.invalid/simple"
    assert told["UV_FIND_LINKS"] == "/one,/two"
    assert told["UV_HTTP_TIMEOUT"] == "60"


def test_uv_is_told_the_locks_index_only_where_the_user_named_none(tmp_path: Path) -> None:
    environment = write(tmp_path, {})
    lock = "https://lock.invalid/simple"
    by_uv = {**environment, "UV_DEFAULT_INDEX": "https://u.invalid/s"}

    assert variables_for_uv(read_index_settings(environment), lock)["UV_DEFAULT_INDEX"] == lock
    assert "UV_DEFAULT_INDEX" not in variables_for_uv(read_index_settings(by_uv), lock)
    assert "UV_DEFAULT_INDEX" not in variables_for_uv(read_index_settings(environment), None)
