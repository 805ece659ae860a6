"""A dataset's rows in memory at one state, and how they become those of a newer one.

Theory of operation: rows are loaded segment by segment into chunks (`flightserver.query.cached_chunks`) that know the
places of their rows. Segments and deltas never change, so that a newer state is reached by what differs: rows at
places that new deltas name leave their chunks, rows of new segments are read, those of vanished segments are let go,
and no file of a segment that stays is read again. Columns are reused by their names in files; a wider type is a
cast. What can't be told in memory (a column comes back that was dropped, a version is restored whose deltas are fewer)
is loaded anew.

Invariant: `CachedRows` have exactly the rows and the schema of the dataset's `state`, but for string views in place
of short strings. Their number is checked against the catalog's each time. They never change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from flightserver.errors import InternalError
from flightserver.query.cached_chunks import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    Chunk,
    Span,
    chunk_of,
    copied,
    joined,
    longest_strings,
    plain,
    plain_schema,
    with_views,
)
from flightserver.tables.casts import conform_array
from flightserver.tables.reading import read_segment
from flightserver.tables.schema import decode, stored_name, visible
from flightserver.tables.types import widened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from datafusion.catalog import Table
    from numpy.typing import NDArray

    from flightserver.catalog.entities import Dataset, Delta, Segment
    from flightserver.storage.buckets import Buckets
    from flightserver.tables.deltas import DeadRows, Places

    Grow = Callable[[int], None]
    """Told how many bytes more are held while rows are read; raises to stop it."""

_MANY_SMALL = 16
"""Chunks of less than a quarter of the usual rows are joined when there are so many: each append makes one."""
_PARTITION_ROWS = 8192
"""A dataset of few rows is not worth a partition for every core."""

_QUICK_FILE_BYTES = 4 * 1024 * 1024
_QUICK_DEAD_ROWS = 8192
_QUICK_COPIED_BYTES = 128 * 1024 * 1024
"""A statement may wait for so much. Measured: copying that many bytes takes 50 to 100 ms, mostly for new pages of
memory; reading them from files, which is what it would do instead, takes longer."""


class Partitions(list[list[pa.RecordBatch]]):
    """Rows, dealt out evenly, so that each core scans as many; the same object as long as the rows are the same.

    Attributes:
        table: What the engine makes of them, set by who has it made, for the next statement to use: making it takes as
            long as a lookup. It goes when they go.
    """

    table: Table | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CachedRows:
    """Rows of a dataset.

    Attributes:
        dataset: At the version that they are of.
        state: Its state.
        schema: Of the rows; it has string views.
        chunks: The rows.
        deltas: Ids of the deltas whose rows are not there, by segment; every segment of the dataset is in it.
        partitions: The rows again, for the engine.
        bytes: Held by buffers of Arrow.
        loaded: When the rows were read.
    """

    dataset: Dataset
    state: tuple[object, ...]
    schema: pa.Schema
    chunks: tuple[Chunk, ...]
    deltas: Mapping[str, frozenset[str]]
    partitions: Partitions
    bytes: int
    loaded: datetime

    def are(self, dataset: Dataset) -> bool:
        """Whether they are the rows of this dataset at this version."""
        return self.dataset is dataset or self.state == dataset.state


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """What has to be done to make rows those of a newer version.

    Attributes:
        before: The rows.
        dataset: At the newer version.
        dropped: Segments whose rows are let go.
        added: Segments to be read.
        deltas: Ids of the deltas whose rows are removed, by segment.
        schema: The schema of the rows afterwards.
    """

    before: CachedRows
    dataset: Dataset
    dropped: frozenset[str]
    added: tuple[Segment, ...]
    deltas: Mapping[str, frozenset[str]]
    schema: pa.Schema

    @property
    def quick(self) -> bool:
        """Whether a statement may wait for it: little is read and copied, as far as the catalog tells."""
        removed = sum(delta.rows for delta in self.new_deltas())
        read = sum(one.bytes for one in self.added) + sum(one.bytes for one in self.new_deltas())
        sizes = sorted((chunk.bytes for chunk in self.before.chunks), reverse=True)
        copied_bytes = sum(sizes[:removed]) + sum(chunk.bytes for chunk in self.before.chunks if self._splits(chunk))
        if self.schema is not self.before.schema:
            copied_bytes += self.before.bytes
        return read <= _QUICK_FILE_BYTES and removed <= _QUICK_DEAD_ROWS and copied_bytes <= _QUICK_COPIED_BYTES

    def new_deltas(self) -> list[Delta]:
        """Deltas whose rows are removed."""
        wanted = frozenset[str]().union(*self.deltas.values())
        return [delta for delta in self.dataset.deltas if delta.id in wanted]

    def _splits(self, chunk: Chunk) -> bool:
        return 0 < sum(span.segment in self.dropped for span in chunk.spans) < len(chunk.spans)


class RowsInMemory:
    """Loads rows and folds changes into them. All methods may be called from any thread.

    Args:
        buckets: Where segments lie.
        dead: Knows the dead rows of datasets.
        partitions: Into which rows are dealt out, at most.
        chunk_rows: Rows of a chunk, about.
    """

    def __init__(self, buckets: Buckets, dead: DeadRows, partitions: int, chunk_rows: int = CHUNK_ROWS) -> None:
        self._buckets = buckets
        self._dead = dead
        self._partitions = partitions
        self._chunk_rows = chunk_rows

    def load(self, dataset: Dataset, grow: Grow) -> CachedRows:
        """Read all rows of a dataset.

        Raises:
            BackendUnavailable: A file is missing or damaged.
        """
        schema = visible(decode(dataset.schema))
        chunks: list[Chunk] = []
        longest: dict[int, int] = {}
        for chunk in self._read(dataset, dataset.segments, schema):
            grow(chunk.bytes)
            chunks.append(chunk)
            for number, length in longest_strings(chunk.batch).items():
                longest[number] = max(length, longest.get(number, 0))
        schema = with_views(schema, longest)
        for number, chunk in enumerate(chunks):
            chunks[number] = chunk_of(chunk.batch, schema, chunk.spans)
            grow(chunks[number].bytes - chunk.bytes)
        return self._rows(dataset, schema, chunks, datetime.now(UTC))

    def plan(self, before: CachedRows, dataset: Dataset) -> Fold | None:
        """How rows become those of a newer version of their dataset; None when they have to be loaded anew."""
        wanted = _deltas(dataset)
        kept = {key: before.deltas[key] for key in wanted if key in before.deltas and before.deltas[key] <= wanted[key]}
        segments = {segment.id: segment for segment in dataset.segments}
        schema = _reused_schema(before, decode(dataset.schema), [segments[key] for key in kept])
        if schema is None:
            return None
        dropped = frozenset(before.deltas.keys() - kept.keys())
        added = tuple(segment for segment in dataset.segments if segment.id not in kept)
        deltas = {key: wanted[key] - deltas for key, deltas in kept.items() if wanted[key] != deltas}
        return Fold(before, dataset, dropped, added, deltas, schema)

    def fold(self, fold: Fold, grow: Grow) -> CachedRows:
        """Carry out what was planned; the rows of before stay as they are.

        Raises:
            BackendUnavailable: A file is missing or damaged.
        """
        dead = self._places(fold)
        chunks: list[Chunk] = []
        for chunk in fold.before.chunks:
            kept = chunk.without(dead, fold.dropped) if chunk.touched(dead, fold.dropped) else chunk
            if kept is not None:
                chunks.append(kept)
        if fold.schema is not fold.before.schema:
            columns = _reused_columns(fold.before.dataset, fold.dataset)
            chunks = [_reshaped(chunk, columns, fold.schema) for chunk in chunks]
        for chunk in self._read(fold.dataset, fold.added, fold.schema):
            grow(chunk.bytes)
            chunks.append(chunk)
        return self._rows(fold.dataset, fold.schema, self._fewer(chunks), fold.before.loaded)

    def _rows(self, dataset: Dataset, schema: pa.Schema, chunks: Sequence[Chunk], loaded: datetime) -> CachedRows:
        found, live = sum(chunk.batch.num_rows for chunk in chunks), sum(one.live for one in dataset.segments)
        if found != live:
            msg = f"{found:,} rows of {dataset.key} came to memory; version {dataset.version} has {live:,}"
            raise InternalError(msg)
        return CachedRows(
            dataset,
            dataset.state,
            schema,
            tuple(chunks),
            _deltas(dataset),
            _dealt([chunk.batch for chunk in chunks], self._partitions),
            sum(chunk.bytes for chunk in chunks),
            loaded,
        )

    def _read(self, dataset: Dataset, segments: Sequence[Segment], schema: pa.Schema) -> Iterator[Chunk]:
        """Chunks of the live rows of segments."""
        dead = self._dead.of(dataset, {segment.id for segment in segments})
        pending: list[tuple[pa.RecordBatch, Span]] = []
        rows = size = 0
        for batch, span in self._live(dataset, segments, dead):
            pending.append((batch, span))
            rows += batch.num_rows
            size += batch.nbytes
            if rows >= self._chunk_rows or size >= CHUNK_BYTES:
                yield _chunk(pending, schema)
                pending.clear()
                rows = size = 0
        if pending:
            yield _chunk(pending, schema)

    def _live(
        self, dataset: Dataset, segments: Sequence[Segment], dead: Places
    ) -> Iterator[tuple[pa.RecordBatch, Span]]:
        schema = decode(dataset.schema)
        for segment in segments:
            bucket = self._buckets.get(segment.bucket)
            live = read_segment(bucket, segment, schema, dead.get(segment.id), batch_rows=self._chunk_rows)
            for batch, places in live:
                if batch.num_rows:
                    yield batch, _span(segment, places)

    def _places(self, fold: Fold) -> Places:
        found: dict[str, list[NDArray[np.int64]]] = {segment: [] for segment in fold.deltas}
        for delta in fold.new_deltas():
            places = self._dead.in_delta(delta)
            for segment, deltas in fold.deltas.items():
                if delta.id in deltas:
                    found[segment].append(places[segment])
        return {segment: np.sort(np.concatenate(parts)) for segment, parts in found.items()}

    def _fewer(self, chunks: list[Chunk]) -> list[Chunk]:
        """The chunks, with small ones joined when they are many."""
        few = self._chunk_rows // 4
        small = [chunk for chunk in chunks if chunk.batch.num_rows < few]
        if len(small) < _MANY_SMALL:
            return chunks
        large = [chunk for chunk in chunks if chunk.batch.num_rows >= few]
        return [*large, *map(joined, self._together(small))]

    def _together(self, chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
        """Groups of chunks that make up one of the usual size."""
        group: list[Chunk] = []
        rows = size = 0
        for chunk in chunks:
            if group and (rows + chunk.batch.num_rows > self._chunk_rows or size + chunk.bytes > CHUNK_BYTES):
                yield group
                group = []
                rows = size = 0
            group.append(chunk)
            rows += chunk.batch.num_rows
            size += chunk.bytes
        yield group


def _deltas(dataset: Dataset) -> dict[str, frozenset[str]]:
    """Ids of the deltas that removed rows of each segment."""
    found: dict[str, set[str]] = {segment.id: set() for segment in dataset.segments}
    for delta in dataset.deltas:
        for segment in delta.removed:
            found[segment].add(delta.id)
    return {segment: frozenset(deltas) for segment, deltas in found.items()}


def _span(segment: Segment, places: NDArray[np.int64]) -> Span:
    first, end = int(places[0]), int(places[-1]) + 1
    if end - first == len(places):
        return Span(segment.id, first, end, np.empty(0, dtype=np.int64))
    gone = np.setdiff1d(np.arange(first, end), places, assume_unique=True)
    return Span(segment.id, first, end, gone)


def _chunk(pending: Sequence[tuple[pa.RecordBatch, Span]], schema: pa.Schema) -> Chunk:
    return chunk_of(copied([batch for batch, _ in pending]), schema, tuple(span for _, span in pending))


def _dealt(batches: Sequence[pa.RecordBatch], partitions: int) -> Partitions:
    """The rows in as many partitions as are worth it, which differ by a row at most."""
    rows = sum(batch.num_rows for batch in batches)
    count = max(1, min(partitions, rows // _PARTITION_ROWS))
    ends = [rows * (number + 1) // count for number in range(count)]
    dealt = Partitions([] for _ in range(count))
    at = number = 0
    for batch in batches:
        taken = 0
        while taken < batch.num_rows:
            piece = batch.slice(taken, min(batch.num_rows - taken, ends[number] - at))
            dealt[number].append(piece)
            taken += piece.num_rows
            at += piece.num_rows
            number += at == ends[number]
    return dealt


def _reused_columns(before: Dataset, after: Dataset) -> list[int | None]:
    """For each column of a newer version, which one of the older version it is; None for a new one."""
    places = {stored_name(field): place for place, field in enumerate(decode(before.schema))}
    return [places.get(stored_name(field)) for field in decode(after.schema)]


def _reused_schema(before: CachedRows, schema: pa.Schema, kept: Iterable[Segment]) -> pa.Schema | None:
    """The schema of rows in memory after the dataset's schema has become this; None when they can't follow."""
    held = decode(before.dataset.schema)
    if schema.equals(held, check_metadata=True):
        return before.schema
    places = {stored_name(field): place for place, field in enumerate(held)}
    # Ranges are kept of every column of a segment; one without any is of before there were ranges.
    in_files = [segment.columns for segment in kept]
    fields = []
    for field, seen in zip(schema, visible(schema), strict=True):
        name = stored_name(field)
        if name not in places:
            if any(not columns or name in columns for columns in in_files):
                return None
            fields.append(seen)
        elif widened(held.field(places[name]).type, field.type) != field.type:
            return None
        elif field.type.equals(held.field(places[name]).type):
            fields.append(seen.with_type(before.schema.field(places[name]).type))
        else:
            fields.append(seen)
    return pa.schema(fields)


def _reshaped(chunk: Chunk, columns: Sequence[int | None], schema: pa.Schema) -> Chunk:
    rows = plain(chunk.batch)
    target = plain_schema(schema)
    arrays = [
        pa.nulls(rows.num_rows, field.type) if place is None else conform_array(rows.column(place), field.type, "")
        for field, place in zip(target, columns, strict=True)
    ]
    return chunk_of(pa.RecordBatch.from_arrays(arrays, schema=target), schema, chunk.spans)
