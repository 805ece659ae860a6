"""Transactions of several statements.

Theory of operation: a transaction is an id that a client sends with its statements. At its first statement it takes a
snapshot, which it reads from then on, with its own changes on top (`flightserver.catalog.staging`); nothing of it is
visible to others before it is committed, and then all is. Files of a transaction that ends without a commit are
deleted; those of a server that dies are unnamed files.

Isolation is snapshot isolation: two transactions that change the same rows, or the same definition, conflict, and the
first to commit wins. Two that read what the other changes don't (write skew).

A savepoint (`flightserver.query.savepoints`) is set in a transaction and its id begins with that of the transaction, so
that no other map need know it. What a rollback to it undoes is deleted at once.

Transactions live in one process. One with changes that wasn't used for `idle_seconds` is rolled back, by a thread that
begins with the first transaction; one that has only read holds nothing but a snapshot and begins anew with its next
statement, so that connections which are open for days and never commit don't break.

Clients that keep prepared statements over commits (ADBC's cursors, JDBC) name the transaction in which a statement was
prepared, which has ended, and mean the one that they have begun since. So a transaction that begins on the
connection on which another has ended is that one's successor (`current`). Whatever else names a transaction means that
one alone.

Locking: `_lock` guards the maps. Statements of one transaction run one at a time, under its own lock; what it has
staged, its savepoints and its end change under it. A transaction's lock is never waited for under `_lock`.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flightserver.catalog.log import Operation
from flightserver.catalog.staging import StagedTransaction
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import CommitConflict, LimitExceeded, NotFound
from flightserver.periodic import Periodic, seconds_between_looks
from flightserver.query.savepoints import Savepoints
from flightserver.tables.rebase import REFUSED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.updates import Update
    from flightserver.tables.writes import Tables

_ID_BYTES = 16
_MAX_OPEN = 10_000
"""Each connection of a client without autocommit has one; one that has only read takes about 1 KiB."""

_SAVEPOINT = b"."
"""Stands between the id of a transaction, which is hexadecimal, and the number of its savepoint."""

_NUMBER_DIGITS = 18
"""More savepoints than a transaction can set, and few enough for a cheap `int`."""

_DETAIL_KINDS = 8
"""Statements that the commit log names of a transaction."""


class Transaction:
    """One transaction; use as an argument of `Request`."""

    def __init__(
        self, transaction_id: bytes, user: str, catalog: Catalog, clock: Callable[[], float], idle_seconds: float
    ) -> None:
        self.id = transaction_id
        self._idle_seconds = idle_seconds
        self.user = user
        self.lock = threading.RLock()
        self._catalog = catalog
        self._clock = clock
        self._staged: StagedTransaction | None = None
        self._savepoints = Savepoints()
        self.ended = ""
        self.used = clock()

    @property
    def has_changes(self) -> bool:
        """Whether something would be lost without a commit."""
        return self._staged is not None and bool(self._staged.updates)

    def staged(self) -> StagedTransaction:
        """What it reads and where its changes go; the first use takes the snapshot.

        Raises:
            NotFound: It has ended.
        """
        with self.lock:
            if self.ended:
                raise NotFound(f"this transaction {self.ended}: begin another")
            idle = self._clock() - self.used > self._idle_seconds
            self.used = self._clock()
            if self._staged is None or (idle and not self.has_changes):
                self._staged = StagedTransaction(self._catalog.snapshot())
                self._savepoints.move(self._staged.mark())
            return self._staged

    @contextmanager
    def statement(self) -> Iterator[StagedTransaction]:
        """Run a statement that changes something: none other runs meanwhile, and idle time counts from its end.

        Raises:
            NotFound: As `staged`.
        """
        with self.lock:
            try:
                yield self.staged()
            finally:
                self.used = self._clock()

    def snapshot(self) -> Snapshot:
        """What its next statement reads."""
        return self.staged().snapshot()

    def set_savepoint(self, name: str) -> int:
        """Mark its state as it is now; returns the number of the savepoint.

        Raises:
            NotFound: The transaction has ended.
            LimitExceeded: It has too many savepoints.
        """
        with self.lock:
            return self._savepoints.set(name, self.staged().mark())

    def release(self, number: int) -> None:
        """End a savepoint; nothing is undone.

        Raises:
            NotFound: The transaction has ended, or the savepoint has.
        """
        with self.lock:
            self.staged()
            self._savepoints.release(number)

    def back_to(self, number: int) -> list[Update]:
        """Undo what came after a savepoint; returns the updates undone.

        Raises:
            NotFound: As `release`.
        """
        with self.lock:
            staged = self.staged()
            return staged.back_to(self._savepoints.back_to(number))

    def is_idle(self) -> bool:
        """Whether it has changes and wasn't used for long enough to be rolled back."""
        return self.has_changes and self._clock() - self.used > self._idle_seconds

    def take(self, how: str) -> StagedTransaction | None:
        """End it; returns what it has staged. The caller holds its lock.

        Raises:
            NotFound: It has ended before.
        """
        if self.ended:
            raise NotFound(f"this transaction {self.ended} before")
        self.ended = how
        staged, self._staged = self._staged, None
        self._savepoints = Savepoints()
        return staged


