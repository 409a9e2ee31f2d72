"""Import contracts as lists of what is allowed: what nobody thought of is a breach.

import-linter's own `forbidden` lists what must not be imported, and misses the rest.
`[tool.importlinter]` in pyproject.toml has the contracts.
"""

import sys
from collections.abc import Iterator

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

ROOT = "devstack"
_STANDARD = frozenset(sys.stdlib_module_names) | {"_typeshed"}


class OnlyContract(Contract):
    """`modules`, with all below them, import nothing but each other and what is `allowed`.

    `standard library` stands for all of it.
    """

    type_name = "only"

    modules = fields.ListField(subfield=fields.StringField())
    allowed = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        inside = tuple(str(module) for module in self.modules)  # type: ignore[attr-defined]  # set by import-linter from its fields
        allowed = tuple(str(name) for name in self.allowed)  # type: ignore[attr-defined]  # set by import-linter from its fields
        found = [
            line
            for importer, imported, line in _imports(graph)
            if _is_below(importer, inside)
            and not _is_below(imported, inside)
            and not _is_allowed(imported, allowed)
        ]
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        _tell(check)


class HomesContract(Contract):
    """Each foreign package is imported in its `homes` only (`package: module module`)."""

    type_name = "homes"

    homes = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        homes: dict[str, tuple[str, ...]] = {}
        for entry in self.homes:  # type: ignore[attr-defined]  # set by import-linter from its fields
            package, _, modules = str(entry).partition(":")
            homes[package.strip()] = tuple(modules.split())
        found = [
            line
            for importer, imported, line in _imports(graph)
            if (package := imported.split(".")[0]) != ROOT
            and package not in _STANDARD
            and not _is_below(importer, homes.get(package, ()))
        ]
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        _tell(check)


def _imports(graph: ImportGraph) -> Iterator[tuple[str, str, str]]:
    """Every direct import in our package: who, what, and where that is written."""
    for importer in sorted(graph.modules):
        if not _is_below(importer, (ROOT,)):
            continue
        for imported in sorted(graph.find_modules_directly_imported_by(importer)):
            details = graph.get_import_details(importer=importer, imported=imported)
            where = f" (line {details[0]['line_number']})" if details else ""
            yield importer, imported, f"{importer} imports {imported}{where}"


def _is_below(module: str, parents: tuple[str, ...]) -> bool:
    return any(module == parent or module.startswith(f"{parent}.") for parent in parents)


def _is_allowed(imported: str, allowed: tuple[str, ...]) -> bool:
    if "standard library" in allowed and imported.split(".")[0] in _STANDARD:
        return True
    return imported in allowed


def _tell(check: ContractCheck) -> None:
    for line in check.metadata["found"]:
        output.print_error(f"- {line}")
    output.new_line()
