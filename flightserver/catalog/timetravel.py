"""Earlier versions: the snapshot of any version or time, and what happened to a dataset.

Theory of operation: a snapshot is replayed from the nearest one below it that is at hand: one of the recently used,
or a checkpoint. Commit times never go back along the log, so that the version of a time is found by bisection,
which reads some twenty commits of a log of a million.

Invariant: `_lock` guards `_recent`. Replaying happens outside of it; two threads that want the same version at the
same time both replay it, which is harmless.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flightserver.catalog.entities import Bucket
from flightserver.catalog.snapshot import Snapshot
from flightserver.catalog.updates import CreateDataset
from flightserver.errors import InternalError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.catalog.checkpoints import Checkpoints
    from flightserver.catalog.entities import Dataset, DatasetKey
    from flightserver.catalog.log import Commit, CommitLog, Recorded

_RECENT = 8
"""Snapshots kept for queries that look at the same past; one of 10,000 datasets takes some 30 MB."""


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """One change of a dataset.

    Attributes:
        version: The commit.
        time: Its time, UTC.
        kind: The kind of the operation, such as `append`.
        detail: What the operation says of itself.
        user: Who did it.
        rows: How many rows the dataset had afterwards.
    """

    version: int
    time: datetime
    kind: str
    detail: str
    user: str
    rows: int


class TimeTravel:
    """Finds earlier snapshots.

    Args:
        log: The commit log.
        checkpoints: What replaying may start from.
    """

    def __init__(self, log: CommitLog, checkpoints: Checkpoints) -> None:
        self._log = log
        self._checkpoints = checkpoints
        self._lock = threading.Lock()
        self._recent: OrderedDict[int, Snapshot] = OrderedDict()

    def at_version(self, version: int, newest: Snapshot, *, tagged: bool = False) -> Snapshot:
        """Return the snapshot of a version; `tagged` says that a tag keeps what the caller is going to read of it.

        Raises:
            NotFound: There is no such version, or its files may be gone; the message says which there are.
        """
        first = 1 if tagged else newest.horizon
        if not first <= version <= newest.version:
            old = "" if version >= first or version < 1 else ": it is older than files are kept (bucket.collect)"
            msg = f"the catalog has no version {version}{old}; there are {first} to {newest.version}"
            raise NotFound(msg)
        if version == newest.version:
            return newest
        with self._lock:
            found = self._recent.get(version)
            below = max((each for each in self._recent if each < version), default=0)
            start = self._recent.get(below)
        if found is None:
            found = self._replay(version, start)
        with self._lock:
            self._recent[version] = found
            self._recent.move_to_end(version)
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        return found

    def at_time(self, time: datetime, newest: Snapshot) -> Snapshot:
        """Return the snapshot that was the newest at a time; without a zone that is UTC.

        Raises:
            NotFound: The catalog is younger; the message says how old it is.
        """
        wanted = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        if wanted >= newest.time:
            return newest
        first = self._commit(1).time
        if wanted < first:
            msg = (
                f"the catalog didn't exist at {wanted.isoformat()}; its versions are from "
                f"{first.isoformat()} to {newest.time.isoformat()}"
            )
            raise NotFound(msg)
        low, high = 1, newest.version
        while high - low > 1:
            middle = (low + high) // 2
            if self._commit(middle).time <= wanted:
                low = middle
            else:
                high = middle
        return self.at_version(low, newest)

    def commits(self, newest: int, *, after: int = 0, newest_first: bool = False) -> Iterator[Commit]:
        """Yield the commits behind `after` up to `newest`, reading each when its turn comes."""
        versions = range(newest, after, -1) if newest_first else range(after + 1, newest + 1)
        return (self._commit(version) for version in versions)

    def history(self, dataset: Dataset) -> list[DatasetVersion]:
        """Return the changes of a dataset since its creation, newest first."""
        changes: list[tuple[Commit, Recorded]] = []
        key = dataset.key
        for commit in self.commits(dataset.version, newest_first=True):
            for transaction in reversed(commit.transactions):
                if not any(update.touches(key) for update in transaction.updates):
                    continue
                changes.append((commit, transaction))
                for update in reversed(transaction.updates):
                    key = update.key_before(key)
                if _creates(transaction, dataset.id):
                    return _versions(dataset, changes)
        msg = f"the catalog's log doesn't tell of the creation of dataset {dataset.key}"
        raise InternalError(msg)

    def _replay(self, version: int, start: Snapshot | None) -> Snapshot:
        checkpoint = self._checkpoints.newest(at_most=version)
        snapshot = max(
            (each for each in (start, checkpoint) if each), key=lambda each: each.version, default=Snapshot()
        )
        for commit in self.commits(version, after=snapshot.version):
            snapshot = snapshot.apply(commit)
        return snapshot

    def _commit(self, version: int) -> Commit:
        commit = self._log.read(version)
        if commit is None:
            msg = f"commit {version} is missing from the catalog's log: restore it"
            raise InternalError(msg)
        return commit


def _creates(transaction: Recorded, dataset_id: str) -> bool:
    return any(isinstance(each, CreateDataset) and each.dataset.id == dataset_id for each in transaction.updates)


def _versions(dataset: Dataset, changes: list[tuple[Commit, Recorded]]) -> list[DatasetVersion]:
    """Replay the changes of one dataset, given newest first, to know its rows after each."""
    draft = Snapshot().draft(changes[-1][0].time)
    key: DatasetKey | None = None
    found: list[DatasetVersion] = []
    for commit, transaction in reversed(changes):
        for update in transaction.updates:
            if isinstance(update, CreateDataset) and update.dataset.id == dataset.id:
                key = update.dataset.key
            if key is not None and update.touches(key):
                after = update.key_after(key)
                for bucket in {key.bucket, after.bucket}:
                    draft.put_bucket(Bucket(bucket, backend=""))
                update.apply(draft, commit.version, commit.time)
                key = after
        operation = transaction.operation
        rows = 0 if key is None else draft.datasets[key].rows
        found.append(
            DatasetVersion(commit.version, commit.time, operation.kind, operation.detail, operation.user, rows)
        )
    return found[::-1]
