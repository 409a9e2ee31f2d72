"""Tools, places and steps for tests with real engines; each test ends with no process left."""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from devstack.engines.base import DataFolder, Engine, EngineSpec, Site
from devstack.provision import Tool
from tests.support.engines import assert_no_process_in
from tests.support.steps import HowUnprivileged, SubprocessSteps, how_unprivileged
from tests.support.tools import tool_or_skip

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(work)


@dataclass
class Workshop:
    """Where a test makes data: an own folder, templates shared by the session."""

    root: Path
    templates: Path
    unprivileged: HowUnprivileged
    steps: SubprocessSteps

    def site(self, name: str = "db") -> Site:
        return Site(self.root / "data" / name, self.templates, self.unprivileged, "feedc0ffee")

    def prepare(self, engine: Engine, spec: EngineSpec, tool: Tool, name: str = "db") -> DataFolder:
        return run(engine.prepare(spec, self.site(name), tool, self.steps))


@pytest.fixture(scope="session")
def unprivileged() -> HowUnprivileged:
    found = how_unprivileged()
    if found == "nobody":
        pytest.skip("root without user namespaces: see test_placement")
    return found


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("templates")


@pytest.fixture
def workshop(tmp_path: Path, templates: Path, unprivileged: HowUnprivileged) -> Iterator[Workshop]:
    yield Workshop(tmp_path, templates, unprivileged, SubprocessSteps(unprivileged))
    assert_no_process_in(tmp_path)
    assert_no_process_in(templates)


@pytest.fixture(scope="session")
def tool_of() -> Callable[[str], Tool]:
    """Tools as a machine without any of them gets them; fetched once into the user's cache."""

    @functools.cache
    def find(name: str) -> Tool:
        return run(tool_or_skip(name))

    return find
