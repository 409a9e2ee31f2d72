"""What a file of Python is as a module, read from its syntax tree: name, imports, assignments.

Nothing is imported or executed. What the names mean is for others to know.
"""

import ast
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_LARGEST_BYTES = 2_000_000


@dataclass(frozen=True, slots=True)
class Module:
    file: Path
    root: Path
    """The folder that must be on the import path."""
    name: str
    tree: ast.Module
    imports: Mapping[str, str]
    """Local name → dotted name it stands for."""

    @property
    def is_package(self) -> bool:
        return self.file.stem == "__init__"

    @property
    def has_main_guard(self) -> bool:
        return any(_is_main_guard(statement) for statement in self.tree.body)

    def statements(self) -> Iterator[ast.stmt]:
        """What runs on import, also inside `if`, `try` and `with`; not below the main guard."""
        return _module_level(self.tree.body)

    def values_of(self, name: str) -> Iterator[ast.expr]:
        """Whatever is assigned to a name on import."""
        for statement in self.statements():
            yield from (value for assigned, value in assignments(statement) if assigned == name)

    def dotted(self, node: ast.expr) -> str:
        """`fastapi.FastAPI` for whatever spelling the imports give it; "" for anything else."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        parts.append(self.imports.get(node.id, node.id))
        return ".".join(reversed(parts))

    def called(self, value: ast.AST) -> str:
        """The dotted name of what a call calls; "" for anything else."""
        return self.dotted(value.func) if isinstance(value, ast.Call) else ""

    def imports_within(self, function: ast.FunctionDef) -> Mapping[str, str]:
        """The names as a function sees them, which may import for itself."""
        return {**self.imports, **_imports(function, self.name, is_package=self.is_package)}


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that Python cannot read."""

    file: Path
    line: int
    message: str


@dataclass(slots=True)
class Modules:
    """Reads each file once."""

    _read: dict[Path, Module | Broken | None] = field(default_factory=dict)

    def read(self, file: Path, root: Path) -> Module | Broken | None:
        """None for what cannot be opened, or is too large to be written by hand."""
        if file not in self._read:
            self._read[file] = _parse(file, root)
        return self._read[file]

    def imported(self, dotted: str, module: Module) -> Module | None:
        """The module of that name as `module` would import it, if it lies in the same source."""
        for root in dict.fromkeys((module.root, module.file.parent)):
            for file in module_files(root, dotted):
                if file.is_file():
                    read = self.read(file, root)
                    return read if isinstance(read, Module) else None
        return None


def module_files(root: Path, dotted: str) -> tuple[Path, Path]:
    """Where a module of that name may lie."""
    base = root.joinpath(*dotted.split("."))
    return base.with_suffix(".py"), base / "__init__.py"


def assignments(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """The names that a statement gives values to, with the values."""
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, statement.value
    elif (
        isinstance(statement, ast.AnnAssign)
        and statement.value is not None
        and isinstance(statement.target, ast.Name)
    ):
        yield statement.target.id, statement.value


def _parse(file: Path, root: Path) -> Module | Broken | None:
    try:
        if file.stat().st_size > _LARGEST_BYTES:
            return None
        text = file.read_bytes()
        tree = ast.parse(text, filename=os.fspath(file))
    except OSError:
        return None
    except SyntaxError as error:
        return Broken(file, error.lineno or 1, f"{type(error).__name__}: {error.msg}")
    except ValueError as error:  # a null byte
        return Broken(file, 1, f"SyntaxError: {error}")
    import_root = _import_root(file, root, tree)
    name = _module_name(file, import_root)
    imports = _imports(tree, name, is_package=file.stem == "__init__")
    return Module(file, import_root, name, tree, imports)


def _import_root(file: Path, root: Path, tree: ast.Module) -> Path:
    """A top folder that is itself a package with relative imports is imported from its parent."""
    if file.parent != root or not (root / "__init__.py").exists():
        return root
    uses_relative = any(
        isinstance(statement, ast.ImportFrom) and statement.level > 0 for statement in tree.body
    )
    return root.parent if uses_relative or file.stem == "__init__" else root


def _module_name(file: Path, root: Path) -> str:
    parts = list(file.relative_to(root).with_suffix("").parts)
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    return ".".join(parts)


def _imports(tree: ast.AST, module: str, *, is_package: bool) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                names[bound] = alias.name if alias.asname else bound
        elif isinstance(node, ast.ImportFrom):
            owner = _absolute(node, module, is_package=is_package)
            for alias in node.names:
                names[alias.asname or alias.name] = f"{owner}.{alias.name}" if owner else alias.name
    return names


def _absolute(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.split(".")
    drop = node.level - 1 if is_package else node.level
    package = parts[: len(parts) - drop] if drop else parts
    return ".".join([*package, *([node.module] if node.module else [])])


def _module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        if _is_main_guard(statement):
            continue
        if isinstance(statement, ast.If | ast.Try):
            yield from _module_level(statement.body)
            yield from _module_level(statement.orelse)
        elif isinstance(statement, ast.With):
            yield from _module_level(statement.body)


def _is_main_guard(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.If)
        and isinstance(statement.test, ast.Compare)
        and any(
            isinstance(node, ast.Name) and node.id == "__name__"
            for node in ast.walk(statement.test)
        )
    )
