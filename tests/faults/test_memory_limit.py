"""Sorts, joins and aggregates over four times the memory that they may use: they spill, finish, and are right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flightclient
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from faults.serving import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1024 * 1024
LIMIT = 64 * MIB
ROWS = 5_200_000
PRIME = 5_200_007
"""The smallest above ROWS: multiples of another number modulo it are all different."""
IDS = np.arange(ROWS)
KEYS = IDS * 7919 % PRIME
HALVES = KEYS // 2
"""Two rows have the same, mostly."""


def names(halves: Any) -> Any:
    """The column `name`: 32 characters."""
    return pc.utf8_lpad(pc.cast(pa.array(halves), pa.string()), 32, "x")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that may use 64 MiB for statements, with a table that takes more than 256 MiB."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FLIGHTSERVER_QUERY_MEMORY_BYTES", str(LIMIT))
        started = ServerProcess(tmp_path_factory.mktemp("data"))
    with started, flightclient.connect(started.uri) as client:
        key = f"value * 7919 % {PRIME}"
        client.query(
            f"CREATE TABLE numbers AS SELECT value AS id, {key} AS k, lpad((({key}) / 2)::TEXT, 32, 'x') AS name "
            f"FROM generate_series(0, {ROWS - 1})"
        )
        [setting] = client.query("SELECT value FROM system.settings WHERE name = 'query.memory_bytes'").to_pylist()
        assert setting == {"value": str(LIMIT)}
        yield started


@pytest.fixture
def client(server: ServerProcess) -> Iterator[flightclient.Client]:
    with flightclient.connect(server.uri) as connected:
        yield connected


def test_the_table_has_four_times_the_memory(client: flightclient.Client) -> None:
    sample = client.query("SELECT * FROM numbers LIMIT 100000")

    assert sample.nbytes / len(sample) * ROWS > 4 * LIMIT


def test_a_sort_spills_and_is_right(client: flightclient.Client) -> None:
    found = client.query("SELECT * FROM numbers ORDER BY k")

    order = np.argsort(KEYS)
    assert np.array_equal(found["id"].to_numpy(), order)
    assert np.array_equal(found["k"].to_numpy(), KEYS[order])
    assert pc.all(pc.equal(found["name"], names(HALVES[order]))).as_py()
    plan = client.query("EXPLAIN ANALYZE SELECT * FROM numbers ORDER BY k")["plan"].to_pylist()[0]
    assert int(re.findall(r"SortExec.*spill_count=(\d+)", plan)[0]) > 0


def test_an_aggregate_of_millions_of_groups_spills_and_is_right(client: flightclient.Client) -> None:
    found = client.query("SELECT name, count(*) AS n, sum(id) AS ids, max(k) AS k FROM numbers GROUP BY name")

    halves = found["k"].to_numpy() // 2
    assert np.array_equal(np.sort(halves), np.unique(HALVES))
    assert pc.all(pc.equal(found["name"], names(halves))).as_py()
    assert np.array_equal(found["n"].to_numpy(), np.bincount(HALVES)[halves])
    assert np.array_equal(found["ids"].to_numpy(), np.bincount(HALVES, IDS).astype(np.int64)[halves])


def test_what_spills_is_not_shuffled(client: flightclient.Client) -> None:
    """A shuffle of datafusion 54 that spills can wait for itself for ever (apache/datafusion#24883)."""
    plan = client.query("EXPLAIN ANALYZE SELECT name, count(*) AS n FROM numbers GROUP BY name")["plan"].to_pylist()[0]

    assert "RepartitionExec" not in plan
    assert int(re.findall(r"mode=Final.*spill_count=(\d+)", plan)[0]) > 0


def test_a_join_of_the_table_with_itself_spills_and_is_right(client: flightclient.Client) -> None:
    found = client.query("SELECT a.id, b.id AS other, b.name FROM numbers AS a JOIN numbers AS b ON a.k = b.id")

    matched = IDS[KEYS < ROWS]
    order = np.argsort(found["id"].to_numpy())
    assert np.array_equal(found["id"].to_numpy()[order], matched)
    others = found["other"].to_numpy()
    assert np.array_equal(others[order], KEYS[matched])
    assert pc.all(pc.equal(found["name"], names(HALVES[others]))).as_py()


def test_joins_one_after_the_other_spill_and_are_right(client: flightclient.Client) -> None:
    found = client.query(
        "SELECT a.id, c.id AS third, a.name AS one, c.name AS three "
        "FROM numbers AS a JOIN numbers AS b ON a.k = b.id JOIN numbers AS c ON b.k = c.id"
    )

    once = KEYS < ROWS
    twice = np.zeros(ROWS, dtype=bool)
    twice[once] = KEYS[KEYS[once]] < ROWS
    matched = IDS[twice]
    order = np.argsort(found["id"].to_numpy())
    assert np.array_equal(found["id"].to_numpy()[order], matched)
    third = found["third"].to_numpy()
    assert np.array_equal(third[order], KEYS[KEYS[matched]])
    assert pc.all(pc.equal(found["one"], names(HALVES[found["id"].to_numpy()]))).as_py()
    assert pc.all(pc.equal(found["three"], names(HALVES[third]))).as_py()


def test_nothing_stays_of_what_was_spilled(
    server: ServerProcess, record_testsuite_property: Callable[[str, object], None]
) -> None:
    assert [path for path in (server.data / "server" / "spill").rglob("*") if path.is_file()] == []

    status = Path(f"/proc/{server.pid}/status").read_text(encoding="utf-8")
    record_testsuite_property("most memory of the server", re.findall(r"VmHWM:\s*(.*)", status)[0])
