"""How each client says who calls, with and without TLS, and what the server tells it then.

One lakehouse for all: `ada` may do everything, `bob` has a role that reads one of its two tables, and both have
passwords and API tokens. It is served three times: without TLS, with TLS, and to clients with certificates alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from certificates import LOCALHOST, Authority
from clients.connecting import CLIENTS, Client, Door, Query
from query.asking import run

from flightserver.access.authenticating import Authenticator
from flightserver.access.committing import Author
from flightserver.access.granting import Place
from flightserver.catalog.identities import Privilege
from flightserver.flight.callers import Callers
from flightserver.flight.certificates import TlsFiles
from flightserver.flight.listening import Listener
from flightserver.flight.service import Service
from flightserver.lakehouse import Lakehouse
from flightserver.settings import AccessSettings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "correct horse: ü @/?"  # noqa: S105  # of users that the test makes
NO_CONNECTION = r"(?i)certificate|handshake|connect|io exception|before closing"
"""What clients say of a connection that TLS refused."""

NAMES = "SELECT name FROM people ORDER BY name"
TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name"


class Clock:
    """The time by which tokens end, which a test can move on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        """Seconds since 1970, and those by which it was moved on."""
        return time.time() + self.ahead


@dataclass(frozen=True)
class House:
    """What is served: the ways in, none of which says yet who calls, an API token of each user, and the clock."""

    open: Door
    tls: Door
    mutual: Door
    tokens: dict[str, str]
    clock: Clock


