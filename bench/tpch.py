"""TPC-H: all 22 queries through the server, beside DuckDB in this process."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow.parquet as pq

from bench import data, plots, servers
from bench.comparing import assert_same
from bench.inprocess import THREADS, duck, duck_rows
from bench.measure import MB, Page, median, table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pyarrow as pa

    from bench.context import Context

TABLES = ("region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem")
Q11_FRACTION = "* 0.001"
"""As the texts have it, for scale factor 0.1."""
QUERIES = servers.ROOT / "tests" / "clients" / "tpch"

FILES, HELD = "flightserver, Parquet", "flightserver, in memory"
DUCK_PARQUET, DUCK_OWN, DUCK_MEMORY = "DuckDB, Parquet", "DuckDB, own file", "DuckDB, in memory"
PEERS = {FILES: DUCK_PARQUET, HELD: DUCK_MEMORY}

INTRODUCTION = """TPC-H at scale factor {scale:g}, the 22 queries with the specification's values. flightserver is a \
process of its own with its default settings, asked by ADBC, reading files that `ingest.file` wrote and with all \
tables in its cache. DuckDB is asked in this process, with {threads} threads: over the same files, over tables in a \
file of its own, and in memory; its results are fetched as Arrow. Answers were compared before. Medians of {repeats} \
rounds, in each of which all take their turn at every query. flightserver pays for the wire besides: see `SELECT 1` \
on the page of latency."""


def measure(context: Context) -> Page:
    """Ask all contestants every query, in turn."""
    lake = data.lakehouse(context, "tpch-lakehouse", TABLES)
    queries = {path.stem: _text(path, context.effort.scale) for path in sorted(QUERIES.glob("q*.sql"))}
    with ExitStack() as stack:
        ways = {**_ours(context, stack, lake), **_ducks(context, stack, lake)}
        _compare(ways, queries)
        taken: dict[str, dict[str, list[float]]] = {name: {query: [] for query in queries} for name in ways}
        for _ in range(context.effort.repeats):
            for query, sql in queries.items():
                for name, ask in ways.items():
                    begin = time.perf_counter()
                    ask(sql)
                    taken[name][query].append(time.perf_counter() - begin)
    return _page(
        context, {name: {query: median(each) for query, each in found.items()} for name, found in taken.items()}
    )


def _text(path: Path, scale: float) -> str:
    """A query, with the one parameter that depends on the scale: the fraction of q11 is 0.0001 / SF (2.4.11.3)."""
    text = path.read_text(encoding="utf-8").rstrip().rstrip(";")
    return text.replace(Q11_FRACTION, f"* {0.0001 / scale:.7f}") if path.stem == "q11" else text


def _ours(context: Context, stack: ExitStack, lake: Path) -> dict[str, Callable[[str], pa.Table]]:
    files = stack.enter_context(servers.lakehouse(context.work, lake))
    held = stack.enter_context(servers.lakehouse(context.work, lake, cached=True))
    for name in TABLES:
        data.act(held, "cache.pin", dataset=name)
    ways: dict[str, Callable[[str], pa.Table]] = {}
    for name, server in ((FILES, files), (HELD, held)):
        connection = stack.enter_context(flightsql.connect(server.uri, autocommit=True))
        ways[name] = partial(_by_adbc, connection)
    return ways


def _by_adbc(connection: Any, sql: str) -> pa.Table:
    with connection.cursor() as cursor:
        return cursor.execute(sql).fetch_arrow_table()


def _ducks(context: Context, stack: ExitStack, lake: Path) -> dict[str, Callable[[str], pa.Table]]:
    directories = {name: data.segment(lake, name) for name in TABLES}
    own = context.work / "tpch.duckdb"
    own.unlink(missing_ok=True)
    over = stack.enter_context(closing(duck({})))
    filed = stack.enter_context(closing(duck({}, own)))
    held = stack.enter_context(closing(duck({})))
    for name, directory in directories.items():
        columns = ", ".join(pq.read_schema(next(directory.glob("part-*.parquet"))).names[:-1])
        source = f"SELECT {columns} FROM '{directory}/part-*.parquet'"
        over.execute(f"CREATE VIEW {name} AS {source}")
        filed.execute(f"CREATE TABLE {name} AS {source}")
        held.execute(f"CREATE TABLE {name} AS {source}")
    return {
        name: partial(duck_rows, connection)
        for name, connection in ((DUCK_PARQUET, over), (DUCK_OWN, filed), (DUCK_MEMORY, held))
    }


def _compare(ways: Mapping[str, Callable[[str], pa.Table]], queries: Mapping[str, str]) -> None:
    for query, sql in queries.items():
        expected = ways[DUCK_MEMORY](sql)
        for name, ask in ways.items():
            assert_same(f"{query}, {name}", ask(sql), expected)


def _page(context: Context, taken: dict[str, dict[str, float]]) -> Page:
    totals = {name: sum(found.values()) for name, found in taken.items()}
    cells = [
        (
            name,
            f"{total:.2f}",
            f"{total / totals[PEERS[name]]:.2f}" if name in PEERS else "",
            f"{total / totals[DUCK_OWN]:.2f}",
        )
        for name, total in totals.items()
    ]
    names = list(taken)
    by_query = [
        (
            query,
            *(f"{taken[name][query] * 1000:.0f}" for name in names),
            *(f"{taken[name][query] / taken[peer][query]:.2f}" for name, peer in PEERS.items()),
        )
        for query in taken[FILES]
    ]
    size = sum(path.stat().st_size for path in (context.work / "tpch-lakehouse").rglob("*.parquet"))
    page = Page("tpch", "TPC-H")
    page.add(
        INTRODUCTION.format(scale=context.effort.scale, threads=THREADS, repeats=context.effort.repeats),
        f"All queries; the files have {size / MB:,.0f} MB.",
        table(("", "s", "over DuckDB on the same", "over DuckDB's own file"), cells),
        plots.bars(context.results / "tpch.png", "All 22 queries", "s", totals),
        "## By query",
        table(("", *(f"{name} ms" for name in names), "Parquet over DuckDB's", "in memory over DuckDB's"), by_query),
    )
    return page
