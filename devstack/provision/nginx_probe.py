"""Whether an nginx has njs shared dictionaries built in, and is new enough for the routing table."""

import tempfile
from pathlib import Path

from devstack.provision.probes import remembered
from devstack.provision.tool import Settings
from devstack.provision.versions import at_least
from devstack.steps import StepRunner

MINIMUM = "1.27.4"
"""First with `keepalive_min_timeout`, which makes reloads loss-free."""

_CONFIG = """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    js_shared_dict_zone zone=probe:64k type=string state={folder}/state.json;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
}}
"""


async def has_shared_dictionaries(
    program: Path, version: str, steps: StepRunner, settings: Settings
) -> bool:
    """Asked with `nginx -t`: version numbers of njs are not shown by nginx."""
    if not at_least(version, MINIMUM):
        return False
    with tempfile.TemporaryDirectory(prefix="devstack-nginx-") as name:
        folder = Path(name)
        config = folder / "nginx.conf"
        config.write_text(_CONFIG.format(folder=folder), "utf-8")
        answer = await remembered(
            program,
            ["-t", "-e", "stderr", "-p", str(folder), "-c", str(config)],
            steps,
            settings,
            kind="njs",
        )
    return answer.endswith("exit 0")
