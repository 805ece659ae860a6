"""Stops a statement that is inside the engine.

Theory of operation: the engine computes inside Rust, where nothing of ours runs; but it asks Python about once a
second whether an exception is pending on its thread. One watchdog thread looks every 50 ms at the calls that are
guarded right now, and when one is over its time limit, was cancelled, or has lost its client, it sets an
asynchronous exception on that thread (`PyThreadState_SetAsyncExc`). The engine gives up, and what surfaces, which may
be that exception or pyarrow's text of it, is replaced by QueryTimeout or Cancelled.

How fast that is depends on the engine. Where it yields to its scheduler a statement stops within a second; one long
step that does not yield, such as a nested loop join of large inputs, is finished first.

A stream is made by many short calls, often on different threads, so a `Guard` lives as long as its statement, and each
`run` is one call under it. Guard only what may be abandoned at any instruction: the engine's own work, never a commit,
nor our code that holds a lock others wait for.

The race that matters: the exception may be set at the very moment when the call returns, and arrive in any
instruction after it. So

- `run` leaves in two nested `finally` clauses. An exception arriving in the inner one, even before its first
  instruction or with the lock held, leads to the outer one, and a second one can't follow it: an exception is
  set again only if the call still runs 5 s after the first, for the case that a destructor has swallowed it.
- Leaving and setting exclude each other by the lock; leaving receives what is set but has not arrived.
- Locks are bare `threading.Lock`, whose `with` is atomic; a Condition or an Event could be left locked half-way.

Locking: `_lock` guards `_calls`, `_asleep` and `_stopped`. `is_cancelled` is called under the lock and only while its
call is registered: it may use what is valid only during the call (a gRPC context dies with its RPC), must
return at once, and must not raise.
"""

from __future__ import annotations

import ctypes
import threading
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from flightserver.errors import Cancelled, InterruptedStatement, QueryTimeout
from flightserver.query.releasing import release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")

_POLL_SECONDS = 0.05
_LINGER_POLLS = 20
"""It goes on for a second without calls before it sleeps, so that a stream's calls needn't wake it each time."""
_REPEAT_SECONDS = 5.0

_set_async_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exception.argtypes = [ctypes.c_ulong, ctypes.py_object]


class StatementInterrupted(BaseException):
    """Arrives in a guarded call from outside; `Guard.run` replaces it, so nobody else ever sees it.

    Like KeyboardInterrupt it is no `Exception`, so that code which handles errors does not stop it.
    """


