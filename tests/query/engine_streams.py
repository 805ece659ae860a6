"""What the engine computes in this process: for as long as somebody holds a stream of it."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

from datafusion import RecordBatchStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 60
"""For what takes one or two: one step of the engine, on each of its threads."""


def _streams() -> list[RecordBatchStream]:
    return [one for one in gc.get_objects() if isinstance(one, RecordBatchStream)]


@contextmanager
def engine_watched() -> Iterator[Callable[[], bool]]:
    """Tells whether what the engine begins to compute in the block has ended, soon.

    Nothing looks for circles of references meanwhile, as in a server that has nothing to do.
    """
    gc.collect()
    gc.disable()
    before = WeakSet(_streams())

    def ended() -> bool:
        deadline = time.monotonic() + SECONDS
        while any(one not in before for one in _streams()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return time.monotonic() < deadline

    try:
        yield ended
    finally:
        gc.enable()
