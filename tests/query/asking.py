"""Statements in process: text in, rows out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flightserver.access.rights import UNRESTRICTED
from flightserver.query.request import Request

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse


def run(lakehouse: Lakehouse, sql: str, **options: Any) -> pa.Table:
    """The whole answer to one statement."""
    planned = lakehouse.queries.plan(Request(**{"rights": UNRESTRICTED, "sql": sql, **options}))
    return pa.Table.from_batches(lakehouse.queries.stream(planned), schema=planned.schema)


def rows(lakehouse: Lakehouse, sql: str, **options: Any) -> list[tuple[Any, ...]]:
    """The answer as tuples."""
    table = run(lakehouse, sql, **options)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def count(lakehouse: Lakehouse, sql: str, **options: Any) -> int:
    """The count that a statement which changes rows answers."""
    [(answer,)] = rows(lakehouse, sql, **options)
    return int(answer)


def bound(*values: Any) -> pa.RecordBatch:
    """One row of bound values."""
    return pa.RecordBatch.from_arrays(
        [pa.array([value]) for value in values], names=[str(number) for number in range(len(values))]
    )


def many_bound(*columns: list[Any]) -> pa.RecordBatch:
    """Rows of bound values, by column."""
    return pa.RecordBatch.from_arrays(
        [pa.array(column) for column in columns], names=[str(number) for number in range(len(columns))]
    )
