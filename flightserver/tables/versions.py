"""Versions of a dataset: finding one, naming one, going back to one.

Theory of operation: there is one number line, that of commits. A dataset at version `n` is what it was after commit
`n`, found by its id in the snapshot of `n`, so that it is found under whatever name it had. Its own version, the number
of the commit that had changed it last, is what a tag names.

What can be read: everything from the horizon on, since no file is collected that the horizon's snapshot or a later one
names (`flightserver.tables.collecting`). Of what is older: contents that the dataset still had at the horizon, and
contents that a tag names.

Restoring and tagging make old files matter again, while a collection may be about to delete them. So both require that
the horizon is where it was when the version was found. A collection moves the horizon before it deletes: either
it comes first, and the commit here is refused and looks again; or it comes second, and finds the commit in the log.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.requirements import Kept
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import RestoreDataset, TagVersion
from flightserver.errors import AlreadyExists, BackendUnavailable, CommitConflict, InvalidRequest, NotFound
from flightserver.tables.plan import refuse_external
from flightserver.tables.schema import decode, stored_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from flightserver.catalog.catalog import Catalog, DatasetVersion
    from flightserver.catalog.entities import Dataset, DatasetKey
    from flightserver.catalog.log import Operation
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.storage.buckets import Buckets

Moment = int | str | datetime
"""A version, the name of a tag, or a time."""

_ATTEMPTS = 20
"""Commits of one restore or tag. Each refusal is another's commit to the same dataset, or a collection."""

_TAG_CHARACTERS = 100
_LISTED = 20
"""Tags that a message names."""

_NUMBER = re.compile(r"[+-]?[\d_]*\.?[\d_]+(?:[eE][+-]?\d+)?")


class Versions:
    """Goes back to versions of datasets, and names them. All methods may be called from any thread.

    Args:
        catalog: Knows the versions.
        buckets: Where their files lie.
    """

    def __init__(self, catalog: Catalog, buckets: Buckets) -> None:
        self._catalog = catalog
        self._buckets = buckets

    def restore(self, key: DatasetKey, at: Moment, operation: Operation) -> int:
        """Give a dataset the rows, schema and primary key that it had at a version; its history goes on.

        Returns:
            The version that the dataset has now: that of the commit, or the one it had if nothing was to be changed.

        Raises:
            NotFound: There is no such dataset, version or tag, or its files may be gone.
            InvalidRequest: The dataset is attached.
            BackendUnavailable: A file of the version is missing.
            CommitConflict: The dataset was changed again and again meanwhile.
        """
        return _repeated(lambda: self._restore(key, at, operation))

    def tag(self, key: DatasetKey, tag: str, at: Moment | None, operation: Operation) -> int:
        """Name a version of a dataset, by default the one it has now, which is kept for as long as it is named.

        Returns:
            The version that the tag names: the dataset's own, at or before the one that was asked for.

        Raises:
            NotFound: There is no such dataset, version or tag, or its files may be gone.
            InvalidRequest: This can't be a tag, or the dataset is attached.
            AlreadyExists: The tag names other contents.
            CommitConflict: The dataset was changed again and again meanwhile.
        """
        check_tag(tag)
        return _repeated(lambda: self._tag(key, tag, at, operation))

    def untag(self, key: DatasetKey, tag: str, operation: Operation) -> int:
        """Take a tag away.

        Returns:
            The version that it named.

        Raises:
            NotFound: There is no such dataset or tag.
        """
        dataset = self._catalog.snapshot().dataset(key.name, key.bucket)
        named = _tagged(dataset, tag)
        self._catalog.commit(Transaction(operation, (TagVersion(key.bucket, key.name, tag, None),)))
        return named

    def _restore(self, key: DatasetKey, at: Moment, operation: Operation) -> int:
        snapshot = self._catalog.snapshot()
        now = snapshot.dataset(key.name, key.bucket)
        _, then = dataset_at(self._catalog, now, at)
        if _contents(then) == _contents(now):
            return now.version
        self._check_files(then)
        restored = RestoreDataset(
            key.bucket,
            key.name,
            restored=then.version,
            segments=then.segments,
            deltas=then.deltas,
            schema=then.schema,
            schema_fingerprint=then.schema_fingerprint,
            primary_key=then.primary_key,
            lineage=then.lineage,
            column_tags=_tags_of_restored(now, then),
        )
        kept = Kept(key.bucket, key.name, now.version, snapshot.horizon)
        return self._catalog.commit(Transaction(replace(operation, rows=then.rows), (restored,), (kept,))).version

    def _tag(self, key: DatasetKey, tag: str, at: Moment | None, operation: Operation) -> int:
        snapshot = self._catalog.snapshot()
        now = snapshot.dataset(key.name, key.bucket)
        refuse_external(now)
        named = now if at is None else dataset_at(self._catalog, now, at)[1]
        if tag in now.tags:
            _, known = dataset_at(self._catalog, now, tag)
            if _contents(known) == _contents(named):
                return known.version
            msg = (
                f"tag {tag!r} of dataset {key} names version {known.version}, not {named.version}: delete it first, "
                "or choose another"
            )
            raise AlreadyExists(msg)
        kept = Kept(key.bucket, key.name, now.version, snapshot.horizon)
        tagged = TagVersion(key.bucket, key.name, tag, named.version)
        self._catalog.commit(Transaction(operation, (tagged,), (kept,)))
        return named.version

    def _check_files(self, dataset: Dataset) -> None:
        """Return when every file of the dataset is there with its size."""
        parts = [(segment.bucket, segment.object_keys(), segment.bytes) for segment in dataset.segments]
        parts += [(delta.bucket, [delta.key], delta.bytes) for delta in dataset.deltas]
        for bucket, keys, size in parts:
            objects = self._buckets.get(bucket).reading
            found = [objects.head(key) for key in keys]
            missing = [key for key, meta in zip(keys, found, strict=True) if meta is None]
            has = sum(meta.size for meta in found if meta is not None)
            if missing or has != size:
                problem = (
                    f"file {missing[0]!r} is missing" if missing else f"{keys[0]!r} and its like have {has:,} bytes"
                )
                msg = (
                    f"version {dataset.version} of dataset {dataset.key} can't be restored: in bucket {bucket!r} "
                    f"{problem}, of {size:,} in all: restore it from a backup"
                )
                raise BackendUnavailable(msg)