class Transactions:
    """The open transactions of this process. All methods may be called from any thread.

    Args:
        catalog: Gives snapshots.
        tables: Commits and discards.
        idle_seconds: After how long without a statement a transaction with changes is rolled back.
        clock: Monotonic seconds.
    """

    def __init__(
        self, catalog: Catalog, tables: Tables, *, idle_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._catalog = catalog
        self._tables = tables
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._open: OrderedDict[bytes, Transaction] = OrderedDict()
        self._ended: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._successors: OrderedDict[bytes, bytes] = OrderedDict()
        self._looks = Periodic("idle-transactions", self.expire, seconds_between_looks(idle_seconds))

    def begin(self, user: str, peer: str = "") -> bytes:
        """Begin a transaction; returns its id, which is the right to use it.

        Args:
            user: Whose it is.
            peer: The connection on which it begins; empty when that is not known.

        Raises:
            LimitExceeded: Too many that have changed something are open.
        """
        self._looks.start()
        self.expire()
        transaction = Transaction(
            secrets.token_hex(_ID_BYTES).encode(), user, self._catalog, self._clock, self._idle_seconds
        )
        with self._lock:
            if len(self._open) >= _MAX_OPEN:
                own_first = sorted(self._open.values(), key=lambda one: one.user != user)
                idle = next((one for one in own_first if not one.has_changes), None)
                if idle is None:
                    raise LimitExceeded(f"{_MAX_OPEN:,} transactions with changes are open: commit or roll back some")
                del self._open[idle.id]
            self._open[transaction.id] = transaction
            before = self._ended.pop((user, peer), None)
            if before is not None:
                self._successors[before] = transaction.id
                if len(self._successors) > _MAX_OPEN:
                    self._successors.popitem(last=False)
        return transaction.id

    def current(self, transaction_id: bytes) -> Transaction:
        """As `get`, but of one that has ended its successor.

        Raises:
            NotFound: As `get`.
        """
        with self._lock:
            newest = self._newest(transaction_id)
        return self.get(newest)

    def get(self, transaction_id: bytes) -> Transaction:
        """The open transaction of an id.

        Raises:
            NotFound: There is none: it has ended, or was idle for too long, or belongs to another server.
        """
        with self._lock:
            found = self._open.get(transaction_id)
            if found is not None:
                self._open.move_to_end(transaction_id)
                return found
        raise self._unknown()

    def check_owner(self, transaction_id: bytes, user: str) -> None:
        """Return unless a transaction, or that of a savepoint, is another user's.

        Raises:
            NotFound: It is; for others there is no such transaction.
        """
        with self._lock:
            found = self._open.get(self._newest(transaction_id.partition(_SAVEPOINT)[0]))
        if found is not None and found.user != user:
            raise self._unknown()

    def commit(self, transaction_id: bytes, peer: str = "") -> int:
        """End a transaction with all its changes in one commit; returns the rows changed, 0 when it has only read.

        Raises:
            NotFound: As `get`.
            CommitConflict: Others changed the same first; nothing is changed and the transaction has ended.
            LimitExceeded: Storage is full; as above.
        """
        transaction = self._pop(transaction_id, peer)
        with transaction.lock:
            staged = transaction.take("was committed")
            if staged is None or not staged.updates:
                return 0
            more = len(staged.kinds) - _DETAIL_KINDS
            kinds = ", ".join(staged.kinds[:_DETAIL_KINDS]) + (f" and {more} more" if more > 0 else "")
            operation = Operation(
                id=new_ulid(), kind="transaction", detail=kinds, user=transaction.user, rows=staged.rows
            )
            try:
                transaction.ended = "was ended by a commit that failed: look whether its changes are there"
                rows = self._tables.commit_staged(staged, operation).rows
            except REFUSED as error:
                reason = "others changed the same first" if isinstance(error, CommitConflict) else "it was refused"
                transaction.ended = f"was rolled back, because {reason}"
                self._tables.discard(staged.updates)
                raise
            transaction.ended = "was committed"
            return rows

    def roll_back(self, transaction_id: bytes, peer: str = "") -> None:
        """End a transaction without its changes.

        Raises:
            NotFound: As `get`.
        """
        self._discard(self._pop(transaction_id, peer), "was rolled back")

    def begin_savepoint(self, transaction_id: bytes, name: str) -> bytes:
        """Set a savepoint; returns its id.

        Raises:
            NotFound: As `get`.
            LimitExceeded: The transaction has too many.
        """
        transaction = self.get(transaction_id)
        return transaction.id + _SAVEPOINT + b"%d" % transaction.set_savepoint(name)

    def release_savepoint(self, savepoint_id: bytes) -> None:
        """End a savepoint and those set later; what was done since stays part of the transaction.

        Raises:
            NotFound: There is no such savepoint, or it or its transaction has ended.
        """
        transaction, number = self._of_savepoint(savepoint_id)
        transaction.release(number)

    def roll_back_to_savepoint(self, savepoint_id: bytes) -> None:
        """Undo what came after a savepoint, which stays; those set later end.

        Raises:
            NotFound: As `release_savepoint`.
        """
        transaction, number = self._of_savepoint(savepoint_id)
        with transaction.lock:
            self._tables.discard(transaction.back_to(number))

    def _of_savepoint(self, savepoint_id: bytes) -> tuple[Transaction, int]:
        transaction_id, _, number = savepoint_id.partition(_SAVEPOINT)
        if not number.isdigit() or len(number) > _NUMBER_DIGITS:
            raise NotFound("this is no id of a savepoint: take the one that BeginSavepoint answered")
        return self.get(transaction_id), int(number)

    def close_quietly(self, transaction_id: bytes) -> None:
        """Roll back a transaction unless it has ended."""
        with self._lock:
            found = self._open.pop(transaction_id, None)
        if found is not None:
            self._discard(found, "was rolled back")

    def close(self) -> None:
        """Roll back all."""
        self._looks.stop()
        with self._lock:
            left = list(self._open.values())
            self._open.clear()
        for transaction in left:
            self._discard(transaction, "was rolled back, because the server stopped")

    def __len__(self) -> int:
        """How many are open."""
        with self._lock:
            return len(self._open)

    def _newest(self, transaction_id: bytes) -> bytes:
        """The id of a transaction, or of the last one that followed it on its connection."""
        while transaction_id not in self._open and transaction_id in self._successors:
            transaction_id = self._successors[transaction_id]
        return transaction_id

    def _unknown(self) -> NotFound:
        return NotFound(
            "there is no open transaction of this id: it was committed or rolled back, or rolled back after "
            f"{self._idle_seconds:.0f} seconds without a statement, or the server was restarted; begin another"
        )

    def _pop(self, transaction_id: bytes, peer: str) -> Transaction:
        found = self.get(transaction_id)
        with self._lock:
            self._open.pop(transaction_id, None)
            if peer:
                self._ended[found.user, peer] = transaction_id
                if len(self._ended) > _MAX_OPEN:
                    self._ended.popitem(last=False)
        return found

    def _discard(self, transaction: Transaction, how: str) -> None:
        with transaction.lock:
            if transaction.ended:
                return
            staged = transaction.take(how)
            if staged is not None:
                self._tables.discard(staged.updates)

    def expire(self) -> None:
        """Roll back those with changes that were idle for too long; one whose statement runs is not idle."""
        with self._lock:
            idle = [one for one in self._open.values() if one.is_idle()]
        for one in idle:
            if not one.lock.acquire(blocking=False):
                continue
            try:
                # A statement may have begun, or the transaction ended, before the lock was ours.
                if one.is_idle():
                    with self._lock:
                        self._open.pop(one.id, None)
                    self._discard(one, f"was rolled back after {self._idle_seconds:.0f} seconds without a statement")
            finally:
                one.lock.release()
