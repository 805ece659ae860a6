"""How many statements may run at once, of all users and of one.

The wire gives every call a thread, so this is where the server says "enough": at most `max_running` statements run,
`max_per_user` of them of one user; at most `max_waiting` wait for them, half of them of one user; and whoever comes
after that is refused at once, which costs nothing and tells clients to slow down while the server still answers.
Statements of nobody in particular are held to the limits of all only.

A slot that becomes free goes straight to a statement that waits; nobody who arrives later can take it. Users take
turns, and the statements of each come in the order of their arrival: whoever has many waiting delays others by one.

A stream pauses its slot while its client reads, so that clients that read slowly, or never, keep nobody from running.
It resumes before all who wait to begin, and is never refused. At most `max_waiting` slots are paused; further ones are
kept.

Invariant: while a slot is free, everybody who waits is of a user who runs as much as one user may.

Locking: `_lock` guards all state of `Admission`, every `_Waiter.granted` and `Slot.paused`. Waiting happens outside it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
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
    """One statement that waits; `turn` is set after `granted`."""

    __slots__ = ("granted", "turn", "user")

    def __init__(self, user: str) -> None:
        self.user = user
        self.granted = False
        self.turn = threading.Event()


class Slot:
    """The right to run, until it is released; a context manager that releases it. Any thread may release it."""

    def __init__(self, admission: Admission, user: str) -> None:
        self._admission = admission
        self.user = user
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
        max_per_user: How many of one user run at once; 0 for half of `max_running`, rounded up.
    """

    def __init__(self, max_running: int, max_waiting: int, wait_seconds: float, max_per_user: int = 0) -> None:
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._wait_seconds = wait_seconds
        self._max_per_user = max_per_user or (max_running + 1) // 2
        self._max_waiting_per_user = (max_waiting + 1) // 2
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._total = 0
        self._paused = 0
        self._resuming: deque[_Waiter] = deque()
        # Users with statements that wait, in the order of their turns; the statements of each in that of their arrival.
        self._queues: dict[str, deque[_Waiter]] = {}
        self._admitted = 0
        self._refused = 0
        self._cancelled = 0

    def counts(self) -> AdmissionCounts:
        """What runs, waits, and was refused."""
        with self._lock:
            return AdmissionCounts(self._total, self._waiting(), self._admitted, self._refused, self._cancelled)

    def slot(self, is_cancelled: Callable[[], bool] | None = None, user: str = "") -> Slot:
        """Wait for the right to run.

        Args:
            is_cancelled: Asked every 50 ms while waiting, on this thread.
            user: Whose statement it is; empty for nobody in particular.

        Returns:
            A slot that is held already; release it, or use it in a `with` statement.

        Raises:
            Overloaded: Too many wait already, of all or of this user, or this one has waited too long.
            Cancelled: `is_cancelled` said so.
        """
        with self._lock:
            if self._may_run(user):
                self._take(user)
                self._admitted += 1
                return Slot(self, user)
            self._check_queue(user)
            waiter = _Waiter(user)
            self._queues.setdefault(user, deque()).append(waiter)
        self._wait(waiter, is_cancelled, self._wait_seconds)
        return Slot(self, user)

    def give_back(self, slot: Slot) -> None:
        """Hand a slot to whoever is next; for `Slot`."""
        with self._lock:
            if slot.paused:
                slot.paused = False
                self._paused -= 1
                return
            self._pass_on(slot.user)

    def pause(self, slot: Slot) -> None:
        """Hand a slot on for as long as it is paused; for `Slot`."""
        with self._lock:
            if not slot.paused and self._paused < self._max_waiting:
                slot.paused = True
                self._paused += 1
                self._pass_on(slot.user)

    def resume(self, slot: Slot, is_cancelled: Callable[[], bool] | None) -> None:
        """Take a paused slot back; for `Slot`."""
        with self._lock:
            if not slot.paused:
                return
            if self._may_run(slot.user):
                self._take(slot.user)
                self._paused -= 1
                slot.paused = False
                return
            waiter = _Waiter(slot.user)
            self._resuming.append(waiter)
        self._wait(waiter, is_cancelled, math.inf)
        with self._lock:
            self._paused -= 1
            slot.paused = False

    def _waiting(self) -> int:
        return len(self._resuming) + sum(map(len, self._queues.values()))

    def _may_run(self, user: str) -> bool:
        return self._total < self._max_running and not self._has_enough(user)

    def _has_enough(self, user: str) -> bool:
        return bool(user) and self._running[user] >= self._max_per_user

    def _take(self, user: str) -> None:
        self._running[user] += 1
        self._total += 1

    def _pass_on(self, user: str) -> None:
        """Give the right to run that a user has had to whoever is next; the lock is held."""
        self._total -= 1
        self._running[user] -= 1
        if not self._running[user]:
            del self._running[user]
        while (waiter := self._next()) is not None:
            self._take(waiter.user)
            waiter.granted = True
            waiter.turn.set()

    def _next(self) -> _Waiter | None:
        """Take whoever is next out of the queues; None if nobody may run."""
        for waiter in self._resuming:
            if self._may_run(waiter.user):
                self._resuming.remove(waiter)
                return waiter
        for user, queue in self._queues.items():
            if self._may_run(user):
                waiter = queue.popleft()
                # The others have their turns before this user's next one.
                del self._queues[user]
                if queue:
                    self._queues[user] = queue
                self._admitted += 1
                return waiter
        return None

    def _check_queue(self, user: str) -> None:
        """Raise Overloaded where nobody else, or nobody else of this user, may wait; the lock is held."""
        own = len(self._queues.get(user, ()))
        if self._waiting() >= self._max_waiting:
            self._refused += 1
            raise Overloaded(f"{self._busy()}; at most {self._max_waiting} may wait. Try again later")
        if user and own >= self._max_waiting_per_user:
            self._refused += 1
            raise Overloaded(
                f"{self._running[user]} statements of user {user!r} are running and {own} are waiting; at most "
                f"{self._max_waiting_per_user} of one user may wait. Try again later"
            )

    def _wait(self, waiter: _Waiter, is_cancelled: Callable[[], bool] | None, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if waiter.turn.wait(min(_POLL_SECONDS, left) if left > 0 else 0):
                return
            cancelled = is_cancelled is not None and is_cancelled()
            if cancelled or left <= 0:
                self._give_up(waiter, cancelled=cancelled)
                return

    def _give_up(self, waiter: _Waiter, *, cancelled: bool) -> None:
        """Stop waiting and raise, or return if its turn has come at the last moment."""
        with self._lock:
            if waiter.granted:
                return
            self._leave(waiter)
            if cancelled:
                self._cancelled += 1
                raise Cancelled("the statement was cancelled while it waited to run")
            self._refused += 1
            share = ""
            if self._has_enough(waiter.user):
                share = f", {self._max_per_user} of them of user {waiter.user!r}, which is the most of one user"
            raise Overloaded(
                f"{self._busy()}{share}; this one has waited {self._wait_seconds:g} seconds. Try again later"
            )

    def _leave(self, waiter: _Waiter) -> None:
        if waiter in self._resuming:
            self._resuming.remove(waiter)
            return
        queue = self._queues[waiter.user]
        queue.remove(waiter)
        if not queue:
            del self._queues[waiter.user]

    def _busy(self) -> str:
        return f"{self._total} statements are running and {self._waiting()} are waiting"
