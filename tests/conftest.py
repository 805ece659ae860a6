"""Fixtures that every test directory uses: a lakehouse in a temporary directory, and a real server over it.

Opening both takes some 20 ms, so every test has its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import hypothesis
import pyarrow.flight as fl
import pytest

from flightserver.flight.listening import Listener
from flightserver.flight.service import Service
from flightserver.lakehouse import Lakehouse
from flightserver.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

THOROUGH = os.environ.get("FLIGHTSERVER_TEST_THOROUGH") == "1"

# Machines that run tests are noisy, and conformance classes share inherited test methods on purpose.
_UNCHECKED = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.differing_executors]
hypothesis.settings.register_profile("default", deadline=None, suppress_health_check=_UNCHECKED)
hypothesis.settings.register_profile(
    "thorough", deadline=None, suppress_health_check=_UNCHECKED, max_examples=1000, stateful_step_count=100
)
hypothesis.settings.load_profile("thorough" if THOROUGH else "default")


@dataclass(frozen=True)
class RunningServer:
    """A server that listens, and what it serves."""

    uri: str
    lakehouse: Lakehouse
    flight: Listener


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Defaults, with the data in a temporary directory."""
    return load_settings(None, {"server": {"data": tmp_path / "data"}})


@pytest.fixture
def lakehouse(settings: Settings) -> Iterator[Lakehouse]:
    """An empty lakehouse."""
    with Lakehouse.open(settings) as opened:
        yield opened


@pytest.fixture
def server(lakehouse: Lakehouse) -> Iterator[RunningServer]:
    """A server over an empty lakehouse, on a free loopback port."""
    flight = Listener(Service(lakehouse), "127.0.0.1", 0)
    try:
        yield RunningServer(flight.uri, lakehouse, flight)
    finally:
        flight.stop(grace_seconds=10)


@pytest.fixture
def flight_client(server: RunningServer) -> Iterator[fl.FlightClient]:
    """A plain pyarrow.flight client of the server."""
    with fl.connect(server.uri) as client:
        yield client
