"""Pages of a result: what the first, the last and any page costs, beside LIMIT and OFFSET."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow.flight as fl

from bench import data, plots, servers
from bench.measure import MB, Page, median, percentile, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.context import Context
    from bench.servers import Server

ROWS, PAGE_ROWS = 100_000, 100
PAGES = ROWS // PAGE_ROWS
READS = 100
SQL = f"SELECT * FROM orders ORDER BY o_orderkey LIMIT {ROWS}"
WINDOW = f"SELECT * FROM orders ORDER BY o_orderkey LIMIT {PAGE_ROWS} OFFSET {{offset}}"
PEER = "flightserver, LIMIT and OFFSET"
_STRIDE = 389
"""A prime: stepping by it visits all pages in an order without locality."""

INTRODUCTION = """`orders` by key, the first {rows:,} rows in pages of {page_rows}: a FlightInfo with {pages:,} \
endpoints, one for each page, of a result that is computed once and kept. Any page is one DoGet of its ticket. Medians \
of {reads} reads over a warm connection, contestants in turn. The peer is what clients do without pages: the same \
window by LIMIT and OFFSET, which the server computes anew each time, and which gives wrong pages when somebody writes \
in between. ROAPI is left out: it sends the whole string buffers behind its view columns with every row of such a \
window, 107 MB each at scale factor 0.1, more than the ADBC driver takes in one message."""


def measure(context: Context) -> Page:
    """Time all ways to the same rows."""
    lake = data.lakehouse(context)
    with ExitStack() as stack:
        ours = stack.enter_context(servers.lakehouse(context.work, lake))
        client = stack.enter_context(fl.connect(ours.uri))
        ask = {PEER: _window(stack, ours)}
        info, seconds = _described(client, context.effort.repeats)
        assert len(info.endpoints) == PAGES
        ask = {"flightserver, pages": _page_of(client, info), **ask}
        cells, plotted = _timed(ask)
    page = Page("pages", "Pages of a result")
    page.add(
        INTRODUCTION.format(rows=ROWS, page_rows=PAGE_ROWS, pages=PAGES, reads=READS),
        table(("", "first page ms", "any page ms", "last page ms", "any, p99 ms", "any, over the peer's"), cells),
        f"The FlightInfo with {PAGES:,} endpoints, its result computed and stored: {seconds * 1000:.0f} ms, "
        f"{len(info.serialize()) / MB:.2f} MB.",
        plots.bars(context.results / "pages.png", "Any page of 100 rows", "ms (median)", plotted),
    )
    return page


def _described(client: fl.FlightClient, repeats: int) -> tuple[fl.FlightInfo, float]:
    """The FlightInfo, and median seconds to get it."""
    command = json.dumps({"sql": SQL, "page_rows": PAGE_ROWS}).encode()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        info = client.get_flight_info(fl.FlightDescriptor.for_command(command))
        taken.append(time.perf_counter() - begin)
    return info, median(taken)


def _page_of(client: fl.FlightClient, info: fl.FlightInfo) -> Callable[[int], int]:
    return lambda page: int(client.do_get(info.endpoints[page].ticket).read_all().num_rows)


def _window(stack: ExitStack, server: Server) -> Callable[[int], int]:
    connection = stack.enter_context(flightsql.connect(server.uri, autocommit=True))

    def read(page: int) -> int:
        with connection.cursor() as cursor:
            cursor.execute(WINDOW.format(offset=page * PAGE_ROWS))
            return int(cursor.fetch_arrow_table().num_rows)

    return read


def _timed(ask: dict[str, Callable[[int], int]]) -> tuple[list[tuple[str, ...]], dict[str, float]]:
    """Table rows, and medians of any page."""
    places = {
        "first": [0] * READS,
        "any": [number * _STRIDE % PAGES for number in range(READS)],
        "last": [PAGES - 1] * READS,
    }
    taken: dict[tuple[str, str], list[float]] = {}
    for place, numbers in places.items():
        for number in numbers:
            for name, read in ask.items():
                begin = time.perf_counter()
                assert read(number) == PAGE_ROWS
                taken.setdefault((name, place), []).append((time.perf_counter() - begin) * 1000)
    plotted = {name: median(taken[name, "any"]) for name in ask}
    cells = [
        (
            name,
            *(f"{median(taken[name, place]):.2f}" for place in places),
            f"{percentile(taken[name, 'any'], 99):.2f}",
            f"{plotted[name] / plotted[PEER]:.2f}",
        )
        for name in ask
    ]
    return cells, plotted
