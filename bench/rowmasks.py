"""Dead rows as a function of row ids, which the engine calls for every batch that it scans.

Of each segment there is one bit per row in memory. A scan yields rows in their order, so a batch of row ids is nearly
always a run without gaps, for which a slice of the bits is the answer and nothing is computed. The interpreter is
held for some microseconds a batch, and the engine doesn't know how many rows pass.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from datafusion import udf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datafusion import ScalarUDF

    from flightserver.catalog.entities import Segment
    from flightserver.tables.deltas import Places

_numbers = itertools.count()


class RowMask:
    """Tells which rows of some segments, whose row ids don't meet, are alive.

    Args:
        segments: All that are scanned.
        dead: Dead places by segment.
    """

    def __init__(self, segments: Sequence[Segment], dead: Places) -> None:
        ordered = sorted(segments, key=lambda segment: segment.row_id_base)
        self._first = np.array([segment.row_id_base for segment in ordered], dtype=np.int64)
        self._alive = [_bits(segment, dead) for segment in ordered]

    def function(self) -> ScalarUDF:
        """The function for the engine; its name is its own, so that two in one statement stay apart."""
        return udf(self.alive, [pa.int64()], pa.bool_(), "immutable", f"is_alive_{next(_numbers)}")

    def alive(self, ids: pa.Array) -> pa.Array:
        """For each row id, whether the row is alive."""
        count = len(ids)
        if not count:
            return pa.array([], pa.bool_())
        first, last = ids[0].as_py(), ids[count - 1].as_py()
        owner = int(np.searchsorted(self._first, first, side="right")) - 1
        place = first - int(self._first[owner])
        # Ids of a file ascend, and so leave no gap where the ends are as far apart as the rows are many.
        if last - first == count - 1 and place + count <= len(self._alive[owner]):
            return self._alive[owner].slice(place, count)
        return self._each(ids.to_numpy(zero_copy_only=False))

    def _each(self, ids: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.Array:
        owners = np.searchsorted(self._first, ids, side="right") - 1
        alive = np.empty(len(ids), dtype=np.bool_)
        for owner in np.unique(owners):
            mine = owners == owner
            places = pa.array(ids[mine] - self._first[owner])
            alive[mine] = self._alive[owner].take(places).to_numpy(zero_copy_only=False)
        return pa.array(alive)


def _bits(segment: Segment, dead: Places) -> pa.BooleanArray:
    alive = np.ones(segment.rows, dtype=np.bool_)
    if segment.id in dead:
        alive[dead[segment.id]] = False
    return pa.array(alive)