def dataset_at(catalog: Catalog, dataset: Dataset, at: Moment) -> tuple[Snapshot, Dataset]:
    """A dataset as it was, found by its id, under whatever name it had.

    Args:
        catalog: Knows the versions.
        dataset: As it is, in any snapshot that can be read.
        at: The number of a commit, the name of a tag of the dataset, or a time (without a zone: UTC).

    Returns:
        A snapshot that has the dataset as it was, and the dataset.

    Raises:
        NotFound: It didn't exist then, there is no such version or tag, or its files may be gone; the message says
            what there is.
        InvalidRequest: It is attached: its versions are its owner's.
    """
    if dataset.external is not None:
        msg = (
            f"dataset {dataset.key} is attached ({dataset.external.format}), so that its versions are its owner's: "
            "it can be read as it is now"
        )
        raise InvalidRequest(msg)
    if isinstance(at, str):
        return _at_version(catalog, dataset, _tagged(dataset, at))
    if isinstance(at, datetime):
        return _at_time(catalog, dataset, at)
    return _at_version(catalog, dataset, at)


def moment(dataset: Dataset, given: int | str) -> Moment:
    """What somebody means who writes a version, a tag or a time in one place. A tag of the dataset comes first."""
    if isinstance(given, int) or given in dataset.tags:
        return given
    if given.isascii() and given.isdecimal():
        return int(given)
    try:
        return datetime.fromisoformat(given)
    except ValueError:
        return given


def check_tag(tag: str) -> str:
    """Return `tag` when it can name a version.

    Raises:
        InvalidRequest: It is empty, too long, a number, can't be printed, or has blanks around it.
    """
    problem = None
    if not tag.strip():
        problem = "it is empty"
    elif len(tag) > _TAG_CHARACTERS:
        problem = f"it is longer than {_TAG_CHARACTERS} characters"
    elif not tag.isprintable() or tag != tag.strip():
        problem = "it has a character that can't be printed, or blanks around it"
    elif _NUMBER.fullmatch(tag):
        problem = "a number would be taken for a version"
    if problem is not None:
        msg = f"{tag[:_TAG_CHARACTERS]!r} can't be a tag: {problem}"
        raise InvalidRequest(msg)
    return tag


def _at_version(catalog: Catalog, dataset: Dataset, version: int) -> tuple[Snapshot, Dataset]:
    newest = catalog.snapshot()
    if version > newest.version or version < 1:
        msg = f"dataset {dataset.key} has no version {version}: the newest commit is {newest.version}"
        raise NotFound(msg)
    snapshot = catalog.snapshot_at(version, tagged=True)
    found = _by_id(snapshot, dataset)
    if found is None:
        raise _absent(catalog, dataset, f"version {version}", before=version < dataset.version)
    if version < newest.horizon and found.version not in _readable(catalog, newest, dataset):
        tags = f", or as {_listed(dataset.tags)}" if dataset.tags else ""
        msg = (
            f"version {version} of dataset {dataset.key} is older than files are kept (bucket.collect): it can be read "
            f"from version {newest.horizon} on{tags}"
        )
        raise NotFound(msg)
    return snapshot, found


