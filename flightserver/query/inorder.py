"""Batches of a plan's partitions, one partition after the other, though all of them are computed at once.

Theory of operation: the caller's thread computes the first partition. The others are computed by threads, which take
them in their order and lay batches aside until their turn comes, at most `_AHEAD_BYTES` for one statement. So a
statement whose result is small is computed by all cores before its first partition has been read, and a large result
takes no more memory than that.

Whoever stops reading stops the threads: each computes under a guard of the watchdog, which interrupts it inside the
engine. `in_order` returns when they have ended, because they hold memory of the engine.

Queues are `SimpleQueue`, whose operations are single instructions: an exception that arrives from outside, as the
watchdog's do, can't leave one half-way. Waiting ends ten times a second, so that it arrives at all.
"""

from __future__ import annotations

import threading
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from flightserver.query.releasing import release

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    import pyarrow as pa
    from datafusion import RecordBatch, RecordBatchStream

    from flightserver.query.watchdog import Watchdog

_AHEAD_BYTES = 64 * 2**20

_WAKE_SECONDS = 0.1
_JOIN_SECONDS = 5.0
"""The engine asks about once a second whether it should stop, and finishes a long step first."""


def in_order(partitions: Sequence[RecordBatchStream], watchdog: Watchdog, threads: int) -> Generator[pa.RecordBatch]:
    """Yield the batches of all partitions, in the order of the partitions.

    Args:
        partitions: What computes each.
        watchdog: Stops threads when the caller stops reading.
        threads: How many may compute at once, the caller's included.

    Raises:
        Exception: Whatever the engine raises, in its place.
    """
    if len(partitions) == 1 or threads == 1:
        for partition in partitions:
            yield from _read(partition)
        return
    ahead = [_Ahead(partition, _AHEAD_BYTES // (len(partitions) - 1)) for partition in partitions[1:]]
    todo = deque(ahead)
    workers = [
        threading.Thread(target=_work, args=(todo, watchdog), name="partition", daemon=True)
        for _ in range(min(threads - 1, len(ahead)))
    ]
    try:
        try:
            for worker in workers:
                worker.start()
            yield from _read(partitions[0])
            for one in ahead:
                yield from one.batches()
        finally:
            _abandon(ahead)
    finally:
        # An exception from outside may have arrived within the first.
        _abandon(ahead)
        for worker in workers:
            if worker.ident is not None:
                worker.join(_JOIN_SECONDS)


def _read(partition: Iterable[RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in partition:
        yield batch.to_pyarrow()


def _abandon(ahead: Sequence[_Ahead]) -> None:
    for one in ahead:
        one.cancelled = True


def _work(todo: deque[_Ahead], watchdog: Watchdog) -> None:
    while todo:
        try:
            one = todo.popleft()
        except IndexError:  # another thread was faster
            return
        one.compute(watchdog)


class _Ahead:
    """A partition that a thread computes before its turn.

    Args:
        partition: What computes it.
        room: Bytes that may be laid aside; a single batch may have more.
    """

    id = "of a partition"

    def __init__(self, partition: RecordBatchStream, room: int) -> None:
        self.cancelled = False
        self._partition: Iterable[RecordBatch] = partition
        self._room = room
        self._made: SimpleQueue[pa.RecordBatch | BaseException | None] = SimpleQueue()
        self._taken: SimpleQueue[int] = SimpleQueue()

    def compute(self, watchdog: Watchdog) -> None:
        """Compute it, on a thread of its own; what goes wrong is laid aside as well."""
        end: BaseException | None = None
        laid_aside = 0
        try:
            for batch in watchdog.guard(self).iterate(_read(self._partition)):
                size = batch.nbytes
                while laid_aside and laid_aside + size > self._room and not self.cancelled:
                    laid_aside -= self._freed()
                self._made.put(batch)
                laid_aside += size
        except BaseException as error:  # noqa: BLE001  # raised where the batches are read; panics are no `Exception`
            release(error)
            end = error
        self._partition = ()  # the engine goes on with what somebody holds
        self._made.put(end)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield its batches, waiting for them."""
        while True:
            try:
                batch = self._made.get(timeout=_WAKE_SECONDS)
            except Empty:
                continue
            if batch is None:
                return
            if isinstance(batch, BaseException):
                raise batch
            self._taken.put(batch.nbytes)
            yield batch

    def _freed(self) -> int:
        try:
            return self._taken.get(timeout=_WAKE_SECONDS)
        except Empty:
            return 0
