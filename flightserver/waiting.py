"""Waiting for work that another thread does, so that who waits can be interrupted.

The watchdog interrupts a thread by an exception that arrives between two of its steps. It must not arrive while a lock
of the future is held, which would never be released; so the wait is for a bare lock of its own, for a moment each time.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future

_SECONDS = 0.2
"""Between two moments at which an interruption arrives."""


def wait_for(work: Future[Any]) -> None:
    """Return when the work is done or was cancelled, however it ended."""
    done = threading.Lock()
    done.acquire()
    work.add_done_callback(lambda _: done.release())
    while not done.acquire(timeout=_SECONDS):
        pass
