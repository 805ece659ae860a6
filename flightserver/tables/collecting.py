"""Collecting garbage: deleting files that no version within retention names.

Theory of operation: the log says of every file when it became part of a dataset. What is in the snapshot at the
beginning of the retention window, or is named by a commit after it, is live; so are the files of tagged versions. A
segment is live with its whole directory. That a compacted segment names others as its origins keeps none of them.
Generations of vector indexes are live in the same way, but for tags: versions are searched by the generations that
indexes have now, so that a tag keeps none. Anything else under `datasets/` and `_vectors/` whose key has the form of a
file of ours is garbage, unless it is younger than the grace period: whoever wrote it may be about to commit it. What
doesn't look like ours is never touched.

Before anything is deleted, the beginning of the window becomes the catalog's horizon, by a commit. From then on older
versions are refused to readers, and nobody can restore or tag one (`flightserver.tables.versions.Kept`: a
commit that brings old files back requires the horizon that it was prepared under). What was brought back before is in
the log before that commit; so the commits since the first look are read once more, and what they name is spared.
Nothing else brings files back: other commits name new files, which the grace period protects, or ones that the version
before them has.

A process that dies while it deletes leaves garbage, which the next collection finds.

Invariants: nothing is deleted before the horizon is committed. The horizon never goes back, and a longer retention than
before doesn't bring back what was given up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from flightserver.catalog.catalog import utc_now
from flightserver.catalog.entities import RESCUE, DatasetKey, Delta, Segment
from flightserver.catalog.indexes import Generation
from flightserver.catalog.migration import home
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import SetHorizon, TagVersion
from flightserver.errors import InvalidRequest, NotFound
from flightserver.storage.limits import VECTORS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.log import Operation
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.storage.buckets import Buckets
    from flightserver.storage.objects import Objects

DATASETS = "datasets/"
"""Where files of datasets lie. What is collected lies there, and below `VECTORS`."""

_ULID = "[0-7][0-9A-HJKMNP-TV-Z]{25}"
_OURS = re.compile(
    rf"(?P<directory>datasets/[^/]+/{_ULID})/(?:part-\d{{5,}}\.parquet|_segment\.json|_origin\.parquet)"
    rf"|(?P<file>datasets/[^/]+/deltas/{_ULID}\.parquet|{VECTORS}[^/]+/{_ULID}\.idx)"
)
_STEP = 1000
"""Objects between two reports."""

_EXAMPLES = 20

MOST_HOURS = 876_000
"""A hundred years, longer than any catalog has been there, so that no clock runs out of numbers."""

Place = tuple[str, str]
"""Bucket, and the directory of a segment or the key of a delta or of a generation of a vector index."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a collection is: objects looked at (of an unknown number, 0) or deleted."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection has deleted, or would delete.

    Attributes:
        bucket: Where.
        objects: How many were deleted.
        bytes: Their size.
        kept: How many others lie under `datasets/` and `_vectors/`.
        horizon: The oldest version that can be read now.
        examples: The first keys that were deleted.
    """

    bucket: str
    objects: int
    bytes: int
    kept: int
    horizon: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Unnamed:
    """An object that nothing names: `place` says what it is a part of."""

    place: Place
    key: str
    size: int


class Collector:
    """Deletes what is too old to be read. All methods may be called from any thread, and by several servers at once.

    Args:
        catalog: Says what is live.
        buckets: Where files lie.
        retention_hours: How long versions can be read after another has taken their place.
        grace_hours: How long a file may lie before the commit that names it.
        clock: Tells the time, UTC.

    Raises:
        InvalidRequest: A period is negative or longer than `MOST_HOURS`.
    """

    def __init__(
        self,
        catalog: Catalog,
        buckets: Buckets,
        *,
        retention_hours: float,
        grace_hours: float,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._catalog = catalog
        self._buckets = buckets
        self._retention = _period(retention_hours, "catalog.retention_hours")
        self._grace = _period(grace_hours, "catalog.collect_grace_hours")
        self._clock = clock

    def collect(
        self, bucket: str, operation: Operation, *, older_than_hours: float | None = None, dry_run: bool = False
    ) -> Iterator[Step | Collected]:
        """Delete the garbage of one bucket; whoever stops iterating stops it.

        Args:
            bucket: Its name.
            operation: Who does it, for the commit that moves the horizon.
            older_than_hours: A retention other than the usual.
            dry_run: Whether to change nothing and only say what would be deleted.

        Yields:
            Steps and, last, the result.

        Raises:
            NotFound: There is no such bucket.
            InvalidRequest: The retention is negative or too long.
            BackendUnavailable: The bucket doesn't answer, or has gone.
        """
        window = self._retention if older_than_hours is None else _period(older_than_hours, "older_than_hours")
        opened = self._buckets.get(bucket)
        lost = opened.lost()
        if lost is not None:
            raise lost
        objects = opened.objects
        now = self._clock()
        newest = self._catalog.snapshot()
        oldest = self._oldest(newest, now - window)
        bucket = home(newest.buckets, bucket)
        live = _at_home(newest, self._live(oldest, newest.version))
        garbage: list[_Unnamed] = []
        looked_at = 0
        for meta in chain(objects.list(DATASETS), objects.list(VECTORS)):
            place = place_of(meta.key)
            if place is not None and (bucket, place) not in live and meta.modified <= now - self._grace:
                garbage.append(_Unnamed((bucket, place), meta.key, meta.size))
            looked_at += 1
            if looked_at % _STEP == 0:
                yield Step("list", looked_at, 0)
        horizon = oldest if garbage else newest.horizon
        if garbage and not dry_run:
            after = self._move_horizon(newest, oldest, operation)
            horizon = after.horizon
            brought_back = _at_home(newest, self._named_between(newest.version, after.version))
            garbage = [one for one in garbage if one.place not in brought_back]
            yield from _delete(objects, garbage)
        yield Collected(
            bucket=bucket,
            objects=len(garbage),
            bytes=sum(one.size for one in garbage),
            kept=looked_at - len(garbage),
            horizon=horizon,
            examples=tuple(one.key for one in garbage[:_EXAMPLES]),
        )

    def live(self) -> set[Place]:
        """What a version within retention names, under the names that buckets have now."""
        newest = self._catalog.snapshot()
        return _at_home(newest, self._live(self._oldest(newest, self._clock() - self._retention), newest.version))

    def is_young(self, modified: datetime) -> bool:
        """Whether the commit that names a file of that time may be still to come."""
        return modified > self._clock() - self._grace

    def is_fresh(self, modified: datetime) -> bool:
        """Whether a file of that time stays for half of the grace period, whatever collections run or will."""
        return modified > self._clock() - self._grace / 2

    def places(self, names: Collection[str]) -> frozenset[str]:
        """Directories and keys in a bucket, by all names that it has and had, that versions which can be read name."""
        newest = self._catalog.snapshot()
        return frozenset(place for bucket, place in self._live(newest.horizon, newest.version) if bucket in names)

    def _oldest(self, newest: Snapshot, start: datetime) -> int:
        """The version that could be read when the window began, or the horizon when that is newer."""
        try:
            return min(self._catalog.snapshot_at(start).version, newest.version)
        except NotFound:
            return newest.horizon

    def _live(self, oldest: int, newest: int) -> Iterator[Place]:
        """Files of all versions from `oldest` to `newest`, and of those that a tag in one of these names."""
        start = self._catalog.snapshot_at(oldest, tagged=True)
        for one in (*start.datasets.values(), *start.indexes.values()):
            yield from _named(one)
        yield from self._tagged(
            (dataset.id, version) for dataset in start.datasets.values() for version in dataset.tags.values()
        )
        yield from self._named_between(oldest, newest)

    def _named_between(self, after: int, until: int) -> Iterator[Place]:
        """Files that the commits behind version `after` up to `until` name, and those of versions that they tag."""
        tagged: list[tuple[str, int]] = []
        for commit in self._catalog.commits(after=after):
            if commit.version > until:
                break
            for update in (update for transaction in commit.transactions for update in transaction.updates):
                yield from _named(update)
                if isinstance(update, TagVersion) and update.tagged is not None:
                    snapshot = self._catalog.snapshot_at(commit.version, tagged=True)
                    dataset = snapshot.datasets.get(DatasetKey(update.bucket, update.name))
                    if dataset is not None:
                        tagged.append((dataset.id, update.tagged))
        yield from self._tagged(tagged)

    def _tagged(self, tags: Iterable[tuple[str, int]]) -> Iterator[Place]:
        """Files of datasets, given by their ids, at versions."""
        for version, dataset_id in sorted({(version, dataset_id) for dataset_id, version in tags}):
            snapshot = self._catalog.snapshot_at(version, tagged=True)
            for dataset in snapshot.datasets.values():
                if dataset.id == dataset_id:
                    yield from _named(dataset)

    def _move_horizon(self, newest: Snapshot, oldest: int, operation: Operation) -> Snapshot:
        """Give up what is older than `oldest`; the snapshot after that."""
        if oldest > newest.horizon:
            self._catalog.commit(Transaction(operation, (SetHorizon(oldest),)))
        return self._catalog.snapshot()


def _at_home(newest: Snapshot, places: Iterable[Place]) -> set[Place]:
    """The places, under the names that their buckets have now: earlier versions know them by others.

    The rescue bucket has copies of what is anywhere, so that each place is one there too.
    """
    found = {(home(newest.buckets, bucket), place) for bucket, place in places}
    copies = {(RESCUE, place) for _, place in found} if RESCUE in newest.buckets else set()
    return found | copies


def _delete(objects: Objects, garbage: Sequence[_Unnamed]) -> Iterator[Step]:
    for number, one in enumerate(garbage):
        if number % _STEP == 0:
            yield Step("delete", number, len(garbage))
        objects.delete(one.key)


def place_of(key: str) -> str | None:
    """The segment's directory, or the delta or generation, that an object belongs to; None for what isn't ours."""
    found = _OURS.fullmatch(key)
    return None if found is None else found["directory"] or found["file"]


def keys_begin(place: str) -> str:
    """What the keys of all objects of a place begin with: itself, but for the directory of a segment."""
    return place if place_of(place) == place else f"{place}/"


def _named(value: object) -> Iterator[Place]:
    """Segments, deltas and generations in an update, a dataset or an index, however deep."""
    if isinstance(value, Segment):
        yield value.bucket, value.directory
    elif isinstance(value, Delta | Generation):
        yield value.bucket, value.key
    elif isinstance(value, tuple):
        for each in value:
            yield from _named(each)
    elif isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            yield from _named(getattr(value, field))


def _period(hours: float, setting: str) -> timedelta:
    if not 0 <= hours <= MOST_HOURS:
        msg = f"{setting} is {hours:g}: expected 0 to {MOST_HOURS} hours"
        raise InvalidRequest(msg)
    return timedelta(hours=hours)
