"""The catalog: the newest snapshot, its past, and the way to the next one.

Theory of operation: a `Catalog` holds the newest snapshot that it has read. Before it hands it out it looks for the
next commit in the log, one look-up of a key, so that the commits of other processes are seen at once. To commit,
transactions are proposed on the newest snapshot and written under the next number; if somebody else took the
number, their commit is read and the proposal is made again, so that requirements always hold in the version right
before. What is lost by that is only a race that somebody else has won: the log as a whole always advances.

Isolation is snapshot isolation: a reader sees one version. Two transactions that read the same and change different
things may both commit, unless a requirement says what must not have changed.

Invariants: `_current` is replaced under `_advance`, and only by a newer version, which is the log's; it is read
without the lock. One thread at a time appends, see `flightserver.catalog.group`.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from flightserver.catalog.checkpoints import Checkpoints
from flightserver.catalog.entities import LOCAL, PRIMARY, Bucket
from flightserver.catalog.group import Entry, GroupCommit
from flightserver.catalog.log import Commit, CommitLog, Operation, Recorded, new_commit_id, readable
from flightserver.catalog.proposal import propose
from flightserver.catalog.snapshot import Snapshot
from flightserver.catalog.timetravel import DatasetVersion, TimeTravel
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import PutBucket
from flightserver.errors import AlreadyExists, CommitConflict, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flightserver.catalog.draft import Outcome
    from flightserver.catalog.entities import Dataset
    from flightserver.storage.objects import Objects

__all__ = ["Catalog", "DatasetVersion"]

_log = logging.getLogger(__name__)

_LOCAL_PRIMARY = Bucket(PRIMARY, LOCAL)

_ATTEMPTS = 1_000
"""Races for a number lost in a row before giving up. Each is another's commit, so that this takes minutes."""


def utc_now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


