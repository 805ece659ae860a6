"""Rows of a dataset in another order, for compaction: the engine sorts, and spills to disk what memory can't hold."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pyarrow as pa
from datafusion import col, udf

from flightserver.catalog.quoting import delimited
from flightserver.errors import InvalidRequest
from flightserver.query.namespace import TARGET, Scope
from flightserver.tables.schema import ROW_ID, decode, visible
from flightserver.tables.zorder import ZOrder, check_order_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datafusion import DataFrame, Expr

    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.query.engine import Engine
    from flightserver.storage.buckets import Buckets
    from flightserver.tables.compaction import Ordered
    from flightserver.tables.rewriting import RowsWithIds

_ALL = f'SELECT * FROM "{TARGET}"'  # noqa: S608  # a constant
_numbers = itertools.count()


class Sorting:
    """Makes suppliers of ordered rows (`flightserver.tables.compaction.Ordered`).

    Args:
        engine: Sorts.
        buckets: Where segments lie.
    """

    def __init__(self, engine: Engine, buckets: Buckets) -> None:
        self._engine = engine
        self._buckets = buckets

    def ordered(self, sort_by: Sequence[str], z_order: Sequence[str]) -> Ordered | None:
        """The supplier for an order; None when the order is to stay as it is.

        Raises:
            InvalidRequest: Both are given.
        """
        if sort_by and z_order:
            raise InvalidRequest("sort_by and z_order are both given: rows have one order")
        if sort_by:
            return lambda dataset, snapshot: self._by_columns(dataset, snapshot, sort_by)
        if z_order:
            return lambda dataset, snapshot: self._by_z_order(dataset, snapshot, z_order)
        return None

    def _by_columns(self, dataset: Dataset, snapshot: Snapshot, columns: Sequence[str]) -> RowsWithIds:
        check_order_columns(dataset, columns)

        def plan(careful: bool) -> DataFrame:  # noqa: FBT001  # `Engine.rows` calls it
            frame = self._rows(dataset, snapshot, careful=careful)
            return frame.sort(*(_column(name).sort(nulls_first=False) for name in columns))

        yield from self._batches(plan)

    def _by_z_order(self, dataset: Dataset, snapshot: Snapshot, columns: Sequence[str]) -> RowsWithIds:
        order = ZOrder.of(dataset, columns, self._buckets)
        number = udf(order.numbers, order.types, pa.int64(), "immutable", f"z_order_{next(_numbers)}")

        def plan(careful: bool) -> DataFrame:  # noqa: FBT001  # `Engine.rows` calls it
            frame = self._rows(dataset, snapshot, careful=careful)
            return frame.sort(number(*(_column(name) for name in columns)).sort())

        yield from self._batches(plan)

    def _rows(self, dataset: Dataset, snapshot: Snapshot, *, careful: bool) -> DataFrame:
        """Live rows with their ids, under the types of the dataset."""
        scope = Scope(snapshot, target=dataset)
        return self._engine.change(_ALL, scope, {}, visible(decode(dataset.schema)), careful=careful)

    def _batches(self, plan: Callable[[bool], DataFrame]) -> RowsWithIds:
        for batch in self._engine.rows(plan):
            yield batch.drop_columns([ROW_ID]), batch.column(ROW_ID).to_numpy()


def _column(name: str) -> Expr:
    return col(delimited(name))
