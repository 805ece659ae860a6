"""The actions `user.*`, `role.*`, `policy.*` and `dataset.tag_columns`, through a real server and client."""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any

import flightclient
import pyarrow.flight as fl
import pytest
from flightclient.errors import FlightclientError
from query.asking import rows, run

from flightserver.access.committing import Author
from flightserver.access.passwords import verify
from flightserver.catalog.identities import ADMIN
from flightserver.query.system import SYSTEM_SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import RunningServer
    from flightclient import Client

    from flightserver.access.administering import Administration
    from flightserver.catalog.identities import AccessState

PASSWORD = "correct horse battery"  # noqa: S105  # a test's


@pytest.fixture
def administration(server: RunningServer) -> Administration:
    return server.lakehouse.administration


@pytest.fixture
def connect(server: RunningServer, administration: Administration) -> Iterator[Callable[[str], Client]]:
    """Makes clients of users by their names; each has the password `PASSWORD`, and comes by it."""
    opened: list[Client] = []

    def as_user(name: str) -> Client:
        if name not in server.lakehouse.catalog.snapshot().access.users:
            administration.create_user(Author("test"), name, password=PASSWORD, roles=[ADMIN] * (name == "ann"))
        with fl.connect(server.uri) as client:
            _, header = client.authenticate_basic_token(name, PASSWORD)
        opened.append(flightclient.connect(server.uri, header.decode().removeprefix("Bearer ")))
        return opened[-1]

    yield as_user
    for each in opened:
        each.close()


@pytest.fixture
def ann(connect: Callable[[str], Client]) -> Client:
    """The first user, an administrator."""
    return connect("ann")


@pytest.fixture
def bob(ann: Client, connect: Callable[[str], Client]) -> Client:  # noqa: ARG001  # the first user administers
    """A user without roles."""
    return connect("bob")


def state(server: RunningServer) -> AccessState:
    return server.lakehouse.catalog.snapshot().access


def facts(found: dict[str, Any]) -> dict[str, Any]:
    """Without what is new each time."""
    return {name: value for name, value in found.items() if name not in {"version", "created"}}


def test_a_user_is_made_changed_listed_and_forgotten(ann: Client, server: RunningServer) -> None:
    made = ann.call("user.create", {"name": "bob", "password": PASSWORD, "roles": ["reader"]})
    bob = {
        "name": "bob",
        "roles": ["reader"],
        "disabled": False,
        "has_password": True,
        "tokens": 0,
        "certificates": [],
    }
    assert facts(made) == bob

    assert ann.call("user.set_roles", {"name": "bob", "roles": ["writer"]})["roles"] == ["writer"]
    assert ann.call("user.set_certificates", {"name": "bob", "certificates": ["CN=b"]})["certificates"] == ["CN=b"]
    assert ann.call("user.disable", {"name": "bob"})["disabled"] is True
    assert ann.call("user.enable", {"name": "bob"})["disabled"] is False
    ann.call("user.end_sessions", {"name": "bob"})
    ann.call("user.set_password", {"name": "bob", "password": "another one"})

    listed = {one["name"]: facts(one) for one in ann.call("user.list")["users"]}
    assert listed["bob"] == {**bob, "roles": ["writer"], "certificates": ["CN=b"]}
    assert state(server).users["bob"].epoch == 3
    assert verify(state(server).users["bob"].password, "another one")
    assert ann.call("user.drop", {"name": "bob"}) == {}
    assert set(state(server).users) == {"ann"}


def test_without_users_everybody_makes_the_first(server: RunningServer) -> None:
    with flightclient.connect(server.uri) as client:
        assert client.call("user.whoami") == {
            "name": "anonymous",
            "method": "open",
            "roles": ["admin"],
            "is_admin": True,
            "grants": [],
        }
        client.call("user.create", {"name": "ann", "password": PASSWORD, "roles": ["admin"]})

        with pytest.raises(FlightclientError):
            client.call("user.list")


def test_who_one_is_and_may_do_what(ann: Client, bob: Client) -> None:
    ann.call("role.create", {"name": "analysts"})
    ann.call("role.grant", {"role": "analysts", "privileges": ["select"], "bucket": "primary"})
    ann.call("user.set_roles", {"name": "bob", "roles": ["analysts", "reader"]})

    assert bob.call("user.whoami") == {
        "name": "bob",
        "method": "bearer",
        "roles": ["analysts", "reader"],
        "is_admin": False,
        "grants": [{"privileges": ["select"], "bucket": "primary", "dataset": None}],
    }


