"""The audit trail: who did what, from where, and what came of it; and no secret in it, nor anywhere else.

Secrets are passwords, tokens and certificates' keys. Values of statements and of bound parameters are left out of what
others see: of the audit trail, the log, the metrics and the commit log. `system.queries` shows a statement as it was
sent, to its user and to administrators.
"""

from __future__ import annotations

import re
import urllib.request
from typing import TYPE_CHECKING, Any

import flightclient
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from cli.test_serve import Serving
from flightclient.errors import FlightclientError
from query.asking import rows
from security.calls import own, samples_of
from security.world import PASSWORD, by, command

if TYPE_CHECKING:
    from pathlib import Path

    from security.world import User, World

ERRORS = (pa.ArrowException, OSError, ValueError)


def entries(world: World) -> list[tuple[Any, ...]]:
    return [
        (one.user, one.method, one.rpc, one.what, one.about, one.outcome) for one in world.lakehouse.audit.entries()
    ]


def ignoring(user: User, what: str, *arguments: Any) -> None:
    with pytest.raises(ERRORS):
        getattr(user, what)(*arguments)


def test_each_call_that_did_something_is_noted(world: World, root: User, eve: User) -> None:
    eve.ask("SELECT id FROM people WHERE name = 'ann'")
    ignoring(eve, "ask", "DELETE FROM people WHERE salary = 1117")
    ignoring(eve, "ask", "SELECT * FROM secret")
    ignoring(eve, "call", "user.create", {"name": "mallory", "password": "tell nobody"})
    root.call("user.create", {"name": "new", "password": "tell nobody", "roles": ["reader"]})
    root.put(fl.FlightDescriptor.for_path("testing", "notes"), pa.table({"id": [3], "text": ["three"]}))
    root.exchange("SELECT * FROM input WHERE x > 41", pa.table({"x": [42]}))
    ignoring(world.connect("mallory", b"Bearer fsb_nothing"), "ask", "SELECT 1")
    root.ask(command("StatementUpdate", query="UPDATE testing.notes SET text = 'secretly' WHERE id = 1"))

    assert entries(world) == [
        ("eve", "token", "DO_GET", "StatementTicket", "SELECT id FROM people WHERE name = ?", "OK"),
        ("eve", "token", "GET_FLIGHT_INFO", "", "DELETE FROM people WHERE salary = ?", "FS-2002"),
        ("eve", "token", "DO_ACTION", "user.create", "name=mallory", "FS-2002"),
        ("root", "token", "DO_ACTION", "user.create", "name=new", "OK"),
        ("root", "token", "DO_PUT", "ingest create_append", '"testing".notes', "OK"),
        ("root", "token", "DO_EXCHANGE", "", "SELECT * FROM input WHERE x > ?", "OK"),
        ("", "", "GET_FLIGHT_INFO", "", "", "FS-2001"),
        ("root", "token", "DO_GET", "StatementTicket", "UPDATE testing . notes SET text = ? WHERE id = ?", "OK"),
    ]
    for one in world.lakehouse.audit.entries():
        assert re.fullmatch(r"ipv[46]:.+:\d+", one.peer)
        assert one.milliseconds >= 0
    assert root.rows("SELECT count(*) FROM system.audit WHERE outcome = 'FS-2001'") == [(1,)]


def test_a_name_that_looks_like_a_code_hides_no_refusal(world: World, root: User, eve: User) -> None:
    root.ask('CREATE TABLE "[FS-1001]" (id BIGINT)')
    root.ask('GRANT SELECT ON "[FS-1001]" TO analyst')
    before = len(entries(world))

    ignoring(eve, "ask", 'INSERT INTO "[FS-1001]" VALUES (1)')

    assert entries(world)[before:] == [
        ("eve", "token", "GET_FLIGHT_INFO", "", 'INSERT INTO "[FS-1001]" VALUES ( ? )', "FS-2002")
    ]


def test_every_action_and_every_refusal_is_in_the_audit_trail(world: World) -> None:
    handles = own(world["root"])
    actions = [call for call in samples_of(world) if call.name.startswith("DoAction ") and "." in call.name]
    for call in actions:
        for name in {"nobody", "eve"} - call.allowed:
            with pytest.raises(ERRORS):
                call.send(world[name], handles)
    refused = {
        what
        for user, _, rpc, what, _, outcome in entries(world)
        if outcome == "FS-2002" and user and rpc == "DO_ACTION"
    }
    absent = {what for _, _, rpc, what, _, outcome in entries(world) if outcome == "FS-1004" and rpc == "DO_ACTION"}

    assert refused | absent == {
        call.name.removeprefix("DoAction ") for call in actions if call.allowed < {*world.users}
    }


SECRETS = {
    "password": "tell-nobody-of-it",
    "another password": "nor-of-this-one",
    "literal": "a-literal-in-sql",
    "number": "987654321987",
    "parameter": "a-bound-value",
    "row": "a-value-of-a-row",
}


