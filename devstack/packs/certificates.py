"""Lets package managers trust what the system trusts.

uv and a Node from a wheel know only the authorities they carry; behind a company's proxy, where
the system has one more, they fail or wait for minutes. What the user set wins.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path


def trust_the_system(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables to add; none where the system has no authorities of its own."""
    paths = ssl.get_default_verify_paths()
    folder = Path(paths.capath) if paths.capath else None
    if paths.cafile is None and not (folder and folder.is_dir() and any(folder.iterdir())):
        return {}
    wanted = {"UV_SYSTEM_CERTS": "1", "NODE_USE_SYSTEM_CA": "1"}
    if {"UV_NATIVE_TLS", "SSL_CERT_FILE", "SSL_CERT_DIR"} & environment.keys():
        del wanted["UV_SYSTEM_CERTS"]
    return {name: value for name, value in wanted.items() if name not in environment}
