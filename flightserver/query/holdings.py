"""Which datasets are held in memory, how much that is, and who has to go when another needs room.

Room is made by letting go of what wasn't used for the longest, of the datasets that aren't pinned and weren't used more
often lately than the one that needs room: a scan of everything can't drive out what is hot. Bytes that a load under way
has read count as well, so that all together never exceed `max_bytes`.

Locking: `_lock` guards everything here and what entries say, and is held for moments only.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flightserver.errors import Cancelled, LimitExceeded, NotFound
from flightserver.query.recent_uses import RecentUses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flightserver.catalog.entities import Dataset, DatasetKey
    from flightserver.query.cached_rows import CachedRows, Partitions
    from flightserver.settings import CacheSettings
    from flightserver.telemetry import Events


@dataclass(slots=True, eq=False)
class CachedDataset:
    """One dataset that is held.

    Attributes:
        rows: Held.
        key: Under which the catalog knew it when somebody looked last.
        pinned: Whether it stays until it is evicted.
        hits: Statements that scanned it.
        folding: Held by whoever makes newer rows of it.
    """

    rows: CachedRows
    key: DatasetKey
    pinned: bool = False
    hits: int = 0
    folding: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bytes(self) -> int:
        """Of Arrow's buffers."""
        return self.rows.bytes


@dataclass(slots=True, eq=False)
class Room:
    """What rows that are being made take of the holdings. Belongs to one thread.

    Attributes:
        holdings: Of which.
        dataset: Whose rows.
        bytes: How much.
        stopped: Whether nobody wants the rows any more.
    """

    holdings: Holdings
    dataset: Dataset
    bytes: int = 0
    stopped: bool = False

    def grow(self, size: int) -> None:
        """See `Holdings.reserve`."""
        self.holdings.reserve(self, size)


