"""kill -9 at random moments of an ingest: what was acknowledged is there, nothing is half there, a retry succeeds."""

from __future__ import annotations

import os
import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import flightclient
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.flight as fl
import pytest
from faults.serving import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = int(os.environ.get("FLIGHTSERVER_TEST_KILLS", "25"))
"""Of each of the two tests: 50 kills in all."""

ROWS = 150_000


def rows_of(round_number: int) -> pa.Table:
    """The rows of one round: no other round has the same."""
    generator = random.Random(round_number)  # noqa: S311  # data, not secrets
    return pa.table(
        {
            "round": pa.array([round_number] * ROWS, pa.int64()),
            "place": pa.array(range(ROWS), pa.int64()),
            "text": [f"{generator.random():.12f}" + "x" for _ in range(ROWS)],
        }
    )


def stored(client: flightclient.Client, table: str) -> dict[int, tuple[int, int, int]]:
    """Round -> rows, distinct places, and a checksum over all of its columns."""
    answer = client.query(
        f"SELECT round, count(*) AS n, count(DISTINCT place) AS d, sum(character_length(text) + place) AS s "
        f"FROM {table} GROUP BY round"
    )
    return {row["round"]: (row["n"], row["d"], row["s"]) for row in answer.to_pylist()}


def expected(table: pa.Table) -> tuple[int, int, int]:
    """What `stored` says of a round that is whole."""
    length = sum(len(text) for text in table.column("text").to_pylist())
    return ROWS, ROWS, length + ROWS * (ROWS - 1) // 2


def ingest(client: flightclient.Client, source: Path) -> flightclient.IngestResult:
    """Upload the file and append its rows."""
    return client.ingest_file(source, "events", mode="create_append")


def killed_during(server: ServerProcess, seconds: float, call: Any) -> bool:
    """Run `call` and kill the server after `seconds`; returns whether the call was acknowledged."""
    killer = threading.Timer(seconds, server.kill)
    killer.start()
    try:
        call()
    except (fl.FlightError, pa.ArrowException, OSError, flightclient.FlightclientError):
        return False
    else:
        return True
    finally:
        killer.join()


@pytest.mark.timeout(900)
def test_file_ingests_survive_kills_at_random_moments(tmp_path: Path) -> None:
    generator = random.Random()  # noqa: S311  # moments, not secrets
    data, source = tmp_path / "data", tmp_path / "rows.csv"
    whole: dict[int, tuple[int, int, int]] = {}
    seconds = 2.0
    for number in range(ROUNDS):
        table = rows_of(number)
        pacsv.write_csv(table, source)
        checksum = expected(table)
        with ServerProcess(data) as server, flightclient.connect(server.uri) as client:
            acknowledged = killed_during(server, generator.uniform(0, seconds * 1.2), partial(ingest, client, source))
        with ServerProcess(data) as server, flightclient.connect(server.uri) as client:
            after = stored(client, "events") if client.tables() else {}
            interrupted = after.pop(number, None)

            assert after == whole, "a round that was whole has changed"
            assert interrupted in ({checksum} if acknowledged else {checksum, None})

            started = time.monotonic()
            retried = ingest(client, source)
            seconds = time.monotonic() - started if interrupted is None else seconds

            assert retried.unchanged == (interrupted is not None)
            whole[number] = checksum
            assert stored(client, "events") == whole


@pytest.mark.timeout(900)
def test_streamed_replacements_survive_kills_at_random_moments(tmp_path: Path) -> None:
    generator = random.Random()  # noqa: S311  # moments, not secrets
    data = tmp_path / "data"
    before: dict[int, tuple[int, int, int]] = {}
    seconds = 1.0
    for number in range(ROUNDS):
        table = rows_of(number)
        with ServerProcess(data) as server, flightclient.connect(server.uri) as client:
            acknowledged = killed_during(
                server,
                generator.uniform(0, seconds * 1.2),
                partial(client.ingest, table, "state", mode="replace"),
            )
        with ServerProcess(data) as server, flightclient.connect(server.uri) as client:
            after = stored(client, "state") if client.tables() else {}
            replaced = {number: expected(table)}

            assert after in ([replaced] if acknowledged else [replaced, before])

            started = time.monotonic()
            client.ingest(table, "state", mode="replace")
            seconds = time.monotonic() - started
            before = replaced
            assert stored(client, "state") == replaced
