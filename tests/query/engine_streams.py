"""What the engine computes in this process."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

from datafusion import RecordBatchStream

if TYPE_CHECKING:
    from collections.abc import Iterator


def streams() -> set[int]:
    """The streams that somebody holds, for which it goes on."""
    return {id(one) for one in gc.get_objects() if isinstance(one, RecordBatchStream)}


@contextmanager
def no_collector() -> Iterator[None]:
    """Nothing looks for circles of references, as in a server that has nothing to do."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
