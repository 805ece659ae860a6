"""Ways to leave dead rows out of a scan, compared over the files of one dataset."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from datafusion import SessionConfig, SessionContext, col, lit
from datafusion.catalog import Table
from datafusion.object_store import LocalFileSystem

from bench.comparing import assert_same
from bench.inprocess import THREADS
from bench.measure import in_turn
from bench.rowmasks import RowMask
from flightserver.catalog.entities import PRIMARY
from flightserver.query.filescan import scan_files
from flightserver.tables.reading import read_segment
from flightserver.tables.schema import ROW_ID, decode, stored, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datafusion import DataFrame

    from bench.merging_questions import Question
    from flightserver.catalog.entities import Segment
    from flightserver.lakehouse import Lakehouse
    from flightserver.tables.deltas import Places

_OPTIONS = {
    "datafusion.execution.parquet.schema_force_view_types": "false",
    "datafusion.sql_parser.map_string_types_to_utf8view": "false",
    "datafusion.execution.collect_statistics": "true",
    "datafusion.execution.batch_size": "32768",
    "datafusion.execution.target_partitions": str(THREADS),
}
"""As the server's engine has them."""

PEER = "written whole"
IN_USE = "anti-join on row ids"


def compared(
    lakehouse: Lakehouse, percent: int, asked: Sequence[Question], repeats: int
) -> dict[str, dict[str, float]]:
    """For each formulation and question, the time over that of the peer."""
    files = _Files(lakehouse, percent)
    formulations = {
        IN_USE: files.by_join(),
        "function of row ids": files.by_function(),
        "anti-join on the key": files.by_key(),
        "NOT IN row ids": files.by_not_in(),
    }
    names = {PEER: files.register(files.peer())}
    for name, frame in formulations.items():
        names[name] = files.register(frame.union(files.added()))
    ratios: dict[str, dict[str, float]] = {name: {} for name in formulations}
    for one in asked:
        expected = files.ask(one.over(names[PEER]))
        for name in formulations:
            assert_same(f"{name}, {one.title}", files.ask(one.over(names[name])), expected)
        ways: dict[str, Callable[[], object]] = {
            name: partial(files.ask, one.over(where)) for name, where in names.items()
        }
        taken = in_turn(ways, repeats, one.times)
        for name, ratio in ratios.items():
            ratio[one.title] = taken[name].seconds / taken[PEER].seconds
    return ratios


def stepped(lakehouse: Lakehouse, percent: int, scan: Question, repeats: int) -> dict[str, tuple[float, float]]:
    """Time and CPU of a scan over those of the old rows' files alone, adding what a merge does part by part."""
    files = _Files(lakehouse, percent)
    steps = {
        "the files of the old rows": files.base(),
        "and `_rid` decoded; all rows pass": files.by_comparison(),
        "and joined; nothing is dead": files.by_join(dead=False),
        "and joined; dead rows are left out": files.by_join(),
        "and the new rows": files.by_join().union(files.added()),
        "the function in place of the join; nothing is dead": files.by_function({}),
        "the function; dead rows are left out": files.by_function(),
    }
    names = {name: files.register(frame) for name, frame in steps.items()}
    ways: dict[str, Callable[[], object]] = {
        name: partial(files.ask, scan.over(where)) for name, where in names.items()
    }
    taken = in_turn(ways, repeats, scan.times)
    first = next(iter(taken.values()))
    return {name: (each.seconds / first.seconds, each.cpu / first.cpu) for name, each in taken.items()}


