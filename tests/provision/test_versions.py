"""Which versions an asked version means."""

import pytest

from devstack.provision.versions import at_least, fits, parse_version


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("18.6", None, True),
        ("18.6", "", True),
        ("18.6", "18", True),
        ("18.6", "18.6", True),
        ("18.6", "18.x", True),
        ("18.6", "1", False),
        ("18.6", "18.5", False),
        ("10.11.19", "10.11", True),
        ("1.27.3", ">=1.24", True),
        ("1.9.3", ">=1.24", False),
        ("1.27", ">=1.27.0", True),
        ("20.20.2", ">=18 <23", True),
        ("24.19.0", ">=18 <23", False),
        ("22.0.0", ">=18,<=22", True),
        ("22.1.0", "^20", False),
        ("20.1.0", "^20.0.1", True),
        ("20.1.5", "~20.1.2", True),
        ("20.2.0", "~20.1.2", False),
        ("20.1.0", "v20", True),
        ("20.1.0", "latest", False),
    ],
)
def test_a_version_fits_what_was_asked(version: str, wanted: str | None, expected: bool) -> None:
    assert fits(version, wanted) is expected


def test_versions_are_compared_as_numbers() -> None:
    assert at_least("1.27.4", "1.27.4")
    assert at_least("1.100", "1.27.4")
    assert not at_least("1.9", "1.27")
    assert parse_version("10.11.19-MariaDB-0+deb12u1") == (10, 11, 19)
    assert parse_version("0.7.0b3") == (0, 7, 0)
    assert parse_version("none") == ()