def _accounts(lakehouse: Lakehouse) -> dict[str, str]:
    accounts = lakehouse.administration
    accounts.create_user(Author("local"), "ada", password=PASSWORD, roles=["admin"])
    accounts.create_role(Author("local"), "guests")
    accounts.grant(Author("local"), "guests", [Privilege.SELECT], Place("primary", "people"))
    accounts.create_user(Author("local"), "bob", password=PASSWORD, roles=["guests"])
    return {user: accounts.create_token(Author("local"), user)[0] for user in ("ada", "bob")}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The lakehouse, served."""
    directory = tmp_path_factory.mktemp("logins")
    roots, clients = directory / "ca.pem", directory / "clients.pem"
    files = TlsFiles(*Authority.in_file(roots).sign("localhost", LOCALHOST).write(directory, "server"))
    of_clients = Authority("Test authority of clients")
    clients.write_bytes(of_clients.pem)
    certificate, key = of_clients.sign("bob").write(directory, "bob")
    clock = Clock()
    with Lakehouse.open(load_settings(None, {"server": {"data": directory / "data"}})) as lakehouse:
        run(lakehouse, "CREATE TABLE people AS SELECT * FROM (VALUES ('Ada'), ('Łucja 🚀')) AS p (name)")
        run(lakehouse, "CREATE TABLE wages AS SELECT 'Ada' AS name, 100 AS amount")
        tokens = _accounts(lakehouse)
        service = Service(lakehouse)
        settings = lakehouse.settings.access
        authenticator = Authenticator(lakehouse.access.state, b"k" * 32, settings, clock=clock.now)
        service.callers = Callers(authenticator, lakehouse.access)
        served = [
            Listener(service, "127.0.0.1", 0, given) for given in (None, files, replace(files, client_ca=clients))
        ]
        plain, tls, mutual = (Door(listener.uri) for listener in served)
        try:
            yield House(
                plain,
                replace(tls, roots=roots),
                replace(mutual, roots=roots, certificate=certificate, key=key),
                tokens,
                clock,
            )
        finally:
            for listener in served:
                listener.stop(grace_seconds=10)


def _each(*, but: tuple[str, ...] = ()) -> list[Any]:
    return [
        pytest.param(client, marks=pytest.mark.client(name), id=name)
        for name, client in CLIENTS.items()
        if name not in but
    ]


@pytest.mark.feature("user and password")
@pytest.mark.parametrize("client", _each())
def test_a_user_logs_in_with_a_password(client: Client, house: House, request: pytest.FixtureRequest) -> None:
    with client.connect(replace(house.open, user="ada", password=PASSWORD), request) as query:
        assert query(NAMES) == [("Ada",), ("Łucja 🚀",)]
        assert query(TABLES) == [("people",), ("wages",)]


@pytest.mark.feature("token")
@pytest.mark.parametrize("client", _each())
def test_a_token_is_enough(client: Client, house: House, request: pytest.FixtureRequest) -> None:
    with client.connect(replace(house.open, token=house.tokens["ada"]), request) as query:
        assert query(TABLES) == [("people",), ("wages",)]


@pytest.mark.feature("TLS")
@pytest.mark.parametrize("credential", ["password", "token"])
@pytest.mark.parametrize("client", _each())
def test_both_work_with_tls_whose_authority_the_client_was_told(
    client: Client, house: House, credential: str, request: pytest.FixtureRequest
) -> None:
    by_password = replace(house.tls, user="ada", password=PASSWORD)
    door = by_password if credential == "password" else replace(house.tls, token=house.tokens["ada"])

    with client.connect(door, request) as query:
        assert query(NAMES) == [("Ada",), ("Łucja 🚀",)]


@pytest.mark.feature("TLS")
@pytest.mark.parametrize("client", _each())
def test_a_server_of_an_unknown_authority_is_not_talked_to(
    client: Client, house: House, request: pytest.FixtureRequest
) -> None:
    stranger = replace(house.tls, roots=None, user="ada", password=PASSWORD)

    with (
        pytest.raises(client.errors, match=NO_CONNECTION),
        client.connect(stranger, request) as query,
    ):
        query(NAMES)


@pytest.mark.feature("client certificate")
@pytest.mark.parametrize("client", _each(but=("SQLAlchemy",)))
def test_a_certificate_says_who_calls(client: Client, house: House, request: pytest.FixtureRequest) -> None:
    with client.connect(house.mutual, request) as query:
        assert query(TABLES) == [("people",)]


@pytest.mark.client("SQLAlchemy")
@pytest.mark.feature("client certificate", reason="the driver's URL has no place for a certificate of the client")
def test_sqlalchemy_has_no_certificate(house: House, request: pytest.FixtureRequest) -> None:
    client = CLIENTS["SQLAlchemy"]

    with (
        pytest.raises(client.errors, match=NO_CONNECTION),
        client.connect(house.mutual, request) as query,
    ):
        query(NAMES)


def _refusal(client: Client, query: Query, sql: str) -> str:
    with pytest.raises(client.errors) as raised:
        query(sql)
    return str(raised.value)


@pytest.mark.feature("rights")
@pytest.mark.parametrize("client", _each())
def test_what_a_user_may_not_see_is_not_there(client: Client, house: House, request: pytest.FixtureRequest) -> None:
    with client.connect(replace(house.open, token=house.tokens["bob"]), request) as query:
        assert query(TABLES) == [("people",)]
        refusals = [_refusal(client, query, f"SELECT * FROM {name}") for name in ("wages", "wager")]
        assert refusals[0] == refusals[1].replace("wager", "wages")
        assert "'wages'" in refusals[0]


@pytest.mark.feature("rights")
@pytest.mark.parametrize("client", _each(but=("pandas", "polars")))  # which take queries alone
def test_what_a_user_may_not_change_stays_as_it_is(
    client: Client, house: House, request: pytest.FixtureRequest
) -> None:
    with client.connect(replace(house.open, token=house.tokens["bob"]), request) as query:
        assert "[FS-2002]" in _refusal(client, query, "DELETE FROM people")
        assert query(NAMES) == [("Ada",), ("Łucja 🚀",)]


@pytest.mark.feature("user and password")
@pytest.mark.parametrize("client", _each())
def test_a_wrong_password_is_refused_with_the_reason(
    client: Client, house: House, request: pytest.FixtureRequest
) -> None:
    wrong = replace(house.open, user="ada", password=PASSWORD[1:])

    with (
        pytest.raises(client.errors, match="User name and password don't belong together"),
        client.connect(wrong, request) as query,
    ):
        query(NAMES)


@pytest.mark.feature("token")
@pytest.mark.parametrize("client", _each())
def test_a_token_that_was_cut_off_is_refused_with_the_reason(
    client: Client, house: House, request: pytest.FixtureRequest
) -> None:
    wrong = replace(house.open, token=house.tokens["ada"][:-1])

    with pytest.raises(client.errors, match="API token is not valid"), client.connect(wrong, request) as query:
        query(NAMES)


@pytest.mark.parametrize("client", _each())
def test_who_shows_nothing_is_told_what_is_wanted(client: Client, house: House, request: pytest.FixtureRequest) -> None:
    with (
        pytest.raises(client.errors, match=r"an API token \(fsk_\.\.\.\)"),
        client.connect(house.open, request) as query,
    ):
        query(NAMES)


def _outlive_two_tokens(client: Client, house: House, request: pytest.FixtureRequest) -> None:
    with client.connect(replace(house.open, user="ada", password=PASSWORD), request) as query:
        for _ in range(4):
            assert query(NAMES) == [("Ada",), ("Łucja 🚀",)]
            house.clock.ahead += 0.6 * AccessSettings().token_seconds


ENDS_WITH_ITS_TOKEN = {
    "JDBC": "the driver sends the token of its login for ever: after `access.token_seconds`, open another connection",
    "SQLAlchemy": "flightsql-dbapi sends the token of its login for ever: make another engine, or use an API token",
    "pyarrow.flight": "plain Flight sends the header that it is given: use the new one of an answer, or log in again",
}


@pytest.mark.feature("long logins")
@pytest.mark.parametrize("client", _each(but=tuple(ENDS_WITH_ITS_TOKEN)))
def test_a_connection_in_use_outlives_its_first_bearer_token(
    client: Client, house: House, request: pytest.FixtureRequest
) -> None:
    _outlive_two_tokens(client, house, request)


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(
            CLIENTS[name],
            id=name,
            marks=[pytest.mark.client(name), pytest.mark.feature("long logins", reason=reason)],
        )
        for name, reason in ENDS_WITH_ITS_TOKEN.items()
    ],
)
def test_a_connection_that_sends_its_first_token_for_ever_ends_with_it(
    client: Client, house: House, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(client.errors, match=r"bearer token expired .* Log in again"):
        _outlive_two_tokens(client, house, request)
