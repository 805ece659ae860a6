"""Finding the nearest rows of a version of a dataset.

Theory of operation: which rows there are is said by the dataset that is given, never by the index. The vectors of its
segments come from the generation, where that has the segment, else from the dataset's files; those of small segments
are kept in memory. Dead rows, and rows that aren't among the allowed ones, are left out before anything is compared. So
an answer is about exactly that version, however old the index is, and an index whose object can't be read costs time
and nothing else (an event says so). It isn't tried again for some seconds, because a bucket that doesn't answer costs
all of its retries, which each search would wait for.

Up to `EXACT` candidates of the generation are all compared. Of more, codes choose some (`codes.py`), where they can:
for the cosine, or where all vectors have about the same length. Candidates are compared exactly (`metrics.py`).

Invariant: `_lock` guards `_kept`, `_kept_bytes` and `_failed`.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from flightserver.catalog.indexes import COSINE
from flightserver.errors import BackendUnavailable, NotFound
from flightserver.tables.nearest import Nearest
from flightserver.tables.rowids import RowIds
from flightserver.telemetry import Trouble
from flightserver.vectors.building import segment_vectors
from flightserver.vectors.codes import encoded, hamming
from flightserver.vectors.columns import indexed_column
from flightserver.vectors.metrics import lengths_of, query_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

    from flightserver.catalog.entities import Dataset, Segment
    from flightserver.catalog.indexes import VectorIndex
    from flightserver.storage.buckets import Buckets
    from flightserver.tables.deltas import DeadRows, Places
    from flightserver.telemetry import Events
    from flightserver.vectors.frame import Frame
    from flightserver.vectors.frames import Frames
    from flightserver.vectors.metrics import Query

EXACT = 20_000
"""Candidates that are compared without codes: 2 to 3 ms of 768 float32."""

_CHOSEN = 2000
"""Candidates that codes choose, at least. Codes tell clusters apart, and little within a narrow one, so that the
nearest must be sought in all of it: with clusters of uneven size 500 of 100,000 have a recall of 0.76 to 0.97, and
2,000 of 0.99 to 1."""
_CHOSEN_PER_WANTED = 20
_CHOSEN_SHARE = 50
"""One of so many vectors, where there are many: narrow clusters grow with their number."""

_SAME_LENGTH = 1e-3
"""Relative difference of lengths that says nothing: models that scale to length 1 are off by 1e-6."""

_KEPT_BYTES = 256 * 1024 * 1024
_KEPT_SEGMENT_BYTES = 64 * 1024 * 1024
"""Vectors of segments that the generation lacks are kept in memory, if those of a segment aren't more."""

UNREADABLE = Trouble("vector index unreadable")
"""Kind of the event of a generation that can't be read, so that searches read the dataset instead."""
_AVOIDED_SECONDS = 30.0
"""A generation that couldn't be read isn't tried again for so long."""

_Vectors = tuple["NDArray[np.floating]", "NDArray[np.int64]"]
"""A matrix with a vector in each row, and the place of each in its segment."""


