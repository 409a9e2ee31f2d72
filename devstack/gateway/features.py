"""What can this NGINX do: read from `nginx -V`, and proved by testing tiny configurations.

Versions alone do not tell: distributions build njs as a module that may or may not be installed.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from devstack.gateway.directive import Directive, Expression, block, line, write
from devstack.steps import StepRunner

_TEMP_PATHS = (
    ("client_body_temp_path", None),
    ("proxy_temp_path", "--without-http_proxy_module"),
    ("fastcgi_temp_path", "--without-http_fastcgi_module"),
    ("uwsgi_temp_path", "--without-http_uwsgi_module"),
    ("scgi_temp_path", "--without-http_scgi_module"),
)
_PROBE_SCRIPT = "export default {say: (r) => 'x', ask: (r) => r.return(200)};\n"


@dataclass(frozen=True, slots=True)
class Features:
    """What an NGINX program was found to have."""

    version: tuple[int, ...]
    shared_table: bool
    """njs with shared dictionaries: the routing table lives in memory and is replaced without a reload."""
    table_state: bool = False
    """The dictionary can be loaded from a file at the start."""
    keepalive_min_timeout: bool = False
    tcp: bool = False
    """It can balance TCP services."""
    modules: tuple[str, ...] = ()
    """Files of dynamic modules to load, in order; absolute paths."""
    temp_paths: tuple[str, ...] = tuple(name for name, _ in _TEMP_PATHS)


class NotNginx(Exception):
    """A program does not answer as NGINX does."""


async def probe_features(
    program: Path, steps: StepRunner, *, module_folder: Path | None = None
) -> Features:
    """Ask `program` what it has; `module_folder` is where its dynamic modules lie, if not where it was built for."""
    told = await steps.run([str(program), "-V"], title="ask NGINX for its version")
    text = told.output.decode(errors="replace")
    found = re.search(r"nginx version: \S*?/(\d+(?:\.\d+)*)", text)
    if not found:
        raise NotNginx(f"cannot use {program} as the gateway: it does not say that it is NGINX")
    version = tuple(map(int, found[1].split(".")))
    temp_paths = tuple(name for name, without in _TEMP_PATHS if not without or without not in text)

    if module_folder is None:
        built_for = re.search(r"--modules-path=(\S+)", text)
        module_folder = Path(built_for[1]) if built_for else None
    modules = [
        str(module_folder / name)
        for name in (
            "ngx_stream_module.so",
            "ngx_http_js_module.so",
            "ngx_stream_js_module.so",
        )
        if module_folder is not None and (module_folder / name).is_file()
    ]

    with TemporaryDirectory(prefix="devstack-nginx-") as made:
        probe = _Probe(program, steps, Path(made))
        usable: list[str] = []
        for module in modules:
            if await probe.accepts(_config([*usable, module])):
                usable.append(module)
        zone = Expression("zone=t:64k")
        script = line("js_import", "r", "from", "probe.js")
        # The compiled-in paths belong to an installed NGINX and may not be ours to open.
        paths = [line("access_log", "off"), *(line(name, name) for name in temp_paths)]
        http_table = [
            *paths,
            script,
            line("js_shared_dict_zone", zone, "type=string"),
            line("js_shared_dict_zone", "zone=n:64k", "type=number"),
            line("js_set", Expression("$x"), "r.say"),
        ]
        state = line("js_shared_dict_zone", "zone=s:64k", "type=string", "state=probe.json")
        min_timeout = line("keepalive_min_timeout", "3s")
        stream = [script, line("js_set", Expression("$x"), "r.say")]
        # Most often it has everything: one question instead of five.
        if await probe.accepts(_config(usable, [*http_table, state, min_timeout], stream)):
            has_table = has_state = has_min_timeout = has_tcp_script = has_tcp = True
        else:
            has_table = await probe.accepts(_config(usable, http_table))
            has_state = has_table and await probe.accepts(_config(usable, [*http_table, state]))
            has_min_timeout = await probe.accepts(_config(usable, [*paths, min_timeout]))
            has_tcp_script = has_table and await probe.accepts(_config(usable, stream=stream))
            has_tcp = await probe.accepts(_config(usable, stream=[line("proxy_timeout", "1s")]))
        return Features(
            version=version,
            shared_table=has_table,
            table_state=has_state,
            keepalive_min_timeout=has_min_timeout,
            # With a table for HTTP and none for TCP a change of replicas would need both ways at once.
            tcp=has_tcp_script if has_table else has_tcp,
            modules=tuple(usable),
            temp_paths=temp_paths,
        )


@dataclass(frozen=True, slots=True)
class _Probe:
    program: Path
    steps: StepRunner
    folder: Path

    async def accepts(self, config: list[Directive]) -> bool:
        """Whether NGINX takes `config`; nothing of it is started."""
        (self.folder / "probe.js").write_text(_PROBE_SCRIPT)
        (self.folder / "probe.json").write_text("{}")
        (self.folder / "probe.conf").write_text(write(config).text)
        argv = [
            str(self.program),
            "-p",
            f"{self.folder}/",
            "-c",
            "probe.conf",
            "-e",
            "error.log",
            "-q",
            "-t",
        ]
        told = await self.steps.run(
            argv, title="ask NGINX what it can do", cwd=self.folder, check=False
        )
        return told.code == 0


def _config(
    modules: list[str],
    http: list[Directive] | None = None,
    stream: list[Directive] | None = None,
) -> list[Directive]:
    # Expression: a module's path may hold any character but a variable, which these do not take.
    config = [
        *(line("load_module", Expression(module)) for module in modules),
        line("pid", "probe.pid"),
        line("lock_file", "probe.lock"),
        block("events"),
    ]
    if http is not None:
        config.append(block("http", inside=http))
    if stream is not None:
        config.append(block("stream", inside=stream))
    return config
