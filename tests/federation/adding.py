"""Buckets for tests, as the catalog gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.catalog.entities import LOCAL, Bucket
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import PutBucket

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse
    from flightserver.storage.buckets import OpenBucket


def add_bucket(lakehouse: Lakehouse, bucket: Bucket) -> OpenBucket:
    """Put a bucket into the catalog; a local one gets its directory."""
    if bucket.backend == LOCAL:
        lakehouse.opener.root(bucket).mkdir(parents=True)
    lakehouse.catalog.commit(Transaction(Operation(id=new_ulid(), kind="test"), (PutBucket(bucket),)))
    return lakehouse.buckets.get(bucket.name)


def add_local(lakehouse: Lakehouse, name: str) -> OpenBucket:
    """A local bucket in the catalog and on disk."""
    return add_bucket(lakehouse, Bucket(name, LOCAL))
