"""Substrait plans as other programs make them: by the producer of datafusion, from SQL over empty tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datafusion import SessionContext, substrait

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PEOPLE = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("name", pa.string())])


def plan(sql: str, tables: Mapping[str, pa.Schema] | None = None) -> bytes:
    """The plan of a query over tables with these columns; `people` if none are given."""
    context = SessionContext()
    for name, schema in (tables or {"people": PEOPLE}).items():
        context.from_arrow(pa.table(schema.empty_table().columns, schema=schema), name=name)
    return bytes(substrait.Serde.serialize_bytes(sql, context))


def changed(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A plan, changed in its JSON form."""
    tree = json.loads(substrait.Serde.deserialize_bytes(data).to_json())
    change(tree)
    return bytes(substrait.Plan.from_json(json.dumps(tree)).encode())


def first(tree: Any, name: str) -> dict[str, Any]:
    """The first message of a plan that has a field of that name."""
    found = _first(tree, name)
    assert found is not None, f"the plan has no {name}"
    return found


def _first(tree: Any, name: str) -> dict[str, Any] | None:
    if isinstance(tree, dict) and name in tree:
        return tree
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return next((found for part in parts if (found := _first(part, name)) is not None), None)
