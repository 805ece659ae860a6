"""Ending what the engine computes for a statement that has failed.

Theory of operation: the engine's tasks go on for as long as somebody holds their stream, on threads that all statements
share. An error holds, by its traceback, the frames that it came through, and they the streams. Errors are freed late:
those that end in a circle of references only when Python next looks for garbage, which a server that has nothing to do
never does, and meanwhile a statement that has timed out keeps a core busy for each of its partitions. So the frames are
emptied where the error leaves the engine (`engine.py`), a guarded call (`watchdog.py`) and the statement (`gate.py`).

What that doesn't reach: a traceback also leads to the frames that called those it went through, whose locals stay, and
frames of generators that wait at a `yield` when they are dropped. So who holds a stream, or a generator that does,
closes it where it ends; and no local variable keeps an error whose frames may hold one.
"""

from __future__ import annotations

import traceback


def release(error: BaseException) -> None:
    """Let go of all that the ended frames hold of an error, of its causes and of what it was raised in the place of."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        todo += (one.__cause__, one.__context__)