class Searcher:
    """Searches (`flightserver.tables.nearest.NearestRows`). All methods may be called from any thread.

    Args:
        frames: Opens generations.
        buckets: Where segments lie.
        dead: Knows the dead rows of datasets.
        events: Told of generations that can't be read.
    """

    def __init__(self, frames: Frames, buckets: Buckets, dead: DeadRows, events: Events) -> None:
        self._frames = frames
        self._buckets = buckets
        self._dead = dead
        self._events = events
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], list[_Vectors]] = OrderedDict()
        self._kept_bytes = 0
        self._failed: dict[tuple[str, str], float] = {}

    def check(self, index: VectorIndex, vector: NDArray[np.float32]) -> None:
        """Return when a vector can be searched for, see `NearestRows.check`."""
        query_of(index, vector)

    def nearest(
        self,
        index: VectorIndex,
        dataset: Dataset,
        vector: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.int64] | None = None,
    ) -> Nearest:
        """The nearest rows, see `NearestRows.nearest`."""
        query = query_of(index, vector)
        column = indexed_column(dataset, index)
        ids = RowIds(dataset)
        wanted = _Wanted(self._dead.of(dataset), None if allowed is None else ids.locate(allowed))
        frame = self._frame(index)
        best = _Best(k)
        indexed: set[str] = set()
        if frame is not None:
            _search_frame(frame, dataset, query, wanted, best)
            indexed.update(frame.starts)
        for order, segment in enumerate(dataset.segments):
            if segment.id in indexed or wanted.has_none(segment):
                continue
            for matrix, places in self._vectors(index, segment, column):
                chosen = wanted.among(segment, places)
                if chosen is not None:
                    matrix, places = matrix[chosen], places[chosen]  # noqa: PLW2901  # the wanted ones of them
                _compare(query, matrix, lengths_of(matrix), places, order, best)
        orders, places, distances = best.found()
        firsts = np.array([one.row_id_base + ids.offsets[one.id] for one in dataset.segments], np.int64)
        row_ids = firsts[orders] + places if len(orders) else places
        return Nearest(row_ids, distances)

    def _frame(self, index: VectorIndex) -> Frame | None:
        """The generation of an index, open; None when it can't be read, which is told."""
        generation = index.generation
        where = (generation.bucket, generation.id)
        if not generation.segments or self._is_avoided(where):
            return None
        try:
            return self._frames.get(generation)
        except (NotFound, BackendUnavailable) as error:
            if self._avoid(where):
                self._events.record(UNREADABLE, index.bucket, index=index.name, error=error.message)
            return None

    def _is_avoided(self, where: tuple[str, str]) -> bool:
        """Whether a generation, given by bucket and id, couldn't be read a moment ago."""
        since = time.monotonic() - _AVOIDED_SECONDS
        with self._lock:
            self._failed = {one: failed for one, failed in self._failed.items() if failed > since}
            return where in self._failed

    def _avoid(self, where: tuple[str, str]) -> bool:
        """Remember that a generation couldn't be read; whether no other search has just done so."""
        with self._lock:
            is_new = where not in self._failed
            self._failed[where] = time.monotonic()
        return is_new

    def _vectors(self, index: VectorIndex, segment: Segment, column: pa.Field) -> Iterator[_Vectors]:
        """The vectors of a segment, from its files or from memory."""
        key = (segment.id, f"{index.id} {column.type}")
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
        if kept is not None:
            yield from kept
            return
        read: list[_Vectors] | None = []
        size = 0
        for vectors in segment_vectors(self._buckets.get(segment.bucket), segment, column, index):
            size += _bytes(vectors)
            if read is not None:
                read = [*read, vectors] if size <= _KEPT_SEGMENT_BYTES else None
            yield vectors
        if read is not None:
            self._keep(key, read, size)

    def _keep(self, key: tuple[str, str], vectors: list[_Vectors], size: int) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = vectors
                self._kept_bytes += size
            # In this order, and asking for both: a statement that is stopped may be interrupted here.
            while self._kept and self._kept_bytes > _KEPT_BYTES:
                oldest = next(iter(self._kept))
                self._kept_bytes -= sum(_bytes(each) for each in self._kept[oldest])
                del self._kept[oldest]


class _Wanted:
    """Which rows of a version may be in an answer.

    Args:
        dead: Places of rows that aren't alive, by segment.
        allowed: Places of rows that were asked for, by segment; None for all.
    """

    def __init__(self, dead: Places, allowed: Places | None) -> None:
        self._dead = dead
        self._allowed = allowed

    def has_none(self, segment: Segment) -> bool:
        """Whether no row of a segment may."""
        return segment.live == 0 or (self._allowed is not None and segment.id not in self._allowed)

    def among(self, segment: Segment, places: NDArray[np.integer]) -> NDArray[np.int64] | None:
        """Which of these places of a segment, each once, may: positions in `places`; None for all of them."""
        if self._allowed is None and segment.id not in self._dead:
            return None
        may = np.ones(len(places), np.bool_)
        if self._allowed is not None:
            may = np.isin(places, self._allowed.get(segment.id, _NOTHING), assume_unique=True)
        if segment.id in self._dead:
            may &= ~np.isin(places, self._dead[segment.id], assume_unique=True)
        return np.flatnonzero(may)


_NOTHING = np.zeros(0, np.int64)


class _Best:
    """The nearest rows so far.

    Args:
        k: How many.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._orders = _NOTHING
        self._places = _NOTHING
        self._distances = np.zeros(0, np.float64)

    @property
    def k(self) -> int:
        """How many are wanted."""
        return self._k

    def offer(self, orders: NDArray[np.int64], places: NDArray[np.int64], distances: NDArray[np.float64]) -> None:
        """Take rows if they are nearer than others; `orders` are the numbers of their segments in the dataset."""
        orders = np.concatenate([self._orders, orders])
        places = np.concatenate([self._places, places])
        distances = np.concatenate([self._distances, distances])
        first = np.lexsort((places, orders, distances))[: self._k]
        self._orders, self._places, self._distances = orders[first], places[first], distances[first]

    def found(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Numbers of segments, places and distances, the nearest first."""
        return self._orders, self._places, self._distances


