"""Spans: the rows of a run of segments, cut into pieces that can be read at the same time.

Theory of operation: the rows of a run, dead ones too, are thought of as one sequence, which is cut into pieces of about
equal length. A piece is a list of spans, each a range of places in one segment. Reading a span decodes only the row
groups that it meets, one at a time, which bounds memory by the size of a row group.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from flightserver.errors import NotFound
from flightserver.tables.reading import open_parquet, unreadable
from flightserver.tables.schema import conform, stored_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from flightserver.catalog.entities import Segment
    from flightserver.storage.buckets import OpenBucket

_BATCH_ROWS = 131_072
"""As many as a row group has by default."""


@dataclass(frozen=True, slots=True)
class Span:
    """Places `first` to `end` (exclusive) of a segment."""

    segment: Segment
    first: int
    end: int


def cut(segments: Sequence[Segment], parts: int) -> list[list[Span]]:
    """The rows of segments, in order, in at most `parts` pieces of about equal length; none is empty."""
    total = sum(segment.rows for segment in segments)
    bounds = sorted({total * part // parts for part in range(parts + 1)})
    pieces: list[list[Span]] = []
    for low, high in pairwise(bounds):
        piece, start = [], 0
        for segment in segments:
            first, end = max(low - start, 0), min(high - start, segment.rows)
            if first < end:
                piece.append(Span(segment, first, end))
            start += segment.rows
        pieces.append(piece)
    return pieces


def read_span(
    bucket: OpenBucket, span: Span, schema: pa.Schema, dead: NDArray[np.int64] | None
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
    """The live rows of a span, with their places.

    Args:
        bucket: Where the segment is.
        span: What to read.
        schema: The dataset's, with names in files (`flightserver.tables.schema`).
        dead: Places of the segment that are not alive, sorted.

    Yields:
        Batches with exactly `schema`, and the place of each of their rows.

    Raises:
        BackendUnavailable: A file is missing or damaged.
    """
    first = 0
    for key in span.segment.object_keys():
        if first >= span.end:
            return
        try:
            with open_parquet(bucket, key) as file:
                rows = file.metadata.num_rows
                if first + rows > span.first:
                    for batch, place in _row_groups(file, schema, span, first):
                        yield _live(conform(batch, schema), place, span, dead)
        except (NotFound, OSError, pa.ArrowInvalid) as error:
            raise unreadable(bucket, key, error) from error
        first += rows


def _row_groups(file: Any, schema: pa.Schema, span: Span, first: int) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Batches under the names of the schema, and the place of each one's first row."""
    has = set(file.schema_arrow.names)
    visible = {stored_name(field): field.name for field in schema if stored_name(field) in has}
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if first < span.end and first + rows > span.first:
            place = first
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=list(visible)):
                if place < span.end and place + batch.num_rows > span.first:
                    yield batch.rename_columns([visible[name] for name in batch.schema.names]), place
                place += batch.num_rows
        first += rows


def _live(
    batch: pa.RecordBatch, first: int, span: Span, dead: NDArray[np.int64] | None
) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
    low, high = max(first, span.first), min(first + batch.num_rows, span.end)
    batch, places = batch.slice(low - first, high - low), np.arange(low, high)
    if dead is None:
        return batch, places
    start, end = np.searchsorted(dead, [low, high])
    if start == end:
        return batch, places
    alive = np.ones(len(places), dtype=np.bool_)
    alive[dead[start:end] - low] = False
    return batch.filter(pa.array(alive)), places[alive]
