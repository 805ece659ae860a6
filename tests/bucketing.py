"""Buckets for tests: made without the action that makes them, and looked into without the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.catalog.entities import LOCAL, Bucket
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import PutBucket
from flightserver.federation.places import make_directory
from flightserver.storage.local import LocalObjects

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flightserver.catalog.updates import Update
    from flightserver.lakehouse import Lakehouse
    from flightserver.storage.buckets import OpenBucket


def commit(lakehouse: Lakehouse, *updates: Update) -> None:
    """Change the catalog."""
    lakehouse.catalog.commit(Transaction(Operation(new_ulid(), "test"), updates))


def add_bucket(lakehouse: Lakehouse, bucket: str | Bucket) -> OpenBucket:
    """Make a bucket; a local one, for which its name is enough, gets its directory."""
    added = Bucket(bucket, LOCAL) if isinstance(bucket, str) else bucket
    if added.backend == LOCAL:
        make_directory(lakehouse.opener.root(added))
        LocalObjects(lakehouse.opener.root(added))  # as whoever makes a bucket does
    commit(lakehouse, PutBucket(added))
    return lakehouse.buckets.get(added.name)


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
