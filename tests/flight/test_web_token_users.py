"""Users of whom the catalog doesn't know, or knows more than their JSON web token says, through a real server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import flightclient
import pytest
from access.issuing import ALL_KEYS, AUDIENCE, ISSUER, token
from flightclient.errors import FlightclientError, Forbidden, NotFound

from flightserver.access.committing import Author
from flightserver.catalog.identities import ADMIN, READER
from flightserver.settings import Settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunningServer

PASSWORD = "correct horse battery"  # noqa: S105  # a test's


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a server that trusts an issuer."""
    keys = tmp_path / "keys.json"
    keys.write_bytes(ALL_KEYS)
    access = {"jwks": str(keys), "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
    return load_settings(None, {"server": {"data": tmp_path / "data"}, "access": access})


@pytest.fixture
def users(server: RunningServer) -> None:
    """`ann`, an administrator, and `ida`, who reads."""
    for name, role in (("ann", ADMIN), ("ida", READER)):
        server.lakehouse.administration.create_user(Author("test"), name, password=PASSWORD, roles=[role])


def refused(server: RunningServer, user: str, action: str, body: dict[str, Any]) -> FlightclientError:
    """How the server refuses an action of a user who has a web token."""
    with (
        flightclient.connect(server.uri, token(sub=user, exp=int(time.time()) + 600)) as client,
        pytest.raises(FlightclientError) as error,
    ):
        client.call(action, body)
    return error.value


@pytest.mark.usefixtures("users")
def test_who_has_come_by_a_web_token_gets_no_token_that_outlives_it(server: RunningServer) -> None:
    error = refused(server, "ida", "user.create_token", {})

    assert isinstance(error, Forbidden)
    assert "make a token by means of a token or certificate: log in by the password" in str(error)
    assert server.lakehouse.catalog.snapshot().access.users["ida"].tokens == ()


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("user.list_tokens", {}),
        ("user.list_tokens", {"name": "zoe"}),
        ("user.drop_token", {"id": "0123456789ab"}),
        ("user.create_token", {}),
        ("user.set_password", {"name": "zoe", "password": PASSWORD}),
    ],
)
def test_who_is_no_user_of_the_catalog_is_not_told_which_there_are(
    server: RunningServer, action: str, body: dict[str, Any]
) -> None:
    error = refused(server, "zoe", action, body)

    assert isinstance(error, NotFound)
    assert str(error) == (
        "user 'zoe' is known by JSON web tokens only, and has neither a password nor API tokens here: an administrator "
        "can make a user of that name [FS-1004]"
    )
