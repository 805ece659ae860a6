"""Hot datasets in memory as Arrow.

Theory of operation: a dataset that is used often enough is loaded by one background thread, and from then on statements
scan it in memory. When a newer version is asked for, the rows are brought to it by what differs
(`flightserver.query.cached_rows`): by the statement that asks, if that is quick, else by the background thread, while
statements read files. A pinned dataset is loaded at once, and is let go only by `evict`, or when it has outgrown the
cache; in that case it is loaded again, after a while, when there is room. `flightserver.query.holdings` decides who has
to go. What couldn't be loaded isn't tried again for `admit_seconds`.

Invariants:

- Never stale: rows are served for a dataset of equal `Dataset.state` and for no other. Versions only move forward, and
  only to what the catalog's newest snapshot has, so that transactions and readers of the past disturb nothing.
- Attached datasets aren't held: others change them.
- Bytes are those of Arrow's buffers, and never more than `max_bytes`, but for a statement that still scans rows which
  were let go, and for the chunk that is being read.

Locking: `_jobs_lock` guards the work of the background thread. `CachedDataset.folding` is held by whoever makes newer
rows of an entry, `_loads` by whoever loads or folds much, so that there is one of those at a time. They are taken in
the order `_loads`, `folding`, and any other last.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import psutil
import pyarrow as pa

from flightserver.errors import FlightserverError, InvalidRequest, LimitExceeded, NotFound
from flightserver.query.cached_chunks import least_row_bytes
from flightserver.query.holdings import CachedDataset, Holdings
from flightserver.tables.schema import decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.query.cached_rows import CachedRows, Fold, Partitions, RowsInMemory
    from flightserver.settings import CacheSettings
    from flightserver.telemetry import Events

_SHARE = 0.75
"""Of the machine's memory, whatever the settings say: statements need some."""
_SPARE = 1 / 16
"""Of the machine's memory must be free for more to be held."""
_PATIENCE_SECONDS = 0.1
"""How long a statement waits for another one that makes the rows which it needs: about as long as that may take."""
_NICENESS = 10
"""Of the background thread: on a busy core it gets about a tenth of what a statement gets (sched(7))."""


def _available() -> int:
    return int(psutil.virtual_memory().available)


