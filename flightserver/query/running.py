"""Which statements run, and which have run lately: the rows of `system.queries`.

Every statement has a `QueryHandle` from before it is admitted until it ends. Its state only moves forward::

    queued -> running -> finished | failed | cancelled
       `------------------------> failed | cancelled

`cancel` is a request: it sets a flag that the queue (`admission.py`) and the watchdog (`watchdog.py`) look at, and
the state becomes `cancelled` when the statement has really stopped. All unfinished statements are kept, and
the last 1,000 that have ended.

Locking: `RunningQueries._lock` guards which statements are listed and every handle's state. Progress is counted by the
one thread that runs the statement and read without a lock: a reader may see a number that is a batch old.
"""

from __future__ import annotations

import enum
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Self

from flightserver.catalog.ulid import new_ulid
from flightserver.errors import Cancelled, FlightserverError, InternalError, NotFound

if TYPE_CHECKING:
    from types import TracebackType

MAX_SQL_CHARACTERS = 4096
"""Longer statements are cut for display: generated ones reach megabytes, and a thousand are kept."""

_FINISHED_KEPT = 1000


class QueryState(enum.Enum):
    """Where a statement stands; the values are what `system.queries` shows."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class RunningQuery:
    """One statement at one moment.

    Attributes:
        id: A ULID; what `cancel` takes.
        sql: Its text, cut to `MAX_SQL_CHARACTERS`.
        user: Who runs it.
        kind: What sort of statement it is, such as `query` or `insert`.
        state: Where it stands.
        started: When it arrived; UTC.
        finished: When it ended; UTC.
        rows: Rows sent or changed so far.
        bytes: Bytes sent so far.
        error: Stable code of the error that ended it, or None.
    """

    id: str
    sql: str
    user: str
    kind: str
    state: QueryState
    started: datetime
    finished: datetime | None
    rows: int
    bytes: int
    error: str | None


class QueryHandle:
    """One statement, for those who run it; made by `RunningQueries.record`.

    As a context manager it ends the statement: finished, cancelled (when a stream is closed before its end, because its
    reader went away, too), or failed with the error that leaves the block.
    """

    def __init__(self, queries: RunningQueries, sql: str, user: str, kind: str) -> None:
        self.id = new_ulid()
        self.state = QueryState.QUEUED
        self.error: str | None = None
        self.finished: datetime | None = None
        self._queries = queries
        self._sql = sql[:MAX_SQL_CHARACTERS]
        self._user = user
        self._kind = kind
        self._started = datetime.now(UTC)
        self._rows = 0
        self._bytes = 0
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked to stop it."""
        return self._cancelled

    def cancel(self) -> None:
        """Ask to stop it; does not wait until it has."""
        self._cancelled = True

    def run(self) -> None:
        """It waits no longer."""
        self._queries.move(self, QueryState.RUNNING)

    def progress(self, rows: int, size: int) -> None:
        """Count more rows and bytes."""
        self._rows += rows
        self._bytes += size

    def finish(self) -> None:
        """It has ended well. A statement that has ended already stays as it is."""
        self._queries.move(self, QueryState.FINISHED)

    def fail(self, error: BaseException) -> None:
        """It has ended by an error, or was cancelled. A statement that has ended already stays as it is."""
        # A stream that is closed early is GeneratorExit inside its generator.
        if isinstance(error, Cancelled | GeneratorExit):
            self._queries.move(self, QueryState.CANCELLED, Cancelled.code)
        else:
            code = error.code if isinstance(error, FlightserverError) else InternalError.code
            self._queries.move(self, QueryState.FAILED, code)

    def entry(self) -> RunningQuery:
        """The statement as it is now."""
        return RunningQuery(
            self.id,
            self._sql,
            self._user,
            self._kind,
            self.state,
            self._started,
            self.finished,
            self._rows,
            self._bytes,
            self.error,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        else:
            self.fail(error)


class RunningQueries:
    """Every statement that has not ended, and the last 1,000 that have."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active: OrderedDict[str, QueryHandle] = OrderedDict()
        self._ended: deque[RunningQuery] = deque(maxlen=_FINISHED_KEPT)

    def record(self, sql: str, *, user: str, kind: str) -> QueryHandle:
        """List a statement as queued; it is listed as active until its handle is finished or failed."""
        handle = QueryHandle(self, sql, user, kind)
        with self._lock:
            self._active[handle.id] = handle
        return handle

    def cancel(self, query_id: str) -> bool:
        """Ask to stop a statement; returns False when it has ended already.

        Raises:
            NotFound: No statement has that id, or it ended long ago.
        """
        with self._lock:
            handle = self._active.get(query_id)
            known = handle is not None or any(entry.id == query_id for entry in self._ended)
        if not known:
            msg = f"no statement {query_id[:64]!r} runs or has run lately; system.queries lists them"
            raise NotFound(msg)
        if handle is not None:
            handle.cancel()
        return handle is not None

    def cancel_all(self) -> int:
        """Ask to stop every statement, as a server does that stops; returns how many there were."""
        with self._lock:
            handles = list(self._active.values())
        for handle in handles:
            handle.cancel()
        return len(handles)

    def entries(self) -> list[RunningQuery]:
        """Statements, the newest arrival first among those that have not ended, then the latest end first."""
        with self._lock:
            active = [handle.entry() for handle in reversed(self._active.values())]
            ended = list(self._ended)
        return list(chain(active, reversed(ended)))

    def move(self, handle: QueryHandle, state: QueryState, error: str | None = None) -> None:
        """Change the state of a statement unless it has ended; for its handle."""
        with self._lock:
            if handle.id not in self._active:
                return
            handle.state = state
            handle.error = error
            if state is not QueryState.RUNNING:
                handle.finished = datetime.now(UTC)
                del self._active[handle.id]
                self._ended.append(handle.entry())
