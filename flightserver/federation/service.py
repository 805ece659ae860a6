"""The life of a bucket: made, looked at, changed, renamed, dropped.

Theory of operation: a bucket is a description in the catalog. Its place is made and tried before the commit that names
it, so that whoever is killed in between leaves an empty place and a claim to it (`flightserver.federation.claims`), and
the same request works afterwards. What may not change between looking and committing is a requirement of the commit.
Objects are deleted after the commit that drops their bucket, and only those that a version of this catalog names, and
staging: other things that lie in the same place aren't ours. Vector indexes of its datasets go with a bucket wherever
they are; what lies of those in other buckets is garbage there (`flightserver.tables.collecting`).

Every change ends with a look of the keeper at the catalog; other servers take it up at their next look.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.bucket_rules import check_beside, check_free_name, check_new_name, local_root, place_of
from flightserver.catalog.bucket_updates import RenameBucket
from flightserver.catalog.entities import LOCAL, PRIMARY, RESCUE, Bucket, PutLimits
from flightserver.catalog.migration import home
from flightserver.catalog.missing import no_bucket
from flightserver.catalog.requirements import BucketFits, BucketHolds, BucketUnchanged
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import DropBucket, DropView, PutBucket
from flightserver.errors import (
    BackendUnavailable,
    CommitConflict,
    FlightserverError,
    InvalidRequest,
)
from flightserver.federation.claims import check_claim, claim, release
from flightserver.federation.lifecycle import withdraw
from flightserver.federation.places import LocalRoots, check_place, check_s3_bucket, make_directory, make_s3_bucket
from flightserver.federation.probing import check_usable, probe
from flightserver.storage import posix
from flightserver.storage.objects import STAGING, TEMPORARY
from flightserver.tables.collecting import keys_begin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.log import Operation
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.federation.keeping import Keeper
    from flightserver.federation.opening import Opener
    from flightserver.federation.probing import Probe
    from flightserver.storage.buckets import Buckets, OpenBucket
    from flightserver.tables.collecting import Collector

_log = logging.getLogger(__name__)

KEEP = "keep"
DELETE = "delete"

_STEP = 1000
"""Objects between two reports."""
_NAMED = 5
"""Names that a message lists."""
_MIB = 2**20
LEAST_LIMIT = 8 * _MIB
"""Manifests, small deltas and checkpoints are puts too."""
MOST_LIMIT = 5 * 1024 * _MIB
"""Of one put on S3 (PutObject)."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a drop is: objects deleted of those that are known of so far."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was dropped.

    Attributes:
        datasets: How many datasets and attached datasets were in the bucket.
        objects: How many objects were deleted.
        indexes: How many vector indexes were in the bucket, or in others about its datasets.
    """

    datasets: int
    objects: int
    indexes: int


class BucketService:
    """Changes buckets. All methods may be called from any thread, and by several servers at once.

    Args:
        catalog: What there is.
        buckets: Those that are open.
        opener: Opens them.
        keeper: Told of changes.
        collector: Knows what versions name.
        roots: Where local buckets may be made.
    """

    def __init__(  # what it changes and whom it asks
        self,
        catalog: Catalog,
        buckets: Buckets,
        opener: Opener,
        keeper: Keeper,
        collector: Collector,
        roots: LocalRoots,
    ) -> None:
        self._catalog = catalog
        self._buckets = buckets
        self._opener = opener
        self._keeper = keeper
        self._collector = collector
        self._roots = roots

    def create(self, wanted: Bucket, operation: Operation, *, make: bool = False) -> Bucket:
        """Create a bucket.

        Args:
            wanted: Its description; `root` as it was asked for.
            operation: Who does it.
            make: Whether its S3 bucket is made, unless it is there and ours.

        Raises:
            InvalidRequest: Name, root or S3 place can't be.
            AlreadyExists: There is such a bucket, or another of this or of another lakehouse lies in the same place.
            BackendUnavailable: The place doesn't answer, can't be written, or ignores conditional puts.
        """
        check_new_name(wanted.name)
        there = list(self._catalog.snapshot().buckets.values())
        check_free_name(wanted.name, there)
        bucket = self._roots.placed(wanted, there) if wanted.backend == LOCAL else check_place(wanted)
        check_beside(bucket, there)
        if bucket.s3 is None:
            make_directory(self._opener.root(bucket))
            if self._roots.placed(wanted, there) != bucket:
                msg = f"the root of bucket {bucket.name!r} was changed while it was made: try again"
                raise InvalidRequest(msg)
        elif make:
            make_s3_bucket(self._opener.access(bucket.s3))
        else:
            check_s3_bucket(self._opener.access(bucket.s3))
        opened = self._opener.open_strictly(bucket)
        check_usable(opened)
        claim(bucket, opened, self._catalog)
        self._commit_new(bucket, operation)
        claim(bucket, opened, self._catalog)
        self._keeper.refresh()
        self._keeper.check(bucket.name)
        return bucket

    def check(self, name: str) -> Probe:
        """Find out what a bucket can do, now. One whose claim is lost is claimed again.

        Raises:
            NotFound: There is no such bucket.
        """
        bucket = self._bucket(self._catalog.snapshot(), name)
        self._keeper.refresh()
        opened = self._buckets.get(name)
        found = probe(opened, self._keeper.look)
        if found.reachable:
            self._keeper.check(name)
        if found.writable and name != PRIMARY:
            claim(bucket, opened, self._catalog)
        return found

    def check_own(self, name: str) -> None:
        """Return when what lies in a bucket is this lakehouse's. Raises as `check_claim`."""
        check_claim(self._buckets.get(name), self._catalog)

    def drop(self, name: str, contents: str | None, operation: Operation) -> Iterator[Step | Dropped]:
        """Drop a bucket; whoever stops iterating leaves objects that weren't deleted yet.

        Args:
            name: Its name.
            contents: What becomes of the files of its datasets and vector indexes: `keep` or `delete`; None for a
                bucket without any.
            operation: Who does it.

        Yields:
            Steps and, last, the result.

        Raises:
            NotFound: There is no such bucket.
            InvalidRequest: It can't be dropped, or it isn't empty and nobody said what becomes of it.
            CommitConflict: Something was made in it meanwhile.
            BackendUnavailable: Its objects are to be deleted and can't be.
        """
        if name in {PRIMARY, RESCUE}:
            msg = f"bucket {name!r} can't be dropped: {'it holds the catalog' if name == PRIMARY else 'others need it'}"
            raise InvalidRequest(msg)
        snapshot = self._catalog.snapshot()
        bucket = self._bucket(snapshot, name)
        datasets = [key for key in snapshot.datasets if key.bucket == name]
        views = [key for key in snapshot.views if key.bucket == name]
        indexes = sorted(key for key in snapshot.indexes if key.bucket == name)
        names = tuple(sorted(key.name for key in (*datasets, *views, *indexes)))
        if names and contents is None:
            there = [*sorted(key.name for key in (*datasets, *views)), *(f"vector index {key.name}" for key in indexes)]
            msg = (
                f"bucket {name!r} isn't empty, it has {_listed(there)}: say by `contents` what becomes of their files, "
                f"{KEEP!r} or {DELETE!r}"
            )
            raise InvalidRequest(msg)
        _check_unused(snapshot, bucket)
        opened = self._buckets.get(name)
        if contents == DELETE:
            _check_reachable(opened, self._keeper.look)
        if bucket.lifecycle:
            _withdraw(opened, bucket)
        dropped = tuple(DropView(key.bucket, key.name, views=True) for key in views)
        requirements = (BucketUnchanged(bucket), BucketHolds(name, names))
        health = self._keeper.health(name)
        self._catalog.commit(Transaction(operation, (*dropped, DropBucket(name, views=True)), requirements))
        self._keeper.refresh()
        deleted = 0
        if contents == DELETE:
            for step in self._delete(opened, (name, *bucket.former)):
                deleted = step.done
                yield step
        if (contents == DELETE or not names) and (health is None or health.reachable):
            release(opened, self._catalog)
        if contents == DELETE:
            self._remove_directories(opened, bucket)
        yield Dropped(len(datasets), deleted, _indexes_dropped(snapshot, name))

    def rename(self, name: str, to: str, operation: Operation) -> Bucket:
        """Call a bucket by another name. No object moves.

        Raises:
            NotFound: There is no such bucket.
            InvalidRequest: The name can't be, or the bucket's name is fixed.
            AlreadyExists: Another bucket has the name, had it, or has its URL scheme.
            CommitConflict: Somebody else changed the bucket meanwhile.
        """
        if fixed := {name, to} & {PRIMARY, RESCUE}:
            msg = f"bucket {name!r} can't be renamed to {to!r}: {min(fixed)!r} is a fixed name"
            raise InvalidRequest(msg)
        check_new_name(to)
        snapshot = self._catalog.snapshot()
        bucket = self._bucket(snapshot, name)
        root = local_root(bucket) if bucket.backend == LOCAL else ""
        after = replace(bucket, name=to, root=root)
        # Under its own name nothing changes, and it can't take a former name of its own for another's.
        others = [each for each in snapshot.buckets.values() if each.name != name or to == name]
        check_beside(after, others)
        requirements = (BucketUnchanged(bucket), BucketFits(after, instead_of=name))
        self._catalog.commit(Transaction(operation, (RenameBucket(name, to, root),), requirements))
        self._keeper.renamed(name, to)
        self._keeper.refresh()
        return after

    def set_limits(
        self, name: str, put_bytes: int | None, vector_put_bytes: int | None, operation: Operation
    ) -> PutLimits:
        """Change how large puts may be; None keeps a limit.

        Raises:
            NotFound: There is no such bucket.
            InvalidRequest: A limit is too small or too large.
            CommitConflict: Somebody else changed the bucket meanwhile.
        """
        for field, value in (("put_bytes", put_bytes), ("vector_put_bytes", vector_put_bytes)):
            if value is not None and not LEAST_LIMIT <= value <= MOST_LIMIT:
                msg = f"{field} is {value:,}: expected {LEAST_LIMIT:,} to {MOST_LIMIT:,} bytes"
                raise InvalidRequest(msg)
        bucket = self._bucket(self._catalog.snapshot(), name)
        before = bucket.limits or PutLimits()
        limits = PutLimits(
            before.put_bytes if put_bytes is None else put_bytes,
            before.vector_put_bytes if vector_put_bytes is None else vector_put_bytes,
        )
        changed = PutBucket(replace(bucket, limits=limits))
        self._catalog.commit(Transaction(operation, (changed,), (BucketUnchanged(bucket),)))
        self._keeper.refresh()
        return limits

    def _commit_new(self, bucket: Bucket, operation: Operation) -> None:
        try:
            self._catalog.commit(Transaction(operation, (PutBucket(bucket),), (BucketFits(bucket),)))
        except CommitConflict as error:
            if BucketFits.refused(error):
                # Another server was faster: what it made is what the message is about.
                check_beside(bucket, self._catalog.snapshot().buckets.values())
            raise

    def _bucket(self, snapshot: Snapshot, name: str) -> Bucket:
        found = snapshot.buckets.get(name)
        if found is None:
            raise no_bucket(name, snapshot.buckets)
        if home(snapshot.buckets, name) != name:
            msg = f"bucket {name!r} is an old name of {PRIMARY!r}: catalog.migrate_buckets mends what refers to it"
            raise InvalidRequest(msg)
        return found

    def _delete(self, opened: OpenBucket, names: Sequence[str]) -> Iterator[Step]:
        """Delete what versions name in the bucket, and staging."""
        done = 0
        try:
            prefixes = [STAGING, *sorted(map(keys_begin, self._collector.places(names)))]
            for number, prefix in enumerate(prefixes, 1):
                for meta in opened.objects.list(prefix):
                    if prefix.endswith("/") or meta.key == prefix:
                        opened.objects.delete(meta.key)
                        done += 1
                if number % _STEP == 0:
                    yield Step("delete", done, 0)
        except FlightserverError as error:
            msg = (
                f"bucket {opened.name!r} is dropped, but only {done} of its objects were deleted: {error.message}; "
                "what is left is no part of the lakehouse any more"
            )
            raise BackendUnavailable(msg) from error
        yield Step("delete", done, done)

    def _remove_directories(self, opened: OpenBucket, dropped: Bucket) -> None:
        """Remove the directories of a local bucket that is dropped, unless one was made there again meanwhile."""
        there = self._catalog.snapshot().buckets.values()
        if opened.local_root is None or any(place_of(one) == place_of(dropped) for one in there):
            return
        for directory in (TEMPORARY, STAGING, ""):
            with suppress(OSError):  # what isn't empty holds something that isn't ours
                posix.remove_directory(str(opened.local_root / directory))


