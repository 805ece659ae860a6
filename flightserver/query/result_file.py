"""One result on local disk: written once as an Arrow IPC stream, then memory-mapped.

The file is private to the process that wrote it, so the footer of the IPC *file* format, which serves a reader that
opens it cold, would buy nothing; the *stream* format allows what results have and files don't: a dictionary that
changes between batches. Mapping reads the message headers once and keeps every batch as views into the
mapping, so a page is found by bisection over row offsets and cut without copying or parsing: the last page costs
what the first one costs.

Batches are cut to at most `MAX_BATCH_ROWS` rows and about 8 MiB, and smaller ones are joined up to that size, so
that a page touches few batches and every batch is small enough for one message. Batches with dictionaries are
not joined: that would mean to merge their dictionaries.

Invariants: a `ResultFile` never changes. Its batches, and slices of them, keep the mapping alive; the file itself may
be unlinked at any time, and its space is free once the last reader has dropped its batches.
"""

from __future__ import annotations

import contextlib
import errno
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import pyarrow as pa

from flightserver.errors import BackendUnavailable, LimitExceeded
from flightserver.query.wire import MAX_BATCH_BYTES, sliced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

MAX_BATCH_ROWS = 32_768
"""The engine's batch size for streams, which measured faster than its default of 8,192."""

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True, eq=False)
class ResultFile:
    """The rows of one result, memory-mapped.

    Attributes:
        path: Where the file lies.
        schema: Columns of every batch.
        batches: All rows in order, as views into the mapping.
        ends: For each batch, how many rows it and those before it hold.
        bytes: Size of the file.
    """

    path: Path
    schema: pa.Schema
    batches: tuple[pa.RecordBatch, ...]
    ends: tuple[int, ...]
    bytes: int

    @property
    def rows(self) -> int:
        """Rows of the whole result."""
        return self.ends[-1] if self.ends else 0

    def slice(self, start: int, count: int) -> list[pa.RecordBatch]:
        """Rows `start` to `start + count` as zero-copy slices; fewer at the end, none beyond it."""
        found: list[pa.RecordBatch] = []
        index = bisect_right(self.ends, start)
        stop = min(start + count, self.rows)
        while start < stop:
            batch = self.batches[index]
            first = self.ends[index] - batch.num_rows
            rows = min(stop, self.ends[index]) - start
            found.append(batch if rows == batch.num_rows else batch.slice(start - first, rows))
            start += rows
            index += 1
        return found


def write_result(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], reserve: Callable[[int], None]
) -> None:
    """Write batches to a file as they come; memory holds one written batch at a time.

    Args:
        path: The file to create. The caller removes it when this raises.
        schema: Columns of every batch.
        batches: Consumed once; what it raises passes through.
        reserve: Told how many bytes each step has added; raises to stop the writing.

    Raises:
        LimitExceeded: The disk is full.
        BackendUnavailable: The disk fails.
    """
    with _disk_errors(), contextlib.ExitStack() as files:
        sink = files.enter_context(pa.OSFile(str(path), "wb"))
        writer = files.enter_context(pa.ipc.new_stream(sink, schema))
        written = 0
        for batch in _passing_errors(_sized(batches, schema)):
            writer.write_batch(batch)
            size = sink.tell()
            reserve(size - written)
            written = size


def map_result(path: Path) -> ResultFile:
    """Open a written result; reads the header of each batch and no data.

    Raises:
        BackendUnavailable: The file can't be read.
    """
    with _disk_errors():
        mapping = pa.memory_map(str(path))
        with pa.ipc.open_stream(mapping) as reader:
            batches = tuple(reader)
            schema = reader.schema
        ends = tuple(accumulate(batch.num_rows for batch in batches))
        return ResultFile(path, schema, batches, ends, mapping.size())


class _SourceFailed(Exception):
    """Carries an OSError of the source past the translation of errors of our own disk."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _passing_errors(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except OSError as error:
        raise _SourceFailed(error) from error


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except _SourceFailed as carried:
        raise carried.error from None
    except OSError as error:
        if error.errno in _DISK_FULL:
            msg = "the disk of the result store is full; add a LIMIT, or select fewer columns"
            raise LimitExceeded(msg) from error
        msg = "the disk of the result store fails; the server's log says how"
        raise BackendUnavailable(msg) from error


def _sized(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    pieces = (piece for batch in batches for piece in _cut(batch))
    return pieces if any(_has_dictionary(field.type) for field in schema) else _joined(pieces)


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, MAX_BATCH_ROWS):
        yield from sliced(batch.slice(start, MAX_BATCH_ROWS))


def _joined(pieces: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    pending: list[pa.RecordBatch] = []
    rows = size = 0
    for piece in pieces:
        if pending and (rows + piece.num_rows > MAX_BATCH_ROWS or size + piece.nbytes > MAX_BATCH_BYTES):
            yield pa.concat_batches(pending)
            pending, rows, size = [], 0, 0
        pending.append(piece)
        rows += piece.num_rows
        size += piece.nbytes
    if pending:
        yield pa.concat_batches(pending)


def _has_dictionary(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return True
    return any(_has_dictionary(kind.field(index).type) for index in range(kind.num_fields))