class Cache:
    """The datasets in memory. All methods may be called from any thread.

    Args:
        memory: Loads and folds rows.
        newest: The catalog's newest snapshot.
        settings: How much is held and what is admitted.
        events: Told what is admitted and let go.
        available: Bytes of memory that the machine has left.
    """

    def __init__(
        self,
        memory: RowsInMemory,
        newest: Callable[[], Snapshot],
        settings: CacheSettings,
        events: Events,
        available: Callable[[], int] = _available,
    ) -> None:
        total = int(psutil.virtual_memory().total)
        self.max_bytes = min(settings.max_bytes, int(total * _SHARE))
        self._memory = memory
        self._newest = newest
        self._events = events
        self._holdings = Holdings(self.max_bytes, int(total * _SPARE), available, settings, events)
        self._loads = threading.Lock()
        self._jobs_lock = threading.Lock()
        self._wake = threading.Condition(self._jobs_lock)
        self._jobs: OrderedDict[str, Dataset] = OrderedDict()
        self._working: str | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def partitions(self, dataset: Dataset) -> Partitions | None:
        """The rows of exactly this version, dealt out for all cores, or None when it is to be read from files.

        Counts as a use of the dataset.

        Raises:
            BackendUnavailable: A file of what is new in this version is missing or damaged.
        """
        if dataset.external is not None or not self.max_bytes:
            return None
        found = self._holdings.hit(dataset)
        if found is not None:
            return found
        newest = self._current(dataset)
        if newest is None or newest.state != dataset.state:
            return None
        entry = self._holdings.miss(newest)
        if entry is None:
            if self._holdings.wants(newest):
                self._enqueue(newest)
            return None
        rows = self._follow(entry, newest)
        if rows is None:
            return None
        self._holdings.late_hit(entry)
        return rows.partitions

    def pin(self, dataset: Dataset) -> CachedDataset:
        """Hold the newest version of a dataset, and those that follow, until it is evicted.

        Raises:
            InvalidRequest: It is attached.
            NotFound: It has been dropped.
            LimitExceeded: It doesn't fit beside what is pinned already, or the machine is short of memory.
            BackendUnavailable: A file of it is missing or damaged.
            Cancelled: It was evicted while it was loaded.
        """
        if dataset.external is not None:
            raise InvalidRequest(f"{dataset.key} is attached: others change it, so that it can't be held in memory")
        with self._loads:
            newest = self._current(dataset)
            if newest is None:
                raise NotFound(f"{dataset.key} has been dropped")
            new = self._holdings.pin(newest)
            try:
                return self._hold(newest)
            except BaseException:
                if new:
                    self._holdings.unpin(newest)
                raise

    def evict(self, dataset: Dataset) -> None:
        """Let go of a dataset, and forget how often it was used.

        Raises:
            NotFound: It is neither held nor pinned.
        """
        self._holdings.evict(dataset)

    def evict_all(self) -> None:
        """Let go of everything."""
        self._holdings.evict_all()

    def entries(self) -> list[CachedDataset]:
        """What is held, the least recently used first."""
        return self._holdings.entries({dataset.id: dataset for dataset in self._newest().datasets.values()})

    def close(self) -> None:
        """Stop the background thread."""
        with self._jobs_lock:
            self._closed = True
            self._wake.notify_all()
            thread = self._thread
        self._holdings.stop_loading()
        if thread is not None:
            thread.join()

    def _current(self, dataset: Dataset) -> Dataset | None:
        """The dataset at its newest version."""
        found = self._newest().datasets.get(dataset.key)
        return found if found is not None and found.id == dataset.id else None

    def _follow(self, entry: CachedDataset, newest: Dataset) -> CachedRows | None:
        """An entry's rows at the newest version if that is quick; otherwise it is going to be done."""
        with self._jobs_lock:
            if newest.id == self._working or newest.id in self._jobs:
                return None
        if not entry.folding.acquire(timeout=_PATIENCE_SECONDS):
            return None
        try:
            return self._quickly(entry, newest)
        finally:
            entry.folding.release()

    def _quickly(self, entry: CachedDataset, newest: Dataset) -> CachedRows | None:
        if entry.rows.are(newest):
            return entry.rows
        if entry.rows.dataset.version > newest.version:
            return None
        fold = self._memory.plan(entry.rows, newest)
        if fold is None or not fold.quick:
            self._enqueue(newest)
            return None
        try:
            return self._fold(entry, fold)
        except LimitExceeded:
            return None

    def _hold(self, newest: Dataset) -> CachedDataset:
        """Load the newest version, or bring what is held to it, however long that takes; `_loads` is held."""
        entry = self._holdings.get(newest)
        if entry is not None:
            with entry.folding:
                if entry.rows.are(newest) or entry.rows.dataset.version > newest.version:
                    return entry
                fold = self._memory.plan(entry.rows, newest)
                if fold is not None:
                    self._fold(entry, fold)
                    return entry
            self._holdings.drop(newest)
        return self._load(newest)

    def _load(self, newest: Dataset) -> CachedDataset:
        with self._holdings.room(newest) as room:
            self._holdings.check(newest, math.ceil(least_row_bytes(decode(newest.schema)) * newest.rows))
            entry = CachedDataset(self._memory.load(newest, room.grow), newest.key)
            self._holdings.put(room, entry)
        self._events.record("dataset held in memory", newest.bucket, newest.name, bytes=entry.bytes)
        return entry

    def _fold(self, entry: CachedDataset, fold: Fold) -> CachedRows:
        """Give an entry newer rows; it is let go when they don't fit. `entry.folding` is held."""
        with self._holdings.room(fold.dataset) as room:
            try:
                rows = self._memory.fold(fold, room.grow)
                room.grow(rows.bytes - entry.bytes - room.bytes)
            except LimitExceeded:
                self._holdings.refuse(fold.dataset)
                raise
            self._holdings.replace(room, entry, rows)
        return rows

    def _enqueue(self, newest: Dataset) -> None:
        """Give the background thread something to do."""
        with self._jobs_lock:
            if self._closed or newest.id == self._working:
                return
            self._jobs[newest.id] = newest
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="cache", daemon=True)
                self._thread.start()
            self._wake.notify_all()

    def _work(self) -> None:
        if sys.platform == "linux":  # elsewhere it would be that of the whole process
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while True:
            with self._jobs_lock:
                while not self._jobs and not self._closed:
                    self._wake.wait()
                if self._closed:
                    return
                self._working, dataset = self._jobs.popitem(last=False)
            try:
                self._work_on(dataset)
            except (FlightserverError, pa.ArrowException) as error:
                self._holdings.refuse(dataset)
                self._events.record("dataset not held in memory", dataset.bucket, dataset.name, reason=str(error))
            finally:
                with self._jobs_lock:
                    self._working = None

    def _work_on(self, dataset: Dataset) -> None:
        self.entries()  # so that dropped datasets, which nobody asks for any more, take no room
        with self._loads:
            newest = self._current(dataset)
            if newest is not None and (self._holdings.get(newest) is not None or self._holdings.wants(newest)):
                self._hold(newest)
