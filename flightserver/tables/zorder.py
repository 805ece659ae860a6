"""Z-order: one number per row such that rows near each other in several columns have numbers near each other.

Theory of operation: of each column a sample gives boundaries between ranges with about equally many rows, so that every
value has a rank whatever its type: the number of boundaries that are not above it. The bits of the ranks are
interleaved, the highest first (G. M. Morton, "A Computer Oriented Geodetic Data Base", IBM 1966). Files sorted by that
number have narrow ranges in every column rather than in the first one, and the engine skips more of them.

The order is a matter of speed alone: boundaries that fit badly make ranges wider, not answers wrong. Nulls, and
NaN, have rank 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flightserver.errors import InvalidRequest, NotFound
from flightserver.tables.reading import read_segment
from flightserver.tables.schema import decode, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from flightserver.catalog.entities import Dataset
    from flightserver.storage.buckets import Buckets

MOST_COLUMNS = 6
"""More columns leave each so few bits that none is narrowed."""

_BITS = 10
"""Of a rank: 1024 ranges of a column, more than most datasets have row groups. Six columns make 60 bits."""

_SAMPLE_ROWS = 65_536
"""That the boundaries of a column are taken from: 64 for each."""


class ZOrder:
    """The order of rows by some columns.

    Args:
        boundaries: Of each column `2 ** bits - 1` values, ascending, in the column's type.
    """

    def __init__(self, boundaries: Sequence[pa.Array]) -> None:
        self._boundaries = boundaries

    @classmethod
    def of(cls, dataset: Dataset, columns: Sequence[str], buckets: Buckets) -> ZOrder:
        """The order for a dataset's rows; reads a sample of these columns.

        Raises:
            NotFound: The dataset has no such column.
            InvalidRequest: There are too few or too many columns, one is named twice, or has values without an order.
            BackendUnavailable: A file can't be read.
        """
        schema = decode(dataset.schema)
        check_order_columns(dataset, columns)
        if len(columns) > MOST_COLUMNS:
            raise InvalidRequest(f"z_order has {len(columns)} columns: expected {MOST_COLUMNS} or fewer")
        wanted = pa.schema([schema.field(name) for name in columns])
        sample = _sample(dataset, wanted, buckets)
        return cls([_boundaries(sample.column(place)) for place in range(len(columns))])

    @property
    def types(self) -> list[pa.DataType]:
        """Of the columns."""
        return [one.type for one in self._boundaries]

    def numbers(self, *columns: pa.Array) -> pa.Array:
        """The number of each row.

        Args:
            columns: Their values, one array for each column of the order.
        """
        ranks = [_ranks(values, of) for values, of in zip(columns, self._boundaries, strict=True)]
        numbers = np.zeros(len(columns[0]), dtype=np.int64)
        for bit in reversed(range(_BITS)):
            for rank in ranks:
                numbers = (numbers << 1) | (rank >> bit & 1)
        return pa.array(numbers)


def check_order_columns(dataset: Dataset, columns: Sequence[str]) -> None:
    """Return when rows of the dataset can be ordered by these columns.

    Raises:
        NotFound: The dataset has no such column.
        InvalidRequest: There is none, one is named twice, or has values without an order.
    """
    schema = visible(decode(dataset.schema))
    if not columns or len(set(columns)) < len(columns):
        raise InvalidRequest(f"rows are ordered by {', '.join(columns) or 'no column'}: name each column once")
    for name in columns:
        if name not in schema.names:
            has = ", ".join(schema.names)
            raise NotFound(f"dataset {dataset.key} has no column {name!r} to order its rows by: there are {has}")
        if pa.types.is_nested(schema.field(name).type):
            raise InvalidRequest(f"column {name!r} has the type {schema.field(name).type}, whose values have no order")


def _sample(dataset: Dataset, wanted: pa.Schema, buckets: Buckets) -> pa.Table:
    """About `_SAMPLE_ROWS` rows, evenly from all segments; dead ones too, which matter as little as the order does."""
    every = max(1, sum(segment.rows for segment in dataset.segments) // _SAMPLE_ROWS)
    taken = []
    for segment in dataset.segments:
        for batch, places in read_segment(buckets.get(segment.bucket), segment, wanted):
            taken.append(batch.take(pa.array(np.flatnonzero(places % every == 0))))
    return pa.Table.from_batches(taken, wanted).combine_chunks()


def _boundaries(values: pa.ChunkedArray) -> pa.Array:
    ordered = values.drop_null()
    ordered = ordered.take(pc.array_sort_indices(ordered.combine_chunks())).combine_chunks()
    if not len(ordered):
        return pa.nulls(2**_BITS - 1, values.type)
    at = np.arange(1, 2**_BITS) * len(ordered) // 2**_BITS
    return ordered.take(pa.array(at))


def _ranks(values: pa.Array, boundaries: pa.Array) -> NDArray[np.int64]:
    """How many boundaries are not above each value: a binary search of all values at once, by Arrow's comparison."""
    ranks = np.zeros(len(values), dtype=np.int64)
    for bit in reversed(range(_BITS)):
        higher = ranks + (1 << bit)
        reached = pc.greater_equal(values, boundaries.take(pa.array(higher - 1))).fill_null(False)  # noqa: FBT003  # the value
        ranks = np.where(reached.to_numpy(zero_copy_only=False), higher, ranks)
    return ranks
