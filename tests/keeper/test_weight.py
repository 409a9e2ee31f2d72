"""What the keeper is made of: the standard library, and little of it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[2])
HEAVY = {
    "asyncio",
    "dataclasses",
    "inspect",
    "pathlib",
    "subprocess",
    "typing",
    "tempfile",
    "shutil",
}


@pytest.mark.parametrize(
    "module", ["devstack.keeper.warden", "devstack.keeper.sweep", "devstack.api.locate"]
)
def test_it_imports_nothing_heavy_and_nothing_foreign(module: str) -> None:
    program = f"import sys; sys.path.append({ROOT!r}); import {module}; print(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], stdout=subprocess.PIPE, check=True, text=True
    )
    modules = {name.partition(".")[0] for name in told.stdout.split()}

    assert modules & HEAVY == set()
    assert modules - sys.stdlib_module_names - {"__main__"} == {"devstack"}
