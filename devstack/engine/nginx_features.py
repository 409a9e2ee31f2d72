"""What a provisioned NGINX can do, asked once: its folder in the cache never changes.

An NGINX of the system is asked at every start: a package may bring or take a module at any time.
"""

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from devstack.gateway.features import Features, probe_features
from devstack.provision.tool import CACHE, WHEEL, Tool
from devstack.steps import StepRunner


async def features_of(tool: Tool, cache: Path, steps: StepRunner) -> Features:
    """The features of a found NGINX. Raises `NotNginx`, `StepFailed`."""
    program = tool.binaries["nginx"]
    if tool.origin not in (CACHE, WHEEL) or not program.is_relative_to(cache):
        return await probe_features(program, steps)
    memory = cache / "nginx" / f"{tool.root.name}.json"
    known = _read(memory)
    if known is None:
        known = await probe_features(program, steps)
        with contextlib.suppress(OSError):  # then it is asked again
            memory.parent.mkdir(parents=True, exist_ok=True)
            temporary = memory.with_suffix(".tmp")
            temporary.write_text(json.dumps(asdict(known)))
            temporary.replace(memory)
    return known


def _read(memory: Path) -> Features | None:
    try:
        raw = json.loads(memory.read_text())
        known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
        return Features(**known)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
