"""Memory of the server while it streams a result far larger than it should ever hold."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench import data, plots, servers
from bench.fetching import fetch
from bench.measure import MB, Page, Watched, median, table

if TYPE_CHECKING:
    from bench.context import Context
    from bench.fetching import Fetched
    from bench.servers import Server

TWICE = "SELECT * FROM lineitem UNION ALL SELECT * FROM lineitem"
LIMIT_MB = 300
PEER = "ROAPI"
SLOW_SECONDS = 0.05

INTRODUCTION = """One client reads `lineitem` twice over from Parquet as one result ({size:,.0f} MB as Arrow), \
quickly, and once more sleeping {pause:.0f} ms after each batch: a server that doesn't wait for its client keeps what \
was not read yet. Growth is resident memory at its peak less that before the first statement, so that buffers and \
caches which a process keeps afterwards count; each in a process that has just started; medians of {repeats} rounds. \
The peer is ROAPI. Ours must stay below {limit} MB."""


def measure(context: Context) -> Page:
    """Watch fresh servers while a client reads."""
    lake, source = data.lakehouse(context), data.parquet(context, "lineitem")
    growths: dict[str, list[float]] = {}
    fetched: dict[str, Fetched] = {}
    for _ in range(context.effort.repeats):
        for name, method, pause in (
            ("flightserver", "flight", 0.0),
            ("flightserver, adbc", "adbc", 0.0),
            ("flightserver, slow client", "flight", SLOW_SECONDS),
            (PEER, "flight", 0.0),
        ):
            with ExitStack() as stack:
                server = stack.enter_context(
                    servers.roapi(context.work, {"lineitem": source})
                    if name == PEER
                    else servers.lakehouse(context.work, lake)
                )
                growth, read = _growth(server, method, pause)
            growths.setdefault(name, []).append(growth / MB)
            fetched[name] = read
    return _page(context, growths, fetched)


def _growth(server: Server, method: str, pause: float) -> tuple[int, Fetched]:
    with Watched(server) as watched:
        read = fetch(method, server.uri, TWICE, pause)
    return watched.growth, read


def _page(context: Context, growths: dict[str, list[float]], fetched: dict[str, Fetched]) -> Page:
    peer = median(growths[PEER])
    medians = {name: median(values) for name, values in growths.items()}
    cells = [
        (
            name,
            f"{value:,.0f}",
            f"{value / peer:.2f}",
            f"{max(growths[name]):,.0f}",
            f"{fetched[name].rows:,}",
            f"{fetched[name].bytes / MB:,.0f}",
            f"{fetched[name].seconds:.1f}",
        )
        for name, value in medians.items()
    ]
    worst = max(max(values) for name, values in growths.items() if name != PEER)
    verdict = "holds" if worst < LIMIT_MB else "DOES NOT HOLD"
    page = Page("memory", "Memory while streaming")
    page.add(
        INTRODUCTION.format(
            size=fetched["flightserver"].bytes / MB,
            pause=SLOW_SECONDS * 1000,
            repeats=context.effort.repeats,
            limit=LIMIT_MB,
        ),
        table(("", "growth MB", "growth over the peer's", "worst MB", "rows", "MB received", "s"), cells),
        f"Below {LIMIT_MB} MB in every round: {verdict} ({worst:,.0f} MB at worst).",
        plots.bars(context.results / "memory.png", "Growth of resident memory", "MB", medians),
    )
    return page
