"""Writing live rows of a dataset into new segments, several of them at a time.

Theory of operation: each source of rows is written by a thread of a small pool; encoding takes the time, and it runs
outside of the interpreter's lock. Beside every segment lies the file that says where its rows were before.

Invariant: nobody knows of the segments before a commit names them. `discard` deletes them; a thread that fails or is
told to stop deletes what it hasn't finished.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flightserver.errors import Cancelled
from flightserver.tables.origins import SourcePlaces
from flightserver.tables.rowids import RowIds
from flightserver.tables.schema import conform, decode, visible
from flightserver.tables.segments import SegmentWriter, delete_segment
from flightserver.tables.selection import SEGMENT_ROWS
from flightserver.tables.spans import read_span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flightserver.catalog.entities import Dataset, Segment
    from flightserver.storage.buckets import Buckets
    from flightserver.tables.deltas import Places
    from flightserver.tables.segments import Layout
    from flightserver.tables.spans import Span

Rows = Iterator[tuple[pa.RecordBatch, NDArray[np.int64], NDArray[np.int64]]]
"""Batches of a dataset; for each row the number of its segment in the dataset, and its place there."""

RowsWithIds = Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]
"""Batches of a dataset under its visible names, and the id of each row (`flightserver.tables.rowids`)."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far it is: rows written, of how many."""

    stage: str
    done: int
    total: int


class Rewriter:
    """Writes segments of one dataset.

    Args:
        buckets: Where segments lie.
        dataset: What is rewritten.
        layout: How files are cut.
    """

    def __init__(self, buckets: Buckets, dataset: Dataset, layout: Layout) -> None:
        self._buckets = buckets
        self._dataset = dataset
        self._layout = layout
        self._schema = decode(dataset.schema)
        self._stopped = threading.Event()
        self._written: list[Segment] = []  # appended to by the threads that write, which needs no lock

    def write(self, sources: Sequence[Rows], total: int, workers: int) -> Generator[Step, None, list[list[Segment]]]:
        """Write all rows; whoever stops iterating stops it.

        Args:
            sources: Rows; each source becomes segments of its own.
            total: How many rows there are.
            workers: How many sources are written at a time.

        Returns:
            The segments of each source, durable but not part of the dataset.

        Raises:
            BackendUnavailable: A file can't be read or written.
        """
        reports: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        with ThreadPoolExecutor(workers, thread_name_prefix="compact") as pool:
            running = [pool.submit(self._run, rows, reports) for rows in sources]
            try:
                done, left = 0, len(running)
                while left:
                    written = reports.get()
                    if written is None:
                        left -= 1
                    else:
                        done += written
                        yield Step("rows", done, total)
            finally:
                self._stopped.set()
        failures = [error for one in running if (error := one.exception()) is not None]
        if failures:
            # Those that were stopped because another failed have nothing to say.
            raise next((error for error in failures if not isinstance(error, Cancelled)), failures[0])
        return [one.result() for one in running]

    def discard(self) -> None:
        """Delete what was written."""
        for segment in self._written:
            delete_segment(self._buckets.get(segment.bucket), segment)

    def copied(self, piece: Sequence[Span], dead: Places) -> Rows:
        """The live rows of a piece of the dataset, in their order."""
        numbers = {segment.id: number for number, segment in enumerate(self._dataset.segments)}
        for span in piece:
            segment = span.segment
            bucket = self._buckets.get(segment.bucket)
            for batch, places in read_span(bucket, span, self._schema, dead.get(segment.id)):
                yield batch, np.full(len(places), numbers[segment.id]), places

    def located(self, supplied: RowsWithIds) -> Rows:
        """Rows that come with their ids."""
        segments = self._dataset.segments
        offsets = RowIds(self._dataset).offsets
        firsts = np.array([segment.row_id_base + offsets[segment.id] for segment in segments], dtype=np.int64)
        order = np.argsort(firsts)
        names = visible(self._schema)
        for batch, ids in supplied:
            owners = order[np.searchsorted(firsts[order], ids, side="right") - 1]
            yield conform(batch, names), owners, ids - firsts[owners]

    def _run(self, rows: Rows, reports: queue.SimpleQueue[int | None]) -> list[Segment]:
        try:
            return self._write(rows, reports)
        except BaseException:
            self._stopped.set()
            raise
        finally:
            reports.put(None)

    def _write(self, rows: Rows, reports: queue.SimpleQueue[int | None]) -> list[Segment]:
        dataset = self._dataset
        bucket = self._buckets.get(dataset.bucket)
        segments = []
        for first in rows:
            with SegmentWriter(
                bucket, dataset.name, self._schema, self._layout, primary_key=dataset.primary_key
            ) as writer:
                sources = SourcePlaces(dataset.segments)
                for batch, numbers, places in chain([first], rows):
                    if self._stopped.is_set():
                        raise Cancelled(f"the compaction of dataset {dataset.key} was stopped; nothing was changed")
                    writer.write(batch)
                    sources.add(numbers, places)
                    reports.put(batch.num_rows)
                    if sources.rows >= SEGMENT_ROWS:
                        break
                segment = writer.finish(sources.origins())
                if segment is not None:
                    self._written.append(segment)
                    sources.write(bucket, segment)
                    segments.append(segment)
        return segments
