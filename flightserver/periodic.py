"""A thread that does something from time to time.

Theory of operation: the thread begins by `start`, which may be repeated, and ends by `stop`, for good. Work that takes
long looks at `stopped` on its way. What the work raises is logged, and the next turn is due all the same: a server
whose compaction or expiry has ended because of one bad dataset would not be noticed for long.

Locking: `_lock` guards `_thread`; neither work nor waiting happens under it.
"""

from __future__ import annotations

import logging
import random
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)


STOP_SECONDS = 5.0
"""How long a turn is waited for at the end that may hang with a bucket; whatever it still does then is harmless."""

_LOOKS_PER_LIFE = 4
"""What expires when it is idle is kept at most a quarter longer."""

_MOST_SECONDS = 60.0
"""Between two looks for it, however long it may be idle."""


def seconds_between_looks(idle_seconds: float) -> float:
    """How often to look for what expires when nobody has used it for so long."""
    return min(_MOST_SECONDS, idle_seconds / _LOOKS_PER_LIFE)


class Periodic:
    """Calls `work` again and again, in a thread of its own.

    Args:
        name: Of the thread.
        work: What it does; may be called from elsewhere too.
        seconds: Between two turns.
        spread: By which share of `seconds` that varies at random, so that servers don't all work at the same time.
        at_once: Whether the first turn begins without waiting.

    Attributes:
        stopped: Set when the thread is to end.
    """

    def __init__(
        self, name: str, work: Callable[[], None], seconds: float, *, spread: float = 0.0, at_once: bool = False
    ) -> None:
        self.stopped = threading.Event()
        self._name = name
        self._work = work
        self._seconds = seconds
        self._spread = spread
        self._at_once = at_once
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it runs or was stopped."""
        with self._lock:
            if self._thread is None and not self.stopped.is_set():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def stop(self, patience: float | None = None) -> None:
        """End the thread, for good.

        Args:
            patience: Seconds that a turn at work is waited for; None waits until it has ended.
        """
        self.stopped.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(patience)

    def _run(self) -> None:
        waits = not self._at_once
        while not (waits and self.stopped.wait(self._pause())):
            waits = True
            try:
                self._work()
            except Exception:  # noqa: BLE001  # whatever it was, the next turn is due
                if not self.stopped.is_set():
                    _log.exception("periodic work failed", extra={"work": self._name})

    def _pause(self) -> float:
        return self._seconds * random.uniform(1 - self._spread, 1 + self._spread)  # noqa: S311  # spreads load
