"""Rows of plain values as an Arrow table of a given schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable


def table_of(schema: pa.Schema, rows: Iterable[tuple[object, ...]]) -> pa.Table:
    """The rows, each a tuple in the order of the schema's fields, as a table of exactly the schema."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(list(column), field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