def _check_reachable(opened: OpenBucket, look: Callable[[OpenBucket], str | None]) -> None:
    error = probe(opened, look).error
    if error is not None:
        msg = (
            f"the objects of bucket {opened.name!r} can't be deleted: {error}; with contents {KEEP!r} it is dropped "
            "all the same"
        )
        raise BackendUnavailable(msg)


def _withdraw(opened: OpenBucket, bucket: Bucket) -> None:
    """Take its rules from the S3 server, as far as it answers: what they would delete is named by no version."""
    try:
        withdraw(opened, bucket)
    except FlightserverError:
        _log.warning("lifecycle rules of a dropped bucket stay", extra={"bucket": bucket.name}, exc_info=True)


def _check_unused(snapshot: Snapshot, bucket: Bucket) -> None:
    """Return when no dataset of another bucket has files in this one."""
    names = {bucket.name, *bucket.former}
    using = [
        str(dataset.key)
        for dataset in snapshot.datasets.values()
        if dataset.bucket != bucket.name and not names.isdisjoint(_homes(dataset))
    ]
    if using:
        msg = (
            f"bucket {bucket.name!r} can't be dropped: files of {_listed(sorted(using))} lie there; dataset.compact "
            "with sort_by, or dataset.move, writes them anew"
        )
        raise InvalidRequest(msg)


def _indexes_dropped(snapshot: Snapshot, bucket: str) -> int:
    """How many vector indexes go with a bucket: those in it, and those of its datasets wherever they are."""
    datasets = {one.id for one in snapshot.datasets.values() if one.bucket == bucket}
    return sum(one.bucket == bucket or one.dataset_id in datasets for one in snapshot.indexes.values())


def _homes(dataset: Dataset) -> set[str]:
    """Buckets that files of a dataset are in."""
    return {each.bucket for each in dataset.segments} | {each.bucket for each in dataset.deltas}


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
