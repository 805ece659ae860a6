"""Hot datasets: queries over what the cache holds, beside files, DuckDB's own tables and polars."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from bench import plots, shop
from bench.comparing import assert_same
from bench.inprocess import THREADS, duck, duck_rows, load, opened, rows
from bench.measure import MB, Page, Taken, in_turn, table
from bench.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pyarrow as pa

    from bench.context import Context
    from flightserver.lakehouse import Lakehouse

TABLES = ("orders", "customers", "events")
JUDGED = ("orders", "customers")
"""The 1.1 million rows of which the bytes are judged."""
LIMIT_MB = 408
COLD, HOT, DUCK, POLARS = "files", "in memory", "DuckDB", "polars"

INTRODUCTION = """{orders:,} orders of eight columns, {customers:,} customers and {events:,} events. Every contestant \
is asked in this process, with {threads} threads and no wire, and answers as Arrow: flightserver reading files \
without its cache, flightserver with all three datasets in its cache (`cache.pin`), DuckDB with tables of its own in \
memory, and polars with data frames. Whole results were compared before. Medians of {repeats} rounds, contestants in \
turn. The peer is DuckDB."""

MEMORY = """What the {rows:,} orders and customers take in memory, in a process of its own: bytes of Arrow's buffers \
as `cache.stats` counts them, and the growth of the process by loading them, after it had opened the lakehouse and \
answered one query from files."""


@dataclass(frozen=True, slots=True)
class Question:
    """A query, and how often it is run in one turn."""

    title: str
    sql: str
    times: int = 1


def questions(orders: int) -> list[Question]:
    """What is asked of a shop with so many orders."""
    return [
        Question(
            "JOIN",
            "SELECT c.region, c.segment, count(*) AS n, sum(o.amount) AS amount FROM orders o "
            "JOIN customers c ON o.customer_id = c.customer_id GROUP BY c.region, c.segment",
        ),
        Question(f"filter, {orders // 10:,} rows", f"SELECT * FROM orders WHERE customer_id < {orders // 100}"),
        Question(
            "GROUP BY",
            "SELECT kind, page, count(*) AS n, sum(milliseconds) AS ms FROM events GROUP BY kind, page",
        ),
        Question("top-k", "SELECT order_id, amount, note FROM orders ORDER BY amount DESC, order_id LIMIT 100", 3),
        Question("point", f"SELECT * FROM orders WHERE order_id = {orders * 2 // 3}", 9),
    ]


def measure(context: Context) -> Page:
    """Ask all contestants in turn; then weigh the cache."""
    effort = context.effort
    tables = {
        "orders": shop.orders(effort.rows),
        "customers": shop.customers(effort.rows),
        "events": shop.events(effort.rows),
    }
    data = _lake(context.work / "caching", tables)
    asked = questions(effort.rows)
    with opened(data) as cold, opened(data, cached=True) as hot:
        for name in TABLES:
            hot.cache.pin(hot.catalog.snapshot().dataset(name))
        taken = _asked(cold, hot, tables, asked, effort.repeats)
    weight = _weighed(data)
    sizes = {name: rows.num_rows for name, rows in tables.items()}
    page = Page("caching", "Datasets in memory")
    page.add(
        INTRODUCTION.format(**sizes, threads=THREADS, repeats=effort.repeats),
        table(_HEADERS, _cells(taken)),
        _verdict(taken),
        plots.bars(context.results / "caching.png", "Time over that of DuckDB", "times", _ratios(taken)),
        "## Memory",
        MEMORY.format(rows=sum(sizes[name] for name in JUDGED)),
        _weight(weight, {name: tables[name].nbytes for name in JUDGED}),
    )
    if effort.name == "full":
        held = sum(weight["bytes"].values()) / MB
        page.add(f"At most {LIMIT_MB} MB: {'holds' if held <= LIMIT_MB else 'DOES NOT HOLD'} ({held:,.0f} MB).")
    return page


def _lake(data: Path, tables: Mapping[str, pa.Table]) -> Path:
    if not data.exists():
        with opened(data) as lakehouse:
            for name, rows in tables.items():
                load(lakehouse, name, rows)
    return data


def _asked(
    cold: Lakehouse, hot: Lakehouse, tables: Mapping[str, pa.Table], asked: list[Question], repeats: int
) -> dict[str, dict[str, Taken]]:
    """What every contestant took, by question."""
    ducks = duck(tables)
    frames = pl.SQLContext({name: pl.from_arrow(rows) for name, rows in tables.items()}, eager=True)
    found = {}
    for one in asked:
        ways: dict[str, Callable[[], Any]] = {
            COLD: partial(rows, cold, one.sql),
            HOT: partial(rows, hot, one.sql),
            DUCK: partial(duck_rows, ducks, one.sql),
            POLARS: partial(_polars, frames, one.sql),
        }
        expected = ways[DUCK]()
        for name, way in ways.items():
            assert_same(f"{one.title}, {name}", way(), expected)
        found[one.title] = in_turn(ways, repeats, one.times)
    return found


def _polars(frames: pl.SQLContext[Any], sql: str) -> pa.Table:
    return frames.execute(sql).to_arrow()


def _weighed(data: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.cache_probe", str(data), *JUDGED]
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


_HEADERS = (
    "",
    *(f"{name} ms" for name in (COLD, HOT, DUCK, POLARS)),
    "files over in memory",
    "in memory over DuckDB",
    "CPU, in memory over DuckDB",
)


def _cells(taken: dict[str, dict[str, Taken]]) -> list[tuple[object, ...]]:
    return [
        (
            title,
            *(f"{each[name].seconds * 1000:.1f}" for name in (COLD, HOT, DUCK, POLARS)),
            f"{each[COLD].seconds / each[HOT].seconds:.2f}",
            f"{each[HOT].seconds / each[DUCK].seconds:.2f}",
            f"{each[HOT].cpu / each[DUCK].cpu:.2f}",
        )
        for title, each in taken.items()
    ]


def _ratios(taken: dict[str, dict[str, Taken]]) -> dict[str, float]:
    return {
        f"{title}, {name}": each[name].seconds / each[DUCK].seconds
        for title, each in taken.items()
        for name in (HOT, POLARS)
    }


def _verdict(taken: dict[str, dict[str, Taken]]) -> str:
    over = {title: each[HOT].seconds / each[DUCK].seconds for title, each in taken.items()}
    above = [f"{title} {ratio:.2f}" for title, ratio in over.items() if ratio > 1]
    return f"In memory at most DuckDB's own time: {'DOES NOT HOLD for ' + ', '.join(above) if above else 'holds'}."


def _weight(weight: dict[str, Any], plain: Mapping[str, int]) -> str:
    cells: list[tuple[str, ...]] = [
        (name, f"{plain[name] / MB:,.0f}", f"{weight['bytes'][name] / MB:,.0f}", "", f"{weight['seconds'][name]:.2f}")
        for name in JUDGED
    ]
    totals = [sum(plain.values()), sum(weight["bytes"].values()), weight["growth"]]
    cells.append(("together", *(f"{size / MB:,.0f}" for size in totals), f"{sum(weight['seconds'].values()):.2f}"))
    return table(("", "as plain Arrow MB", "in the cache MB", "growth of the process MB", "s to load"), cells)
