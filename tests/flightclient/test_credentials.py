"""How the client says who calls, against a server that wants to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flightclient
import pytest
from flightclient.errors import InvalidRequest, Unauthenticated

from flightserver.access.committing import Author

if TYPE_CHECKING:
    from conftest import RunningServer
    from flightclient import Client

PASSWORD = "correct horse"  # noqa: S105  # of a user that the test makes


@pytest.fixture
def closed(server: RunningServer) -> RunningServer:
    """The server with one user, `ada`."""
    accounts = server.lakehouse.administration
    accounts.create_user(Author("local"), "ada", password=PASSWORD, roles=["admin"])
    return server


def whoami(client: Client) -> dict[str, Any]:
    """What the server takes the client for."""
    return client.call("user.whoami")


def test_a_login_is_followed_by_the_token_that_the_server_gave(closed: RunningServer) -> None:
    with flightclient.connect(closed.uri, user="ada", password=PASSWORD) as client:
        assert [whoami(client)["method"] for _ in range(3)] == ["password", "bearer", "bearer"]


def test_a_token_that_was_ended_is_followed_by_another_login(closed: RunningServer) -> None:
    with flightclient.connect(closed.uri, user="ada", password=PASSWORD) as client:
        whoami(client)
        closed.lakehouse.administration.end_sessions(Author("local"), "ada")
        with pytest.raises(Unauthenticated):
            whoami(client)
        assert whoami(client)["method"] == "password"


def test_an_api_token_is_sent_with_every_call(closed: RunningServer) -> None:
    token, _ = closed.lakehouse.administration.create_token(Author("local"), "ada")
    with flightclient.connect(closed.uri, token) as client:
        assert [whoami(client)["method"] for _ in range(2)] == ["token", "token"]


def test_without_a_credential_nothing_is_answered(closed: RunningServer) -> None:
    with flightclient.connect(closed.uri) as client, pytest.raises(Unauthenticated, match="who calls"):
        whoami(client)


@pytest.mark.parametrize(
    "arguments", [{"user": "ada"}, {"password": "x"}, {"token": "fsk_1", "user": "ada", "password": "x"}]
)
def test_half_a_credential_and_two_are_refused(arguments: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="a user and its password"):
        flightclient.connect("grpc://127.0.0.1:1", **arguments)
