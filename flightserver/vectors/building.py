"""Building the contents of an index: all vectors of a version's segments, as one object.

Theory of operation: the column is read twice, batch by batch. The first pass counts the vectors and sums them up: then
the size is known, and refused before anything is written, and so is the mean that codes are relative to. The second
pass writes. What is held on the way are lengths, codes and places: a thirtieth of the vectors. Segments that the
generation before has are taken from it and not read again.

Invariant: a file of the dataset never changes, so that both passes see the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from flightserver.catalog.indexes import Generation
from flightserver.catalog.ulid import new_ulid
from flightserver.storage.limits import check_size
from flightserver.tables.generations import generation_key
from flightserver.tables.moving import Step
from flightserver.tables.reading import read_segment
from flightserver.vectors.codes import encoded
from flightserver.vectors.columns import indexed_column, vectors_of
from flightserver.vectors.frame import FORMAT, Footer, FrameWriter, size_of
from flightserver.vectors.metrics import lengths_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray

    from flightserver.catalog.entities import Dataset, Segment
    from flightserver.catalog.indexes import VectorIndex
    from flightserver.storage.buckets import Buckets, OpenBucket
    from flightserver.vectors.frame import Frame

_BATCH_ROWS = 16_384
_BATCH_NUMBERS = 12 * 2**20
"""48 MB of float32, and 16,384 vectors of 768: of longer ones, fewer are read at a time."""


@dataclass(slots=True)
class _Measures:
    """What the first pass finds."""

    counts: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    total: NDArray[np.float64] | None = None

    def mean(self, dimension: int) -> NDArray[np.float32]:
        """Of all vectors scaled to length 1; those without a direction count as they are."""
        if self.total is None:
            return np.zeros(dimension, np.float32)
        return (self.total / max(1, sum(self.counts.values()))).astype(np.float32)


@dataclass(slots=True)
class _Collected:
    """What the second pass has computed of the vectors that it wrote."""

    lengths: list[NDArray[np.float32]] = field(default_factory=list)
    codes: list[NDArray[np.uint64]] = field(default_factory=list)
    places: list[NDArray[np.uint32]] = field(default_factory=list)

    def extremes(self) -> tuple[float, float]:
        """The least and the greatest length."""
        some = [part for part in self.lengths if len(part)]
        return (min(float(part.min()) for part in some), max(float(part.max()) for part in some)) if some else (0, 0)


class Builder:
    """Builds generations. All methods may be called from any thread.

    Args:
        buckets: Where segments lie, and where objects are written.
    """

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    def build(self, index: VectorIndex, dataset: Dataset, before: Frame | None) -> Generator[Step, None, Generation]:
        """Write a generation of an index to its home bucket; durable, but nobody's before a commit names it.

        Args:
            index: Says what to build; its generation isn't looked at.
            dataset: At the version whose segments are to be in it.
            before: A generation of the same index, from which vectors are taken that it has.

        Yields:
            How far it is, in vectors.

        Raises:
            LimitExceeded: It would be larger than a put below `_vectors/` may be.
            BackendUnavailable: A file can't be read or written.
        """
        column = indexed_column(dataset, index)
        measures = yield from self._measured(index, dataset, column, before)
        generation, count = new_ulid(), sum(measures.counts.values())
        key = generation_key(index.name, generation)
        bucket = self._buckets.get(index.bucket)
        check_size(bucket.objects, key, size_of(count, index.dimension, index.precision, len(measures.counts)))
        mean, collected = measures.mean(index.dimension), _Collected()
        with bucket.objects.writer(key) as writer:
            frame = FrameWriter(writer)
            written = 0
            parts = self._written(index, dataset, column, before, mean, collected)
            for number in frame.section_in_steps("vectors", parts):
                written += number
                yield Step("write", written, count)
            frame.section("lengths", collected.lengths)
            frame.section("codes", [np.concatenate(collected.codes, axis=1)] if collected.codes else [])
            frame.section("places", collected.places)
            frame.section("mean", [mean])
            shortest, longest = collected.extremes()
            frame.finish(
                Footer(
                    format=FORMAT,
                    index=index.id,
                    generation=generation,
                    metric=index.metric,
                    precision=index.precision,
                    dimension=index.dimension,
                    segments=list(measures.counts.items()),
                    shortest=shortest,
                    longest=longest,
                    sections={},
                )
            )
            size = writer.commit().size
        return Generation(
            id=generation,
            bucket=bucket.name,
            key=key,
            bytes=size,
            vectors=count,
            skipped=measures.skipped,
            segments=tuple(measures.counts),
        )

    def _measured(
        self, index: VectorIndex, dataset: Dataset, column: pa.Field, before: Frame | None
    ) -> Generator[Step, None, _Measures]:
        measures, done, total_rows = _Measures(), 0, sum(segment.rows for segment in dataset.segments)
        for segment in dataset.segments:
            count = 0
            for matrix, _ in self._vectors(index, segment, column, before):
                lengths = lengths_of(matrix)
                lengths[lengths == 0] = 1
                total = (matrix / lengths[:, None]).sum(axis=0, dtype=np.float64)
                measures.total = total if measures.total is None else measures.total + total
                count += len(matrix)
                yield Step("read", done + count, total_rows)
            measures.counts[segment.id] = count
            measures.skipped += segment.rows - count
            done += segment.rows
        return measures

    def _written(  # what is written, and what it is computed by
        self,
        index: VectorIndex,
        dataset: Dataset,
        column: pa.Field,
        before: Frame | None,
        mean: NDArray[np.float32],
        collected: _Collected,
    ) -> Iterator[NDArray[np.floating]]:
        for segment in dataset.segments:
            for matrix, places in self._vectors(index, segment, column, before):
                lengths = lengths_of(matrix)
                collected.lengths.append(lengths)
                collected.codes.append(encoded(matrix, lengths, mean))
                collected.places.append(places.astype(np.uint32))
                yield matrix

    def _vectors(
        self, index: VectorIndex, segment: Segment, column: pa.Field, before: Frame | None
    ) -> Iterator[tuple[NDArray[np.floating], NDArray[np.int64]]]:
        """The vectors of a segment in batches, with their places."""
        if before is not None and segment.id in before.starts:
            there = before.starts[segment.id]
            step = _batch_rows(index)
            for start in range(there.start, there.stop, step):
                part = slice(start, min(start + step, there.stop))
                yield before.vectors[part], before.places[part].astype(np.int64)
            return
        yield from segment_vectors(self._buckets.get(segment.bucket), segment, column, index)


def segment_vectors(
    bucket: OpenBucket, segment: Segment, column: pa.Field, index: VectorIndex
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.int64]]]:
    """The vectors of a segment in batches, with their places, from its files; those of dead rows too.

    Raises:
        BackendUnavailable: A file can't be read.
    """
    for batch, places in read_segment(bucket, segment, pa.schema([column]), batch_rows=_batch_rows(index)):
        matrix, rows = vectors_of(batch.column(0), index)
        yield matrix, places[rows]


def _batch_rows(index: VectorIndex) -> int:
    return min(_BATCH_ROWS, max(1, _BATCH_NUMBERS // index.dimension))
