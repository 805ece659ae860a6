"""Calls in flight: those beyond the limit are refused, and clients that have stopped reading are disconnected."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import flightclient
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from flightclient.errors import Overloaded

from flightserver.flight.listening import Listener
from flightserver.flight.service import Service
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = json.dumps({"sql": "SELECT value, repeat('x', 100) AS text FROM generate_series(1, 3000000)"})
"""Some 300 MB: more than the network buffers of a client that doesn't read."""


ENDLESS = "SELECT count(*) AS n FROM generate_series(1, 1000000000000) WHERE value % 7 = 3"
"""It ends when it is told to, unlike a join that doesn't yield, which would keep this process busy for other tests."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Takes two calls, waits for no client, and lets a statement run for three seconds."""
    limits = {"data": tmp_path / "data", "max_calls": 2, "stalled_seconds": 0.5}
    settings = load_settings(None, {"server": limits, "query": {"timeout_seconds": 3}})
    with Lakehouse.open(settings) as lakehouse:
        yield Service(lakehouse)


@pytest.fixture
def listener(service: Service) -> Iterator[Listener]:
    listener = Listener(service, "127.0.0.1", 0)
    yield listener
    listener.stop(grace_seconds=10)


def test_calls_beyond_the_limit_are_refused_until_others_end(service: Service, listener: Listener) -> None:
    held = [service.calls.begin(), service.calls.begin()]
    with flightclient.connect(listener.uri) as client:
        with pytest.raises(Overloaded, match=r"2 calls are in flight, which is the most .*server\.max_calls"):
            client.query("SELECT 1 AS one")
        for call in held:
            service.calls.end(call)
        assert client.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]
    assert service.calls.refused == 1


def test_rows_that_all_calls_keep_in_memory_are_limited_until_they_end(service: Service, listener: Listener) -> None:
    """Each sends less than one call may; half of `query.memory_bytes` is for all."""
    rows = pa.record_batch({"x": pa.nulls(1_000_000, pa.int64())})
    half = service.input_bytes * 2
    other = service.calls.begin()
    other.hold(half - rows.nbytes + 1)
    descriptor = fl.FlightDescriptor.for_command(json.dumps({"sql": "SELECT count(*) AS n FROM input"}))

    def ask() -> list[dict[str, int]]:
        writer, reader = client.do_exchange(descriptor)
        with writer:
            writer.begin(rows.schema)
            writer.write_batch(rows)
            writer.done_writing()
            answer: list[dict[str, int]] = reader.read_all().to_pylist()
            return answer

    with fl.connect(listener.uri) as client:
        with pytest.raises(fl.FlightUnavailableError, match=r"clients are sending more rows at once .*FS-3002"):
            ask()
        service.calls.end(other)
        assert ask() == [{"n": 1_000_000}]
        assert ask() == [{"n": 1_000_000}]


def test_a_client_that_does_not_read_is_disconnected_and_can_come_again(service: Service, listener: Listener) -> None:
    with fl.connect(listener.uri) as client:
        info = client.get_flight_info(fl.FlightDescriptor.for_command(LONG))
        reader = client.do_get(info.endpoints[0].ticket)
        reader.read_chunk()
        while service.calls.in_flight:
            time.sleep(0.05)
        with pytest.raises(fl.FlightUnavailableError):
            reader.read_all()
        assert service.calls.closed == 1
        assert client.get_flight_info(fl.FlightDescriptor.for_command(LONG)).schema == info.schema


def test_a_connection_with_another_call_at_work_is_left_alone(listener: Listener) -> None:
    """Also when the client waits for that call, such as an action, for longer than a stalled stream may last."""
    with fl.connect(listener.uri) as client:
        info = client.get_flight_info(fl.FlightDescriptor.for_command(LONG))
        reader = client.do_get(info.endpoints[0].ticket)
        reader.read_chunk()
        action = fl.Action("result.create", json.dumps({"sql": ENDLESS}).encode())
        with pytest.raises(fl.FlightTimedOutError, match="FS-4001"):
            list(client.do_action(action))
