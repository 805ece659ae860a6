"""How often datasets were used lately."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_DATASETS = 4096
"""That are remembered; the one that wasn't used for the longest is forgotten first."""
_USES = 64
"""That are remembered of each: datasets used more often than that are alike."""


class RecentUses:
    """Times of the latest uses of each dataset. Not safe for threads: its owner locks.

    Args:
        seconds: How long a use counts.
        least: A number of uses that must be told apart from fewer.
        clock: Monotonic seconds.
    """

    def __init__(self, seconds: float, least: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._kept = max(least, _USES)
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def note(self, dataset: str) -> None:
        """A dataset, known by its id, is used now."""
        times = self._times.get(dataset)
        if times is None:
            times = self._times[dataset] = deque(maxlen=self._kept)
            if len(self._times) > _DATASETS:
                self._times.popitem(last=False)
        self._times.move_to_end(dataset)
        times.append(self._clock())

    def count(self, dataset: str) -> int:
        """How often it was used within the time that counts."""
        since = self._clock() - self._seconds
        return sum(used >= since for used in self._times.get(dataset, ()))

    def forget(self, dataset: str) -> None:
        """As if it had never been used."""
        self._times.pop(dataset, None)
