"""Compaction: folding changed rows into new files, beside DuckDB and delta-rs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

from bench import plots, shop
from bench.comparing import assert_same
from bench.inprocess import load, opened, rows, run
from bench.measure import MB, Page, Watched, median, table
from bench.rewriters import CONTESTANTS, DELTA, DUCK, OURS, OUTPUT, PROPERTIES, merge_statement
from bench.servers import ROOT, Server
from flightserver.catalog.entities import PRIMARY
from flightserver.tables.schema import ROW_ID

if TYPE_CHECKING:
    from pathlib import Path

    from bench.context import Context
    from flightserver.lakehouse import Lakehouse

SHARE = 0.1
STEPS = {OURS: ("change", "compact"), DUCK: ("compact",), DELTA: ("change", "compact")}

INTRODUCTION = """{rows:,} orders of eight columns in one Parquet file, of which {percent:.0f} % at random are \
upserted, and the table is then compacted. flightserver: MERGE, then what `dataset.compact` does. delta-rs: merge, \
then `optimize.compact`; its merge rewrites files, so that little is left to compact. DuckDB has no such tables: it \
is given the file, the dead row ids and the new rows, and writes the rows by COPY with an anti-join, which is the \
same work as our compaction without its row ids, the file of their origins, fsync and commit. All write zstd of level \
3 in row groups of 131,072 rows, with two threads. Each round starts every contestant in a process of its own on a \
fresh copy; medians of {repeats} rounds. Whole tables were compared afterwards. Growth is resident memory at its peak \
less that before the step."""


@dataclass(slots=True)
class Contestant:
    """What was measured of one, by step."""

    name: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    growth: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    written: dict[str, list[int]] = field(default_factory=dict)

    def run(self, directory: Path) -> None:
        """One round in a new process."""
        command = [sys.executable, "-m", "bench.rewriters", self.name, str(directory)]
        with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for step in STEPS[self.name]:
                before = _bytes(directory)
                with Watched(Server(self.name, "", process.pid)) as watched:
                    process.stdin.write(f"{step}\n")
                    process.stdin.flush()
                    seconds = float(process.stdout.readline())
                self.seconds.setdefault(step, []).append(seconds)
                self.growth.setdefault(step, []).append(watched.growth)
                self.cpu.setdefault(step, []).append(watched.cpu_seconds)
                self.written.setdefault(step, []).append(_bytes(directory) - before)
            process.stdin.close()

    def median(self, step: str) -> float:
        """Seconds of a step."""
        return median(self.seconds[step])

    @property
    def together(self) -> float:
        """Seconds of all steps."""
        return sum(self.median(step) for step in self.seconds)


def measure(context: Context) -> Page:
    """Prepare, run all in turn, compare."""
    effort = context.effort
    prepared = _prepared(context.work / "compaction", effort.rows)
    contestants = [Contestant(name) for name in CONTESTANTS]
    for number in range(effort.repeats):
        for each in contestants:
            copy = context.work / f"compaction-{each.name}"
            shutil.rmtree(copy, ignore_errors=True)
            # Files of either table never change, so that a copy may share them.
            shutil.copytree(prepared, copy, copy_function=os.link)
            each.run(copy)
            if number == 0:
                assert_same(each.name, _result(each.name, copy), pq.read_table(prepared / "expected.parquet"))
            shutil.rmtree(copy)
    return _page(context, contestants)


def _prepared(directory: Path, count: int) -> Path:
    """A directory with the table in the formats of all contestants."""
    if directory.exists():
        return directory
    making = directory.with_name("compaction-making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    orders = shop.orders(count)
    changed = _changed(orders, shop.picked(count, SHARE))
    pq.write_table(changed, making / "changed.parquet")
    write_deltalake(making / "delta", orders, writer_properties=PROPERTIES)
    with opened(making / "lake") as lakehouse:
        load(lakehouse, "orders", orders)
        load(lakehouse, "changed", changed)
    merged = making.with_name("compaction-merged")
    shutil.rmtree(merged, ignore_errors=True)
    shutil.copytree(making / "lake", merged)
    with opened(merged) as lakehouse:
        assert run(lakehouse, merge_statement(orders.column_names)) == changed.num_rows
        pq.write_table(rows(lakehouse, "SELECT * FROM orders"), making / "expected.parquet")
        _give(lakehouse, making)
    shutil.rmtree(merged)
    making.rename(directory)
    return directory


def _changed(orders: pa.Table, picked: pa.Table) -> pa.Table:
    """The new rows: of these orders, with another amount and status."""
    found = orders.take(picked["order_id"])
    amount = found.schema.get_field_index("amount")
    status = found.schema.get_field_index("status")
    more = found.set_column(amount, "amount", pc.add(found["amount"], 1.0))
    return more.set_column(status, "status", pa.array(["changed"] * found.num_rows))


def _give(lakehouse: Lakehouse, directory: Path) -> None:
    """The files of the changed dataset and its dead row ids, for DuckDB."""
    bucket = lakehouse.buckets.get(PRIMARY)
    dataset = lakehouse.catalog.snapshot().dataset("orders")
    [old] = [segment for segment in dataset.segments if segment.dead]
    [new] = [segment for segment in dataset.segments if not segment.dead]
    for segment, name in ((old, "base"), (new, "new")):
        [key] = segment.object_keys()
        with bucket.objects.open(key) as file:
            (directory / f"{name}.parquet").write_bytes(file.read())
    places = lakehouse.tables.dead.of(dataset)[old.id]
    dead = pa.table({ROW_ID: np.asarray(places) + old.row_id_base})
    pq.write_table(dead, directory / "dead.parquet")


def _result(contestant: str, directory: Path) -> pa.Table:
    """The whole table after all steps."""
    if contestant == OURS:
        with opened(directory / "lake") as lakehouse:
            assert not lakehouse.catalog.snapshot().dataset("orders").deltas
            return rows(lakehouse, "SELECT * FROM orders")
    if contestant == DUCK:
        return pq.read_table(directory / OUTPUT)
    return pa.concat_tables([pq.read_table(path) for path in DeltaTable(directory / "delta").file_uris()])


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


_HEADERS = (
    "",
    "upsert s",
    "compaction s",
    "compaction over DuckDB's",
    "both s",
    "both over delta-rs's",
    "CPU s, compaction",
    "MB written, upsert",
    "MB written, compaction",
    "growth MB, upsert",
    "growth MB, compaction",
)


def _page(context: Context, contestants: list[Contestant]) -> Page:
    named = {each.name: each for each in contestants}
    peer, other = named[DUCK], named[DELTA]
    cells = [
        (
            each.name,
            _shown(each.seconds, "change", 1, "{:.2f}"),
            _shown(each.seconds, "compact", 1, "{:.2f}"),
            f"{each.median('compact') / peer.median('compact'):.2f}",
            "" if each is peer else f"{each.together:.2f}",
            "" if each is peer else f"{each.together / other.together:.2f}",
            _shown(each.cpu, "compact", 1, "{:.2f}"),
            _shown(each.written, "change", MB),
            _shown(each.written, "compact", MB),
            _shown(each.growth, "change", MB),
            _shown(each.growth, "compact", MB),
        )
        for each in contestants
    ]
    effort = context.effort
    page = Page("compaction", "Compaction")
    page.add(
        INTRODUCTION.format(rows=effort.rows, percent=SHARE * 100, repeats=effort.repeats),
        table(_HEADERS, cells),
        plots.bars(
            context.results / "compaction.png",
            "Upsert of 10 % and compaction",
            "s (median)",
            {f"{each.name}, {step}": each.median(step) for each in contestants for step in each.seconds},
        ),
    )
    return page


def _shown(found: dict[str, list[float]] | dict[str, list[int]], step: str, unit: int, form: str = "{:,.0f}") -> str:
    return form.format(median(found[step]) / unit) if step in found else ""
