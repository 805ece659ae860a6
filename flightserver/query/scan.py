"""A dataset at one version as a table of the engine: base and deltas merged.

The engine reads exactly the files that the catalog names, in one scan however many they are
(`flightserver.query.filescan`).

Merging: segments without dead rows are a scan and nothing else. Those with dead rows are one more scan, from which an
anti-join with the dead ids, which are in memory, takes the dead; segments whose ids meet are joined apart. A function
over row ids instead of the join is faster for some statements (`bench/results/merging.md`), but needs the interpreter
for every batch, and hides from the engine how many rows there are, so that joins over it are planned worse.
Small segments, which is what updates write, are held in memory as rows, because a file costs more than they do. A union
puts all together. Projections and filters reach the files through it. `bench/merging.py` compares formulations.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from datafusion import SessionContext, col, lit
from datafusion.catalog import Table
from msgspec.structs import replace

from flightserver.catalog.quoting import delimited
from flightserver.errors import BackendUnavailable
from flightserver.query.filescan import scan_files
from flightserver.storage.buckets import MISSING
from flightserver.tables.reading import read_segment
from flightserver.tables.rowids import RowIds, disjoint
from flightserver.tables.schema import ROW_ID, decode, stored, stored_name, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datafusion import DataFrame
    from numpy.typing import NDArray

    from flightserver.catalog.entities import Dataset, Segment
    from flightserver.query.cached_rows import Partitions
    from flightserver.storage.buckets import Buckets
    from flightserver.tables.deltas import DeadRows, Places

_KEPT_TABLES = 2048

_DEAD_ID = "__dead"

_ASKED_AT_ONCE = 16
"""Segments that an S3 server is asked for at the same time: each question is a round trip, and takes nothing else."""

_SMALL_ROWS = 65_536
"""A segment of at most so many rows, and bytes in its files, is held in memory when its dataset has others."""
_SMALL_BYTES = 4 * 1024 * 1024
_SMALL_TOTAL = 32 * 1024 * 1024
"""Bytes in files of a dataset's small segments; with more of them they are read from files, until compaction."""
_KEPT_ROWS_BYTES = 256 * 1024 * 1024
"""Of small segments in memory, over all datasets."""


class SmallSegments:
    """Rows of small segments, kept in memory, least recently used first to go. `_lock` guards the map.

    Args:
        buckets: Where segments lie.
    """

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[pa.Table, int]] = OrderedDict()
        self._bytes = 0

    def rows(self, segment: Segment, dataset: Dataset) -> pa.Table:
        """All rows of a segment, dead ones too, under the dataset's schema."""
        key = (segment.id, dataset.schema_fingerprint)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept[0]
        schema = decode(dataset.schema)
        batches = [batch for batch, _ in read_segment(self._buckets.get(segment.bucket), segment, schema)]
        table = pa.Table.from_batches(batches, schema).combine_chunks()
        size = table.get_total_buffer_size()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = (table, size)
                self._bytes += size
            while self._bytes > _KEPT_ROWS_BYTES and len(self._kept) > 1:
                _, (_, dropped) = self._kept.popitem(last=False)
                self._bytes -= dropped
        return table