def test_who_changes_the_own_password_gives_the_current_one(bob: Client, server: RunningServer) -> None:
    wanted = {"name": "bob", "password": "a new password"}
    with pytest.raises(FlightclientError, match="`current_password` is missing"):
        bob.call("user.set_password", wanted)
    with pytest.raises(FlightclientError, match="is not the current password"):
        bob.call("user.set_password", {**wanted, "current_password": "a guess of it"})
    assert verify(state(server).users["bob"].password, PASSWORD)

    bob.call("user.set_password", {**wanted, "current_password": PASSWORD})

    assert verify(state(server).users["bob"].password, "a new password")
    with pytest.raises(FlightclientError):
        bob.call("user.whoami")


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("user.set_password", {"name": "ann", "password": "a new password", "current_password": PASSWORD}),
        ("user.create_token", {"name": "ann"}),
        ("user.list_tokens", {"name": "ann"}),
        ("user.drop_token", {"name": "ann", "id": "x"}),
        ("user.list_tokens", {"name": "nobody"}),
        ("user.create", {"name": "eve", "roles": ["admin"]}),
        ("user.list", {}),
        ("user.drop", {"name": "ann"}),
        ("user.set_roles", {"name": "bob", "roles": ["admin"]}),
        ("user.set_certificates", {"name": "bob", "certificates": ["CN=b"]}),
        ("user.disable", {"name": "ann"}),
        ("user.enable", {"name": "bob"}),
        ("user.end_sessions", {"name": "ann"}),
        ("role.create", {"name": "analysts"}),
        ("role.list", {}),
        ("role.drop", {"name": "analysts"}),
        ("role.grant", {"role": "analysts", "privileges": ["all"]}),
        ("role.revoke", {"role": "analysts", "privileges": ["all"]}),
        ("policy.create", {"name": "p", "filter": "true"}),
        ("policy.list", {}),
        ("policy.drop", {"name": "p"}),
        ("dataset.tag_columns", {"dataset": "pets", "columns": {}}),
    ],
)
def test_others_than_administrators_may_not(
    bob: Client, server: RunningServer, action: str, body: dict[str, Any]
) -> None:
    before = state(server)

    with pytest.raises(FlightclientError, match="FS-2002"):
        bob.call(action, body)

    assert state(server) == before


def test_a_token_is_shown_once_and_is_its_user(bob: Client, server: RunningServer) -> None:
    made = bob.call("user.create_token", {"comment": "nightly", "days": 7})

    assert made["token"].startswith(f"fsk_{made['id']}_")
    with flightclient.connect(server.uri, made["token"]) as program:
        who = program.call("user.whoami")
        assert (who["name"], who["method"]) == ("bob", "token")
        [listed] = program.call("user.list_tokens")["tokens"]
        assert (listed["id"], listed["comment"], listed["expires"]) == (made["id"], "nightly", made["expires"])
        with pytest.raises(FlightclientError, match="make a token by means of a token or certificate"):
            program.call("user.create_token")
        bob.call("user.drop_token", {"id": made["id"]})
        with pytest.raises(FlightclientError):
            program.call("user.whoami")


def test_a_user_without_a_password_does_not_give_itself_one(
    ann: Client, administration: Administration, server: RunningServer
) -> None:
    ann.call("user.create", {"name": "robot"})
    secret, _ = administration.create_token(Author("test"), "robot")

    with flightclient.connect(server.uri, secret) as robot, pytest.raises(FlightclientError, match="a first password"):
        robot.call("user.set_password", {"name": "robot", "password": "a new password"})

    assert not state(server).users["robot"].password


@pytest.mark.parametrize("days", [0, -1, 1e9, "many"])
def test_a_life_of_a_token_that_is_none_is_refused(bob: Client, server: RunningServer, days: object) -> None:
    with pytest.raises(FlightclientError, match=r"\$\.days"):
        bob.call("user.create_token", {"days": days})

    assert state(server).users["bob"].tokens == ()


def test_roles_are_made_granted_listed_and_forgotten(ann: Client, server: RunningServer) -> None:
    run(server.lakehouse, "CREATE TABLE pets AS SELECT 1 AS id, 'a@b.c' AS email")
    assert ann.call("role.create", {"name": "analysts", "comment": "of sales"})["grants"] == []
    ann.call("user.create", {"name": "bob", "roles": ["analysts"]})

    ann.call("role.grant", {"role": "analysts", "privileges": ["select", "insert"], "dataset": "pets"})
    ann.call("role.grant", {"role": "analysts", "privileges": ["all"], "bucket": "primary"})
    ann.call("role.revoke", {"role": "analysts", "privileges": ["all"], "bucket": "primary"})
    ann.call("role.revoke", {"role": "analysts", "privileges": ["insert"], "dataset": "pets", "bucket": "primary"})

    built_in = [
        {"name": name, "built_in": True, "comment": "", "grants": [], "users": ["ann"] * (name == "admin")}
        for name in ("reader", "writer", "admin")
    ]
    assert ann.call("role.list")["roles"] == [
        *built_in,
        {
            "name": "analysts",
            "built_in": False,
            "comment": "of sales",
            "grants": [{"privileges": ["select"], "bucket": "primary", "dataset": "pets"}],
            "users": ["bob"],
        },
    ]
    ann.call("role.drop", {"name": "analysts"})
    assert ann.call("role.list")["roles"] == built_in


