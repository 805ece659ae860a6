"""Reading segments without the engine: for compaction, for the cache, and for rows that are kept in memory.

Rows come in their order, under the dataset's schema as it is now: files of before may lack columns, hold narrower
types, or columns that were dropped.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flightserver.errors import BackendUnavailable, FlightserverError, NotFound
from flightserver.storage.buckets import ALSO_ASKED
from flightserver.tables.casts import conform_array
from flightserver.tables.schema import stored_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from numpy.typing import NDArray

    from flightserver.catalog.entities import Segment
    from flightserver.storage.buckets import OpenBucket

BATCH_ROWS = 131_072
"""As many as a row group has by default."""


def read_segment(
    bucket: OpenBucket,
    segment: Segment,
    schema: pa.Schema,
    dead: NDArray[np.int64] | None = None,
    *,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
    """The live rows of a segment, with their places.

    Args:
        bucket: Where the segment is.
        segment: What to read.
        schema: The dataset's, with names in files (`flightserver.tables.schema`).
        dead: Places that are not alive, sorted.
        batch_rows: Rows of a batch, at most.

    Yields:
        Batches with exactly `schema`, and the place of each of their rows.

    Raises:
        BackendUnavailable: A file is missing or damaged.
    """
    first = 0
    for key in segment.object_keys():
        try:
            with open_parquet(bucket, key) as file:
                for batch in file.iter_batches(batch_rows, columns=_present(file, schema)):
                    yield _live(_conformed(batch, schema), first, dead)
                    first += batch.num_rows
        except (NotFound, OSError, pa.ArrowInvalid) as error:
            raise unreadable(bucket, key, error) from error


@contextlib.contextmanager
def open_parquet(bucket: OpenBucket, key: str) -> Iterator[Any]:
    """A Parquet file of a bucket, or a copy of it where the bucket can't serve it, until the block ends.

    Raises:
        NotFound: It isn't there.
        BackendUnavailable: The bucket doesn't answer.
        ArrowInvalid: It is damaged.
    """
    with contextlib.ExitStack() as stack:
        yield _opened(bucket, key, stack)


def _opened(bucket: OpenBucket, key: str, stack: contextlib.ExitStack) -> Any:
    # A path lets Arrow read without this process's interpreter lock; a buffer of its own keeps memory bounded.
    if bucket.local_root is not None:
        with contextlib.suppress(OSError):
            return stack.enter_context(pq.ParquetFile(bucket.local_root / key, pre_buffer=False))
    file = stack.enter_context(bucket.reading.open(key))
    return stack.enter_context(pq.ParquetFile(file, pre_buffer=False))


def unreadable(bucket: OpenBucket, key: str, error: Exception, what: str = "file") -> BackendUnavailable:
    """The error for a file that can't be read; `error` says why. What isn't its bucket any more isn't blamed on it."""
    lost = bucket.lost()
    if lost is not None:
        return lost
    other = error.details.get(ALSO_ASKED) if isinstance(error, FlightserverError) else None
    also = "" if other is None else f", nor from bucket {other!r}"
    return BackendUnavailable(f"{what} {key!r} of bucket {bucket.name!r} can't be read{also}: restore it from a backup")


def _present(file: Any, schema: pa.Schema) -> list[str]:
    has = set(file.schema_arrow.names)
    return [stored_name(field) for field in schema if stored_name(field) in has]


def _conformed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    has = set(batch.schema.names)
    columns = [
        conform_array(batch.column(stored_name(field)), field.type, field.name)
        if stored_name(field) in has
        else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _live(
    batch: pa.RecordBatch, first: int, dead: NDArray[np.int64] | None
) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
    places = np.arange(first, first + batch.num_rows)
    if dead is None:
        return batch, places
    low, high = np.searchsorted(dead, [first, first + batch.num_rows])
    if low == high:
        return batch, places
    alive = np.ones(batch.num_rows, dtype=np.bool_)
    alive[dead[low:high] - first] = False
    return batch.filter(pa.array(alive)), places[alive]
