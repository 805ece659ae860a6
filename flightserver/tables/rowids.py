"""Row ids: what a row of a dataset is called while a statement changes it.

A row's id is the `_rid` that its file has: the segment's random base plus the row's place. Where the ids of two
segments meet (always for segments of before, whose base is 0, else about once in 10^9), a dataset's rows are counted
through instead, which a scan must compute segment by segment; `RowIds.offsets` says how.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from flightserver.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from flightserver.catalog.entities import Dataset, Segment
    from flightserver.tables.deltas import Places


def disjoint(segments: Sequence[Segment]) -> bool:
    """Whether no two of the segments have a row id in common."""
    spans = sorted((segment.row_id_base, segment.row_id_base + segment.rows) for segment in segments)
    return all(before[1] <= after[0] for before, after in pairwise(spans))


class RowIds:
    """The row ids of a dataset's rows at one version."""

    def __init__(self, dataset: Dataset) -> None:
        self.in_files = disjoint(dataset.segments)
        offsets, counted = {}, 0
        for segment in dataset.segments:
            offsets[segment.id] = 0 if self.in_files else counted - segment.row_id_base
            counted += segment.rows
        self.offsets: Mapping[str, int] = offsets
        """Segment id -> what to add to `_rid` of its files."""
        first = {segment.id: segment.row_id_base + self.offsets[segment.id] for segment in dataset.segments}
        self._ordered = sorted(dataset.segments, key=lambda segment: first[segment.id])
        self._first = np.array([first[segment.id] for segment in self._ordered], dtype=np.int64)
        self._rows = np.array([segment.rows for segment in self._ordered], dtype=np.int64)

    def locate(self, ids: NDArray[np.int64]) -> Places:
        """The places of rows by segment, sorted.

        Args:
            ids: Each once, in any order.
        """
        ordered = np.sort(ids)
        owners = np.searchsorted(self._first, ordered, side="right") - 1
        places = ordered - self._first[owners] if len(self._first) else ordered
        if len(ordered) and (len(self._first) == 0 or owners[0] < 0 or bool((places >= self._rows[owners]).any())):
            msg = "a row id belongs to no segment of the dataset"
            raise InternalError(msg)
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        ends = [*starts[1:], len(ordered)] if len(ordered) else []
        return {self._ordered[owners[start]].id: places[start:end] for start, end in zip(starts, ends, strict=True)}
