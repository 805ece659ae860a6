"""A lakehouse in memory whose reads are counted, and a cache over it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import pyarrow as pa
from tables.compacting import rows as rows_in_files
from tables.lake import Lake

from flightserver.catalog.catalog import Catalog
from flightserver.query.cache import Cache
from flightserver.query.cached_rows import RowsInMemory
from flightserver.settings import CacheSettings
from flightserver.storage.buckets import Buckets, OpenBucket, url_scheme
from flightserver.storage.memory import MemoryObjects
from flightserver.tables.schema import decode, visible
from flightserver.tables.segments import Layout
from flightserver.tables.writes import Mode, Tables
from flightserver.telemetry import Events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flightserver.catalog.entities import Dataset

CHUNK_ROWS = 64
PARTITIONS = 3
WAIT_SECONDS = 30


class CountingObjects(MemoryObjects):
    """Objects in memory that remember which keys were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    def open(self, key: str) -> BinaryIO:
        self.opened.append(key)
        return super().open(key)


@dataclass(frozen=True)
class Cached:
    """A lakehouse and its cache."""

    lake: Lake
    objects: CountingObjects
    cache: Cache
    events: Events
    memory: RowsInMemory = field(repr=False)

    @classmethod
    def open(cls, *, chunk_rows: int = CHUNK_ROWS, available: Callable[[], int] | None = None, **settings: Any) -> Self:
        objects = CountingObjects()
        bucket = OpenBucket("primary", objects, url_scheme("primary"))
        buckets = Buckets()
        buckets.add(bucket)
        catalog = Catalog.open(objects)
        tables = Tables(catalog, buckets, Layout(row_group_rows=100))
        memory = RowsInMemory(buckets, tables.dead, PARTITIONS, chunk_rows)
        events = Events()
        options = {} if available is None else {"available": available}
        cache = Cache(memory, catalog.snapshot, CacheSettings(**settings), events, **options)
        return cls(Lake(Path(), bucket, buckets, catalog, tables), objects, cache, events, memory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cache.close()
        self.lake.catalog.close()

    def write(self, table: pa.Table, name: str = "t") -> None:
        """Append rows."""
        self.lake.write(Mode.CREATE_APPEND, table, name=name)

    def dataset(self, name: str = "t") -> Dataset:
        return self.lake.dataset(name)

    def use(self, name: str = "t", *, times: int = 1) -> pa.Table | None:
        """Use a dataset as statements do; its rows when the last of them finds them in memory."""
        for _ in range(times):
            found = served(self.cache, self.dataset(name))
        return found

    def held(self) -> list[str]:
        """Names of what is held, the least recently used first."""
        return [entry.key.name for entry in self.cache.entries()]

    def until_held(self, *names: str) -> None:
        """Wait until the background thread holds exactly these."""
        wait_until(lambda: set(self.held()) == set(names))

    def until_event(self, kind: str, name: str) -> str:
        """Wait for an event and return its detail."""
        wait_until(lambda: any((one.kind, one.dataset) == (kind, name) for one in self.events.entries()))
        return next(one.detail for one in self.events.entries() if (one.kind, one.dataset) == (kind, name))


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once it holds.

    Raises:
        TimeoutError: It still doesn't after half a minute.
    """
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        threading.Event().wait(0.005)


def served(cache: Cache, dataset: Dataset) -> pa.Table | None:
    """What the cache answers for a version of a dataset, by `id`, with strings as strings."""
    partitions = cache.partitions(dataset)
    return None if partitions is None else as_table(partitions, dataset)


def as_table(partitions: Sequence[Sequence[pa.RecordBatch]], dataset: Dataset) -> pa.Table:
    """The rows of partitions by `id`."""
    schema = visible(decode(dataset.schema))
    batches = [batch.cast(schema) for partition in partitions for batch in partition]
    return pa.Table.from_batches(batches, schema).sort_by("id").combine_chunks()


def in_files(lake: Lake, dataset: Dataset) -> pa.Table:
    """A dataset's rows by `id`, as its files have them."""
    return rows_in_files(lake, dataset).sort_by("id").combine_chunks()
