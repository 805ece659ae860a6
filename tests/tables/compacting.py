"""Changes and compactions of the lake's datasets, without SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.log import Operation
from flightserver.catalog.staging import StagedTransaction
from flightserver.catalog.ulid import new_ulid
from flightserver.tables.compaction import Compactor, CompactResult, Ordered, Wanted
from flightserver.tables.reading import read_segment
from flightserver.tables.rowids import RowIds
from flightserver.tables.schema import decode, visible
from flightserver.tables.segments import Layout
from flightserver.tables.writes import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tables.lake import Lake

    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.transaction import Commits

KEY = DatasetKey("primary", "t")
MIB = 1024 * 1024


def numbered(start: int, rows: int) -> pa.Table:
    """Rows whose `id` counts from `start`."""
    ids = np.arange(start, start + rows)
    return pa.table({"id": ids, "name": pa.array([f"n{number % 7}" for number in ids.tolist()])})


def append(lake: Lake, table: pa.Table) -> None:
    """One more segment."""
    lake.write(Mode.CREATE_APPEND, table, name="t")


def live(lake: Lake, dataset: Dataset) -> list[tuple[pa.RecordBatch, np.ndarray[Any, Any]]]:
    """The live rows of a dataset under their visible names, with their row ids."""
    schema = decode(dataset.schema)
    dead = lake.tables.dead.of(dataset)
    offsets = RowIds(dataset).offsets
    found = []
    for segment in dataset.segments:
        base = segment.row_id_base + offsets[segment.id]
        for batch, places in read_segment(lake.buckets.get(segment.bucket), segment, schema, dead.get(segment.id)):
            found.append((pa.RecordBatch.from_arrays(batch.columns, schema=visible(schema)), places + base))
    return found


def rows(lake: Lake, dataset: Dataset | None = None) -> pa.Table:
    """The live rows in their order."""
    dataset = lake.dataset("t") if dataset is None else dataset
    return pa.Table.from_batches([batch for batch, _ in live(lake, dataset)], visible(decode(dataset.schema)))


def ids(lake: Lake) -> list[int]:
    """The column `id` of the live rows, in their order."""
    found: list[int] = rows(lake).column("id").to_pylist()
    return found


def change(
    lake: Lake,
    gone: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]],
    added: pa.Table | None = None,
    *,
    into: Commits | None = None,
) -> None:
    """End the rows for whose `id` it says so, and begin others, in one commit."""
    commits = lake.catalog if into is None else into
    tables = lake.tables if into is None else lake.tables.within(into)
    snapshot = commits.snapshot()
    dataset = snapshot.dataset("t", "primary")
    with tables.change(dataset, snapshot) as changing:
        for batch, row_ids in live(lake, dataset):
            changing.remove(row_ids[gone(batch.column("id").to_numpy())])
        for batch in [] if added is None else added.to_batches():
            changing.add(batch)
        changing.commit(Operation(new_ulid(), "update"))


def remove(lake: Lake, *gone: int) -> None:
    """End the rows with these ids."""
    change(lake, lambda found: np.isin(found, gone))


def staged(lake: Lake) -> StagedTransaction:
    """A transaction of several statements that begins now."""
    return StagedTransaction(lake.catalog.snapshot())


def commit(lake: Lake, transaction: StagedTransaction) -> None:
    """End it."""
    lake.tables.commit_staged(transaction, Operation(new_ulid(), "transaction"))


def compactor(lake: Lake, *, workers: int = 1) -> Compactor:
    """With small row groups."""
    return Compactor(lake.catalog, lake.buckets, Layout(row_group_rows=1000), lake.tables.dead, workers=workers)


def compact(lake: Lake, wanted: Wanted | None = None, ordered: Ordered | None = None) -> CompactResult:
    """Run a compaction to its end."""
    one = compactor(lake)
    *_, result = one.compact(KEY, Operation(new_ulid(), "compact"), wanted or one.wanted(), ordered)
    assert isinstance(result, CompactResult)
    return result


def by_name_backwards(lake: Lake) -> Ordered:
    """Supplies rows by `name`, and of one name the highest `id` first."""

    def supplied(dataset: Dataset, _: Snapshot) -> Iterator[tuple[pa.RecordBatch, np.ndarray[Any, Any]]]:
        found = live(lake, dataset)
        table = pa.Table.from_batches([batch for batch, _ in found])
        table = table.append_column("row_id", pa.array(np.concatenate([row_ids for _, row_ids in found])))
        for batch in table.sort_by([("name", "ascending"), ("id", "descending")]).to_batches(max_chunksize=700):
            yield batch.drop_columns(["row_id"]), batch.column("row_id").to_numpy()

    return supplied


def segment_rows(lake: Lake) -> list[tuple[int, int]]:
    """Rows and dead rows of each segment."""
    return [(segment.rows, segment.dead) for segment in lake.dataset("t").segments]