class Catalog:
    """The catalog of one lakehouse; all methods may be called from any thread. Use `open`.

    Args:
        objects: The primary bucket.
        checkpoint_every: Commits between two checkpoints.
        server: Which server this is, for the log.
        clock: Tells the time, UTC.
        primary: What a new catalog says of the primary bucket.
    """

    def __init__(
        self,
        objects: Objects,
        *,
        checkpoint_every: int,
        server: str,
        clock: Callable[[], datetime] = utc_now,
        primary: Bucket = _LOCAL_PRIMARY,
    ) -> None:
        if checkpoint_every < 1:
            msg = f"checkpoint_every is {checkpoint_every}, but must be at least 1"
            raise InvalidRequest(msg)
        self._server = server
        self._primary = primary
        self._clock = clock
        self._log = CommitLog(objects)
        self._checkpoints = Checkpoints(objects, checkpoint_every)
        self._past = TimeTravel(self._log, self._checkpoints)
        self._group: GroupCommit[Transaction, Outcome] = GroupCommit(self._commit_group)
        self._advance = threading.Lock()
        self._current = Snapshot()

    @classmethod
    def open(
        cls,
        objects: Objects,
        *,
        checkpoint_every: int = 64,
        server: str = "",
        clock: Callable[[], datetime] = utc_now,
        primary: Bucket = _LOCAL_PRIMARY,
    ) -> Self:
        """Open the catalog in a bucket, and create it if there is none.

        Args:
            objects: The primary bucket.
            checkpoint_every: Commits between two checkpoints.
            server: Which server this is, for the log.
            clock: Tells the time, UTC.
            primary: What a new catalog says of the primary bucket.

        Raises:
            InternalError: The log has a hole or a commit that can't be read, or a newer release wrote it.
            BackendUnavailable: The bucket doesn't answer.
        """
        catalog = cls(objects, checkpoint_every=checkpoint_every, server=server, clock=clock, primary=primary)
        catalog._load()
        return catalog

    @classmethod
    def existing(cls, objects: Objects) -> Self | None:
        """Read the catalog of a bucket, or return None if there is none; for one who looks and changes nothing.

        Raises:
            InternalError: The log has a hole or a commit that can't be read, or a newer release wrote it.
            BackendUnavailable: The bucket doesn't answer.
        """
        catalog = cls(objects, checkpoint_every=1, server="")
        catalog._replay()
        return catalog if catalog.known.version else None

    @property
    def known(self) -> Snapshot:
        """The newest snapshot that this process has met; storage isn't asked."""
        return self._current

    def snapshot(self) -> Snapshot:
        """Return the newest snapshot, with the commits of all processes until now."""
        current = self._current
        if not self._log.has(current.version + 1):
            return current
        with self._advance:
            current = self._current
            while (commit := self._log.read(current.version + 1)) is not None:
                current = current.apply(commit)
                self._current = current
        return current

    def snapshot_at(self, at: int | datetime, *, tagged: bool = False) -> Snapshot:
        """Return the snapshot of a version, or the one that was the newest at a time (without a zone: UTC).

        `tagged` says that a tag keeps what the caller is going to read, so that the horizon doesn't count.

        Raises:
            NotFound: The version doesn't exist, or the catalog didn't at the time; the message says what does.
        """
        newest = self.snapshot()
        if isinstance(at, datetime):
            return self._past.at_time(at, newest)
        return self._past.at_version(at, newest, tagged=tagged)

    def commit(self, transaction: Transaction) -> Outcome:
        """Commit a transaction, durably when this returns.

        An operation that is committed already isn't again: its recorded outcome is returned. After an error other than
        those below the operation may or may not be committed; committing it again with the same id is right.

        Raises:
            CommitConflict: A requirement doesn't hold in the newest version.
            RequestError: An update doesn't fit the newest version.
            BackendUnavailable: Storage failed.
            LimitExceeded: Storage is full.
        """
        if not transaction.operation.id:
            msg = "a transaction's operation has no id"
            raise InvalidRequest(msg)
        recorded = readable(Recorded(transaction.operation, transaction.updates))
        return self._group.submit(Transaction(recorded.operation, recorded.updates, transaction.requirements))

    def commits(self, *, after: int = 0, newest_first: bool = False) -> Iterator[Commit]:
        """Yield the commits behind version `after` up to the newest, reading each when its turn comes."""
        return self._past.commits(self.snapshot().version, after=after, newest_first=newest_first)

    def history(self, dataset: Dataset) -> list[DatasetVersion]:
        """Return the changes of a dataset up to the version given, newest first."""
        return self._past.history(dataset)

    def close(self) -> None:
        """Wait for what runs in the background. Nothing is lost without it: a commit is durable when it returns."""
        self._checkpoints.close()

    def _load(self) -> None:
        replayed = self._replay()
        if not self._current.version:
            self._create()
        _log.info("catalog opened", extra={"version": self._current.version, "replayed": replayed})

    def _replay(self) -> int:
        """Read what there is; how many commits that were, besides a checkpoint."""
        snapshot = self._checkpoints.newest() or Snapshot()
        if snapshot.version:
            self._log.check_reaches(snapshot.version)
        replayed = 0
        for commit in self._log.after(snapshot.version):
            snapshot = snapshot.apply(commit)
            replayed += 1
        self._current = snapshot
        return replayed

    def _create(self) -> None:
        """Write commit 1; another process may do so at the same time, and either is right."""
        operation = Operation(id=f"create-{new_commit_id()}", kind="create catalog")
        updates = (PutBucket(self._primary),)
        commit = Commit(1, self._clock(), self._server, (Recorded(operation, updates),), new_commit_id())
        try:
            self._log.append(commit)
        except AlreadyExists:
            _log.info("catalog created by another process")
        self.snapshot()

    def _commit_group(self, group: Sequence[Entry[Transaction, Outcome]]) -> None:
        """Commit what can be committed of a group; runs on one thread at a time."""
        for _ in range(_ATTEMPTS):
            try:
                self._log.confirm()
                proposal = propose(self.snapshot(), [entry.request for entry in group], self._clock(), self._server)
                if proposal.commit.transactions:
                    self._log.append(proposal.commit)
            except AlreadyExists:
                continue
            break
        else:
            msg = (
                f"other servers took the next version {_ATTEMPTS} times in a row; nothing was changed, a retry is safe"
            )
            raise CommitConflict(msg)
        self._adopt(proposal.snapshot)
        for entry, outcome in zip(group, proposal.outcomes, strict=True):
            entry.outcome = outcome
        if proposal.commit.transactions:
            self._checkpoints.offer(proposal.snapshot)

    def _adopt(self, snapshot: Snapshot) -> None:
        """Make a snapshot current, unless a reader has found its commit in the log already."""
        with self._advance:
            if snapshot.version > self._current.version:
                self._current = snapshot