class _Files:
    """The files of a changed dataset and of its peer, as frames of an engine of our own."""

    def __init__(self, lakehouse: Lakehouse, percent: int) -> None:
        self._bucket = lakehouse.buckets.get(PRIMARY)
        self._context = SessionContext(SessionConfig(_OPTIONS))
        store = LocalFileSystem(str(self._bucket.local_root))
        self._context.register_object_store(f"{self._bucket.url_scheme}://", store, "data")
        snapshot = lakehouse.catalog.snapshot()
        self._peer = snapshot.dataset(f"whole_{percent}")
        dataset = snapshot.dataset(f"orders_{percent}")
        self._schema = decode(dataset.schema)
        self._old = [segment for segment in dataset.segments if segment.dead]
        self._new = [segment for segment in dataset.segments if not segment.dead]
        self._dead: Places = lakehouse.tables.dead.of(dataset)
        self._count = 0

    def peer(self) -> DataFrame:
        """All rows, as they were written in one go."""
        return self._scan(self._peer.segments)

    def base(self) -> DataFrame:
        """The segments of which rows are dead, with these."""
        return self._scan(self._old)

    def added(self) -> DataFrame:
        """The rows that took the place of dead ones, from memory."""
        return self._context.read_batches(self._new_rows().combine_chunks().to_batches())

    def by_function(self, dead: Places | None = None) -> DataFrame:
        """Without the rows of which a function of row ids says so."""
        alive = RowMask(self._old, self._dead if dead is None else dead).function()
        return self._visible(self._with_ids().filter(alive(col(ROW_ID))))

    def by_comparison(self) -> DataFrame:
        """With a condition on row ids that all rows meet, which statistics can't tell."""
        return self._visible(self._with_ids().filter(col(ROW_ID) % lit(2) >= lit(0)))

    def by_join(self, *, dead: bool = True) -> DataFrame:
        """Without the rows that have a partner among the dead ids."""
        ids = self._memory("dead_id", self._dead_ids() if dead else pa.array([-1], pa.int64()))
        return self._visible(self._with_ids().join(ids, left_on=ROW_ID, right_on="dead_id", how="anti"))

    def by_key(self) -> DataFrame:
        """Without the rows whose key a new row has: needs no row ids, but finds the dead by value in every query."""
        keys = self._memory("changed_id", self._new_rows()["order_id"].combine_chunks())
        return self.base().join(keys, left_on="order_id", right_on="changed_id", how="anti")

    def by_not_in(self) -> DataFrame:
        """Without the rows whose id a subquery has."""
        scan, dead = self.register(self._with_ids()), self.register(self._memory("dead_id", self._dead_ids()))
        sql = f"SELECT * FROM {scan} WHERE {ROW_ID} NOT IN (SELECT dead_id FROM {dead})"
        return self._visible(self._context.sql(sql))

    def register(self, frame: DataFrame) -> str:
        """A name for a frame in this engine's SQL."""
        self._count += 1
        self._context.register_table(f"t{self._count}", Table(frame))
        return f"t{self._count}"

    def ask(self, sql: str) -> pa.Table:
        """What a query answers."""
        frame = self._context.sql(sql)
        return pa.Table.from_batches([batch.to_pyarrow() for batch in frame.execute_stream()], frame.schema())

    def _dead_ids(self) -> pa.Array:
        return pa.array(np.concatenate([self._dead[one.id] + one.row_id_base for one in self._old]))

    def _new_rows(self) -> pa.Table:
        batches = [batch for one in self._new for batch, _ in read_segment(self._bucket, one, self._schema)]
        return pa.Table.from_batches(batches)

    def _memory(self, name: str, values: pa.Array) -> DataFrame:
        field = pa.field(name, values.type, nullable=False)
        return self._context.read_batches([pa.RecordBatch.from_arrays([values], schema=pa.schema([field]))])

    def _with_ids(self) -> DataFrame:
        schema = stored(self._schema).append(pa.field(ROW_ID, pa.int64(), nullable=False))
        return self._scan(self._old, schema)

    def _visible(self, frame: DataFrame) -> DataFrame:
        return frame.select(*self._schema.names)

    def _scan(self, segments: Sequence[Segment], schema: pa.Schema | None = None) -> DataFrame:
        urls = [self._bucket.url(key) for segment in segments for key in segment.object_keys()]
        return scan_files(self._context, urls, visible(self._schema) if schema is None else schema)