class Stoppable(Protocol):
    """What somebody may ask to stop: `flightserver.query.running.QueryHandle`, or a part of a statement."""

    @property
    def id(self) -> str:
        """Its name, for the message."""

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop."""


class _Call:
    """One guarded call of one thread.

    Attributes:
        guard: Whose call it is.
        thread: The thread that makes it.
        started: When it began, monotonic seconds.
        stopped_by: Why it was interrupted, or None.
        interrupted: When it was interrupted last, monotonic seconds.
    """

    __slots__ = ("guard", "interrupted", "started", "stopped_by", "thread")

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.thread = threading.get_ident()
        self.started = time.monotonic()
        self.stopped_by: InterruptedStatement | None = None
        self.interrupted = 0.0


class Guard:
    """What bounds one statement; made by `Watchdog.guard`. Its calls follow one another and never overlap."""

    __slots__ = ("_began", "_handle", "_is_cancelled", "_spent", "_timeout", "_watchdog")

    def __init__(
        self,
        watchdog: Watchdog,
        handle: Stoppable,
        timeout_seconds: float | None,
        is_cancelled: Callable[[], bool] | None,
        *,
        pauses_count: bool,
    ) -> None:
        self._watchdog = watchdog
        self._began = time.monotonic() if pauses_count else None
        self._handle = handle
        self._timeout = timeout_seconds
        self._is_cancelled = is_cancelled
        self._spent = 0.0

    def check(self) -> None:
        """Raise if the statement must not go on. Does not ask `is_cancelled`.

        Raises:
            QueryTimeout: Its calls have taken longer than its limit.
            Cancelled: Its handle was cancelled.
        """
        reason = self._due(0.0)
        if reason is not None:
            raise reason

    def run(self, call: Callable[[], T]) -> T:
        """Make one call, on this thread, that can be interrupted.

        A call that is made within another guarded call of the same thread is watched by the outer guard alone.

        Raises:
            QueryTimeout: The calls of this guard have taken longer than its limit together.
            Cancelled: Its handle was cancelled, or its client has gone away.
        """
        try:
            return self._run(call)
        except InterruptedStatement as stopped:
            release(stopped)
            raise

    def _run(self, call: Callable[[], T]) -> T:
        self.check()
        watchdog = self._watchdog
        one = _Call(self)
        if watchdog.is_watching(one.thread):
            return call()
        try:
            try:
                watchdog.enter(one)
                return call()
            finally:
                watchdog.leave(one)
        finally:
            watchdog.leave(one)
            self._spent += time.monotonic() - one.started
            if one.stopped_by is not None:
                raise one.stopped_by from None

    def iterate(self, items: Iterable[T]) -> Iterator[T]:
        """Each item of `items`, every `next` of which is one guarded call; the time between them does not count."""
        iterator = iter(items)
        end = object()
        while (item := self.run(lambda: next(iterator, end))) is not end:
            yield item  # type: ignore[misc]  # mypy can't narrow by the identity of a sentinel

    def reason(self, started: float) -> InterruptedStatement | None:
        """Why a call must stop, or None; asks `is_cancelled`, so only for the watchdog, under its lock.

        Args:
            started: When the call began, monotonic seconds.
        """
        due = self._due(time.monotonic() - started)
        if due is None and self._is_cancelled is not None and self._is_cancelled():
            return Cancelled("the client cancelled the statement or went away")
        return due

    def _due(self, seconds: float) -> InterruptedStatement | None:
        if self._handle.cancelled:
            return Cancelled(f"statement {self._handle.id} was cancelled")
        spent = self._spent + seconds if self._began is None else time.monotonic() - self._began
        if self._timeout is not None and spent >= self._timeout:
            return QueryTimeout(
                f"the statement ran longer than its limit of {self._timeout:g} seconds; "
                "narrow it, or raise the session option query_timeout"
            )
        return None


class Watchdog:
    """One thread that interrupts guarded calls. `stop` ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[int, _Call] = {}
        self._asleep = False
        self._stopped = False
        # A bare lock as a bell: releasing it is one C call, which nothing interrupts half-way as it would an Event.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._thread = threading.Thread(target=self._watch, name="query-watchdog", daemon=True)
        self._thread.start()

    def guard(
        self,
        handle: Stoppable,
        timeout_seconds: float | None = None,
        is_cancelled: Callable[[], bool] | None = None,
        *,
        pauses_count: bool = False,
    ) -> Guard:
        """Bound a statement.

        Args:
            handle: When it is cancelled, the statement stops.
            timeout_seconds: How long its guarded calls may take together, or None for no limit. The time that a
                client takes between them, to read what it got, does not count.
            pauses_count: Whether the time between the calls counts after all: for a statement that writes what it
                computes, no client is waited for.
            is_cancelled: Asked every 50 ms during guarded calls, on the watchdog's thread, under its lock. It must
                return at once and must not raise.
        """
        return Guard(self, handle, timeout_seconds, is_cancelled, pauses_count=pauses_count)

    def stop(self) -> None:
        """End the thread; running calls are no longer watched."""
        with self._lock:
            self._stopped = True
            self._ring()
        self._thread.join()

    def is_watching(self, thread: int) -> bool:
        """Whether a guarded call runs on the thread; for that thread itself to ask."""
        return thread in self._calls

    def enter(self, call: _Call) -> None:
        """Watch a call from now on."""
        with self._lock:
            self._calls[call.thread] = call
            self._ring()

    def leave(self, call: _Call) -> None:
        """Watch a call no longer: when this has returned, nothing arrives any more. May be repeated."""
        with self._lock:
            watched = self._calls.get(call.thread) is call
            if watched:
                del self._calls[call.thread]
        if watched and call.stopped_by is not None:
            _absorb(call.thread)

    def _ring(self) -> None:
        if self._asleep:
            self._asleep = False
            self._bell.release()

    def _watch(self) -> None:
        idle_polls = 0
        while True:
            with self._lock:
                if self._stopped:
                    return
                for call in self._calls.values():
                    _consider(call)
                idle_polls = 0 if self._calls else idle_polls + 1
                self._asleep = sleep = idle_polls > _LINGER_POLLS
            if sleep:
                self._bell.acquire()
                idle_polls = 0
            else:
                time.sleep(_POLL_SECONDS)


def _absorb(thread: int) -> None:
    """Let what was set on this thread arrive, here, whether it has arrived before or not.

    Setting nothing in its place would not do: CPython 3.11 then takes the interpreter for one with an exception to
    deliver until another one is, which slows all threads down, and a traced one (coverage, a debugger) never gets on.
    """
    try:
        _set_async_exception(thread, ctypes.py_object(StatementInterrupted))
        while True:
            pass
    except StatementInterrupted:
        return


def _consider(call: _Call) -> None:
    """Interrupt the call if it is due; the watchdog's lock is held."""
    now = time.monotonic()
    if call.stopped_by is None:
        call.stopped_by = call.guard.reason(call.started)
    elif now - call.interrupted < _REPEAT_SECONDS:
        return
    if call.stopped_by is not None:
        call.interrupted = now
        _set_async_exception(call.thread, ctypes.py_object(StatementInterrupted))
