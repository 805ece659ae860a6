"""Connections of real drivers to a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import pytest
from clients.compatibility import Compatibility
from clients.jdbc_program import jdbc, jdbc_connection
from clients.sqlalchemy_environment import sqlalchemy_python

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import RunningServer

__all__ = ["jdbc", "jdbc_connection", "sqlalchemy_python"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Has the table of docs/compatibility.md written."""
    parser.addoption(
        "--write-compatibility", action="store_true", help="write docs/compatibility.md from what tests/clients showed"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collects what tests show of clients."""
    config.pluginmanager.register(Compatibility(config), "compatibility")


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Any]:
    """An ADBC connection to an empty lakehouse."""
    with flightsql.connect(server.uri, autocommit=True) as opened:
        yield opened


@pytest.fixture
def cursor(connection: Any) -> Iterator[Any]:
    """A cursor of that connection."""
    with connection.cursor() as opened:
        yield opened
