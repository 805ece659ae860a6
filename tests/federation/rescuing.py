"""A dataset in bucket `far`, and its mirror in `rescue`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from query.asking import run

from flightserver.federation.mirroring import Mirrored
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path


def make_trips(lakehouse: Lakehouse, bucket: str) -> None:
    """`trips` has a segment that is scanned, one that is held in memory, and a delta for each."""
    run(lakehouse, f'CREATE TABLE "{bucket}".trips AS SELECT value AS id, value % 7 AS zone FROM range(100000)')
    run(lakehouse, "INSERT INTO trips VALUES (100000, 3), (100001, 3)")
    run(lakehouse, "UPDATE trips SET zone = 9 WHERE id IN (3, 100000)")


def mirrored(lakehouse: Lakehouse, bucket: str = "far", name: str | None = None) -> Mirrored:
    *_, last = lakehouse.mirror.mirror(bucket, name)
    assert isinstance(last, Mirrored)
    return last


def opened(data: Path, **buckets: Any) -> Lakehouse:
    """A lakehouse without a cache of rows, whose buckets don't retry."""
    sections = {
        "server": {"data": data},
        "buckets": {"retries": 0, "retry_seconds": 0, "connect_seconds": 1, "request_seconds": 2, **buckets},
    }
    return Lakehouse.open(load_settings(None, sections))


def lose(lakehouse: Lakehouse, key: str, bucket: str = "far") -> None:
    lakehouse.buckets.get(bucket).objects.delete(key)
