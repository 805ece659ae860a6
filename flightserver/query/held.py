"""Rows that are held in memory beside what the engine counts: those of searches, until their statement ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.errors import LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa


def held(batches: Iterable[pa.RecordBatch], max_bytes: int) -> list[pa.RecordBatch]:
    """All of the batches.

    Raises:
        LimitExceeded: They are larger than may be held.
    """
    kept, size = [], 0
    for batch in batches:
        kept.append(batch)
        size += batch.nbytes
        check_held(size, max_bytes)
    return kept


def check_held(size: int, max_bytes: int) -> None:
    """Return when so many bytes may be held.

    Raises:
        LimitExceeded: They may not.
    """
    if size > max_bytes:
        raise LimitExceeded(
            f"the searches of the statement hold more than {max_bytes:,} bytes (a quarter of query.memory_bytes): ask "
            "for fewer rows, by k or by a filter that fewer rows satisfy, or for fewer columns"
        )
