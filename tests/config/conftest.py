"""A folder with a stack file in it, loaded or refused."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from devstack.config.load import Loaded, load
from devstack.config.problems import ConfigError, Problem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    return folder


@pytest.fixture
def load_text(folder: Path) -> Callable[..., Loaded]:
    """`load_text(text, override=…, dotenv=…, environment=…)`."""

    def load_text(
        text: str | bytes,
        *,
        override: str | None = None,
        dotenv: str | bytes | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Loaded:
        for name, content in (
            ("stack.yaml", text),
            ("stack.override.yaml", override),
            (".env", dotenv),
        ):
            if content is not None:
                data = content if isinstance(content, bytes) else content.encode()
                (folder / name).write_bytes(data)
        return load(folder / "stack.yaml", environment or {})

    return load_text


@pytest.fixture
def problems(load_text: Callable[..., Loaded]) -> Callable[..., list[Problem]]:
    """Every problem of a stack file that must be refused."""

    def problems(text: str | bytes, **more: object) -> list[Problem]:
        with pytest.raises(ConfigError) as caught:
            load_text(text, **more)
        return list(caught.value.problems)

    return problems
