"""Latency and statements a second of small questions, at 1, 8 and 32 connections, beside ROAPI."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench import data, plots, servers
from bench.asking import Clients, Question
from bench.measure import Page, Watched, median, percentile, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.context import Context
    from bench.servers import Server

CONNECTIONS = (1, 8, 32)
PEER = "ROAPI"
LOOKUP = "SELECT * FROM orders WHERE o_orderkey = {key}"
BOUND = "SELECT * FROM orders WHERE o_orderkey = ?"

INTRODUCTION = """ADBC clients, each connection in a thread of its own in up to four client processes, ask one \
question after the other for {seconds:g} seconds; medians of {repeats} rounds, in each of which all contestants take \
their turn. The peer is ROAPI. The lookup is of one of {orders:,} orders by `o_orderkey`, another each time; ROAPI \
doesn't implement bound parameters, so the statement holds the key as a literal, and ours is measured both ways. CPU \
is that of the server for one statement, and says more than the clock where clients and server share the cores."""


@dataclass(slots=True)
class Contestant:
    """A server and one question, and what was measured."""

    name: str
    server: Server
    question: Question
    rounds: dict[int, list[list[int]]] = field(default_factory=dict)
    cpu: dict[int, list[float]] = field(default_factory=dict)

    def run(self, clients: Clients, connections: int) -> None:
        """One round."""
        with Watched(self.server) as watched:
            latencies = clients.round()
        self.rounds.setdefault(connections, []).append(latencies)
        self.cpu.setdefault(connections, []).append(watched.cpu_seconds * 1000 / len(latencies))

    def milliseconds(self, connections: int, percent: int) -> float:
        """Median over the rounds of a percentile."""
        return median([percentile(each, percent) for each in self.rounds[connections]]) / 1000

    def rate(self, connections: int, seconds: float) -> float:
        """Statements a second, median over the rounds."""
        return median([len(each) for each in self.rounds[connections]]) / seconds


def measure(context: Context) -> Page:
    """Ask all contestants in turn, and tell latencies and rates beside the peer's."""
    effort = context.effort
    lake, orders = data.lakehouse(context), data.parquet(context, "orders")
    page = Page("latency", "Latency of small statements")
    page.add(
        INTRODUCTION.format(seconds=effort.seconds, repeats=effort.repeats, orders=data.orders(context)),
    )
    keys = data.orders(context)
    with ExitStack() as stack:
        ours = stack.enter_context(servers.lakehouse(context.work, lake))
        pinned = stack.enter_context(servers.lakehouse(context.work, lake, cached=True))
        data.act(pinned, "cache.pin", dataset="orders")
        theirs = stack.enter_context(servers.roapi(context.work, {"orders": orders}))
        theirs_memory = stack.enter_context(servers.roapi(context.work, {"orders": orders}, memory=True))
        one = Question("SELECT 1", keys)
        lookup = Question(LOOKUP, keys)
        questions = {
            "SELECT 1": [Contestant(PEER, theirs, one), Contestant("flightserver", ours, one)],
            "Lookup by key, Parquet": [
                Contestant(PEER, theirs, lookup),
                Contestant("flightserver", ours, lookup),
                Contestant("flightserver, key bound", ours, Question(BOUND, keys, bound=True)),
            ],
            "Lookup by key, in memory": [
                Contestant(PEER, theirs_memory, lookup),
                Contestant("flightserver", pinned, lookup),
                Contestant("flightserver, key bound", pinned, Question(BOUND, keys, bound=True)),
            ],
        }
        for title, contestants in questions.items():
            _run(context, contestants)
            page.add(f"## {title}", *_parts(context, title, contestants))
    return page


def _run(context: Context, contestants: Sequence[Contestant]) -> None:
    effort = context.effort
    for connections in CONNECTIONS:
        with ExitStack() as stack:
            clients = [
                stack.enter_context(Clients(each.server.uri, each.question, connections, effort.seconds))
                for each in contestants
            ]
            for _ in range(effort.repeats):
                for contestant, asking in zip(contestants, clients, strict=True):
                    contestant.run(asking, connections)


def _parts(context: Context, title: str, contestants: Sequence[Contestant]) -> list[str]:
    seconds = context.effort.seconds
    peer = contestants[0]
    cells = [
        (
            each.name,
            connections,
            f"{each.milliseconds(connections, 50):.2f}",
            f"{each.milliseconds(connections, 99):.2f}",
            f"{each.rate(connections, seconds):,.0f}",
            f"{each.rate(connections, seconds) / peer.rate(connections, seconds):.2f}",
            f"{median(each.cpu[connections]):.2f}",
        )
        for connections in CONNECTIONS
        for each in contestants
    ]
    headers = ("", "connections", "p50 ms", "p99 ms", "statements/s", "rate over the peer's", "CPU ms")
    name = title.lower().replace(",", "").replace(" ", "-")
    plot = plots.lines(
        context.results / f"latency-{name}.png",
        title,
        ("connections", "statements a second"),
        CONNECTIONS,
        {each.name: [each.rate(connections, seconds) for connections in CONNECTIONS] for each in contestants},
    )
    return [table(headers, cells), plot]
