"""What package managers are told to trust."""

import ssl
from pathlib import Path

import pytest

from devstack.packs.certificates import trust_the_system

HAS_BUNDLE = Path(ssl.get_default_verify_paths().cafile or "/nowhere").is_file()


@pytest.mark.skipif(not HAS_BUNDLE, reason="this system has no certificate bundle")
@pytest.mark.parametrize(
    ("environment", "added"),
    [
        ({}, {"UV_SYSTEM_CERTS": "1", "NODE_USE_SYSTEM_CA": "1"}),
        ({"SSL_CERT_FILE": "mine.pem"}, {"NODE_USE_SYSTEM_CA": "1"}),
        ({"UV_SYSTEM_CERTS": "0", "NODE_USE_SYSTEM_CA": "0"}, {}),
    ],
)
def test_the_system_is_trusted_unless_the_user_says_otherwise(
    environment: dict[str, str], added: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)

    assert trust_the_system(environment) == added
