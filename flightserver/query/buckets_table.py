"""The table `system.buckets`: computed from the catalog and the last look at each bucket, so that none is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from flightserver.catalog.bucket_rules import bucket_url
from flightserver.catalog.entities import PutLimits
from flightserver.query.rowtable import table_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.query.namespace import Scope
    from flightserver.storage.health import Health

BUCKETS = pa.schema(
    [
        ("name", pa.string()),
        ("backend", pa.string()),
        ("url", pa.string()),
        ("datasets", pa.int64()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("reachable", pa.bool_()),
        ("error", pa.string()),
        ("checked", pa.timestamp("us", tz="UTC")),
        ("put_bytes", pa.int64()),
        ("vector_put_bytes", pa.int64()),
        ("endpoint", pa.string()),
        ("region", pa.string()),
    ]
)


def buckets_table(health: Callable[[str], Health | None]) -> Callable[[Scope], pa.Table]:
    """A function that computes the table for a scope.

    Args:
        health: What the last look at the bucket of a name found; None before the first.
    """

    def rows(scope: Scope) -> pa.Table:
        found = []
        for bucket in scope.snapshot.buckets.values():
            mine = [one for one in scope.snapshot.datasets.values() if one.bucket == bucket.name]
            hides = any(scope.hides(one) for one in mine)
            seen = health(bucket.name)
            limits = bucket.limits or PutLimits()
            found.append(
                (
                    bucket.name,
                    bucket.backend,
                    bucket_url(bucket),
                    len(mine),
                    None if hides else sum(one.rows for one in mine),
                    None if hides else sum(one.bytes for one in mine),
                    None if seen is None else seen.reachable,
                    None if seen is None else seen.error,
                    None if seen is None else seen.checked,
                    limits.put_bytes,
                    limits.vector_put_bytes,
                    None if bucket.s3 is None else bucket.s3.endpoint,
                    None if bucket.s3 is None else bucket.s3.region,
                )
            )
        return table_of(BUCKETS, found)

    return rows
