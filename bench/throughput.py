"""Throughput: one large result to one client, beside what pyarrow.flight can do at most and beside ROAPI."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from bench import data, plots, servers
from bench.fetching import fetch
from bench.measure import MB, Page, Watched, median, table

if TYPE_CHECKING:
    from pathlib import Path

    from bench.context import Context
    from bench.fetching import Fetched
    from bench.servers import Server

PEER = "pyarrow.flight, in memory"
ALL = "SELECT * FROM lineitem"

INTRODUCTION = """One client reads TPC-H's `lineitem` at scale factor {scale} ({rows:,} rows, {size:,.0f} MB as Arrow) \
to its end. Each contestant is a process of its own, the client is another; medians of {repeats} rounds, in each of \
which all contestants take their turn. The peer is pyarrow.flight sending the same table from memory in batches of \
32 Ki rows, with no engine: the limit of this library on this machine. Speed is the size of the table as plain Arrow \
over the time, whatever a server put on the wire. `flight` is pyarrow's client, `adbc` the ADBC Flight SQL driver; \
pyarrow.flight alone has no SQL, so that ADBC can't ask it."""

DIFFERENCES = """What differs: tpchgen-cli's files are Snappy with row groups of 7 MiB; ours are written by \
`ingest.file` from those, and hold one more column, `_rid`, which the statement for ROAPI leaves out by naming all \
others. ROAPI sends strings as Arrow's view type where ours are plain, hence more bytes. Its tables from Parquet have \
`use_memory_table: false`; without, it loads them at start ("in memory"). RSS is the server's resident memory before \
and at its peak during a reading."""


@dataclass(slots=True)
class Contestant:
    """A server, how it is asked, and what was measured of it."""

    name: str
    server: Server
    method: str
    sql: str = ALL
    fetched: list[Fetched] = field(default_factory=list)
    watched: list[Watched] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Median of all rounds."""
        return median([each.seconds for each in self.fetched])

    def run(self) -> None:
        """One reading."""
        with Watched(self.server) as watched:
            fetched = fetch(self.method, self.server.uri, self.sql)
        self.fetched.append(fetched)
        self.watched.append(watched)


def measure(context: Context) -> Page:
    """Run all contestants in turn, and tell their speeds beside the peer's."""
    source = data.parquet(context, "lineitem")
    lake = data.lakehouse(context)
    with ExitStack() as stack:
        contestants = _contestants(context, stack, source, lake)
        for _ in range(context.effort.repeats):
            for contestant in contestants:
                contestant.run()
    rows = pq.read_metadata(source).num_rows
    assert all(fetched.rows == rows for each in contestants for fetched in each.fetched)
    return _page(context, contestants, rows)


def _contestants(context: Context, stack: ExitStack, source: Path, lake: Path) -> list[Contestant]:
    work = context.work
    raw = stack.enter_context(servers.raw_flight(work, source))
    ours = stack.enter_context(servers.lakehouse(work, lake))
    pinned = stack.enter_context(servers.lakehouse(work, lake, cached=True))
    data.act(pinned, "cache.pin", dataset="lineitem")
    segment = data.segment(lake, "lineitem")
    theirs = stack.enter_context(servers.roapi(work, {"lineitem": source}))
    theirs_ours = stack.enter_context(servers.roapi(work, {"lineitem": segment}))
    theirs_memory = stack.enter_context(servers.roapi(work, {"lineitem": source}, memory=True))
    columns = f"SELECT {', '.join(pq.read_schema(source).names)} FROM lineitem"
    return [
        Contestant(PEER, raw, "flight"),
        Contestant("flightserver, in memory", pinned, "flight"),
        Contestant("flightserver, in memory, adbc", pinned, "adbc"),
        Contestant("flightserver, Parquet", ours, "flight"),
        Contestant("flightserver, Parquet, adbc", ours, "adbc"),
        Contestant("ROAPI, in memory", theirs_memory, "flight"),
        Contestant("ROAPI, in memory, adbc", theirs_memory, "adbc"),
        Contestant("ROAPI, tpchgen-cli's Parquet", theirs, "flight"),
        Contestant("ROAPI, tpchgen-cli's Parquet, adbc", theirs, "adbc"),
        Contestant("ROAPI, our Parquet", theirs_ours, "flight", columns),
        Contestant("ROAPI, our Parquet, adbc", theirs_ours, "adbc", columns),
    ]


def _page(context: Context, contestants: list[Contestant], rows: int) -> Page:
    peer = contestants[0]
    size = peer.fetched[0].bytes
    speeds = {each.name: size / MB / each.seconds for each in contestants}
    cells = [
        (
            each.name,
            f"{each.seconds:.2f}",
            f"{median([fetched.first for fetched in each.fetched]) * 1000:.0f}",
            f"{speeds[each.name]:,.0f}",
            f"{peer.seconds / each.seconds:.2f}",
            f"{each.fetched[0].bytes / MB:,.0f}",
            f"{median([watched.cpu_seconds for watched in each.watched]):.2f}",
            f"{median([watched.before for watched in each.watched]) / MB:,.0f}",
            f"{max(watched.peak for watched in each.watched) / MB:,.0f}",
        )
        for each in contestants
    ]
    headers = (
        "",
        "s",
        "first batch ms",
        "MB/s",
        "speed over the peer's",
        "MB received",
        "CPU s",
        "RSS MB",
        "peak RSS MB",
    )
    page = Page("throughput", "Throughput of one large result")
    page.add(
        INTRODUCTION.format(scale=context.effort.scale, rows=rows, size=size / MB, repeats=context.effort.repeats),
        table(headers, cells),
        plots.bars(context.results / "throughput.png", "One result to one client", "MB/s", speeds),
        DIFFERENCES,
    )
    return page