def _readable(catalog: Catalog, newest: Snapshot, dataset: Dataset) -> set[int]:
    """The dataset's own versions from before the horizon whose files are kept."""
    versions = set(dataset.tags.values())
    for snapshot in (newest, catalog.snapshot_at(newest.horizon, tagged=True)):
        found = _by_id(snapshot, dataset)
        if found is not None:
            versions |= {found.version, *found.tags.values()}
    return versions


def _at_time(catalog: Catalog, dataset: Dataset, time: datetime) -> tuple[Snapshot, Dataset]:
    wanted = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    try:
        snapshot = catalog.snapshot_at(wanted)
    except NotFound:
        # Before the horizon, where the dataset may be readable all the same, or before everything.
        before = [entry.version for entry in _history(catalog, dataset) if entry.time <= wanted]
        if not before:
            raise _absent(catalog, dataset, wanted.isoformat(), before=True) from None
        return _at_version(catalog, dataset, before[0])
    found = _by_id(snapshot, dataset)
    if found is None:
        raise _absent(catalog, dataset, wanted.isoformat(), before=snapshot.version < dataset.version)
    return snapshot, found


def _absent(catalog: Catalog, dataset: Dataset, asked: str, *, before: bool) -> NotFound:
    """The error for a version or time at which the dataset didn't exist."""
    if not before:
        return NotFound(
            f"dataset {dataset.key} didn't exist at {asked}: it was dropped after version {dataset.version}"
        )
    history = _history(catalog, dataset)
    if not history:
        return NotFound(f"dataset {dataset.key} didn't exist at {asked}: it was created in this transaction")
    first = history[-1]
    created = f"it was created by version {first.version}, at {first.time.isoformat()}"
    return NotFound(f"dataset {dataset.key} didn't exist at {asked}: {created}")


def _history(catalog: Catalog, dataset: Dataset) -> Sequence[DatasetVersion]:
    """Its changes, newest first; none of a dataset that isn't committed."""
    newest = catalog.snapshot()
    last_seen = catalog.snapshot_at(min(dataset.version, newest.version), tagged=True)
    known = _by_id(newest, dataset) or _by_id(last_seen, dataset)
    return () if known is None else catalog.history(known)


def _by_id(snapshot: Snapshot, dataset: Dataset) -> Dataset | None:
    found = snapshot.datasets.get(dataset.key)
    if found is not None and found.id == dataset.id:
        return found
    return next((each for each in snapshot.datasets.values() if each.id == dataset.id), None)


def _tagged(dataset: Dataset, tag: str) -> int:
    """The version that a tag names."""
    if tag not in dataset.tags:
        has = f"it has {_listed(dataset.tags)}" if dataset.tags else "it has none"
        msg = f"dataset {dataset.key} has no tag {tag[:_TAG_CHARACTERS]!r}: {has}"
        raise NotFound(msg)
    return dataset.tags[tag]


def _listed(tags: Iterable[str]) -> str:
    names = sorted(tags)
    return ", ".join(map(repr, names[:_LISTED])) + (f" and {len(names) - _LISTED} more" if names[_LISTED:] else "")


def _contents(dataset: Dataset) -> tuple[object, ...]:
    """What restoring brings back."""
    return (dataset.state, dataset.schema, dataset.primary_key, dataset.lineage)


def _tags_of_restored(now: Dataset, then: Dataset) -> dict[str, tuple[str, ...]]:
    """Tags of the columns that come back: what they had then, and what has been said of them since, under any name."""
    renamed = {stored_name(field): field.name for field in decode(now.schema)}
    tags = {}
    for field in decode(then.schema):
        called = renamed.get(stored_name(field), field.name)
        known = (
            then.column_tags.get(field.name, ()),
            now.column_tags.get(field.name, ()),
            now.column_tags.get(called, ()),
        )
        if found := tuple(dict.fromkeys(tag for each in known for tag in each)):
            tags[field.name] = found
    return tags


def _repeated(step: Callable[[], int]) -> int:
    """Do it, and again as long as others come first."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return step()
        except CommitConflict:
            continue
    return step()
