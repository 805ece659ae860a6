"""Buckets for tests: made without the action that makes them, and looked into without the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.catalog.entities import LOCAL, Bucket
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import PutBucket

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flightserver.catalog.updates import Update
    from flightserver.lakehouse import Lakehouse


def commit(lakehouse: Lakehouse, *updates: Update) -> None:
    """Change the catalog."""
    lakehouse.catalog.commit(Transaction(Operation(new_ulid(), "test"), updates))


def add_bucket(lakehouse: Lakehouse, bucket: Bucket) -> Path | None:
    """Make a bucket; the directory of a local one."""
    lakehouse.opener.create(bucket)
    commit(lakehouse, PutBucket(bucket))
    return lakehouse.opener.root(bucket) if bucket.backend == LOCAL else None


def parquet_files(root: Path, dataset: str) -> list[str]:
    """Keys of the Parquet files of a dataset that lie in a directory."""
    found = (root / "datasets" / dataset).rglob("*.parquet")
    return sorted(path.relative_to(root).as_posix() for path in found)


def homes(lakehouse: Lakehouse, names: Sequence[str]) -> dict[str, set[str]]:
    """The buckets that the catalog says datasets and their files are in, by dataset."""
    snapshot = lakehouse.catalog.snapshot()
    found: dict[str, set[str]] = {name: set() for name in names}
    for one in snapshot.datasets.values():
        if one.name in found:
            found[one.name] |= {one.bucket, *(segment.bucket for segment in one.segments)}
            found[one.name] |= {delta.bucket for delta in one.deltas}
    return found
