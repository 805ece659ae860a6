"""Whether the server can do its work: named checks, each bounded in time.

A check is a callable that returns when all is well and raises when it isn't. Checks ask disks and networks, so each
runs on a thread of its own, and an answer that is late is reported as late while the check goes on: however
often the server is asked, a check that hangs holds one thread and no more, and the web server goes on
answering.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flightserver.errors import FlightserverError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

logger = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
"""Shorter than the five seconds or more after which orchestrators commonly give up on a probe."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: Which check.
        ready: Whether all is well.
        detail: What is wrong, fit for any reader; "ok" when nothing is.
    """

    name: str
    ready: bool
    detail: str


class Readiness:
    """Runs all checks at once, each at most once at a time. Used from one event loop, which is what guards its state.

    Args:
        checks: Name -> callable that raises a FlightserverError saying what is wrong.
        seconds: How long an answer waits for a check.
    """

    def __init__(self, checks: Mapping[str, Callable[[], None]], seconds: float = CHECK_SECONDS) -> None:
        self._checks = dict(checks)
        self._seconds = seconds
        self._pool = ThreadPoolExecutor(max(1, len(checks)), thread_name_prefix="readiness")
        self._running: dict[str, Future[None]] = {}

    async def results(self) -> list[CheckResult]:
        """What every check finds now."""
        for name, check in self._checks.items():
            running = self._running.get(name)
            if running is None or running.done():
                self._running[name] = self._pool.submit(check)
        waits = {name: asyncio.wrap_future(running) for name, running in self._running.items()}
        late = (await asyncio.wait(waits.values(), timeout=self._seconds))[1] if waits else set()
        for wait in late:
            # The check goes on, but nobody listens: its end must not call into a loop that may be closed by then.
            wait.cancel()
        return [
            CheckResult(name, ready=False, detail=f"no answer within {self._seconds:g} seconds")
            if wait in late
            else _result(name, wait.exception())
            for name, wait in waits.items()
        ]

    def close(self) -> None:
        """Start no more checks; does not wait for those that run."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _result(name: str, error: BaseException | None) -> CheckResult:
    if error is None:
        return CheckResult(name, ready=True, detail="ok")
    if isinstance(error, FlightserverError):
        return CheckResult(name, ready=False, detail=error.message)
    logger.error("readiness check failed unexpectedly", extra={"check": name}, exc_info=error)
    return CheckResult(name, ready=False, detail="the check failed unexpectedly; the server's log says how")
