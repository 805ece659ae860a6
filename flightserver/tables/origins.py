"""Where the rows of a compacted segment were before: `_origin.parquet`, read by whoever lags behind.

The file has a row for each row of the segment, in its order: the id of the segment that the row was in, and its place
there. While a segment is written they are kept in memory, six bytes a row, which the bound on a segment's rows makes
bearable (`flightserver.tables.selection.SEGMENT_ROWS`); the file is written, and later read, in pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flightserver.tables.deltas import PLACES
from flightserver.tables.segments import ORIGIN, Origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from flightserver.catalog.entities import Segment
    from flightserver.storage.buckets import OpenBucket
    from flightserver.tables.deltas import Places

_GROUP_ROWS = 1024 * 1024
"""Rows of the file that are written or read at a time: some 50 MiB as strings and numbers."""


class SourcePlaces:
    """Places of rows, in the order in which the rows are written.

    Args:
        sources: The segments that are rewritten.
    """

    def __init__(self, sources: Sequence[Segment]) -> None:
        self._sources = sources
        self._number = {segment.id: number for number, segment in enumerate(sources)}
        # The narrowest that hold them all.
        self._numbers_as = np.min_scalar_type(max(1, len(sources) - 1))
        self._places_as = np.min_scalar_type(max(1, *(segment.rows for segment in sources)))
        self._parts: list[tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger]]] = []
        self.rows = 0

    def add_from(self, segment: Segment, places: NDArray[np.int64]) -> None:
        """Rows of one segment."""
        self.add(np.full(len(places), self._number[segment.id], dtype=self._numbers_as), places)

    def add(self, numbers: NDArray[np.integer], places: NDArray[np.int64]) -> None:
        """Rows of any segments, which are given as numbers: their places among `sources`."""
        self._parts.append((numbers.astype(self._numbers_as, copy=False), places.astype(self._places_as)))
        self.rows += len(places)

    def origins(self) -> tuple[Origin, ...]:
        """The segments that the rows were in."""
        met: set[int] = set()
        for numbers, _ in self._parts:
            met.update(np.unique(numbers).tolist())
        found = [self._sources[number] for number in sorted(met)]
        return tuple(Origin(segment.id, segment.bucket, segment.directory) for segment in found)

    def write(self, bucket: OpenBucket, segment: Segment) -> None:
        """Put the file beside the segment that the rows are in now; durable when this returns."""
        names = pa.array([source.id for source in self._sources], pa.string())
        with bucket.objects.writer(f"{segment.directory}/{ORIGIN}") as writer:
            with pq.ParquetWriter(
                pa.PythonFile(writer, "w"),
                PLACES,
                compression="zstd",
                use_dictionary=["segment"],
                column_encoding={"place": "DELTA_BINARY_PACKED"},
            ) as parquet:
                for numbers, places in self._pieces():
                    table = pa.table([names.take(pa.array(numbers)), pa.array(places.astype(np.int64))], schema=PLACES)
                    parquet.write_table(table, row_group_size=len(places))
            writer.commit()

    def _pieces(self) -> Iterator[tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger]]]:
        """All rows in pieces of about `_GROUP_ROWS`."""
        pending, rows = [], 0
        for last, part in enumerate(self._parts, start=1 - len(self._parts)):
            pending.append(part)
            rows += len(part[0])
            if rows >= _GROUP_ROWS or not last:
                yield np.concatenate([one[0] for one in pending]), np.concatenate([one[1] for one in pending])
                pending, rows = [], 0


def places_now(bucket: OpenBucket, segment: Segment, rows: Places) -> NDArray[np.int64]:
    """Where rows are in a compacted segment, sorted; those that aren't in it are left out.

    Args:
        bucket: Where the segment is.
        segment: A segment that compaction wrote.
        rows: Places in segments that were rewritten.
    """
    found = [np.zeros(0, dtype=np.int64)]
    first = 0
    with bucket.reading.open(f"{segment.directory}/{ORIGIN}") as file:
        for batch in pq.ParquetFile(file, read_dictionary=["segment"]).iter_batches(_GROUP_ROWS):
            numbers = batch.column("segment").indices.to_numpy()
            places = batch.column("place").to_numpy()
            for number, source in enumerate(batch.column("segment").dictionary.to_pylist()):
                if source in rows:
                    here = np.flatnonzero(numbers == number)
                    wanted = np.isin(places[here], rows[source], assume_unique=True)
                    found.append(here[wanted] + first)
            first += batch.num_rows
    return np.sort(np.concatenate(found))
