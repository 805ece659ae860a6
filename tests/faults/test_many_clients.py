"""A thousand clients at once: bounded threads and memory, clear refusals, a health check that answers, and no traces.

The short form has 200 clients, FLIGHTSERVER_TEST_THOROUGH=1 the whole thousand.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import flightclient
import psutil
import pytest
from faults.crowd import ROWS
from faults.serving import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = 1000 if os.environ.get("FLIGHTSERVER_TEST_THOROUGH") == "1" else 200
PROCESSES = 8
HELD = 20
"""Streams of each process that is killed: those of four processes are fewer than `MAX_CALLS`."""

MAX_CALLS = 96
"""Fewer than there are clients, so that some are refused."""

OWN_THREADS = 64
"""Of the server besides those of calls: the engine's, gRPC's pollers, the web server's."""

POOLED = 4
"""Threads that pools start when they are first needed, whenever that is."""

MEMORY = 1536
"""MiB: statements have 512, and a thread of a call takes some 200 KiB."""

HEALTH_SECONDS = 10
"""The timeout of a patient health check; the machine has two cores, and the clients use both."""

MIB = 1024 * 1024
CROWD = Path(__file__).with_name("crowd.py")
LIMITS = {"FLIGHTSERVER_SERVER_MAX_CALLS": str(MAX_CALLS), "FLIGHTSERVER_QUERY_MEMORY_BYTES": str(512 * MIB)}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    for name, value in LIMITS.items():
        monkeypatch.setenv(name, value)
    with ServerProcess(tmp_path / "data") as server:
        with flightclient.connect(server.uri) as client:
            client.query(f"CREATE TABLE numbers AS SELECT value AS n FROM generate_series(1, {ROWS})")
        yield server


class Crowd:
    """One process of clients; ready when made."""

    def __init__(self, mode: str, uri: str, count: int, first: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(CROWD), mode, uri, str(count), str(first)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def begin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def outcomes(self) -> dict[str, int]:
        counts: dict[str, int] = json.loads(self._process.communicate(timeout=200)[0])
        return counts

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass
class Watch:
    """What a server process was seen to use, and how its health check answered."""

    threads: list[int] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


@contextmanager
def watched(server: ServerProcess) -> Iterator[Watch]:
    """Looks at the server some times a second."""
    watch, over = Watch(), threading.Event()
    process = psutil.Process(server.pid)

    def look() -> None:
        while not over.wait(0.05):
            watch.threads.append(process.num_threads())
            watch.resident.append(process.memory_info().rss)

    def ask() -> None:
        while not over.wait(0.1):
            watch.health.append(health(server))
            watch.calls.append(calls_in_flight(server))

    threads = [threading.Thread(target=look), threading.Thread(target=ask)]
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        over.set()
        for thread in threads:
            thread.join()


def health(server: ServerProcess) -> str:
    """What `/healthz` answers, or why it doesn't."""
    try:
        with urllib.request.urlopen(f"{server.web}/healthz", timeout=HEALTH_SECONDS) as answer:  # noqa: S310  # our own
            text: str = answer.read().decode()
    except OSError as error:
        return str(error)
    return text


def calls_in_flight(server: ServerProcess) -> int:
    """How many calls the server says that it works on."""
    with urllib.request.urlopen(f"{server.web}/metrics") as answer:  # noqa: S310  # our own
        found = re.search(r"^flightserver_calls_in_flight (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found
    return int(float(found[1]))


def ask_at_once(server: ServerProcess, clients: int) -> dict[str, int]:
    """Many clients ask; returns how often each outcome was seen."""
    share = clients // PROCESSES
    crowds = [Crowd("ask", server.uri, share, number * share) for number in range(PROCESSES)]
    for crowd in crowds:
        crowd.wait_until_ready()
    for crowd in crowds:
        crowd.begin()
    outcomes: Counter[str] = Counter()
    for crowd in crowds:
        outcomes.update(crowd.outcomes())
    return outcomes


def disconnect_in_mid_stream(server: ServerProcess, clients: int) -> None:
    """So many clients are killed while they are sent rows."""
    for _ in range(-(-clients // (4 * HELD))):
        crowds = [Crowd("hold", server.uri, HELD) for _ in range(4)]
        for crowd in crowds:
            crowd.wait_until_ready()
        for crowd in crowds:
            crowd.kill()
        until_idle(server)


def until_idle(server: ServerProcess) -> None:
    """Return when no statement of the clients runs; the test's own timeout ends it otherwise."""
    running = "SELECT count(*) AS n FROM system.queries WHERE state IN ('queued', 'running') AND sql LIKE '% numbers%'"
    with flightclient.connect(server.uri) as client:
        while client.query(running).to_pylist() != [{"n": 0}]:
            time.sleep(0.05)


def settled(server: ServerProcess) -> tuple[int, int]:
    """Threads and resident bytes of a server that has nothing to do: the least of a few seconds."""
    until_idle(server)
    process = psutil.Process(server.pid)
    threads, resident = [], []
    for _ in range(30):
        time.sleep(0.1)
        threads.append(process.num_threads())
        resident.append(process.memory_info().rss)
    return min(threads), min(resident)


@pytest.mark.timeout(600)
def test_a_crowd_is_answered_or_refused_and_the_server_stays_bounded(server: ServerProcess) -> None:
    with watched(server) as watch:
        outcomes = ask_at_once(server, CLIENTS)

    if not set(outcomes) <= {"ok", "FS-3002"}:
        lived = server.process.poll() is None
        pytest.fail(f"{dict(outcomes)}; the server lived: {lived}, ended with and wrote: {server.stop()}")
    assert outcomes["ok"] >= MAX_CALLS // 2
    assert sum(outcomes.values()) == CLIENTS
    assert set(watch.health) == {"ok\n"}
    assert max(watch.calls) <= MAX_CALLS
    # gRPC gives a call its thread before anybody can refuse it, and only then does it end.
    assert max(watch.threads) <= CLIENTS + OWN_THREADS
    assert settled(server)[0] <= OWN_THREADS
    assert max(watch.resident) <= MEMORY * MIB
    with flightclient.connect(server.uri) as client:
        assert client.query("SELECT sum(n) AS s FROM numbers").to_pylist() == [{"s": ROWS * (ROWS + 1) // 2}]


@pytest.mark.timeout(900)
def test_clients_that_vanish_in_mid_stream_leave_nothing(server: ServerProcess) -> None:
    # Allocators keep what the first rounds have used, and caches fill: only what later rounds add on top is a leak.
    sizes = []
    for _ in range(4):
        disconnect_in_mid_stream(server, CLIENTS)
        sizes.append(settled(server))
    (first, one), (second, two), (third, three), (fourth, four) = sizes
    assert max(third, fourth) <= max(first, second) + POOLED
    assert min(three, four) < 1.05 * max(one, two), sizes
    assert health(server) == "ok\n"
