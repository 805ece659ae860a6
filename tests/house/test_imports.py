"""Who may import what, where import-linter cannot tell.

import-linter checks the floors of our own packages (pyproject.toml). Here stand the rules about other
projects and their submodules, about names, and about who builds the parts.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from house.conftest import SourceFile

ONLY_IN = {
    "pyarrow.flight": {"flight"},
    "google.protobuf": {"flight"},
    "grpc": {"flight"},
    "datafusion": {"query"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "rich": {"cli"},
    "argon2": {"access"},
    "jwt": {"access"},
    "flightclient": {"cli"},
    "deltalake": {"tables"},
    "pyiceberg": {"tables"},
    "lance": {"tables"},
}
"""Imported module -> the floors of flightserver that may import it."""

COMPOSERS = {"lakehouse", "cli"}


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of each thing imported: `from pyarrow import flight` is `pyarrow.flight`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def _is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


@pytest.mark.parametrize(("module", "floors"), ONLY_IN.items(), ids=ONLY_IN)
def test_a_project_is_imported_only_on_the_floor_that_speaks_it(
    server_files: list[SourceFile], module: str, floors: set[str]
) -> None:
    strays = [
        f"{file.path}:{line} imports {name}"
        for file in server_files
        if file.floor not in floors
        for line, name in _imports(file.tree)
        if _is_within(name, module)
    ]

    assert not strays, f"only {sorted(floors)} may import {module}"


def _names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, alias.name


OUR_BASES = {"FlightserverError", "FlightclientError"}


def test_only_status_names_the_error_classes_of_flight(server_files: list[SourceFile]) -> None:
    strays = [
        f"{file.path}:{line} names {name}"
        for file in server_files
        if file.path != "flightserver/flight/status.py"
        for line, name in _names(file.tree)
        if name.startswith("Flight") and name.endswith("Error") and name not in OUR_BASES
    ]

    assert not strays, "raise an error of flightserver.errors; flight/status.py translates it"


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    return any(
        isinstance(node, ast.Name) and node.id in {"Exception", "BaseException"} for node in ast.walk(handler.type)
    )


def _raises(handler: ast.ExceptHandler) -> bool:
    return isinstance(handler.body[-1], ast.Raise)


def test_only_status_swallows_any_error(product: list[SourceFile]) -> None:
    """A handler that cleans up or translates ends by raising; any other says why, beside BLE001."""
    strays = [
        f"{file.path}:{node.lineno}"
        for file in product
        if file.path != "flightserver/flight/status.py"
        for node in ast.walk(file.tree)
        if isinstance(node, ast.ExceptHandler)
        and _catches_everything(node)
        and not _raises(node)
        and "noqa: BLE001" not in file.lines[node.lineno - 1]
    ]

    assert not strays, "catch what the called library documents, and translate it there"


def _built(call: ast.Call) -> str:
    """`Tables(...)` and `Catalog.open(...)` build; the name of the class, or an empty string."""
    match call.func:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=name), attr="open" | "create" | "start"):
            return name
        case ast.Attribute(attr=name):
            return name
        case _:
            return ""


BUCKET_OPENER = ("flightserver/federation/opening.py", "LocalObjects")
"""Buckets come and go while the server runs, so their objects can't all be made when it is composed."""


def _parts(server_files: list[SourceFile]) -> set[str]:
    """The classes that the composition root joins: types of the fields of `Lakehouse`, and the kinds of store."""
    (root,) = (file for file in server_files if file.path == "flightserver/lakehouse.py")
    (lakehouse,) = (node for node in root.tree.body if isinstance(node, ast.ClassDef) and node.name == "Lakehouse")
    fields = {ast.unparse(node.annotation) for node in lakehouse.body if isinstance(node, ast.AnnAssign)}
    return fields - {"Settings", "str"} | {"LocalObjects", "MemoryObjects"}


def _defined(file: SourceFile) -> set[str]:
    return {node.name for node in file.tree.body if isinstance(node, ast.ClassDef)}


def test_only_the_composition_root_builds_the_parts(server_files: list[SourceFile]) -> None:
    parts = _parts(server_files)

    strays = [
        f"{file.path}:{node.lineno} builds {_built(node)}"
        for file in server_files
        if file.floor not in COMPOSERS
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Call)
        and _built(node) in parts - _defined(file)
        and (file.path, _built(node)) != BUCKET_OPENER
    ]

    assert {"Catalog", "Tables"} <= parts, "the fields of Lakehouse were not recognised"
    assert not strays, "take it as an argument; lakehouse.py builds it"
