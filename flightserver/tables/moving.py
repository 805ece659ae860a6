"""Moving a dataset to another bucket, and copying the files of one.

Theory of operation: every file of the newest version is copied to the same key in the other bucket, and one commit then
gives the dataset its new home (`flightserver.catalog.move_updates`). Readers see one or the other. Files in the old
home stay for versions before the move, which are read there, until `bucket.collect` finds that none within
retention names them. A process that dies on the way leaves the dataset where it was, and copies that nothing names.

The commit requires that the dataset is as it was when its files were copied. When others commit meanwhile, what they
have added is copied, and the commit tried again; so writers never fail because of a move that doesn't come about.

A copy that is there already is used again, as far as no collection can be about to delete it: when it is young, as is
what an interrupted move has left, or when a version that can be read names it, as after moving there and back. For the
latter the commit requires that the horizon hasn't moved (`flightserver.tables.collecting`), and where it has, all
copies are looked at again. Other copies are in the way until they are collected; they aren't written over, because no
key ever is.

The bucket that becomes the home must still be the one that files were copied to (`flightserver.tables.homes`).

Invariants: at the commit every file is in the new home, durably, with the size it has in the old one. Memory is bounded
by `_CHUNK_BYTES`, whatever files hold.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from msgspec.structs import replace

from flightserver.catalog.missing import no_bucket
from flightserver.catalog.requirements import Kept, SameBucket
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import MoveDataset
from flightserver.errors import AlreadyExists, BackendUnavailable, CommitConflict, InvalidRequest, NotFound
from flightserver.tables.beside import files_beside, is_nowhere, keys_beside
from flightserver.tables.homes import written_to
from flightserver.tables.plan import refuse_external
from flightserver.tables.reading import unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Dataset, DatasetKey
    from flightserver.catalog.indexes import VectorIndex
    from flightserver.catalog.log import Operation
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.storage.buckets import Buckets, OpenBucket
    from flightserver.storage.objects import ObjectMeta
    from flightserver.tables.collecting import Collector, Place

_CHUNK_BYTES = 8 * 1024 * 1024
_ATTEMPTS = 50
"""Commits of one move. Each refusal is another's commit to the same dataset, or a collection."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a copy is, in bytes of files that the catalog names."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move has done.

    Attributes:
        key: The dataset, in its new home.
        source: The bucket that was its home.
        version: The commit.
        objects: How many files were copied.
        bytes: Their size.
        already: How many more were in the new home already.
    """

    key: DatasetKey
    source: str
    version: int
    objects: int
    bytes: int
    already: int


@dataclass(frozen=True, slots=True)
class Part:
    """What is copied together: a segment with all that is in its directory, a delta, or a generation of an index.

    Attributes:
        bucket: Where it is.
        place: The directory, or the key of the delta or generation.
        keys: Of the files that hold its rows or vectors.
        optional: Of those that may lie beside them (`flightserver.tables.beside`).
        bytes: Size of the former.
    """

    bucket: str
    place: str
    keys: tuple[str, ...]
    optional: tuple[str, ...]
    bytes: int

    @property
    def prefix(self) -> str:
        """What the keys of its files begin with."""
        return f"{self.place}/" if self.optional else self.place


@dataclass(frozen=True, slots=True)
class Copied:
    """Files that were copied, their bytes, and how many were there already."""

    objects: int = 0
    bytes: int = 0
    already: int = 0

    def __add__(self, other: Copied) -> Copied:
        return Copied(self.objects + other.objects, self.bytes + other.bytes, self.already + other.already)


def parts_of(dataset: Dataset) -> Iterator[Part]:
    """All that a version of a dataset names."""
    for segment in dataset.segments:
        beside = keys_beside(segment.directory)
        yield Part(segment.bucket, segment.directory, tuple(segment.object_keys()), beside, segment.bytes)
    for delta in dataset.deltas:
        yield Part(delta.bucket, delta.key, (delta.key,), (), delta.bytes)


def parts_of_index(index: VectorIndex) -> Part:
    """All that a version of a vector index names: its generation."""
    generation = index.generation
    return Part(generation.bucket, generation.key, (generation.key,), (), generation.bytes)


def copied_parts(
    buckets: Buckets, parts: Sequence[Part], to: str, may_stay: Callable[[ObjectMeta, Part], bool]
) -> Generator[Step, None, Copied]:
    """Copy the files of parts that a bucket lacks, to the same keys there.

    Args:
        buckets: Where they are.
        parts: What to copy.
        to: Name of the bucket.
        may_stay: Whether a copy that is there already can be relied upon.

    Yields:
        How far it is.

    Raises:
        BackendUnavailable: A file is missing or has another size than the catalog says, or a bucket doesn't answer.
        AlreadyExists: A file is in the way.
        LimitExceeded: The generation of an index is larger than a put may be there.
    """
    target = buckets.get(to)
    lost = target.lost() if parts else None
    if lost is not None:
        raise lost
    total = sum(part.bytes for part in parts)
    copied, before = Copied(), 0
    for part in parts:
        done = before
        with closing(_copied_part(buckets, target, part, may_stay)) as copying:
            while True:
                try:
                    done += next(copying)
                except StopIteration as end:
                    copied += end.value
                    break
                yield Step("copy", min(done, before + part.bytes), total)
        before += part.bytes
    return copied


def _copied_part(
    buckets: Buckets, target: OpenBucket, part: Part, may_stay: Callable[[ObjectMeta, Part], bool]
) -> Generator[int, None, Copied]:
    """Copy the files of one part; yields bytes that were copied, or found there, since the last time."""
    source = buckets.get(part.bucket)
    there = {meta.key: meta for meta in target.objects.list(part.prefix)}
    copied, size = Copied(), 0
    beside, certain = files_beside(source, part.place) if part.optional else ((), True)
    for key in (*part.keys, *beside):
        file = _opened(buckets, source, key, may_be_nowhere=not certain and key in beside)
        if file is None:
            continue
        with file:
            expected = _size(file)
            if part.keys == (key,):
                _check_size(source, part, expected)
            found = there.get(key)
            if found is None:
                yield from _copy(file, target, key, expected)
            else:
                _check_copy(found, target, expected, may_stay(found, part))
                yield expected
        copied += Copied(1, expected) if found is None else Copied(already=1)
        size += expected if key in part.keys else 0
    _check_size(source, part, size)
    return copied


def _opened(buckets: Buckets, source: OpenBucket, key: str, *, may_be_nowhere: bool) -> BinaryIO | None:
    """A file that is to be copied, or None when no bucket has it and that may be."""
    try:
        return source.reading.open(key)
    except NotFound as error:
        if not may_be_nowhere:
            raise unreadable(source, key, error) from error
        if is_nowhere(buckets, source, key, error):
            return None
    # A bucket that was silent a moment ago has it, and has answered by now.
    return _opened(buckets, source, key, may_be_nowhere=False)


def _check_size(source: OpenBucket, part: Part, size: int) -> None:
    """Return when the files of a part have the size that the catalog says, before others take them for whole."""
    if size != part.bytes:
        msg = (
            f"the files of {part.place!r} in bucket {source.name!r} have {size:,} bytes and should have "
            f"{part.bytes:,}: restore them from a backup"
        )
        raise source.lost() or BackendUnavailable(msg)


def _size(file: BinaryIO) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size


def _copy(file: BinaryIO, target: OpenBucket, key: str, size: int) -> Iterator[int]:
    with target.objects.writer(key) as writer:
        while chunk := file.read(_CHUNK_BYTES):
            writer.write(chunk)
            yield len(chunk)
        written = writer.tell()
        if written == size:
            try:
                written = writer.commit().size
            except AlreadyExists:  # another copy of the same file came first
                found = target.objects.head(key)
                written = -1 if found is None else found.size
    if written != size:
        msg = (
            f"object {key!r} of {size:,} bytes can't be copied to bucket {target.name!r}: {written:,} bytes came there"
        )
        raise BackendUnavailable(msg)


def _check_copy(found: ObjectMeta, target: OpenBucket, size: int, may_stay: bool) -> None:  # noqa: FBT001  # a fact, not a switch
    where = f"object {found.key!r} of bucket {target.name!r}"
    if found.size != size:
        msg = f"{where} is in the way: it has {found.size:,} bytes, and what is to be copied there has {size:,}"
        raise AlreadyExists(msg)
    if not may_stay:
        msg = (
            f"{where} is in the way: it was left there long ago and may be collected at any moment; "
            f"run bucket.collect on bucket {target.name!r}, and then again what you asked for"
        )
        raise AlreadyExists(msg)


class Copies:
    """What a move has copied to another bucket, over all of its attempts to commit.

    A copy that was there already may have been relied upon because a readable version named it. When the horizon has
    moved since, that version may be given up and the copy deleted; so all copies are looked at again then.

    Args:
        buckets: Where files lie.
        collector: Knows which of them nobody deletes.
        to: Name of the other bucket.

    Attributes:
        target: The other bucket, which the commit requires to be the same still.

    Raises:
        NotFound: There is no such bucket.
    """

    def __init__(self, buckets: Buckets, collector: Collector, to: str) -> None:
        self._buckets = buckets
        self._collector = collector
        self._to = to
        self.target = buckets.get(to)
        self._done: set[Place] = set()
        self._horizon: int | None = None
        self._live: set[Place] | None = None
        self._copied = Copied()

    @property
    def total(self) -> Copied:
        """All files that were copied, and how many more were there already."""
        return Copied(self._copied.objects, self._copied.bytes, max(0, self._copied.already))

    def add(self, parts: Iterable[Part], horizon: int) -> Generator[Step]:
        """Copy what the other bucket lacks of some parts, as of a snapshot with this horizon.

        Yields:
            How far it is.

        Raises:
            As `copied_parts`.
        """
        if horizon != self._horizon:
            self._horizon, self._live = horizon, None
            self._done.clear()
            # Those that were copied will be found there, and counted.
            self._copied = Copied(self._copied.objects, self._copied.bytes, -self._copied.objects)
        wanted = [part for part in parts if (part.bucket, part.place) not in self._done]
        self._copied += yield from copied_parts(self._buckets, wanted, self._to, self._may_stay)
        self._done.update((part.bucket, part.place) for part in wanted)

    def _may_stay(self, meta: ObjectMeta, part: Part) -> bool:
        if self._collector.is_fresh(meta.modified):
            return True
        self._live = self._collector.live() if self._live is None else self._live
        return (self._to, part.place) in self._live


class Mover:
    """Moves datasets. All methods may be called from any thread, and by several servers at once.

    Args:
        catalog: Where datasets are known.
        buckets: Where their files lie.
        collector: Knows which files nobody deletes.
    """

    def __init__(self, catalog: Catalog, buckets: Buckets, collector: Collector) -> None:
        self._catalog = catalog
        self._buckets = buckets
        self._collector = collector

    def move(self, key: DatasetKey, to: str, operation: Operation) -> Generator[Step | Moved]:
        """Give a dataset another home; whoever stops iterating stops it, and the dataset stays where it is.

        Args:
            key: The dataset.
            to: Name of the other bucket.
            operation: Who does it.

        Yields:
            Steps and, last, the result.

        Raises:
            NotFound: There is no such dataset or bucket.
            InvalidRequest: It is there already, or attached, so that its files are others'.
            AlreadyExists: The bucket has a dataset or view of its name, or files that are to be collected first.
            CommitConflict: Others changed the dataset again and again meanwhile.
            BackendUnavailable: A file can't be read or written.
        """
        copies = Copies(self._buckets, self._collector, to)
        for attempt in range(1, _ATTEMPTS + 1):
            snapshot = self._catalog.snapshot()
            dataset = snapshot.dataset(key.name, key.bucket)
            self._check(snapshot, dataset, to)
            elsewhere = (part for part in parts_of(dataset) if self._buckets.get(part.bucket).name != to)
            yield from copies.add(elsewhere, snapshot.horizon)
            moved = MoveDataset(
                dataset.bucket,
                dataset.name,
                to,
                tuple(replace(segment, bucket=to) for segment in dataset.segments),
                tuple(replace(delta, bucket=to) for delta in dataset.deltas),
                views=True,
            )
            kept = Kept(dataset.bucket, dataset.name, dataset.version, snapshot.horizon)
            try:
                outcome = self._catalog.commit(Transaction(operation, (moved,), (kept, *written_to(copies.target))))
            except CommitConflict as error:
                if attempt == _ATTEMPTS or SameBucket.refused(error):
                    raise
                continue
            home, copied = replace(dataset, bucket=to).key, copies.total
            yield Moved(home, dataset.bucket, outcome.version, copied.objects, copied.bytes, copied.already)
            return

    def _check(self, snapshot: Snapshot, dataset: Dataset, to: str) -> None:
        if to not in snapshot.buckets:
            raise no_bucket(to, snapshot.buckets)
        refuse_external(dataset)
        if dataset.bucket == to:
            msg = f"dataset {dataset.key} can't be moved to bucket {to!r}: it is there; name another bucket"
            raise InvalidRequest(msg)
        target = replace(dataset, bucket=to).key
        if target in snapshot.datasets or target in snapshot.views:
            kind = "dataset" if target in snapshot.datasets else "view"
            msg = f"dataset {dataset.key} can't be moved to bucket {to!r}, which has a {kind} of the name: rename one"
            raise AlreadyExists(msg)
