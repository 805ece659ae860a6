"""Statements that change data run once.

A client may fetch the ticket of an INSERT twice, or two clients the same ticket at once. The count of a run is kept by
its operation id: the first caller runs, callers that come meanwhile wait for it, later ones get the count. Across
servers and restarts the commit log keeps the same promise (`Snapshot.operations`). `lock` guards the two maps
and is never held while a statement runs.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT_COUNTS = 10_000


class Once:
    """Counts by operation id."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._running: dict[str, Future[int]] = {}
        self._lock = threading.Lock()

    def run(self, operation: str, statement: Callable[[], int]) -> int:
        """The count of the one run of `operation`. A run that fails leaves no trace and may be tried again."""
        with self._lock:
            if operation in self._counts:
                return self._counts[operation]
            others = self._running.get(operation)
            mine: Future[int] = Future()
            if others is None:
                self._running[operation] = mine
        if others is not None:
            return others.result()
        try:
            count = statement()
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(count)
            with self._lock:
                self._counts[operation] = count
                if len(self._counts) > _KEPT_COUNTS:
                    self._counts.popitem(last=False)
            return count
        finally:
            with self._lock:
                del self._running[operation]
