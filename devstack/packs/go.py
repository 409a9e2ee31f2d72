"""Go: a module is built into one binary per source, and replicas run that binary alone."""

from collections.abc import Mapping
from pathlib import Path

from devstack.packs.base import (
    CannotPrepare,
    Command,
    FindTool,
    Prepared,
    PrepareRequest,
    Toolchain,
)
from devstack.packs.digest import digest_files, digest_values
from devstack.packs.folders import publish, temporary_folder
from devstack.packs.go_files import program_files
from devstack.packs.go_mains import Module, choose_main, find_module
from devstack.packs.locations import find_location
from devstack.packs.versions import is_at_least
from devstack.steps import StepFailed, StepRunner

_BUILD_FLAGS = ("-buildvcs=false", "-ldflags=-s -w")
"""No debug tables: linking is most of a rebuild (0.78 s instead of 1.04 s after an edit)."""
_USERS_OWN = ("CGO_ENABLED", "GOFLAGS", "GOOS", "GOARCH", "GOEXPERIMENT", "GOWORK")
"""Settings of the user's that change what is built."""
_USERS_TOOLCHAIN = "PATH"
_BUILD_NICE = 5
_MOST_BUILDS = 3
_MOST_FETCHES = 3
_CUT_OFF = (
    "unexpected EOF",
    "connection reset by peer",
    "i/o timeout",
    "TLS handshake timeout",
    "stream error",
    "502 Bad Gateway",
    "503 Service Unavailable",
    "504 Gateway Timeout",
)


class GoPack:
    """One language: Go modules."""

    name = "go"
    is_compiled = True

    def __init__(self, tools: FindTool) -> None:
        self._tools = tools

    def matches(self, source: Path) -> bool:
        if (source / "go.mod").is_file():
            return True
        return any(source.glob("*.go")) or (
            find_module(source) is not None and any(source.rglob("*.go"))
        )

    def manifest_files(self, source: Path) -> tuple[Path, ...]:
        module = find_module(source)
        if module is None:
            return ()
        return tuple(module.root / name for name in ("go.mod", "go.sum"))

    def source_files(self, source: Path) -> tuple[Path, ...]:
        return program_files(source)

    async def prepare(self, request: PrepareRequest, steps: StepRunner) -> Prepared:
        module = find_module(request.source)
        if module is None:
            raise CannotPrepare(
                f"cannot build {request.service}: no go.mod in {request.source} or above it",
                "make one there: go mod init NAME && go mod tidy",
            )
        main = choose_main(module, request.source, request.main, request.service)
        go = await self._toolchain(module, request)
        notes = (f"go {go.version} ({go.origin})",)
        digest = self._digest(request, module, main, go)
        for _ in range(_MOST_BUILDS):
            binary = request.build / f"go-{digest}" / request.service
            if not binary.is_file():
                await self._build(request, steps, module, main, go, binary)
            now = self._digest(request, module, main, go)
            if now == digest:
                return Prepared(
                    digest=digest,
                    command=Command((str(binary),), cwd=request.source),
                    path_prefix=(binary.parent,),
                    paths=(binary.parent,),
                    notes=notes,
                    needs_source=False,
                )
            digest = now
        raise CannotPrepare(
            f"cannot build {request.service}: its files changed during each of {_MOST_BUILDS} builds",
            "save once more when whatever writes there is done",
        )

    async def _toolchain(self, module: Module, request: PrepareRequest) -> Toolchain:
        go = await self._tools("go", None)
        if not module.go_version or is_at_least(go.version, module.go_version):
            return go
        newer = await self._tools("go", f">={module.go_version}")
        if is_at_least(newer.version, module.go_version):
            return newer
        raise CannotPrepare(
            f"cannot build {request.service}: {module.root / 'go.mod'} asks for go {module.go_version}, "
            f"found {go.version} ({go.origin})",
            "install a newer Go, or lower the `go` line",
        )

    def _digest(self, request: PrepareRequest, module: Module, main: Path, go: Toolchain) -> str:
        return digest_values(
            "go",
            go.version,
            str(main.relative_to(module.root)),
            request.service,
            *_BUILD_FLAGS,
            *_settings(request.environment),
            digest_files(module.root, self.source_files(request.source)),
        )

    async def _build(
        self,
        request: PrepareRequest,
        steps: StepRunner,
        module: Module,
        main: Path,
        go: Toolchain,
        binary: Path,
    ) -> None:
        target = "./" + str(main.relative_to(module.root))
        with temporary_folder(request.build, "go") as folder:
            made = folder / "artifact"
            made.mkdir()
            argv = [str(go.binaries["go"]), "build", *_BUILD_FLAGS]
            argv += ["-o", str(made / binary.name), target]
            try:
                await _build(argv, request, go, module, steps)
            except StepFailed as failed:
                raise _explain(failed, request, module) from failed
            publish(made, binary.parent)


async def _build(
    argv: list[str], request: PrepareRequest, go: Toolchain, module: Module, steps: StepRunner
) -> None:
    """The go command gives up on a module whose transfer was cut off (golang/go#28194)."""
    for further in reversed(range(_MOST_FETCHES)):
        try:
            await steps.run(
                argv,
                title=f"build {request.service}",
                env=_environment(go, request),
                cwd=module.root,
                nice=_BUILD_NICE,
            )
        except StepFailed as failed:
            if not further or not any(text in failed.tail for text in _CUT_OFF):
                raise
        else:
            return


def _explain(failed: StepFailed, request: PrepareRequest, module: Module) -> CannotPrepare:
    """Compilers name the place; that line is the message, the rest is in the build log."""
    output = failed.tail
    location = find_location(output, module.root)
    if location is not None:
        return CannotPrepare(f"cannot build {request.service}: {location}", _hint(output))
    return CannotPrepare(
        f"cannot build {request.service}: {failed.reason}" + (f"\n{output}" if output else ""),
        _hint(output),
    )


def _hint(output: str) -> str:
    if "go mod tidy" in output or "missing go.sum entry" in output or "go: updates to go" in output:
        return "run `go mod tidy` there"
    if "GOPROXY=off" in output or "dial tcp" in output:
        return "the modules it needs are not in the module cache and could not be fetched"
    return ""


def _settings(environment: Mapping[str, str]) -> list[str]:
    return [f"{name}={environment[name]}" for name in _USERS_OWN if name in environment]


def _environment(go: Toolchain, request: PrepareRequest) -> dict[str, str]:
    """The user's own Go settings win; a Go that the user does not have keeps to our cache."""
    theirs = request.environment
    ours = dict(go.env)
    ours["GOTOOLCHAIN"] = "local"
    usual = {"CGO_ENABLED": "0", "GOCACHE": str(request.cache / "go-build")}
    ours |= {name: value for name, value in usual.items() if name not in theirs}
    if go.origin != _USERS_TOOLCHAIN and not {"GOPATH", "GOMODCACHE"} & theirs.keys():
        ours["GOPATH"] = str(request.cache / "go")
        ours["GOFLAGS"] = f"{theirs.get('GOFLAGS', '')} -modcacherw".strip()
    if request.offline:
        ours["GOPROXY"] = "off"
    return ours
