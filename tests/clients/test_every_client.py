"""What every client does alike, through each of them: queries, errors, statements that change data, headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from clients.connecting import CLIENTS, Client, Door
from query.asking import run

if TYPE_CHECKING:
    from conftest import RunningServer


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.client(name)) for name in CLIENTS])
def client(request: pytest.FixtureRequest) -> Client:
    """Each of the clients."""
    return CLIENTS[request.param]


@pytest.fixture
def door(server: RunningServer) -> Door:
    """The way to a server where `people` has three rows, and the bucket `testing` two of another table."""
    return Door(server.uri)


@pytest.mark.feature("queries")
def test_rows_are_what_they_are(client: Client, door: Door, request: pytest.FixtureRequest) -> None:
    with client.connect(door, request) as query:
        assert query("SELECT value, 'ż🚀' || value AS text FROM generate_series(1, 3)") == [
            (1, "ż🚀1"),
            (2, "ż🚀2"),
            (3, "ż🚀3"),
        ]
