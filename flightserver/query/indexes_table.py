"""The table `system.indexes`: vector indexes, and how much of their datasets they have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from flightserver.query.rowtable import table_of
from flightserver.tables.schema import decode, stored_name

if TYPE_CHECKING:
    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.indexes import VectorIndex
    from flightserver.query.namespace import Scope

INDEXES = pa.schema(
    [
        ("bucket", pa.string()),
        ("name", pa.string()),
        ("id", pa.string()),
        ("dataset_bucket", pa.string()),
        ("dataset", pa.string()),
        ("column", pa.string()),
        ("metric", pa.string()),
        ("dimension", pa.int64()),
        ("precision", pa.string()),
        ("vectors", pa.int64()),
        ("skipped", pa.int64()),
        ("bytes", pa.int64()),
        ("unindexed_rows", pa.int64()),
        ("version", pa.int64()),
        ("created", pa.timestamp("us", tz="UTC")),
        ("generation", pa.string()),
        ("key", pa.string()),
    ]
)


def indexes_table(scope: Scope) -> pa.Table:
    """The table for a scope. Numbers that tell of hidden rows are null."""
    datasets = {one.id: one for one in scope.snapshot.datasets.values()}
    rows = []
    for index in scope.snapshot.indexes.values():
        dataset = datasets.get(index.dataset_id)
        if dataset is not None:
            rows.append(_row(index, dataset, scope))
    return table_of(INDEXES, rows)


def _row(index: VectorIndex, dataset: Dataset, scope: Scope) -> tuple[object, ...]:
    columns = {stored_name(field): field.name for field in decode(dataset.schema)}
    contents = index.generation
    numbers: tuple[int | None, ...] = (
        contents.vectors,
        contents.skipped,
        contents.bytes,
        index.missing_rows(dataset),
    )
    return (
        index.bucket,
        index.name,
        index.id,
        dataset.bucket,
        dataset.name,
        columns.get(index.column),
        index.metric,
        index.dimension,
        index.precision,
        *((None,) * len(numbers) if scope.hides(dataset) else numbers),
        index.version,
        index.created,
        contents.id,
        contents.key,
    )