def use(uri: str) -> list[str]:
    """What an administrator does with secrets, right and wrong; returns its tokens."""
    with flightclient.connect(uri) as nobody:
        nobody.call("user.create", {"name": "root", "password": SECRETS["password"], "roles": ["admin"]})
    with fl.connect(uri) as client:
        with pytest.raises(fl.FlightUnauthenticatedError):
            client.authenticate_basic_token("root", SECRETS["another password"])
        _, header = client.authenticate_basic_token("root", SECRETS["password"])
    bearer = header.decode().removeprefix("Bearer ")
    with flightclient.connect(uri, bearer) as root:
        token = root.call("user.create_token", {"comment": "x"})["token"]
        wrong: list[tuple[str, dict[str, Any]]] = [
            ("user.create", {"name": "root", "password": SECRETS["another password"]}),
            ("user.create", {"name": "eve", "password": [SECRETS["another password"]]}),
            ("user.create", {"name": "eve", "pass": SECRETS["another password"], "nothing": 1}),
            (
                "user.set_password",
                {"name": "root", "password": "x" * 12, "current_password": SECRETS["another password"]},
            ),
            ("user.drop_token", {"id": token}),
        ]
        for action, body in wrong:
            with pytest.raises(FlightclientError) as refused:
                root.call(action, body)
            assert SECRETS["another password"] not in str(refused.value)
        root.call("user.create", {"name": "eve", "password": SECRETS["another password"], "roles": ["reader"]})
        root.call("user.set_password", {"name": "eve", "password": SECRETS["another password"] + "2"})
        root.query("CREATE TABLE t (name VARCHAR, n BIGINT)")
        root.query(f"INSERT INTO t VALUES ('{SECRETS['literal']}', {SECRETS['number']})")  # a test's own text
        root.query("SELECT * FROM t WHERE name = $1", [SECRETS["parameter"]])
        for sql in (
            f"SELECT '{SECRETS['literal']}' FROM nothing",  # as above
            f"SELECT '{SECRETS['literal']}",
            f"CREATE USER eve PASSWORD '{SECRETS['another password']}'",
        ):
            with pytest.raises(FlightclientError):
                root.query(sql)
    with flightclient.connect(uri, token) as program:
        program.call("user.whoami")
    with flightclient.connect(uri, bearer[:-3]) as cut, pytest.raises(FlightclientError) as denied:
        cut.call("user.whoami")
    assert bearer[:-3] not in str(denied.value)
    return [bearer, bearer[:-3], token]


def test_a_server_tells_no_secret(tmp_path: Path) -> None:
    """In its log, its metrics, its files but for the rows themselves, and its tables."""
    with Serving(tmp_path / "data") as server:
        tokens = use(server.uri)
        with urllib.request.urlopen(f"{server.web}/metrics") as answer:  # noqa: S310  # the server of this test
            metrics = answer.read().decode()
        with flightclient.connect(server.uri, tokens[0]) as root:
            tables = {
                name: str(root.query(f"SELECT * FROM system.{name}"))  # names of tables
                for name in (
                    "audit",
                    "commits",
                    "events",
                    "settings",
                    "users",
                    "roles",
                    "grants",
                    "policies",
                    "results",
                    "cache",
                )
            }
            queries = str(root.query("SELECT sql FROM system.queries"))
        server.process.terminate()
        status, log = server.finish()
    kept = "".join(path.read_text() for path in (tmp_path / "data").rglob("*.json"))

    assert status == 0
    assert "audit" in log
    texts = {"log": log, "metrics": metrics, "commits": kept, **tables}
    found = [
        (what, where)
        for what, secret in [*SECRETS.items(), *(("token", one) for one in tokens)]
        for where, text in texts.items()
        if secret in text and not (where == "commits" and what in {"literal", "number"})
    ]
    assert found == []
    # What its user sent is shown to the user, and to administrators.
    assert SECRETS["literal"] in queries
    assert SECRETS["parameter"] not in queries
    assert not [one for one in (SECRETS["password"], *tokens) if one in queries]


def test_others_see_no_statements(root: User, eve: User) -> None:
    root.ask("SELECT 'of root' FROM people")
    eve.ask("SELECT 'of eve' FROM people")

    assert {user for (user,) in eve.rows('SELECT DISTINCT "user" FROM system.queries')} == {"eve"}
    assert {"eve", "root"} <= {user for (user,) in root.rows('SELECT DISTINCT "user" FROM system.queries')}


def test_the_commit_log_names_who_changed_what(world: World) -> None:
    world["ada"].ask("INSERT INTO people (id, code) VALUES (70, 'a-value-of-a-row')")
    world["ada"].call("dataset.alter", {"dataset": "people", "comment": "changed"})
    world["tess"].put(fl.FlightDescriptor.for_path("testing", "notes"), pa.table({"id": [3], "text": ["three"]}))
    world["root"].call("role.grant", {"role": "tester", "privileges": ["select"], "dataset": "people"})
    found = rows(world.lakehouse, 'SELECT "user", kind, detail FROM system.commits ORDER BY version DESC LIMIT 4')

    assert [user for user, _, _ in reversed(found)] == ["ada", "ada", "tess", "root"]
    assert "a-value-of-a-row" not in str(found)
    assert by().user not in {user for user, _, _ in found}
    assert PASSWORD not in str(found)
