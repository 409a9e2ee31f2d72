"""What uv is asked for to install the packages of a Python service, for each kind of manifest."""

from pathlib import Path

from devstack.packs.base import PrepareRequest
from devstack.packs.python_files import local_packages
from devstack.packs.python_locks import pipenv_lines, poetry_constraints, poetry_pins, poetry_wishes
from devstack.packs.python_manifest import Manifest, has_hashes, without_project
from devstack.packs.python_setup import read_setup


def install_command(
    request: PrepareRequest, manifest: Manifest, made: Path, folder: Path
) -> tuple[list[str], Path, dict[str, str]]:
    """What to run after `uv`, where, and with which variables besides."""
    source = request.source
    python = str(made / "bin" / "python")
    again = _copied_again(manifest, source)
    pip = ["pip", "install", "--python", python, *again]
    match manifest.kind:
        case "uv":
            locked = "--frozen" if request.offline else "--locked"
            argv = ["sync", locked, "--no-install-project", "--no-dev", "--python", python, *again]
            return argv, source, {"UV_PROJECT_ENVIRONMENT": str(made)}
        case "pylock":
            return [*pip, "-r", str(manifest.files[-1])], source, {}
        case "pipenv":
            lines = pipenv_lines(manifest.files[-1])
            hashes = ["--require-hashes"] if all("--hash" in line for line in lines) else []
            return [*pip, "--no-deps", *hashes, "-r", _write(folder, lines)], source, {}
        case "poetry":
            pins = poetry_constraints(poetry_pins(manifest.files[-1]))
            wishes = _write(folder, poetry_wishes(source))
            return [*pip, "-r", wishes, "-c", _write(folder, pins, "constraints.txt")], source, {}
        case "requirements":
            lines_without = without_project(manifest, source)
            if lines_without is not None:
                return [*pip, "-r", _write(folder, lines_without)], source, {}
            hashes = ["--require-hashes"] if has_hashes(manifest) else []
            return [*pip, *hashes, "-r", str(manifest.files[0])], source, {}
        case "setup":
            return [*pip, "-r", _write(folder, read_setup(source).packages)], source, {}
        case "pyproject" | "none":
            return [*pip, "-r", str(source / "pyproject.toml")], source, {}


def _copied_again(manifest: Manifest, source: Path) -> list[str]:
    """The options without which uv takes what it built of a folder until its project files change."""
    names = [p.name for p in local_packages(manifest, source) if p.is_copied]
    return [f"--reinstall-package={name}" if name else "--reinstall" for name in names]


def _write(folder: Path, lines: tuple[str, ...] | list[str], name: str = "requirements.txt") -> str:
    file = folder / name
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(file)
