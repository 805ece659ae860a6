"""A lakehouse in memory on a clock that the test moves, for tests of what becomes of old versions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from flightserver.catalog.catalog import Catalog
from flightserver.catalog.entities import PRIMARY, DatasetKey
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import RewriteSegments
from flightserver.storage.buckets import Buckets, OpenBucket, url_scheme
from flightserver.storage.memory import MemoryObjects
from flightserver.tables.collecting import Collected, Collector, Step
from flightserver.tables.deltas import PLACES, DeadRows, write_places
from flightserver.tables.reading import read_segment
from flightserver.tables.rowids import RowIds
from flightserver.tables.schema import decode
from flightserver.tables.segments import ORIGIN, Layout, Origin, SegmentWriter
from flightserver.tables.versions import Versions, dataset_at
from flightserver.tables.writes import Mode, Tables, WriteRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flightserver.catalog.entities import Dataset
    from flightserver.storage.objects import ObjectMeta
    from flightserver.tables.versions import Moment

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LAYOUT = Layout(row_group_rows=1000)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def wait(self, hours: float) -> None:
        self.now += timedelta(hours=hours)


class ClockedObjects(MemoryObjects):
    """Objects in memory whose times are the clock's."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._written: dict[str, datetime] = {}

    def put(self, key: str, data: bytes) -> ObjectMeta:
        meta = super().put(key, data)
        self._written[key] = self._clock()
        return replace(meta, modified=self._clock())

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        for meta in super().list(prefix, after=after):
            yield replace(meta, modified=self._written[meta.key])


def operation(kind: str = "test") -> Operation:
    return Operation(new_ulid(), kind)


@dataclass(frozen=True)
class Archive:
    """What the tests talk to: numbers in column `n`, under keys in column `k` where a test needs them."""

    clock: Clock
    bucket: OpenBucket
    buckets: Buckets
    catalog: Catalog
    tables: Tables
    versions: Versions

    @classmethod
    def open(cls) -> Self:
        clock = Clock()
        objects = ClockedObjects(clock)
        bucket = OpenBucket(PRIMARY, objects, url_scheme(PRIMARY))
        buckets = Buckets()
        buckets.add(bucket)
        catalog = Catalog.open(objects, clock=clock)
        return cls(clock, bucket, buckets, catalog, Tables(catalog, buckets, LAYOUT), Versions(catalog, buckets))

    def write(self, *numbers: int, name: str = "t", mode: Mode = Mode.CREATE_APPEND) -> int:
        return self.write_table(pa.table({"n": pa.array(numbers, pa.int64())}), name=name, mode=mode)

    def write_table(self, table: Any, *, name: str = "t", mode: Mode = Mode.CREATE_APPEND, **options: Any) -> int:
        request = WriteRequest(
            name=name,
            bucket=PRIMARY,
            mode=mode,
            schema=table.schema,
            operation=operation(mode.value),
            lineage_system="arrow",
            lineage_source="test",
            **options,
        )
        return self.tables.write(request, table.to_batches()).version

    def remove(self, *numbers: int, name: str = "t") -> int:
        """Remove the rows with these numbers by a delta."""
        snapshot = self.catalog.snapshot()
        dataset = snapshot.dataset(name, PRIMARY)
        ids = RowIds(dataset)
        with self.tables.change(dataset, snapshot) as change:
            for segment in dataset.segments:
                for batch, places in self._segment(dataset, segment.id):
                    gone = np.isin(batch.column("n").to_numpy(), numbers)
                    change.remove(places[gone] + segment.row_id_base + ids.offsets[segment.id])
            return change.commit(operation("delete")).version

    def rewrite(self, name: str = "t") -> int:
        """Put one segment in the place of all, as compaction does."""
        dataset = self.dataset(name)
        origins, places = [], []
        with SegmentWriter(self.bucket, name, decode(dataset.schema), LAYOUT) as writer:
            for segment in dataset.segments:
                origins.append(Origin(segment.id, segment.bucket, segment.directory))
                for batch, found in self._segment(dataset, segment.id):
                    writer.write(batch)
                    places.append(pa.table([[segment.id] * len(found), found], schema=PLACES))
            written = writer.finish(tuple(origins))
        assert written is not None
        write_places(self.bucket, f"{written.directory}/{ORIGIN}", pa.concat_tables(places))
        update = RewriteSegments(PRIMARY, name, tuple(one.id for one in dataset.segments), (written,))
        return self.catalog.commit(Transaction(operation("compact"), (update,))).version

    def abandon(self, name: str = "t") -> None:
        """Write a segment and never commit it."""
        schema = pa.schema([("n", pa.int64())])
        with SegmentWriter(self.bucket, name, schema, LAYOUT) as writer:
            writer.write(pa.record_batch([pa.array([1])], schema=schema))
            writer.finish()

    def restore(self, at: Moment, name: str = "t") -> int:
        return self.versions.restore(DatasetKey(PRIMARY, name), at, operation("restore"))

    def tag(self, tag: str, at: Moment | None = None, name: str = "t") -> int:
        return self.versions.tag(DatasetKey(PRIMARY, name), tag, at, operation("tag"))

    def untag(self, tag: str, name: str = "t") -> int:
        return self.versions.untag(DatasetKey(PRIMARY, name), tag, operation("delete tag"))

    def dataset(self, name: str = "t") -> Dataset:
        return self.catalog.snapshot().dataset(name, PRIMARY)

    def rows(self, dataset: Dataset) -> list[Any]:
        """All rows, from the files: as they are, or as tuples when there are several columns."""
        found: list[Any] = []
        for segment in dataset.segments:
            for batch, _ in self._segment(dataset, segment.id):
                columns = [column.to_pylist() for column in batch.columns]
                found += columns[0] if len(columns) == 1 else zip(*columns, strict=True)
        return found

    def rows_at(self, at: Moment, name: str = "t") -> list[Any]:
        return self.rows(dataset_at(self.catalog, self.dataset(name), at)[1])

    def collect(self, retention_hours: float = 48, grace_hours: float = 1, **options: Any) -> Collected:
        """Collect garbage to the end."""
        *_, last = self.collecting(retention_hours, grace_hours, **options)
        assert isinstance(last, Collected)
        return last

    def collecting(
        self, retention_hours: float = 48, grace_hours: float = 1, **options: Any
    ) -> Iterator[Step | Collected]:
        collector = Collector(
            self.catalog, self.buckets, retention_hours=retention_hours, grace_hours=grace_hours, clock=self.clock
        )
        return collector.collect(PRIMARY, operation("collect"), **options)

    def files(self) -> set[str]:
        """Keys of everything that lies under `datasets/`, named by a commit or not."""
        return {meta.key for meta in self.bucket.objects.list("datasets/")}

    def _segment(self, dataset: Dataset, segment_id: str) -> Iterable[tuple[Any, Any]]:
        (segment,) = (one for one in dataset.segments if one.id == segment_id)
        # Those of the tables remember deltas, and wouldn't notice that a file is gone.
        dead = DeadRows(self.buckets).of(dataset).get(segment_id)
        return read_segment(self.bucket, segment, decode(dataset.schema), dead)


def before_commit(archive: Archive, action: Callable[[], object]) -> Any:
    """Do something once, right before the next commit, as another session would."""
    commit = archive.catalog.commit
    left = [action]

    def interrupted(transaction: Any) -> Any:
        while left:
            left.pop()()
        return commit(transaction)

    return patch.object(archive.catalog, "commit", interrupted)
