"""How many statements may run at once.

The wire gives every call a thread and knows no limit, so this is where the server says "enough": at most `max_running`
statements run, at most `max_waiting` wait for them in the order of their arrival, and whoever comes after that is
refused at once, which costs nothing and tells clients to slow down while the server still answers.

A slot that becomes free goes straight to the statement that has waited longest; nobody who arrives later can take it.

A stream pauses its slot while its client reads, so that clients that read slowly, or never, keep nobody from running.
It resumes at the head of the queue and is never refused. At most `max_waiting` slots are paused; further ones are kept.

Locking: `_lock` guards `_running`, `_paused`, `_queue`, the counters, every `_Waiter.granted` and `Slot.paused`.
Waiting happens outside it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from flightserver.errors import Cancelled, Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class AdmissionCounts:
    """What the gate has seen.

    Attributes:
        running: Statements that hold a slot now.
        waiting: Statements that wait for one now.
        admitted: Statements that got a slot since the start.
        refused: Statements that were refused since the start, at once or after waiting.
        cancelled: Statements that were cancelled while they waited, since the start.
    """

    running: int
    waiting: int
    admitted: int
    refused: int
    cancelled: int


class _Waiter:
    """One statement in the queue; `turn` is set after `granted`."""

    __slots__ = ("granted", "turn")

    def __init__(self) -> None:
        self.granted = False
        self.turn = threading.Event()


class Slot:
    """The right to run, until it is released; a context manager that releases it. Any thread may release it."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.paused = False
        # Taking it without waiting tells exactly one of several callers that it is the first to release the slot.
        self._released = threading.Lock()

    def release(self) -> None:
        """Let the next statement run. Doing it again does nothing."""
        if self._released.acquire(blocking=False):
            self._admission.give_back(self)

    def pause(self) -> None:
        """Let others run meanwhile, if not too many have done so."""
        self._admission.pause(self)

    def resume(self, is_cancelled: Callable[[], bool] | None = None) -> None:
        """Wait for the right to go on, before all others.

        Raises:
            Cancelled: `is_cancelled` said so.
        """
        self._admission.resume(self, is_cancelled)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Admission:
    """Lets so many statements run, lets so many wait, and refuses the rest.

    Args:
        max_running: How many run at once, at least 1.
        max_waiting: How many wait for a slot.
        wait_seconds: How long one waits before it is refused.
    """

    def __init__(self, max_running: int, max_waiting: int, wait_seconds: float) -> None:
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._running = 0
        self._paused = 0
        self._queue: deque[_Waiter] = deque()
        self._admitted = 0
        self._refused = 0
        self._cancelled = 0

    def counts(self) -> AdmissionCounts:
        """What runs, waits, and was refused."""
        with self._lock:
            return AdmissionCounts(self._running, len(self._queue), self._admitted, self._refused, self._cancelled)

    def slot(self, is_cancelled: Callable[[], bool] | None = None) -> Slot:
        """Wait for the right to run.

        Args:
            is_cancelled: Asked every 50 ms while waiting, on this thread.

        Returns:
            A slot that is held already; release it, or use it in a `with` statement.

        Raises:
            Overloaded: Too many wait already, or this one has waited too long.
            Cancelled: `is_cancelled` said so.
        """
        with self._lock:
            if self._running < self._max_running:
                self._running += 1
                self._admitted += 1
                return Slot(self)
            if len(self._queue) >= self._max_waiting:
                self._refused += 1
                raise Overloaded(f"{self._busy()}; at most {self._max_waiting} may wait. Try again later")
            waiter = _Waiter()
            self._queue.append(waiter)
        return self._wait(waiter, is_cancelled, self._wait_seconds)

    def give_back(self, slot: Slot) -> None:
        """Hand a slot to the statement that has waited longest; for `Slot`."""
        with self._lock:
            if slot.paused:
                slot.paused = False
                self._paused -= 1
                return
            self._pass_on()

    def pause(self, slot: Slot) -> None:
        """Hand a slot on for as long as it is paused; for `Slot`."""
        with self._lock:
            if not slot.paused and self._paused < self._max_waiting:
                slot.paused = True
                self._paused += 1
                self._pass_on()

    def resume(self, slot: Slot, is_cancelled: Callable[[], bool] | None) -> None:
        """Take a paused slot back; for `Slot`."""
        with self._lock:
            if not slot.paused:
                return
            if self._running < self._max_running:
                self._running += 1
                self._paused -= 1
                slot.paused = False
                return
            waiter = _Waiter()
            self._queue.appendleft(waiter)
        self._wait(waiter, is_cancelled, math.inf)
        with self._lock:
            self._paused -= 1
            slot.paused = False

    def _pass_on(self) -> None:
        """Give the right to run to the head of the queue; the lock is held."""
        if not self._queue:
            self._running -= 1
            return
        waiter = self._queue.popleft()
        waiter.granted = True
        self._admitted += 1
        waiter.turn.set()

    def _wait(self, waiter: _Waiter, is_cancelled: Callable[[], bool] | None, seconds: float) -> Slot:
        deadline = time.monotonic() + seconds
        while not waiter.turn.wait(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic()))):
            cancelled = is_cancelled is not None and is_cancelled()
            if cancelled or time.monotonic() >= deadline:
                self._give_up(waiter, cancelled=cancelled)
                break
        return Slot(self)

    def _give_up(self, waiter: _Waiter, *, cancelled: bool) -> None:
        """Leave the queue and raise, or return if its turn has come at the last moment."""
        with self._lock:
            if waiter.granted:
                return
            self._queue.remove(waiter)
            if cancelled:
                self._cancelled += 1
                raise Cancelled("the statement was cancelled while it waited to run")
            self._refused += 1
            raise Overloaded(f"{self._busy()}; this one has waited {self._wait_seconds:g} seconds. Try again later")

    def _busy(self) -> str:
        return f"{self._running} statements are running and {len(self._queue)} are waiting"
