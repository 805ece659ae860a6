"""Servers that share a catalog on S3 and the key, but no directory, accept each other's tokens and tickets."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import flightclient
import pyarrow.flight as fl
import pytest
from flightclient.errors import Unauthenticated
from query.asking import rows

from flightserver.access.committing import Author
from flightserver.flight.listening import Listener
from flightserver.flight.service import Service
from flightserver.lakehouse import Lakehouse

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server

PASSWORD = "correct horse"  # noqa: S105  # of a user that the test makes


def test_tokens_and_tickets_are_good_on_every_server_with_the_key(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    one, other, stranger = (tmp_path / name for name in ("one", "other", "stranger"))
    with Lakehouse.open(s3_server.settings(one, s3_bucket)) as lakehouse:
        rows(lakehouse, "CREATE TABLE people AS SELECT 1 AS id")
        lakehouse.administration.create_user(Author("local"), "ada", password=PASSWORD, roles=["admin"])
        first = Listener(Service(lakehouse), "127.0.0.1", 0)
        with fl.connect(first.uri) as client:
            options = fl.FlightCallOptions(headers=[client.authenticate_basic_token("ada", PASSWORD)])
            info = client.get_flight_info(fl.FlightDescriptor.for_command(b"SELECT id FROM people"), options)
        first.stop(10)
    (other / "server").mkdir(parents=True)
    shutil.copy(one / "server" / "ticket.key", other / "server")

    with Lakehouse.open(s3_server.settings(other, s3_bucket)) as lakehouse:
        second = Listener(Service(lakehouse), "127.0.0.1", 0)
        with fl.connect(second.uri) as client:
            assert client.do_get(info.endpoints[0].ticket, options).read_all().to_pylist() == [{"id": 1}]
        second.stop(10)
    with Lakehouse.open(s3_server.settings(stranger, s3_bucket)) as lakehouse:
        third = Listener(Service(lakehouse), "127.0.0.1", 0)
        with fl.connect(third.uri) as client, pytest.raises(fl.FlightUnauthenticatedError, match="another key"):
            client.do_get(info.endpoints[0].ticket, options).read_all()
        with flightclient.connect(third.uri) as client, pytest.raises(Unauthenticated):
            client.query("SELECT 1")
        third.stop(10)
