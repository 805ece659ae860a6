"""What stands around every statement: a slot, a row in `system.queries`, and the watchdog."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from flightserver.access.principal import NO_USERS
from flightserver.query.releasing import release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flightserver.query.admission import Admission, Slot
    from flightserver.query.request import Planned
    from flightserver.query.running import QueryHandle, RunningQueries
    from flightserver.query.watchdog import Guard, Watchdog
    from flightserver.telemetry import Metrics


class Gate:
    """Lets statements run, at most so many at a time, and stops those that run too long or for nobody.

    Args:
        timeout_seconds: The limit of every statement; a request may ask for less.
    """

    def __init__(
        self,
        admission: Admission,
        running: RunningQueries,
        watchdog: Watchdog,
        metrics: Metrics,
        timeout_seconds: float,
    ) -> None:
        self.admission = admission
        self.running = running
        self._watchdog = watchdog
        self._metrics = metrics
        # Single operations on dict and list are atomic; the ticket of a query may be fetched several times at once.
        self._by_operation: dict[str, list[QueryHandle]] = {}
        self._timeout_seconds = timeout_seconds

    @contextmanager
    def run(self, planned: Planned) -> Iterator[tuple[QueryHandle, Slot]]:
        """Hold a slot; the statement is listed as queued, running, then finished, failed or cancelled.

        Raises:
            Overloaded: Too much is running and waiting.
        """
        request = planned.request
        kind = planned.statement.kind.value
        with self.running.record(request.sql, user=request.user, kind=kind) as handle:
            running = self._by_operation.setdefault(request.operation, [])
            running.append(handle)
            try:
                # Whoever calls a server without users is not one user.
                user = "" if request.user in NO_USERS else request.user
                with self.admission.slot(self.gone(planned, handle), user) as slot:
                    handle.run()
                    try:
                        yield handle, slot
                    except BaseException as error:  # be it raised between the calls into the engine
                        release(error)
                        raise
            finally:
                running.remove(handle)
                if not running:
                    self._by_operation.pop(request.operation, None)
                done = handle.entry()
                self._metrics.streamed_rows.inc(done.rows)
                self._metrics.streamed_bytes.inc(done.bytes)

    def cancel(self, operation: str) -> bool:
        """Stop the statements that run or wait for an operation id; False when none does."""
        handles = list(self._by_operation.get(operation, ()))
        for handle in handles:
            handle.cancel()
        return bool(handles)

    @staticmethod
    def gone(planned: Planned, handle: QueryHandle) -> Callable[[], bool]:
        """Tells whether a statement need not go on: it was cancelled, or its client has gone away."""
        asked = planned.request.is_cancelled
        return lambda: handle.cancelled or (asked is not None and asked())

    def guard(self, planned: Planned, handle: QueryHandle) -> Guard:
        """What interrupts the statement's calls into the engine when time is up or nobody waits any more."""
        asked = planned.request.timeout_seconds
        seconds = self._timeout_seconds if asked is None else min(asked, self._timeout_seconds)
        changes = planned.frame is None
        return self._watchdog.guard(handle, seconds, planned.request.is_cancelled, pauses_count=changes)
