"""Mirrors: copies in the bucket `rescue` of what other buckets hold, from which reads are served when those can't.

Theory of operation: a mirror of a dataset or vector index is every file that its newest version names, under the same
key in `rescue` (`flightserver.federation.rescue` reads them). What is there with the right size isn't copied again. A
bucket whose description says so (`Bucket.mirrored`) is kept mirrored by a thread, and so is a dataset
(`Dataset.mirrored`) with its indexes, in whatever buckets they are: it looks at all datasets and indexes from time to
time and copies what has been added. Several servers may do so on the same data; one of two that copy the same file
finds it there.

What refers to a bucket by an old name (`flightserver.catalog.migration`) is part of the bucket where its files lie.

What newer versions no longer name stays in `rescue` as long as in the home bucket: `bucket.collect` deletes there
what no version within retention names, of whatever bucket.

Only the thread touches `_known`, the parts of datasets and indexes that it has seen in `rescue`; it forgets them each
`_AGAIN_SECONDS` and looks again, because somebody may have lost or replaced that bucket.

How old a mirror is, is told by bucket: since a look began that found all in `rescue` that is to be kept there of what
is in that bucket. What was committed later may be missing. A look that fails or hangs makes it older.

Invariant: `_lock` guards `_whole` and `_failures`; no storage is asked under it.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.entities import RESCUE, Dataset
from flightserver.catalog.migration import home
from flightserver.catalog.missing import no_bucket
from flightserver.catalog.requirements import BucketUnchanged, DatasetUnchangedSchema
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import MirrorDataset, PutBucket
from flightserver.errors import FlightserverError, InvalidRequest, NotFound
from flightserver.federation.opening import check_there
from flightserver.periodic import STOP_SECONDS, Periodic
from flightserver.tables.moving import Copied, Step, copied_parts, parts_of, parts_of_index
from flightserver.telemetry import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Bucket, DatasetKey
    from flightserver.catalog.indexes import VectorIndex
    from flightserver.catalog.log import Operation
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.storage.buckets import Buckets
    from flightserver.storage.objects import ObjectMeta
    from flightserver.tables.moving import Part
    from flightserver.telemetry import Events

MIRRORED = "mirrored"
"""Kind of the event of a dataset or vector index whose mirror the thread has brought up to date."""
FAILED = Trouble("mirror failed")
"""Kind of the event of a dataset or vector index that the thread couldn't mirror."""