class Scans:
    """Makes and keeps the engine's tables, one per state of a dataset.

    Tables only hold paths and a schema, and what small segments and deltas hold, so keeping them costs little; `lock`
    guards the map of kept tables.

    Args:
        context: The engine; it is called from the thread that calls `table`, which must not be inside the engine.
        buckets: Where segments lie.
        in_memory: Asked first: batches of a dataset version, split into partitions, or None.
        dead: Knows the dead rows of datasets.
        small: Rows of small segments.
        attached: Makes the table of a dataset that others write.
    """

    def __init__(
        self,
        context: SessionContext,
        buckets: Buckets,
        in_memory: Callable[[Dataset], Partitions | None],
        dead: DeadRows,
        small: SmallSegments,
        attached: Callable[[Dataset, SessionContext], Table],
    ) -> None:
        self._context = context
        self._buckets = buckets
        self._in_memory = in_memory
        self._dead = dead
        self._small = small
        self._attached = attached
        self._tables: OrderedDict[tuple[object, ...], Table] = OrderedDict()
        self._lock = threading.Lock()

    def table(self, dataset: Dataset, *, row_ids: bool = False) -> Table:
        """The dataset as a table; must be called for each statement that reads it.

        Args:
            dataset: At its snapshot.
            row_ids: Whether the table has the rows' ids (`flightserver.tables.rowids`) as a last column `_rid`.

        Raises:
            BackendUnavailable: A file of it is missing, or has another size than it was written with.
        """
        if dataset.external is not None:
            return self._attached(dataset, self._context)
        cached = None if row_ids else self._in_memory(dataset)
        if cached is not None:
            # Making a table of many batches takes longer than looking up a row of it.
            if cached.table is None:
                cached.table = self.memory_table(visible(decode(dataset.schema)), cached)
            return cached.table
        small = {segment.id for segment in small_segments(dataset)}
        found = self._all_served([one for one in dataset.segments if one.id not in small])
        served = tuple(found.get(one.id, one) for one in dataset.segments)
        if any(one.id in found and found[one.id] is not one for one in dataset.segments):
            dataset = replace(dataset, segments=served)
        # Where they are is no part of the state: a dataset may have been moved, or its bucket be opened otherwise.
        urls = tuple(self._buckets.get(segment.bucket).url(segment.directory) for segment in served)
        key = (*dataset.state, urls, row_ids)
        with self._lock:
            kept = self._tables.get(key)
            if kept is not None:
                self._tables.move_to_end(key)
                return kept
        table = self._build(dataset, small, row_ids=row_ids)
        with self._lock:
            self._tables[key] = table
            while len(self._tables) > _KEPT_TABLES:
                self._tables.popitem(last=False)
        return table

    def memory_table(
        self, schema: pa.Schema, partitions: Sequence[Sequence[pa.RecordBatch]], alias: str | None = None
    ) -> Table:
        """A table over batches in memory, which plans show by an alias. Each partition can have a core of its own."""
        frame = self._memory_frame(schema, partitions)
        return Table(frame if alias is None else frame.alias(alias))

    def _memory_frame(self, schema: pa.Schema, partitions: Sequence[Sequence[pa.RecordBatch]]) -> DataFrame:
        filled = [list(partition) for partition in partitions if partition]
        batches = filled or [[pa.RecordBatch.from_arrays([pa.nulls(0, kind) for kind in schema.types], schema=schema)]]
        if len(batches) == 1:
            return self._context.read_batches(batches[0])
        # A context of its own: partitions can only be given together with a name, which no client may see.
        private = SessionContext()
        return private.create_dataframe(batches, name="partitions")

    def _all_served(self, segments: Sequence[Segment]) -> dict[str, Segment]:
        """By id, these segments where they can be read. Servers are asked for several of them at once."""
        if len(segments) > 1 and any(self._buckets.get(one.bucket).s3 is not None for one in segments):
            with ThreadPoolExecutor(min(len(segments), _ASKED_AT_ONCE), thread_name_prefix="segment-check") as pool:
                return {served.id: served for served in pool.map(self._served, segments)}
        return {segment.id: self._served(segment) for segment in segments}

    def _served(self, segment: Segment) -> Segment:
        """The segment in its bucket, or in the rescue bucket when only that has all of its files."""

        def check(bucket: str) -> None:
            self._check(segment if bucket == segment.bucket else replace(segment, bucket=bucket))

        serving = self._buckets.get(segment.bucket).serving(segment.object_keys(), check)
        return segment if serving == segment.bucket else replace(segment, bucket=serving)

    def _check(self, segment: Segment) -> None:
        """The engine takes a missing or empty file for one without rows, so each use of a table looks first."""
        bucket = self._buckets.get(segment.bucket)
        keys = segment.object_keys()
        if bucket.s3 is not None and len(keys) > 1:
            listed = {meta.key: meta for meta in bucket.objects.list(f"{segment.directory}/")}
            there = [listed.get(key) for key in keys]  # by one request
        else:
            there = [bucket.objects.head(key) for key in keys]
        size = 0
        for key, found in zip(keys, there, strict=True):
            if found is None:
                raise BackendUnavailable(
                    f"file {key!r} of bucket {segment.bucket!r} is missing: restore it from a backup",
                    details={MISSING: key},
                )
            size += found.size
        if size != segment.bytes:
            raise BackendUnavailable(
                f"the files of {segment.directory!r} in bucket {segment.bucket!r} have {size:,} bytes and should have "
                f"{segment.bytes:,}: restore them from a backup",
                details={MISSING: segment.directory},
            )

    def _build(self, dataset: Dataset, small: set[str], *, row_ids: bool) -> Table:
        schema = decode(dataset.schema)
        ids = RowIds(dataset)
        dead = self._dead.of(dataset)
        in_files = [segment for segment in dataset.segments if segment.id not in small]
        in_rows = [segment for segment in dataset.segments if segment.id in small]
        frames = [
            self._scan(schema, group, dead, offset=ids.offsets[group[0].id], row_ids=row_ids)
            for group in _groups(in_files, dead, apart=row_ids and not ids.in_files)
        ]
        if in_rows or not frames:
            frames.append(self._live(dataset, schema, in_rows, dead, ids if row_ids else None))
        frame = frames[0]
        for other in frames[1:]:
            frame = frame.union(other)
        return Table(frame)

    def _scan(
        self, schema: pa.Schema, segments: Sequence[Segment], dead: Places, *, offset: int, row_ids: bool
    ) -> DataFrame:
        """Segments in files, without their dead rows; all have dead rows, or none."""
        merged = segments[0].id in dead
        in_files = stored(schema)
        wanted = visible(schema)
        if merged or row_ids:
            in_files = in_files.append(pa.field(ROW_ID, pa.int64(), nullable=False))
        elif in_files.names == wanted.names:
            return self._files(wanted, segments)
        frame = self._files(in_files, segments)
        if merged:
            frame = self._without(frame, np.concatenate([dead[one.id] + one.row_id_base for one in segments]))
        columns = [col(delimited(stored_name(field))).alias(field.name) for field in schema]
        if row_ids:
            row_id = col(ROW_ID) if offset == 0 else col(ROW_ID) + lit(offset)
            columns.append(row_id.alias(ROW_ID))
        return frame.select(*columns)

    def _without(self, frame: DataFrame, dead_ids: NDArray[np.int64]) -> DataFrame:
        batch = pa.RecordBatch.from_arrays([pa.array(dead_ids)], names=[_DEAD_ID])
        dead = self._context.read_batches([batch])
        return frame.join(dead, left_on=ROW_ID, right_on=_DEAD_ID, how="anti")

    def _files(self, schema: pa.Schema, segments: Sequence[Segment]) -> DataFrame:
        """One scan of all files of these segments."""
        urls = [self._buckets.get(segment.bucket).url(key) for segment in segments for key in segment.object_keys()]
        return scan_files(self._context, urls, schema)

    def _live(
        self, dataset: Dataset, schema: pa.Schema, segments: Sequence[Segment], dead: Places, ids: RowIds | None
    ) -> DataFrame:
        """Live rows of small segments, from memory."""
        wanted = visible(schema)
        tables = []
        for segment in segments:
            rows = pa.Table.from_arrays(self._small.rows(segment, dataset).columns, schema=wanted)
            alive = np.delete(np.arange(segment.rows), dead[segment.id]) if segment.id in dead else None
            if ids is not None:
                row_ids = np.arange(segment.rows) + (segment.row_id_base + ids.offsets[segment.id])
                rows = rows.append_column(pa.field(ROW_ID, pa.int64(), nullable=False), pa.array(row_ids))
            tables.append(rows if alive is None else rows.take(pa.array(alive)))
        if ids is not None:
            wanted = wanted.append(pa.field(ROW_ID, pa.int64(), nullable=False))
        batches = pa.concat_tables(tables).combine_chunks().to_batches() if tables else []
        return self._memory_frame(wanted, [batches])


def small_segments(dataset: Dataset) -> Sequence[Segment]:
    """Segments of a dataset that are held in memory as rows."""
    if len(dataset.segments) == 1:
        return ()
    small = [one for one in dataset.segments if one.rows <= _SMALL_ROWS and one.bytes <= _SMALL_BYTES]
    return small if sum(segment.bytes for segment in small) <= _SMALL_TOTAL else ()


def _groups(segments: Sequence[Segment], dead: Places, *, apart: bool) -> list[list[Segment]]:
    """Segments that can be scanned together: without dead rows, or with dead rows and ids that don't meet."""
    if apart:
        return [[segment] for segment in segments]
    clean = [segment for segment in segments if segment.id not in dead]
    groups = [clean] if clean else []
    merged: list[list[Segment]] = []
    for segment in segments:
        if segment.id in dead:
            home = next((group for group in merged if disjoint([*group, segment])), None)
            if home is None:
                merged.append([segment])
            else:
                home.append(segment)
    return groups + merged