def test_a_dataset_without_its_bucket_is_that_of_the_header_or_primary(ann: Client, server: RunningServer) -> None:
    ann.call("bucket.create", {"name": "testing", "backend": "local"})
    run(server.lakehouse, "CREATE TABLE testing.pets AS SELECT 1 AS id")
    ann.call("role.create", {"name": "analysts"})

    with pytest.raises(FlightclientError, match="there is no dataset 'pets' in bucket 'primary'"):
        ann.call("role.grant", {"role": "analysts", "privileges": ["select"], "dataset": "pets"})
    with fl.connect(server.uri) as client:
        _, header = client.authenticate_basic_token("ann", PASSWORD)
        body = b'{"role": "analysts", "privileges": ["select"], "dataset": "pets"}'
        options = fl.FlightCallOptions(headers=[(b"authorization", header), (b"x-lakehouse-bucket", b"testing")])
        list(client.do_action(fl.Action("role.grant", body), options))

    assert rows(server.lakehouse, "SELECT * FROM system.grants") == [("analysts", "SELECT", "testing", "pets")]


def test_policies_and_tags(ann: Client, server: RunningServer) -> None:
    run(server.lakehouse, "CREATE TABLE pets AS SELECT 1 AS id, 'a@b.c' AS email")
    tagged = ann.call("dataset.tag_columns", {"dataset": "pets", "columns": {"email": ["pii"]}})
    assert tagged == {"dataset": "pets", "bucket": "primary", "columns": {"email": ["pii"]}}

    wanted = {
        "name": "own",
        "dataset": "pets",
        "filter": "email = current_user",
        "masks": {"id": "0"},
        "roles": ["reader"],
        "exempt": ["writer"],
    }
    made = ann.call("policy.create", wanted)
    assert facts(made) == {**wanted, "bucket": "primary", "tags": {}}
    with pytest.raises(FlightclientError, match="there is a policy 'own' already"):
        ann.call("policy.create", wanted)
    replaced = ann.call("policy.create", {"name": "own", "tags": {"pii": "'***'"}, "replace": True})
    assert ann.call("policy.list")["policies"] == [replaced]
    assert (replaced["bucket"], replaced["filter"], replaced["tags"]) == (None, "", {"pii": "'***'"})
    ann.call("policy.drop", {"name": "own"})
    assert ann.call("policy.list")["policies"] == []


def test_a_policy_that_cannot_be_applied_is_refused(ann: Client, server: RunningServer) -> None:
    run(server.lakehouse, "CREATE TABLE pets AS SELECT 1 AS id")

    for wrong in ({"filter": "name = 'x'"}, {"filter": "id = 1", "masks": {"name": "'x'"}}):
        with pytest.raises(FlightclientError, match=r"policy 'p' can't be applied to .*pets.*name"):
            ann.call("policy.create", {"name": "p", "dataset": "pets", **wrong})

    assert not state(server).policies


@pytest.mark.parametrize("text", ["true) OR (true", "true; SELECT 1", "a, b", "(true"])
def test_a_filter_is_one_expression(ann: Client, text: str) -> None:
    with pytest.raises(FlightclientError, match="must be one SQL expression"):
        ann.call("policy.create", {"name": "p", "filter": text})


def test_no_secret_is_in_a_table_a_message_or_the_log(
    ann: Client, server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "tell nobody of it"  # noqa: S105  # a test's
    ann.call("user.create", {"name": "bob", "password": secret})
    with pytest.raises(FlightclientError) as taken:
        ann.call("user.create", {"name": "bob", "password": secret})
    with pytest.raises(FlightclientError) as malformed:
        ann.call("user.create", {"name": "eve", "password": [secret]})
    with pytest.raises(FlightclientError) as wrong:
        ann.call("user.set_password", {"name": "ann", "password": secret, "current_password": secret})
    with pytest.raises(FlightclientError) as sql:
        ann.query(f"CREATE USER eve PASSWORD '{secret}'")
    token = ann.call("user.create_token", {})["token"]

    shown = [str(rows(server.lakehouse, f"SELECT * FROM system.{table}")) for table in SYSTEM_SCHEMAS]
    kept = [path.read_bytes() for path in (server.lakehouse.settings.server.data).rglob("*.json")]
    said = [str(each.value) for each in (taken, malformed, wrong, sql)]

    assert kept
    for each in (secret, token, base64.b64encode(secret.encode()).decode()):
        assert not [text for text in (*shown, *said, caplog.text) if each in text]
        assert not [data for data in kept if each.encode() in data]
