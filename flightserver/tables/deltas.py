"""Deltas: which rows of which segments are dead.

A delta is one immutable Parquet file of (segment, place), sorted, written before the commit that names it. Reads never
resolve keys: what a change replaces was found when it was made. The places of a dataset's deltas never overlap,
because a commit requires that nobody else has removed rows of the same segments meanwhile, or that they were others.

Arrays of places are kept in memory, least recently used first to go, because every read of a dataset with deltas needs
them. `_lock` guards the map; reading a file happens outside it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flightserver.catalog.entities import Dataset, Delta
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import NotFound
from flightserver.tables.reading import unreadable
from flightserver.tables.segments import dataset_directory

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from flightserver.storage.buckets import Buckets, OpenBucket

Places = dict[str, "NDArray[np.int64]"]
"""Segment id -> places of rows in it, sorted, each once."""

PLACES = pa.schema([pa.field("segment", pa.string(), nullable=False), pa.field("place", pa.int64(), nullable=False)])
"""What a delta's file, and `_origin.parquet` of a compacted segment, hold."""

_KEPT_BYTES = 256 * 1024 * 1024
"""Of places in memory: 32 million dead rows."""


def write_places(bucket: OpenBucket, key: str, table: pa.Table) -> int:
    """Write a table of `PLACES` durably under a new key; returns its size."""
    with bucket.objects.writer(key) as writer:
        pq.write_table(
            table,
            pa.PythonFile(writer, "w"),
            compression="zstd",
            use_dictionary=["segment"],
            column_encoding={"place": "DELTA_BINARY_PACKED"},
        )
        return writer.commit().size


def write_delta(bucket: OpenBucket, name: str, removed: Mapping[str, NDArray[np.int64]]) -> Delta:
    """Write the delta of a dataset that removes these places; durable, but not part of it before a commit names it."""
    removed = {segment: places for segment, places in sorted(removed.items()) if len(places)}
    delta = new_ulid()
    key = f"{dataset_directory(name)}/deltas/{delta}.parquet"
    segments = [pa.repeat(pa.scalar(segment), len(places)) for segment, places in removed.items()]
    places = [pa.array(places) for places in removed.values()]
    table = pa.table([pa.chunked_array(segments, pa.string()), pa.chunked_array(places, pa.int64())], schema=PLACES)
    size = write_places(bucket, key, table)
    return Delta(
        id=delta,
        bucket=bucket.name,
        key=key,
        rows=table.num_rows,
        bytes=size,
        removed={segment: len(places) for segment, places in removed.items()},
    )


class DeadRows:
    """Knows the dead rows of datasets. All methods may be called from any thread.

    Args:
        buckets: Where deltas lie.
    """

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Places] = OrderedDict()
        self._bytes = 0

    def of(self, dataset: Dataset, segments: Collection[str] | None = None) -> Places:
        """Dead places of the dataset's segments, or of some of them; only segments that have any are in it.

        Raises:
            BackendUnavailable: The file of a delta is gone.
        """
        wanted = {segment.id for segment in dataset.segments if segment.dead}
        if segments is not None:
            wanted.intersection_update(segments)
        found: dict[str, list[NDArray[np.int64]]] = {segment: [] for segment in wanted}
        for delta in dataset.deltas:
            if not wanted.isdisjoint(delta.removed):
                places = self.in_delta(delta)
                for segment in wanted.intersection(delta.removed):
                    found[segment].append(places[segment])
        return {
            segment: parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))
            for segment, parts in found.items()
            if parts
        }

    def in_delta(self, delta: Delta) -> Places:
        """What one delta removes, of segments that the dataset no longer has as well."""
        with self._lock:
            kept = self._kept.get(delta.id)
            if kept is not None:
                self._kept.move_to_end(delta.id)
                return kept
        places = self._read(delta)
        with self._lock:
            if delta.id not in self._kept:
                self._kept[delta.id] = places
                self._bytes += _size(places)
            while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= _size(dropped)
        return places

    def _read(self, delta: Delta) -> Places:
        try:
            with self._buckets.get(delta.bucket).reading.open(delta.key) as file:
                return split_places(pq.read_table(file, read_dictionary=["segment"]))
        except (NotFound, pa.ArrowInvalid) as error:
            raise unreadable(self._buckets.get(delta.bucket), delta.key, error, "delta") from error


def split_places(table: pa.Table) -> Places:
    """The places in a table of `PLACES` by segment, in the order in which they stand there."""
    places = table.column("place").to_numpy()
    segments = table.column("segment").combine_chunks().dictionary_encode()
    if isinstance(segments, pa.ChunkedArray):
        segments = segments.combine_chunks()
    codes = segments.indices.to_numpy()
    return {name: places[codes == code] for code, name in enumerate(segments.dictionary.to_pylist())}


def _size(places: Places) -> int:
    return sum(array.nbytes for array in places.values())
