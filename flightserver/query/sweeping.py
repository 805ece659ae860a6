"""A thread that looks from time to time for what nobody has used for long.

Theory of operation: what expires when it is idle is looked for whenever something of its kind is asked for, and by this
thread, because a client that has gone asks for nothing any more. The thread begins with the first thing that can
expire, so that a process which has none has no such thread.

Locking: `_lock` guards `_thread`; the work runs without it.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

_PER_LIFE = 4
"""Looks in the time after which something expires: it is kept at most a quarter longer."""

_MOST_SECONDS = 60.0
"""Between two looks, however long things may be idle."""


class Sweeper:
    """Calls `sweep` again and again, in a thread of its own.

    Args:
        name: Of the thread.
        sweep: What it does; may be called from elsewhere too.
        idle_seconds: After which something expires.
    """

    def __init__(self, name: str, sweep: Callable[[], None], idle_seconds: float) -> None:
        self._name = name
        self._sweep = sweep
        self._seconds = min(_MOST_SECONDS, idle_seconds / _PER_LIFE)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the thread, unless it runs or was stopped."""
        with self._lock:
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread, for good."""
        self._stopped.set()
        with self._lock:
            if self._thread is not None:
                self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self._sweep()
            except Exception:  # noqa: BLE001  # whatever it was, the next sweep is due
                _log.exception("sweep failed", extra={"sweeper": self._name})