class Holdings:
    """The datasets in memory, the least recently used first.

    Args:
        max_bytes: All of them have at most.
        spare_bytes: Of memory that must be free for more to be held.
        available: Bytes of memory that the machine has left.
        settings: When a dataset is admitted.
        events: Told what is let go.
    """

    def __init__(
        self, max_bytes: int, spare_bytes: int, available: Callable[[], int], settings: CacheSettings, events: Events
    ) -> None:
        self.max_bytes = max_bytes
        self._spare_bytes = spare_bytes
        self._available = available
        self._settings = settings
        self._events = events
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, CachedDataset] = OrderedDict()
        self._pins: set[str] = set()
        self._uses = RecentUses(settings.admit_seconds, settings.admit_uses)
        self._rooms: set[Room] = set()
        self._refused: dict[str, float] = {}

    def hit(self, dataset: Dataset) -> Partitions | None:
        """The rows of exactly this version, which are used now; None when they aren't held."""
        with self._lock:
            entry = self._entries.get(dataset.id)
            if entry is None or not entry.rows.are(dataset):
                return None
            entry.hits += 1
            self._uses.note(dataset.id)
            self._entries.move_to_end(dataset.id)
            return entry.rows.partitions

    def late_hit(self, entry: CachedDataset) -> None:
        """Count that a statement scans an entry which `miss` returned and whose rows were then made newer."""
        with self._lock:
            entry.hits += 1

    def miss(self, dataset: Dataset) -> CachedDataset | None:
        """Count a use of a dataset that `hit` didn't find; what is held of another version of it."""
        with self._lock:
            self._uses.note(dataset.id)
            if dataset.id in self._entries:
                self._entries.move_to_end(dataset.id)
            return self._entries.get(dataset.id)

    def wants(self, dataset: Dataset) -> bool:
        """Whether to load a dataset that isn't held: it is pinned or used often, and didn't just fail to be loaded."""
        least, seconds = self._settings.admit_uses, self._settings.admit_seconds
        with self._lock:
            if dataset.id not in self._pins and (not least or self._uses.count(dataset.id) < least):
                return False
            refused = self._refused.get(dataset.id)
            return refused is None or time.monotonic() - refused >= seconds

    def get(self, dataset: Dataset) -> CachedDataset | None:
        """What is held of a dataset, at whatever version."""
        with self._lock:
            return self._entries.get(dataset.id)

    def refuse(self, dataset: Dataset) -> None:
        """Let go of a dataset that doesn't fit or can't be read, and don't load it by itself for a while."""
        with self._lock:
            self._refused[dataset.id] = time.monotonic()
            self._drop(dataset.id)

    def drop(self, dataset: Dataset) -> None:
        """Let go of what is held of a dataset."""
        with self._lock:
            self._drop(dataset.id)

    def pin(self, dataset: Dataset) -> bool:
        """Let a dataset stay once it is held; whether it wasn't pinned before."""
        with self._lock:
            new = dataset.id not in self._pins
            self._pins.add(dataset.id)
            if dataset.id in self._entries:
                self._entries[dataset.id].pinned = True
            return new

    def unpin(self, dataset: Dataset) -> None:
        """Take `pin` back."""
        with self._lock:
            self._pins.discard(dataset.id)
            if dataset.id in self._entries:
                self._entries[dataset.id].pinned = False

    def evict(self, dataset: Dataset) -> None:
        """Let go of a dataset, be it loaded right now, and forget how often it was used.

        Raises:
            NotFound: It is neither held nor pinned.
        """
        with self._lock:
            if dataset.id not in self._known():
                raise NotFound(f"{dataset.key} is not held in memory: system.cache lists what is")
            self._evict(dataset.id)

    def evict_all(self) -> None:
        """Let go of everything."""
        with self._lock:
            for dataset in self._known():
                self._evict(dataset)

    def entries(self, datasets: Mapping[str, Dataset]) -> list[CachedDataset]:
        """What is held of the datasets that there are, by id; others are let go."""
        with self._lock:
            for dropped in {*self._entries, *self._pins, *self._refused} - datasets.keys():
                self._evict(dropped)
            for dataset, entry in self._entries.items():
                entry.key = datasets[dataset].key
            return list(self._entries.values())

    def stop_loading(self) -> None:
        """Let every load under way raise at its next step."""
        with self._lock:
            for room in self._rooms:
                room.stopped = True

    @contextmanager
    def room(self, dataset: Dataset) -> Iterator[Room]:
        """Room for rows of a dataset while they are made."""
        room = Room(self, dataset)
        with self._lock:
            self._rooms.add(room)
        try:
            yield room
        finally:
            with self._lock:
                self._rooms.discard(room)

    def check(self, dataset: Dataset, size: int) -> None:
        """Raise what `reserve` would, but let go of nothing."""
        with self._lock:
            self._victims(dataset, size)

    def reserve(self, room: Room, size: int) -> None:
        """Make a room larger, or smaller.

        Raises:
            LimitExceeded: There are not so many bytes to be had, or the machine is short of memory.
            Cancelled: The dataset was evicted meanwhile.
        """
        left = self._available()
        if size > 0 and left < self._spare_bytes:
            raise LimitExceeded(
                f"{room.dataset.key} isn't held in memory: the machine has {left:,} bytes left, of which "
                f"{self._spare_bytes:,} must stay free"
            )
        with self._lock:
            if room.stopped:
                raise Cancelled(f"{room.dataset.key} was evicted while it was loaded")
            for victim in self._victims(room.dataset, size):
                self._drop(victim)
            room.bytes += size

    def put(self, room: Room, entry: CachedDataset) -> None:
        """Hold what was loaded, unless it was evicted meanwhile."""
        with self._lock:
            self._rooms.discard(room)
            if not room.stopped:
                entry.pinned = room.dataset.id in self._pins
                self._entries[room.dataset.id] = entry
                self._refused.pop(room.dataset.id, None)

    def replace(self, room: Room, entry: CachedDataset, rows: CachedRows) -> None:
        """Give an entry newer rows."""
        with self._lock:
            self._rooms.discard(room)
            entry.rows = rows

    def _known(self) -> set[str]:
        return {*self._entries, *self._pins, *(room.dataset.id for room in self._rooms)}

    def _victims(self, dataset: Dataset, size: int) -> list[str]:
        """Whom to let go so that so many bytes more fit."""
        used = sum(entry.bytes for entry in self._entries.values()) + sum(room.bytes for room in self._rooms)
        short = used + size - self.max_bytes
        mine = math.inf if dataset.id in self._pins else self._uses.count(dataset.id)
        victims = []
        for key, entry in self._entries.items():
            if short <= 0:
                break
            if key != dataset.id and not entry.pinned and self._uses.count(key) <= mine:
                victims.append(key)
                short -= entry.bytes
        if short > 0:
            raise LimitExceeded(
                f"{dataset.key} needs {short:,} bytes more than can be had of the cache's {self.max_bytes:,}; evict "
                "another dataset or raise cache.max_bytes"
            )
        return victims

    def _drop(self, dataset: str) -> None:
        entry = self._entries.pop(dataset, None)
        if entry is not None:
            self._events.record("dataset let go from memory", entry.key.bucket, entry.key.name, bytes=entry.bytes)

    def _evict(self, dataset: str) -> None:
        self._drop(dataset)
        self._pins.discard(dataset)
        for room in self._rooms:
            room.stopped = room.stopped or room.dataset.id == dataset
        self._refused.pop(dataset, None)
        self._uses.forget(dataset)
