"""Temporary tables: rows that a client sends for its own statements, in memory, seen by nobody else.

Theory of operation: a temporary table belongs to an owner, who is a user in a session, or on a connection when the
client keeps no session. A client whose session begins later keeps the tables that it has made on its connection; a name
that both have means the session's. They are given to each statement of their owner by bare name (`Request.given`), so
that they win over datasets of the same name, which they hide but never change. Rows conform to a canonical schema, as
those of datasets do.

They are no part of any transaction: what is ingested is there at once, and stays when the transaction is rolled back.
Neither do they survive the process. An owner who sends no statement for `idle_seconds` loses them, because a client
that has gone says nothing.

Bounds: all rows together, those that are being sent too, have at most `max_bytes`. A table costs some bytes without any
row, so their number is bounded as well. Statements that still read rows which were let go keep them until their end;
those are not counted.

Invariants: tables and their batches are immutable; an ingestion puts another table in the place of the one that was
there, or nothing when it fails. `_lock` guards the maps, that of `_Budget` its count; neither is held while rows
are read.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from flightserver.catalog.entities import check_dataset_name
from flightserver.errors import AlreadyExists, CommitConflict, InvalidRequest, LimitExceeded, NotFound
from flightserver.periodic import Periodic, seconds_between_looks
from flightserver.tables.requests import Mode
from flightserver.tables.schema import canonical, conform, drift, drift_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_BATCH_ROWS = 32_768
"""As `query.batch_rows`, with which the engine streams fastest."""

_GATHERED_BYTES = 8 * 1024 * 1024
"""Small batches are gathered up to this size, so that a row sent alone doesn't cost a batch."""

_GATHERED_BATCHES = 1024
"""Batches wait to be gathered no longer than this: each costs memory besides its rows."""

_TABLE_BYTES = 4096
"""What a table costs besides its rows and schema; generous."""

_RESERVED = "__"
"""What the engine is given under such bare names, such as `__target`, is never a client's table."""

_APPENDS = {Mode.APPEND, Mode.CREATE_APPEND}


class Owner(NamedTuple):
    """Whose tables they are.

    Attributes:
        user: Who calls.
        session: The id of the session; empty for a client that has none.
        connection: The address of the client's end; empty when it is not known.
    """

    user: str
    session: str
    connection: str


class _Key(NamedTuple):
    user: str
    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class _Table:
    schema: pa.Schema
    batches: list[pa.RecordBatch]
    bytes: int


@dataclass(slots=True)
class _Entry:
    """The tables of one session or connection."""

    used: float
    tables: dict[str, _Table] = field(default_factory=dict)


