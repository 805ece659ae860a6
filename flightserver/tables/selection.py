"""Which segments compaction rewrites, and into how many.

Theory of operation: a segment is a candidate when deltas have removed rows of it, or when it or its files are small.
Neighbouring candidates form a run, which is rewritten together, so that rows keep their order. A run without dead rows
is left alone unless fewer files would come of it. Large segments without dead rows are never candidates. So
what compaction has written it doesn't choose again, and a second compaction finds nothing to do.

A run becomes one segment, or several that can be written at the same time; a segment's number of rows is bounded,
because whoever follows a row through a compaction reads `_origin.parquet` as a whole.

All of this is a pure function of the dataset as the catalog describes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flightserver.catalog.entities import Dataset, Segment

SEGMENT_ROWS = 8 * 1024 * 1024
"""Most rows of a segment that compaction writes: following rows through it takes some 50 bytes each."""

PART_BYTES = 4 * 1024 * 1024
"""A run is not split for the sake of processors into segments smaller than this."""

MOST_WORKERS = 4
"""More segments at a time would make files smaller than what they are compacted for."""

Run = tuple["Segment", ...]
"""Neighbouring segments that are rewritten together, in their order."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What files should be like.

    Attributes:
        target_bytes: Size at which a new file is begun.
        small_bytes: Segments smaller than this are merged with candidates beside them.
        dead_ratio: Share of dead rows from which on a segment is rewritten; with 0 a single one is enough.
        workers: Segments that may be written at a time, at least 1; above `MOST_WORKERS` it makes no difference.
    """

    target_bytes: int
    small_bytes: int
    dead_ratio: float = 0.0
    workers: int = 1

    def must(self, segment: Segment) -> bool:
        """Whether a segment is rewritten whatever lies beside it."""
        return segment.dead > 0 and segment.dead >= self.dead_ratio * segment.rows

    def small(self, segment: Segment) -> bool:
        """Whether a segment, or its files on average, are smaller than they should be."""
        if segment.bytes < self.small_bytes:
            return True
        # However it is cut, files but the last reach the target, so that the average is half of it at least.
        return segment.files > 1 and 2 * segment.bytes < segment.files * min(self.target_bytes, self.small_bytes)


def choose(dataset: Dataset, wanted: Wanted) -> tuple[Run, ...]:
    """The runs of a dataset that are worth rewriting."""
    grouped = groupby(dataset.segments, key=lambda one: wanted.must(one) or wanted.small(one))
    runs = [tuple(group) for candidates, group in grouped if candidates]
    return tuple(run for run in runs if _worthwhile(run, wanted))


def _worthwhile(run: Run, wanted: Wanted) -> bool:
    if any(wanted.must(segment) for segment in run):
        return True
    # Half the size of parts, so that what was split isn't merged again because it shrank a little.
    parts = _parts(run, wanted, PART_BYTES // 2)
    return sum(segment.files for segment in run) > live_bytes(run) // wanted.target_bytes + parts


def parts_of(run: Run, wanted: Wanted) -> int:
    """How many segments a run becomes."""
    return _parts(run, wanted, PART_BYTES)


def _parts(run: Run, wanted: Wanted, part_bytes: int) -> int:
    for_rows = -(-sum(segment.rows for segment in run) // SEGMENT_ROWS)
    for_workers = min(wanted.workers, MOST_WORKERS, live_bytes(run) // part_bytes)
    return max(1, for_rows, for_workers)


def live_bytes(run: Run) -> int:
    """About how many bytes the live rows of these segments take."""
    return sum(segment.bytes * segment.live // max(1, segment.rows) for segment in run)
