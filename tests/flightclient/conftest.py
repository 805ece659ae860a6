"""A client of a real server over an empty lakehouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flightclient
import pytest
from s3server import s3_bucket, s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import RunningServer
    from flightclient import Client

__all__ = ["s3_bucket", "s3_server"]


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    """Connected to the server."""
    with flightclient.connect(server.uri) as connected:
        yield connected