class TemporaryTables:
    """Those of all owners. All methods may be called from any thread.

    Args:
        max_bytes: Of all together.
        idle_seconds: After which an owner's tables go.
        clock: Monotonic seconds.
    """

    def __init__(self, *, max_bytes: int, idle_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._budget = _Budget(max_bytes)
        self._lock = threading.Lock()
        self._entries: dict[_Key, _Entry] = {}
        self._looks = Periodic("idle-temporary-tables", self.expire, seconds_between_looks(idle_seconds))

    @property
    def bytes(self) -> int:
        """Of all tables together, and of rows that are being sent."""
        return self._budget.used

    def given(self, owner: Owner) -> dict[str, tuple[pa.Schema, list[pa.RecordBatch]]]:
        """An owner's tables, as `Request.given` wants them; the owner has used them now."""
        return {name: (table.schema, table.batches) for name, table in self._visible(owner).items()}

    def write(self, owner: Owner, name: str, mode: Mode, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
        """Make a table, or add to it; returns how many rows came.

        Args:
            owner: Whose table it is.
            name: Bare.
            mode: What to do when it is there already, or isn't. Datasets don't count.
            schema: Of the rows, as they come.
            batches: The rows, validated.

        Raises:
            AlreadyExists: Mode create, and it is there.
            NotFound: Mode append, and it isn't.
            SchemaDrift: The rows don't fit the table.
            SchemaMismatch: No table can hold them.
            LimitExceeded: All temporary tables together are too large.
            CommitConflict: Mode append, and another call has replaced it meanwhile.
            InvalidRequest: The name is not allowed, or nobody could own the table.
        """
        check_dataset_name(name)
        if name.startswith(_RESERVED):
            raise InvalidRequest(
                f"{name!r} can't name a temporary table: names that begin with {_RESERVED} are reserved"
            )
        if not _keys(owner):
            raise InvalidRequest("a temporary table belongs to a session or a connection: this call has neither")
        self.expire()
        now = self._visible(owner).get(name)
        _check_mode(name, mode, exists=now is not None)
        appended = now is not None and mode in _APPENDS
        target = _fitting(name, now.schema, schema) if now is not None and appended else canonical(schema)
        gathered = _Gathered(self._budget, target)
        try:
            if not appended:
                gathered.reserve(_TABLE_BYTES + int(target.serialize().size))
            for batch in batches:
                gathered.add(batch)
            self._put(owner, name, mode, gathered.table())
        except BaseException:
            gathered.give_up()
            raise
        return gathered.rows

    def drop(self, owner: Owner, name: str) -> bool:
        """Drop a table; False when there is none."""
        with self._lock:
            key, found = self._place(owner, name)
            if found is None:
                return False
            del self._entries[key].tables[name]
            if not self._entries[key].tables:
                del self._entries[key]
        self._budget.release(found.bytes)
        return True

    def forget(self, owner: Owner) -> None:
        """Drop all of an owner's tables: the client says that it has done."""
        self._forget(_keys(owner))

    def expire(self) -> None:
        """Let go what its owner hasn't used for too long."""
        oldest = self._clock() - self._idle_seconds
        with self._lock:
            idle = [key for key, entry in self._entries.items() if entry.used < oldest]
        self._forget(idle)

    def close(self) -> None:
        """Let all go."""
        self._looks.stop()
        with self._lock:
            left = list(self._entries)
        self._forget(left)

    def _forget(self, keys: Iterable[_Key]) -> None:
        with self._lock:
            gone = [self._entries.pop(key) for key in keys if key in self._entries]
        self._budget.release(sum(table.bytes for entry in gone for table in entry.tables.values()))

    def _visible(self, owner: Owner) -> dict[str, _Table]:
        now = self._clock()
        found: dict[str, _Table] = {}
        with self._lock:
            for key in reversed(_keys(owner)):
                entry = self._entries.get(key)
                if entry is not None and entry.used >= now - self._idle_seconds:
                    entry.used = now
                    found |= entry.tables
        return found

    def _place(self, owner: Owner, name: str) -> tuple[_Key, _Table | None]:
        """Where a name is, or is to be. The caller holds `_lock`."""
        keys = _keys(owner)
        for key in keys:
            entry = self._entries.get(key)
            if entry is not None and name in entry.tables:
                return key, entry.tables[name]
        return keys[0], None

    def _put(self, owner: Owner, name: str, mode: Mode, made: _Table) -> None:
        """Put a table, whose bytes are reserved, in its place."""
        self._looks.start()
        freed = 0
        with self._lock:
            key, now = self._place(owner, name)
            _check_mode(name, mode, exists=now is not None)
            if now is not None and mode in _APPENDS:
                if not now.schema.equals(made.schema):
                    raise CommitConflict(f"temporary table {name!r} was replaced meanwhile: a retry is safe")
                made = _Table(now.schema, [*now.batches, *made.batches], now.bytes + made.bytes)
            elif now is not None:
                freed = now.bytes
            entry = self._entries.setdefault(key, _Entry(0.0))
            entry.used = self._clock()
            entry.tables[name] = made
        self._budget.release(freed)


class _Budget:
    """Bytes that are held, of those that may be."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        with self._lock:
            return self._used

    def reserve(self, size: int) -> None:
        with self._lock:
            if self._used + size > self._most:
                raise LimitExceeded(
                    f"this temporary table needs {size:,} bytes more, and all temporary tables together have "
                    f"{self._used:,} of {self._most:,} (query.temporary_bytes): drop some, or ingest into a table that "
                    "is not temporary"
                )
            self._used += size

    def release(self, size: int) -> None:
        with self._lock:
            self._used -= size


class _Gathered:
    """Rows that are being sent, whose bytes are reserved as they come."""

    def __init__(self, budget: _Budget, schema: pa.Schema) -> None:
        self._budget = budget
        self._schema = schema
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0
        self._done: list[pa.RecordBatch] = []
        self._reserved = 0
        self.rows = 0

    def reserve(self, size: int) -> None:
        self._budget.reserve(size)
        self._reserved += size

    def add(self, batch: pa.RecordBatch) -> None:
        conformed = conform(batch, self._schema)
        if not conformed.num_rows:
            return
        self.reserve(conformed.nbytes)
        self.rows += conformed.num_rows
        self._pending.append(conformed)
        self._pending_bytes += conformed.nbytes
        if self._pending_bytes >= _GATHERED_BYTES or len(self._pending) >= _GATHERED_BATCHES:
            self._gather()

    def table(self) -> _Table:
        """All rows that came."""
        self._gather()
        return _Table(self._schema, self._done, self._reserved)

    def give_up(self) -> None:
        """Give back what was reserved."""
        self._budget.release(self._reserved)

    def _gather(self) -> None:
        together = pa.Table.from_batches(self._pending, schema=self._schema).combine_chunks()
        self._done += together.to_batches(max_chunksize=_BATCH_ROWS)
        self._pending, self._pending_bytes = [], 0


def _keys(owner: Owner) -> tuple[_Key, ...]:
    """Where an owner's tables are; new ones at the first."""
    kinds = (("session", owner.session), ("connection", owner.connection))
    return tuple(_Key(owner.user, kind, one) for kind, one in kinds if one)


def _check_mode(name: str, mode: Mode, *, exists: bool) -> None:
    if exists and mode is Mode.CREATE:
        raise AlreadyExists(f"temporary table {name!r} exists already: append to it, replace it or drop it")
    if not exists and mode is Mode.APPEND:
        raise NotFound(f"temporary table {name!r} doesn't exist: create it, or append to the table without `temporary`")


def _fitting(name: str, current: pa.Schema, incoming: pa.Schema) -> pa.Schema:
    """The schema of a table, if rows of another schema can be appended to it."""
    differences = [one for one in drift(current, incoming) if one.kind not in {"nullability", "missing"}]
    if differences:
        raise drift_error(f"the rows don't fit temporary table {name!r}", differences)
    return current
