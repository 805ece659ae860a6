"""kill -9 of a server at random moments, while clients change rows in every way and a compaction runs."""

from __future__ import annotations

import os
import random
import threading
import time
from typing import TYPE_CHECKING

import flightclient
import pytest
from faults.serving import ServerProcess
from faults.session import Session
from faults.workers import Rows, Worker, everything
from flightclient.errors import FlightclientError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

THOROUGH = os.environ.get("FLIGHTSERVER_TEST_THOROUGH") == "1"
KILLS = int(os.environ.get("FLIGHTSERVER_TEST_KILLS", "200" if THOROUGH else "20"))
WORKERS = 3
KINDS = {"UPDATE", "DELETE", "ON CONFLICT", "upsert", "transaction"}
RESTART_SECONDS = 5.0


def compact(uri: str, killed: threading.Event, compactions: list[int]) -> None:
    """Compact both datasets by turns until the server is gone."""
    try:
        with flightclient.connect(uri) as client:
            while True:
                for dataset in ("items", "journal"):
                    compactions.append(client.call("dataset.compact", {"dataset": dataset})["deltas_folded"])
                    time.sleep(0.05)
    except FlightclientError:
        if not killed.is_set():
            compactions.append(-1)


def load_until_killed(server: ServerProcess, workers: list[Worker], seconds: float, compactions: list[int]) -> None:
    """Let the workers change rows, and kill the server among it."""
    killed = threading.Event()
    threads = [threading.Thread(target=worker.work, args=(server.uri, killed)) for worker in workers]
    threads.append(threading.Thread(target=compact, args=(server.uri, killed, compactions)))
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    killed.set()
    server.kill()
    for thread in threads:
        thread.join()


@pytest.mark.timeout(3600)
def test_no_acknowledged_change_is_lost_and_none_is_torn_however_often_the_server_is_killed(
    tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    seed = random.randrange(2**32)  # noqa: S311  # moments, not secrets
    moments = random.Random(seed)  # noqa: S311  # as above
    workers = [Worker(number, seed + number) for number in range(WORKERS)]
    compactions: list[int] = []
    restarts: list[float] = []
    interrupted = 0
    for kill in range(KILLS + 1):
        started = time.monotonic()
        with ServerProcess(tmp_path) as server:
            restarts.append(time.monotonic() - started)
            with Session(server.uri) as session:
                if kill == 0:
                    session.update("CREATE TABLE items (id BIGINT NOT NULL, n BIGINT, note TEXT, PRIMARY KEY (id))")
                    session.update("CREATE TABLE journal (worker BIGINT, number BIGINT, amount BIGINT)")
                found = everything(session, WORKERS)
            interrupted += sum(worker.asked is not None for worker in workers)
            for worker, rows in zip(workers, found, strict=True):
                worker.settle(rows)
            if kill < KILLS:
                load_until_killed(server, workers, moments.uniform(0.05, 1.0), compactions)
        assert [worker.failure for worker in workers] == [None] * WORKERS, f"seed {seed}, kill {kill}"
        assert -1 not in compactions, f"seed {seed}, kill {kill}: a compaction failed"

    acknowledged = {kind: sum(worker.acknowledged.get(kind, 0) for worker in workers) for kind in KINDS}
    record_testsuite_property("acknowledged", acknowledged)
    record_testsuite_property("interrupted", interrupted)
    record_testsuite_property("compactions", len(compactions))
    record_testsuite_property("seconds to start", [round(seconds, 2) for seconds in restarts])
    assert min(acknowledged.values()) > 0, acknowledged
    assert sum(compactions) > 0, "compactions had nothing to do"
    assert interrupted > 0, "no kill hit a change"
    assert Rows() not in [worker.rows for worker in workers]
    if THOROUGH:
        assert max(restarts) < RESTART_SECONDS, restarts
