"""Buckets to move datasets between, and what is looked at afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from bucketing import add_bucket
from query.asking import run

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.tables.collecting import Collected, Collector
from flightserver.tables.moving import Moved

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.catalog.entities import Dataset
    from flightserver.lakehouse import Lakehouse


TRIPS = "SELECT id, zone FROM trips ORDER BY id"


@pytest.fixture
def trips(lakehouse: Lakehouse) -> Lakehouse:
    """`trips` has two segments, of which one has `_origin.parquet`, and a delta; there is a bucket `archive`."""
    add_bucket(lakehouse, "archive")
    run(lakehouse, "CREATE TABLE trips AS SELECT value AS id, value % 7 AS zone FROM generate_series(1, 100) AS t")
    run(lakehouse, "DELETE FROM trips WHERE id = 50")
    list(
        lakehouse.compactor.compact(DatasetKey("primary", "trips"), operation("compact"), lakehouse.compactor.wanted())
    )
    run(lakehouse, "INSERT INTO trips VALUES (101, 3)")
    run(lakehouse, "UPDATE trips SET zone = 9 WHERE id = 3")
    return lakehouse


def operation(kind: str = "test") -> Operation:
    return Operation(new_ulid(), kind)


def move(lakehouse: Lakehouse, name: str, to: str, source: str = "primary") -> Moved:
    """Move a dataset to the end."""
    *_, last = lakehouse.mover.move(DatasetKey(source, name), to, operation("move"))
    assert isinstance(last, Moved)
    return last


def dataset(lakehouse: Lakehouse, name: str, bucket: str = "primary") -> Dataset:
    return lakehouse.catalog.snapshot().dataset(name, bucket)


def collect(lakehouse: Lakehouse, bucket: str) -> Collected:
    """Delete all that the newest version doesn't name, however young."""
    collector = Collector(lakehouse.catalog, lakehouse.buckets, retention_hours=0, grace_hours=0)
    *_, last = collector.collect(bucket, operation("collect"))
    assert isinstance(last, Collected)
    return last


def files(lakehouse: Lakehouse, bucket: str) -> dict[str, bytes]:
    """Everything under `datasets/` in a bucket."""
    objects = lakehouse.buckets.get(bucket).objects
    return {meta.key: objects.get(meta.key) for meta in objects.list("datasets/")}


def before_each_commit(lakehouse: Lakehouse, kind: str, action: Callable[[], object]) -> Any:
    """Do something right before each commit of an operation of a kind, as another session would."""
    commit = lakehouse.catalog.commit

    def interrupted(transaction: Any) -> Any:
        if transaction.operation.kind == kind:
            action()
        return commit(transaction)

    return patch.object(lakehouse.catalog, "commit", interrupted)
