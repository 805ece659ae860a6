"""Datasets held in memory as Arrow.

A pinned dataset is kept at one version: a query whose snapshot has another version reads the files, so what is
pinned is never stale, only unused until it is pinned again. Batches are dealt out to as many partitions as the
engine has, so that all cores scan them. `lock` guards the map; reading a dataset happens outside it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flightserver.errors import LimitExceeded, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from flightserver.catalog.entities import Dataset


@dataclass(slots=True)
class PinnedDataset:
    """One pinned version and what it costs."""

    dataset: Dataset
    partitions: list[list[pa.RecordBatch]]
    bytes: int
    hits: int = field(default=0)


class PinnedDatasets:
    """The pinned datasets, at most `max_bytes` of Arrow buffers."""

    def __init__(self, max_bytes: int, partitions: int) -> None:
        self.max_bytes = max_bytes
        self._partitions = partitions
        self._pinned: dict[str, PinnedDataset] = {}
        self._lock = threading.Lock()

    def partitions(self, dataset: Dataset) -> list[list[pa.RecordBatch]] | None:
        """Batches of exactly this version, or None when it isn't pinned."""
        with self._lock:
            pinned = self._pinned.get(dataset.id)
            if pinned is None or pinned.dataset.version != dataset.version:
                return None
            pinned.hits += 1
            return pinned.partitions

    def pin(self, dataset: Dataset, batches: Iterable[pa.RecordBatch]) -> PinnedDataset:
        """Hold `dataset`; replaces what was held of an older version.

        Raises:
            LimitExceeded: It doesn't fit beside what is pinned already; nothing changed.
        """
        partitions: list[list[pa.RecordBatch]] = [[] for _ in range(self._partitions)]
        free = self.max_bytes - sum(one.bytes for one in self.entries() if one.dataset.id != dataset.id)
        held = 0
        for number, batch in enumerate(batches):
            held += batch.get_total_buffer_size()
            if held > free:
                raise LimitExceeded(
                    f"{dataset.key} needs more than the {free:,} bytes that are left of the cache's "
                    f"{self.max_bytes:,}; evict another dataset or raise cache.max_bytes"
                )
            partitions[number % self._partitions].append(batch)
        pinned = PinnedDataset(dataset, partitions, held)
        with self._lock:
            self._pinned[dataset.id] = pinned
        return pinned

    def evict(self, dataset: Dataset) -> None:
        """Let go of `dataset`.

        Raises:
            NotFound: It isn't pinned.
        """
        with self._lock:
            if self._pinned.pop(dataset.id, None) is None:
                raise NotFound(f"{dataset.key} is not pinned")

    def evict_all(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._pinned.clear()

    def entries(self) -> list[PinnedDataset]:
        """What is held."""
        with self._lock:
            return list(self._pinned.values())
