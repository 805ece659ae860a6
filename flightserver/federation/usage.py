"""How much lies in a bucket, by what it is, by dataset and by vector index.

Theory of operation: the bucket is listed once, in key order, and each object is counted by its key. Only counters are
held, and what versions within retention name, so that memory doesn't grow with the number of objects. What the newest
version names belongs to the dataset or index that names it, whatever directory it lies in; what only earlier versions
name is counted as the past of what the directory is called after.

Listing is no snapshot: what is written or deleted meanwhile may or may not be counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from flightserver.catalog.entities import RESCUE
from flightserver.catalog.migration import home
from flightserver.federation.claims import CLAIM
from flightserver.federation.opening import check_there
from flightserver.federation.prefixes import CATALOG
from flightserver.storage.limits import VECTORS
from flightserver.storage.objects import STAGING
from flightserver.tables.collecting import place_of
from flightserver.tables.moving import parts_of, parts_of_index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.catalog.entities import DatasetKey
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.storage.buckets import OpenBucket
    from flightserver.storage.objects import ObjectMeta
    from flightserver.tables.collecting import Collector
    from flightserver.tables.moving import Part

KINDS = ("datasets", "deltas", "garbage", "pending", "vectors", "staging", "catalog", "other")
"""Segments and deltas that a version within retention names; what no version names and `bucket.collect` deletes; what
no version names yet; the rest by prefix. Generations of vector indexes that a version names are of `vectors`."""

_PREFIXES = {VECTORS: "vectors", STAGING: "staging", CATALOG: "catalog", CLAIM: "catalog"}
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
class Holding:
    """What a dataset or index has in a bucket: in its newest version, and in earlier ones within retention alone."""

    newest: Amount = field(default_factory=Amount)
    past: Amount = field(default_factory=Amount)


@dataclass(frozen=True, slots=True)
class Usage:
    """What lies in a bucket.

    Attributes:
        total: All of it.
        kinds: By each of `KINDS`.
        datasets: By home bucket and name of datasets.
        indexes: By home bucket and name of vector indexes.
    """

    total: Amount = field(default_factory=Amount)
    kinds: dict[str, Amount] = field(default_factory=lambda: {kind: Amount() for kind in KINDS})
    datasets: dict[tuple[str, str], Holding] = field(default_factory=dict)
    indexes: dict[tuple[str, str], Holding] = field(default_factory=dict)


def measure(bucket: OpenBucket, snapshot: Snapshot, collector: Collector) -> Iterator[int | Usage]:
    """Count what lies in a bucket; whoever stops iterating stops it.

    Args:
        bucket: Which.
        snapshot: Says what datasets and indexes have now.
        collector: Says what earlier versions have.

    Yields:
        How many objects were counted, from time to time, and last the result.

    Raises:
        BackendUnavailable: The bucket doesn't answer, or has gone.
    """
    check_there(bucket)
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
            holdings = usage.indexes if place.startswith(VECTORS) else usage.datasets
            found = holdings.setdefault(key or (name, _directory_name(place)), Holding())
            (found.newest if key else found.past).add(meta.size)
        if usage.total.objects % _STEP == 0:
            yield usage.total.objects
    yield usage


def _kind(meta: ObjectMeta, place: str | None, live: set[str], collector: Collector) -> str:
    if place is None:
        return next((kind for prefix, kind in _PREFIXES.items() if meta.key.startswith(prefix)), "other")
    if place in live and place.startswith(VECTORS):
        return "vectors"
    if place in live:
        return "datasets" if meta.key != place else "deltas"
    return "pending" if collector.is_young(meta.modified) else "garbage"


def _owners(snapshot: Snapshot, bucket: str) -> dict[str, DatasetKey]:
    """Whose what the newest version has in a bucket is, or in those that it rescues: datasets and indexes by places."""
    return {
        part.place: key for key, part in _parts(snapshot) if bucket in {home(snapshot.buckets, part.bucket), RESCUE}
    }


def _parts(snapshot: Snapshot) -> Iterator[tuple[DatasetKey, Part]]:
    for dataset in snapshot.datasets.values():
        yield from ((dataset.key, part) for part in parts_of(dataset))
    for index in snapshot.indexes.values():
        yield index.key, parts_of_index(index)


def _directory_name(place: str) -> str:
    return unquote(place.split("/")[1])
