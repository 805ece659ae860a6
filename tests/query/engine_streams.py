"""What the engine computes in this process."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from datafusion import RecordBatchStream

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 60
"""For what takes one or two."""


def streams() -> set[int]:
    """The streams that somebody holds, for which it goes on."""
    return {id(one) for one in gc.get_objects() if isinstance(one, RecordBatchStream)}


def ended(before: set[int]) -> bool:
    """Whether no streams are held, soon, but those."""
    deadline = time.monotonic() + SECONDS
    while not streams() <= before and time.monotonic() < deadline:
        time.sleep(0.02)
    return time.monotonic() < deadline


@contextmanager
def no_collector() -> Iterator[None]:
    """Nothing looks for circles of references, as in a server that has nothing to do."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