def _search_frame(frame: Frame, dataset: Dataset, query: Query, wanted: _Wanted, best: _Best) -> None:
    """Compare with the vectors of a generation that belong to a version of the dataset."""
    orders = {segment.id: order for order, segment in enumerate(dataset.segments)}
    positions = _positions(frame, dataset, wanted)
    if positions is None or len(positions) > EXACT:
        positions = _chosen(frame, query, positions, best.k)
    if positions is None:
        near = _nearest(query, frame.vectors, frame.lengths, best.k)
    elif len(positions):
        near = positions[_nearest(query, frame.vectors, frame.lengths[positions], best.k, positions)]
    else:
        return
    firsts = np.array([there.start for there in frame.starts.values()], np.int64)
    numbers = np.array([orders.get(segment, -1) for segment in frame.starts], np.int64)
    # The last of those that begin there: segments without vectors begin where the next one does.
    owners = np.searchsorted(firsts, near, side="right") - 1
    best.offer(numbers[owners], frame.places[near].astype(np.int64), query.distances(frame.vectors, near))


def _positions(frame: Frame, dataset: Dataset, wanted: _Wanted) -> NDArray[np.int64] | None:
    """The vectors of a generation that may be in an answer, in order; None for all of them."""
    parts: list[tuple[slice, NDArray[np.int64] | None]] = []
    for segment in dataset.segments:
        there = frame.starts.get(segment.id)
        if there is not None and not wanted.has_none(segment):
            parts.append((there, wanted.among(segment, frame.places[there])))
    if sum(there.stop - there.start for there, chosen in parts if chosen is None) == len(frame.places):
        return None
    positions = [
        np.arange(there.start, there.stop) if chosen is None else chosen + there.start for there, chosen in parts
    ]
    return np.sort(np.concatenate(positions)) if positions else _NOTHING


def _has_codes(frame: Frame, query: Query) -> bool:
    """Whether the codes of a generation say what is near."""
    footer = frame.footer
    return query.metric == COSINE or footer.longest - footer.shortest <= _SAME_LENGTH * footer.longest


def _chosen(frame: Frame, query: Query, positions: NDArray[np.int64] | None, k: int) -> NDArray[np.int64] | None:
    """Those of the positions whose codes are nearest to that of the query; None, as it is given, means all."""
    if not _has_codes(frame, query) or (positions is None and len(frame.places) <= EXACT):
        return positions
    vector = query.vector[None, :]
    code = encoded(vector, lengths_of(vector), frame.mean)[:, 0]
    bits = hamming(frame.codes, code)
    if positions is not None:
        bits = bits[positions]
    count = max(_CHOSEN, _CHOSEN_PER_WANTED * k, len(bits) // _CHOSEN_SHARE)
    if count >= len(bits):
        return positions
    # All that differ in as few bits as the last one that is wanted: there are few different numbers of bits.
    furthest = int(np.searchsorted(np.cumsum(np.bincount(bits)), count))
    chosen = np.flatnonzero(bits <= furthest)
    return chosen if positions is None else positions[chosen]


def _compare(
    query: Query,
    matrix: NDArray[np.floating],
    lengths: NDArray[np.float32],
    places: NDArray[np.int64],
    order: int,
    best: _Best,
) -> None:
    """Compare with vectors of one segment."""
    if len(matrix):
        near = _nearest(query, matrix, lengths, best.k)
        best.offer(np.full(len(near), order, np.int64), places[near], query.distances(matrix, near))


def _nearest(
    query: Query,
    matrix: NDArray[np.floating],
    lengths: NDArray[np.float32],
    k: int,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Rows of a matrix among which are the k nearest, and all that are as near as the last of these.

    Args:
        query: What they are near to.
        matrix: A vector in each row.
        lengths: Of the vectors that are compared.
        k: How many are wanted.
        rows: Which rows are compared, and the answer is positions in it; None for all. They may be nearly all of an
            index, which no search copies as a whole.
    """
    if len(lengths) <= k:
        return np.arange(len(lengths))
    scores = query.scores(matrix, lengths, rows)
    last = np.partition(scores, k - 1)[k - 1]
    return np.flatnonzero(scores <= last + query.slack(lengths))


def _bytes(vectors: _Vectors) -> int:
    return vectors[0].nbytes + vectors[1].nbytes
