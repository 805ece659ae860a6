"""How much lies in a bucket, by what it is and by dataset.

Theory of operation: the bucket is listed once, in key order, and each object is counted by its key. Only counters are
held, and the segments and deltas that versions within retention name, so that memory doesn't grow with the number of
objects. Those of the newest version belong to the dataset that names them, whatever directory they lie in; what only
earlier versions name is counted as the past of the directory's dataset.

Listing is no snapshot: what is written or deleted meanwhile may or may not be counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from flightserver.catalog.entities import RESCUE
from flightserver.catalog.migration import home
from flightserver.errors import BackendUnavailable
from flightserver.federation.opening import unreachable
from flightserver.federation.prefixes import CATALOG
from flightserver.storage.limits import VECTORS
from flightserver.storage.objects import STAGING
from flightserver.tables.collecting import DATASETS, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.catalog.entities import Dataset, DatasetKey
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.storage.buckets import OpenBucket
    from flightserver.storage.objects import ObjectMeta
    from flightserver.tables.collecting import Collector, Place

KINDS = ("datasets", "deltas", "garbage", "pending", "vectors", "staging", "catalog", "other")
"""Segments and deltas that a version within retention names; what no version names and `bucket.collect` deletes; what
no version names yet; the rest by prefix."""

_PREFIXES = {VECTORS: "vectors", STAGING: "staging", CATALOG: "catalog"}
_STEP = 1000
"""Objects between two reports."""


@dataclass(slots=True)
class Amount:
    """A number of objects, and their bytes."""

    objects: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Count one more object."""
        self.objects += 1
        self.bytes += size


@dataclass(frozen=True, slots=True)
class DatasetUsage:
    """What a dataset has in a bucket: in its newest version, and in earlier ones within retention alone."""

    newest: Amount = field(default_factory=Amount)
    past: Amount = field(default_factory=Amount)


@dataclass(frozen=True, slots=True)
class Usage:
    """What lies in a bucket.

    Attributes:
        total: All of it.
        kinds: By each of `KINDS`.
        datasets: By home bucket and name of datasets.
    """

    total: Amount = field(default_factory=Amount)
    kinds: dict[str, Amount] = field(default_factory=lambda: {kind: Amount() for kind in KINDS})
    datasets: dict[tuple[str, str], DatasetUsage] = field(default_factory=dict)


def measure(bucket: OpenBucket, snapshot: Snapshot, collector: Collector) -> Iterator[int | Usage]:
    """Count what lies in a bucket; whoever stops iterating stops it.

    Args:
        bucket: Which.
        snapshot: Says what datasets have now.
        collector: Says what earlier versions have.

    Yields:
        How many objects were counted, from time to time, and last the result.

    Raises:
        BackendUnavailable: The bucket doesn't answer, or its directory is gone.
    """
    reason = unreachable(bucket)
    if reason is not None:
        raise BackendUnavailable(f"bucket {bucket.name!r} can't be reached: {reason}")
    name = home(snapshot.buckets, bucket.name)
    owners = _owners(snapshot, name)
    live = {place for where, place in collector.live() if name in {where, RESCUE}}
    usage = Usage()
    for meta in bucket.objects.list(""):
        usage.total.add(meta.size)
        place = place_of(meta.key)
        kind = _kind(meta, place, live, collector)
        usage.kinds[kind].add(meta.size)
        if place is not None and place in live:
            key = owners.get(place)
            found = usage.datasets.setdefault(key or (name, _directory_name(place)), DatasetUsage())
            (found.newest if key else found.past).add(meta.size)
        if usage.total.objects % _STEP == 0:
            yield usage.total.objects
    yield usage


def _kind(meta: ObjectMeta, place: str | None, live: set[str], collector: Collector) -> str:
    if place is None:
        return next((kind for prefix, kind in _PREFIXES.items() if meta.key.startswith(prefix)), "other")
    if place in live:
        return "datasets" if meta.key != place else "deltas"
    return "pending" if collector.is_young(meta.modified) else "garbage"


def _owners(snapshot: Snapshot, bucket: str) -> dict[str, DatasetKey]:
    """The datasets of segments and deltas that the newest version has in a bucket, or in those that it rescues."""
    return {
        place: dataset.key
        for dataset in snapshot.datasets.values()
        for where, place in _places(dataset)
        if bucket in {home(snapshot.buckets, where), RESCUE}
    }


def _places(dataset: Dataset) -> Iterator[Place]:
    for segment in dataset.segments:
        yield segment.bucket, segment.directory
    for delta in dataset.deltas:
        yield delta.bucket, delta.key


def _directory_name(place: str) -> str:
    return unquote(place.removeprefix(DATASETS).partition("/")[0])