_AGAIN_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What mirroring has done.

    Attributes:
        bucket: Whose datasets and vector indexes.
        objects: How many files were copied to `rescue`.
        bytes: Their size.
        already: How many more were there.
        continuous: Whether `rescue` is kept a mirror of the bucket, or of the dataset: by itself or with its bucket.
    """

    bucket: str
    objects: int
    bytes: int
    already: int
    continuous: bool


class Mirror:
    """Mirrors buckets and datasets, now or all the time; `start` begins the latter, `stop` ends it.

    Args:
        catalog: Where datasets and indexes are known.
        buckets: Where their files lie.
        events: Told what the thread does.
        seconds: Between two looks of the thread.
        clock: Steady seconds.
    """

    def __init__(
        self,
        catalog: Catalog,
        buckets: Buckets,
        events: Events,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._buckets = buckets
        self._events = events
        self._clock = clock
        self._known: set[tuple[str, str]] = set()
        self._known_since = clock()
        self._lock = threading.Lock()
        self._whole: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._looks = Periodic("bucket-mirror", self.look, seconds)

    def start(self) -> None:
        """Start the thread."""
        self._looks.start()

    def stop(self) -> None:
        """End the thread; a copy that runs is given up, and a bucket that hangs isn't waited for."""
        self._looks.stop(STOP_SECONDS)

    def ages(self) -> dict[str, float]:
        """Seconds since the mirror of each bucket that is kept mirrored, whole or in part, was whole.

        Where it never was since the start they are those since it was first looked at.
        """
        now = self._clock()
        with self._lock:
            return {bucket: now - whole for bucket, whole in self._whole.items()}

    def failures(self) -> dict[str, int]:
        """How often the thread couldn't mirror a dataset or index of each bucket."""
        with self._lock:
            return dict(self._failures)

    def mirror(self, bucket: str, dataset: str | None = None) -> Generator[Step | Mirrored]:
        """Copy to `rescue` what it lacks of a bucket; whoever stops iterating stops it.

        Args:
            bucket: Whose datasets and vector indexes.
            dataset: One of its datasets alone, and the indexes of that, in whatever bucket they are.

        Yields:
            Steps and, last, the result.

        Raises:
            NotFound: There is no such bucket or dataset, or no bucket `rescue`.
            InvalidRequest: The bucket is `rescue`, or the dataset attached.
            AlreadyExists: An object of another size has the key of a file.
            LimitExceeded: An index is larger than a put below `_vectors/` may be in `rescue`.
            BackendUnavailable: A file can't be read or written, or the bucket has gone.
        """
        snapshot = self._catalog.snapshot()
        place = _mirrorable(snapshot, bucket)
        wanted: list[Dataset | VectorIndex]
        if dataset is None:
            every: tuple[Dataset | VectorIndex, ...] = (*snapshot.datasets.values(), *snapshot.indexes.values())
            wanted = [one for one in every if home(snapshot.buckets, one.bucket) == place.name]
            continuous = place.mirrored
        else:
            found = snapshot.dataset(dataset, bucket)
            _refuse_attached(found)
            wanted = [found, *(one for one in snapshot.indexes.values() if one.dataset_id == found.id)]
            continuous = found.mirrored or place.mirrored
        copied = yield from self._copy(self._parts(wanted))
        if not copied.objects + copied.already:  # nothing was asked of the bucket yet
            check_there(self._buckets.get(place.name))
        yield Mirrored(place.name, copied.objects, copied.bytes, copied.already, continuous)

    def keep(self, bucket: str, operation: Operation, *, continuous: bool) -> Mirrored:
        """Say whether `rescue` is to be kept a mirror of a bucket, and copy nothing yet.

        Raises:
            NotFound: There is no such bucket, or no bucket `rescue`.
            InvalidRequest: The bucket is `rescue`.
            CommitConflict: Somebody changed the bucket's description at the same time.
        """
        found = _mirrorable(self._catalog.snapshot(), bucket)
        if found.mirrored != continuous:
            changed = PutBucket(replace(found, mirrored=continuous))
            self._catalog.commit(Transaction(operation, (changed,), (BucketUnchanged(found),)))
        return Mirrored(found.name, 0, 0, 0, continuous)

    def keep_dataset(self, key: DatasetKey, operation: Operation, *, continuous: bool) -> Mirrored:
        """Say whether `rescue` is to be kept a mirror of a dataset and its indexes, wherever they are; as `keep`.

        Raises:
            NotFound: There is no such dataset or, to begin with it, no bucket `rescue`.
            InvalidRequest: To begin with it, the dataset is attached or in `rescue`.
            CommitConflict: Somebody dropped the dataset or changed its columns at the same time.
        """
        snapshot = self._catalog.snapshot()
        found = snapshot.dataset(key.name, key.bucket)
        if continuous:
            _mirrorable(snapshot, key.bucket)
            _refuse_attached(found)
        if found.mirrored != continuous:
            same = DatasetUnchangedSchema(key.bucket, key.name, found.id, found.schema_fingerprint)
            changed = MirrorDataset(key.bucket, key.name, continuous)
            self._catalog.commit(Transaction(operation, (changed,), (same,)))
        place = snapshot.buckets[home(snapshot.buckets, key.bucket)]
        return Mirrored(place.name, 0, 0, 0, continuous or place.mirrored)

    def look(self) -> None:
        """Bring the mirrors that are to be kept up to date, once."""
        now = self._clock()
        if now - self._known_since >= _AGAIN_SECONDS:
            self._known.clear()
            self._known_since = now
        try:
            snapshot = self._catalog.snapshot()
        except FlightserverError as error:
            self._events.record(FAILED, error=error.message, code=error.code)
            return
        if RESCUE not in snapshot.buckets:
            return
        buckets = {name for name, bucket in snapshot.buckets.items() if bucket.mirrored}
        datasets = {one.id for one in snapshot.datasets.values() if one.mirrored}
        every: list[Dataset | VectorIndex] = [*snapshot.datasets.values(), *snapshot.indexes.values()]
        wanted: dict[str, list[Dataset | VectorIndex]] = {name: [] for name in buckets}
        for one in every:
            dataset_id = one.id if isinstance(one, Dataset) else one.dataset_id
            place = home(snapshot.buckets, one.bucket)
            if dataset_id in datasets or place in buckets:
                wanted.setdefault(place, []).append(one)
        with self._lock:
            self._whole = {place: self._whole.get(place, now) for place in wanted}
        for place, there in wanted.items():
            mirrored = [self._look_at(one, snapshot, place) for one in there if not self._looks.stopped.is_set()]
            if all(mirrored) and not self._looks.stopped.is_set():
                with self._lock:
                    self._whole[place] = now

    def _look_at(self, one: Dataset | VectorIndex, snapshot: Snapshot, place: str) -> bool:
        """Copy what `rescue` lacks of a dataset or index of the bucket `place`; whether it lacks nothing now."""
        try:
            parts = [part for part in self._parts([one]) if (part.bucket, part.place) not in self._known]
            copied = self._copied_unless_stopped(parts) if parts else None
        except FlightserverError as error:
            self._fail(one, snapshot, place, error=error.message, code=error.code)
            return False
        except OSError as error:
            self._fail(one, snapshot, place, error=error.strerror or "input/output error")
            return False
        if copied is not None:
            self._known.update((part.bucket, part.place) for part in parts)
            if copied.objects:
                self._tell(MIRRORED, one, snapshot, **asdict(copied))
        return copied is not None or not parts

    def _fail(self, one: Dataset | VectorIndex, snapshot: Snapshot, place: str, **detail: object) -> None:
        with self._lock:
            self._failures[place] = self._failures.get(place, 0) + 1
        self._tell(FAILED, one, snapshot, **detail)

    def _tell(self, kind: str, one: Dataset | VectorIndex, snapshot: Snapshot, **detail: object) -> None:
        """Record an event; that of an index is one of its dataset, and names the index."""
        if isinstance(one, Dataset):
            self._events.record(kind, one.bucket, one.name, **detail)
            return
        dataset = snapshot.dataset_of(one)
        bucket, name = ("", "") if dataset is None else dataset.key
        self._events.record(kind, bucket, name, index=str(one.key), **detail)

    def _copied_unless_stopped(self, parts: Iterable[Part]) -> Copied | None:
        with closing(self._copy(parts)) as copying:
            while not self._looks.stopped.is_set():
                try:
                    next(copying)
                except StopIteration as end:
                    copied: Copied = end.value
                    return copied
        return None

    def _parts(self, wanted: Iterable[Dataset | VectorIndex]) -> list[Part]:
        """All parts of these that aren't in `rescue` as their home."""
        every = (
            part for one in wanted for part in (parts_of(one) if isinstance(one, Dataset) else [parts_of_index(one)])
        )
        return [part for part in every if self._buckets.get(part.bucket).name != RESCUE]

    def _copy(self, parts: Iterable[Part]) -> Generator[Step, None, Copied]:
        return copied_parts(self._buckets, tuple(parts), RESCUE, _may_stay)


def _may_stay(_meta: ObjectMeta, _part: Part) -> bool:
    """Any copy in `rescue` of what the newest version of a dataset or index names is live there."""
    return True


def _mirrorable(snapshot: Snapshot, bucket: str) -> Bucket:
    found = snapshot.buckets.get(home(snapshot.buckets, bucket))
    if found is None:
        raise no_bucket(bucket, snapshot.buckets)
    if found.name == RESCUE:
        msg = f"bucket {RESCUE!r} can't be mirrored: mirrors of others are in it; name another bucket"
        raise InvalidRequest(msg)
    if RESCUE not in snapshot.buckets:
        msg = (
            f"bucket {bucket!r} can't be mirrored: there is no bucket {RESCUE!r}, where mirrors are; make it with "
            f"`flightserver buckets create {RESCUE}`, or the action bucket.create, on another disk or store"
        )
        raise NotFound(msg)
    return found


def _refuse_attached(dataset: Dataset) -> None:
    if dataset.external is not None:
        msg = f"dataset {dataset.key} is attached ({dataset.external.format}): its files are others', who keep copies"
        raise InvalidRequest(msg)
