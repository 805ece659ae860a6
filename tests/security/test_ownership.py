"""Handles belong to users: with a right credential of another they are as if they weren't there, and stay as they are.

And what an administrator takes away is gone at once, in the middle of whatever its user does.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as adbc
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from security.calls import (
    SQL,
    answered,
    begun_session,
    flight_body,
    own,
    read,
    session_options,
    sql_action,
)
from security.world import PASSWORD, by, command, people

from flightserver.access.granting import Place
from flightserver.catalog.identities import Policy, Privilege
from flightserver.flight.sql.protocol import FLIGHT_PACKAGE, message_class

if TYPE_CHECKING:
    from collections.abc import Callable

    from security.calls import Handles
    from security.world import User, World

ERRORS = (pa.ArrowException, OSError, ValueError)
NEW_POLICY = Policy("late", "primary", "people", filter="id = 4")


def descriptor(name: str, **fields: Any) -> fl.FlightDescriptor:
    return fl.FlightDescriptor.for_command(command(name, **fields))


def by_hand(handles: Handles) -> bytes:
    return json.dumps({"query_id": handles.query_id, "page": 0}).encode()


def renewed(handles: Handles) -> bytes:
    endpoint = message_class(f"{FLIGHT_PACKAGE}.FlightEndpoint")()
    endpoint.ticket.ticket = handles.page
    return flight_body("RenewFlightEndpoint", endpoint=endpoint.SerializeToString())


USES: dict[str, Callable[[User, Handles], object]] = {
    "ticket": lambda user, one: user.table(one.ticket),
    "page": lambda user, one: user.table(one.page),
    "page by hand": lambda user, one: user.table(by_hand(one)),
    "renewed page": lambda user, one: user.act("RenewFlightEndpoint", renewed(one)),
    "cancelled pages": lambda user, one: user.act(
        "CancelFlightInfo", flight_body("CancelFlightInfo", info=one.page_info)
    ),
    "cancelled statement": lambda user, one: user.act("CancelQuery", sql_action("CancelQuery", info=one.info)),
    "closed result": lambda user, one: user.call("result.close", {"query_id": one.query_id}),
    "prepared query": lambda user, one: read(
        user, descriptor("PreparedStatementQuery", prepared_statement_handle=one.prepared)
    ),
    "bound values": lambda user, one: user.put(
        descriptor("PreparedStatementQuery", prepared_statement_handle=one.prepared), pa.table({"1": [1]})
    ),
    "prepared update": lambda user, one: user.put(
        descriptor("PreparedStatementUpdate", prepared_statement_handle=one.prepared), pa.table({"1": [1]})
    ),
    "transaction's query": lambda user, one: user.info(
        command("StatementQuery", query=SQL, transaction_id=one.transaction)
    ),
    "transaction's update": lambda user, one: user.put(
        descriptor("StatementUpdate", query="DELETE FROM people", transaction_id=one.transaction), pa.table({})
    ),
    "transaction's rows": lambda user, one: user.put(
        descriptor(
            "StatementIngest",
            table="people",
            transaction_id=one.transaction,
            table_definition_options={"if_not_exist": 2, "if_exists": 2},
        ),
        people([]),
    ),
    "commit": lambda user, one: user.act(
        "EndTransaction", sql_action("EndTransaction", transaction_id=one.transaction, action=1)
    ),
    "rollback": lambda user, one: user.act(
        "EndTransaction", sql_action("EndTransaction", transaction_id=one.transaction, action=2)
    ),
    "new savepoint": lambda user, one: user.act(
        "BeginSavepoint", sql_action("BeginSavepoint", transaction_id=one.transaction, name="x")
    ),
    "released savepoint": lambda user, one: user.act(
        "EndSavepoint", sql_action("EndSavepoint", savepoint_id=one.savepoint, action=1)
    ),
    "savepoint gone back to": lambda user, one: user.act(
        "EndSavepoint", sql_action("EndSavepoint", savepoint_id=one.savepoint, action=2)
    ),
    "session's options": lambda user, one: user.having(cookie=one.cookie).act("GetSessionOptions", b""),
    "closed session": lambda user, one: user.having(cookie=one.cookie).act("CloseSession", b""),
    "upload": lambda user, one: user.call("ingest.file", {"source": one.upload, "dataset": "people", "mode": "append"}),
    "upload of keys": lambda user, one: user.call("dataset.delete", {"source": one.upload, "dataset": "people"}),
    "upload to upsert": lambda user, one: user.call("dataset.upsert", {"source": one.upload, "dataset": "people"}),
}


def test_handles_of_others_are_not_there(world: World, root: User) -> None:
    """`ada` may do with data whatever root may, so that only the handle stands in her way."""
    handles = own(root)
    version = world.version
    allowed, codes = [], set()
    for what, use in USES.items():
        for name in ("ada", "eve", "nobody"):
            try:
                use(world[name], handles)
            except ERRORS as error:
                codes.add(str(error).partition("[")[2].partition("]")[0])
            else:
                allowed.append((what, name))

    assert allowed == []
    assert codes == {"FS-1004", "FS-2002"}
    assert world.version == version
    world["ada"].act(
        "ClosePreparedStatement", sql_action("ClosePreparedStatement", prepared_statement_handle=handles.prepared)
    )
    world["ada"].having(cookie=handles.cookie).act("SetSessionOptions", session_options({"schema": "system"}))
    owners_still_work(root, handles)


def owners_still_work(user: User, handles: Handles) -> None:
    """Uses each handle as its owner does."""
    assert user.table(handles.ticket).num_rows == 4
    assert user.table(handles.page).num_rows == 1
    assert user.table(by_hand(handles)).num_rows == 1
    user.act("RenewFlightEndpoint", renewed(handles))
    assert [
        one.num_rows
        for one in read(user, descriptor("PreparedStatementQuery", prepared_statement_handle=handles.prepared))
    ] == [4]
    inside = {"query": "INSERT INTO people (id) VALUES (60)", "transaction_id": handles.transaction}
    user.put(descriptor("StatementUpdate", **inside), pa.table({}))
    user.act("EndSavepoint", sql_action("EndSavepoint", savepoint_id=handles.savepoint, action=2))
    user.act("EndTransaction", sql_action("EndTransaction", transaction_id=handles.transaction, action=1))
    assert b"system" not in user.having(cookie=handles.cookie).act("GetSessionOptions", b"")[0]
    assert user.having(cookie=handles.cookie).rows("SELECT count(*) FROM people") == [(4,)]
    assert user.call("ingest.file", {"source": handles.upload, "dataset": "loaded", "mode": "create"})["rows"] == 1
    user.call("result.close", {"query_id": handles.query_id})


def unknown(user: User, what: str, handles: Handles) -> str:
    with pytest.raises(ERRORS) as refused:
        USES[what](user, handles)
    return str(refused.value).partition(". Detail")[0]


@pytest.mark.parametrize("what", ["prepared query", "commit", "released savepoint", "session's options"])
def test_a_handle_of_another_is_refused_as_one_that_nobody_has(world: World, root: User, what: str) -> None:
    handles = own(root)
    nobodys = replace(
        handles,
        prepared=b"0" * 32,
        transaction=b"0" * 32,
        savepoint=b"0" * 32 + b".1",
        cookie="arrow_flight_session_id=none",
    )

    assert unknown(world["ada"], what, handles) == unknown(world["ada"], what, nobodys)


def test_temporary_tables_are_seen_by_their_user_alone(world: World) -> None:
    """Also by the same connection, and with the same cookie."""
    ada, rita = world["ada"], world["rita"]
    cookie = begun_session(ada)
    definition = {"temporary": True, "table_definition_options": {"if_not_exist": 1, "if_exists": 1}}
    ada.having(cookie=cookie).put(descriptor("StatementIngest", table="mine", **definition), pa.table({"x": [7]}))
    rita.client = ada.client

    assert ada.having(cookie=cookie).rows("SELECT x FROM mine") == [(7,)]
    for other in (rita, rita.having(cookie=cookie)):
        with pytest.raises(ERRORS, match="FS-1004"):
            other.rows("SELECT x FROM mine")
        assert other.rows(command("GetTables", table_name_filter_pattern="mine")) == []


def test_two_users_on_one_connection_stay_two(world: World) -> None:
    ada, rita = world["ada"], world["rita"]
    rita.client = ada.client
    first = answered(ada.act("BeginTransaction", sql_action("BeginTransaction"))[0]).transaction_id
    ada.act("EndTransaction", sql_action("EndTransaction", transaction_id=first, action=1))
    second = answered(rita.act("BeginTransaction", sql_action("BeginTransaction"))[0]).transaction_id

    with pytest.raises(ERRORS, match="FS-1004"):
        ada.put(descriptor("StatementUpdate", query="DELETE FROM people", transaction_id=first), pa.table({}))
    with pytest.raises(ERRORS, match="FS-1004"):
        ada.put(descriptor("StatementUpdate", query="DELETE FROM people", transaction_id=second), pa.table({}))
    assert rita.rows(command("StatementQuery", query="SELECT count(*) FROM people", transaction_id=second)) == [(4,)]


# What is taken away is gone at once.


def test_a_role_that_is_taken_away_ends_what_it_allowed(world: World) -> None:
    rita = world["rita"]
    handles = own(rita)
    world.lakehouse.administration.revoke_role(by("root"), "reader", "rita")

    for what in ("ticket", "page", "page by hand", "prepared query", "transaction's query"):
        with pytest.raises(ERRORS, match=r"FS-(1004|2002)"):
            USES[what](rita, handles)
    world.lakehouse.administration.grant_role(by("root"), "reader", "rita")
    assert rita.table(handles.ticket).num_rows == 4


def test_a_policy_that_is_made_holds_for_what_was_asked_before(world: World) -> None:
    rita = world["rita"]
    handles = own(rita)
    world.lakehouse.administration.create_policy(by("root"), NEW_POLICY)

    assert rita.table(handles.ticket).column("id").to_pylist() == [4]
    prepared = descriptor("PreparedStatementQuery", prepared_statement_handle=handles.prepared)
    assert [one.column("id").to_pylist() for one in read(rita, prepared)] == [[4]]
    inside = command("StatementQuery", query="SELECT id FROM people", transaction_id=handles.transaction)
    assert rita.rows(inside) == [(4,)]
    for what in ("page", "page by hand", "renewed page"):
        with pytest.raises(fl.FlightUnauthorizedError, match="your rights have changed since this result was computed"):
            USES[what](rita, handles)


def test_a_grant_that_is_revoked_ends_writes_that_were_prepared(world: World) -> None:
    tess = world["tess"]
    insert = "INSERT INTO testing.notes VALUES (7, 'seven')"
    ticket = tess.info(insert).endpoints[0].ticket
    made = answered(tess.act("CreatePreparedStatement", sql_action("CreatePreparedStatement", query=insert))[0])
    transaction = answered(tess.act("BeginTransaction", sql_action("BeginTransaction"))[0]).transaction_id
    world.lakehouse.administration.revoke(by("root"), "tester", [Privilege.INSERT], Place("testing"))
    version = world.version

    prepared = descriptor("PreparedStatementUpdate", prepared_statement_handle=made.prepared_statement_handle)
    within = descriptor("StatementUpdate", query=insert, transaction_id=transaction)
    uses: list[Callable[[], object]] = [
        lambda: tess.table(ticket),
        lambda: tess.put(prepared, pa.table({})),
        lambda: tess.put(within, pa.table({})),
        lambda: tess.put(fl.FlightDescriptor.for_path("testing", "notes"), pa.table({"id": [7], "text": ["seven"]})),
    ]
    for use in uses:
        with pytest.raises(fl.FlightUnauthorizedError, match="FS-2002"):
            use()
    assert world.version == version


def test_a_credential_that_is_ended_ends_with_all_it_began(world: World) -> None:
    """By disabling its user, dropping it, dropping the token, or a new password."""
    administration = world.lakehouse.administration
    for name in ("ann", "bob", "cyd", "dan"):
        administration.create_user(by(), name, password=PASSWORD, roles=["writer"])
    token, made = administration.create_token(by(), "cyd")
    headers = {name: logged_in(world, name) for name in ("ann", "bob", "dan")} | {"cyd": b"Bearer " + token.encode()}
    users = {name: world.connect(name, header) for name, header in headers.items()}
    handles = {name: own(user) for name, user in users.items()}
    version = world.version

    administration.disable(by(), "ann")
    administration.drop_user(by(), "bob")
    administration.drop_token(by(), "cyd", made.id)
    administration.set_password(by(), "dan", "another password")

    ended = world.version
    assert ended == version + 4
    for name, user in users.items():
        for what, use in USES.items():
            with pytest.raises(fl.FlightUnauthenticatedError, match="FS-2001"):
                use(user, handles[name])
            assert what
    assert world.version == ended
    assert world.connect("dan", logged_in(world, "dan", "another password")).table(handles["dan"].ticket).num_rows == 4


def logged_in(world: World, name: str, password: str = PASSWORD) -> bytes:
    """The bearer token of a login."""
    with fl.connect(world.uri) as client:
        header: bytes = client.authenticate_basic_token(name, password)[1]
        return header


def test_a_user_who_is_made_anew_is_another(world: World) -> None:
    """Bearer tokens of the former one are not of the latter."""
    administration = world.lakehouse.administration
    administration.create_user(by(), "ann", password=PASSWORD, roles=["reader"])
    former = world.connect("ann", logged_in(world, "ann"))
    assert former.rows("SELECT count(*) FROM people") == [(4,)]
    administration.drop_user(by(), "ann")
    administration.create_user(by(), "ann", password=PASSWORD, roles=["admin"])

    with pytest.raises(fl.FlightUnauthenticatedError, match="FS-2001"):
        former.rows("SELECT count(*) FROM people")


def test_an_adbc_connection_ends_with_its_user(world: World) -> None:
    administration = world.lakehouse.administration
    administration.create_user(by(), "ann", password=PASSWORD, roles=["writer"])
    login = {"username": "ann", "password": PASSWORD}
    with adbc.connect(world.uri, db_kwargs=login, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM people")
        assert cursor.fetchall() == [(4,)]
        administration.set_roles(by(), "ann", ["reader"])
        with pytest.raises(adbc.Error, match="FS-2002"):
            cursor.execute("DELETE FROM people")
        administration.disable(by(), "ann")
        with pytest.raises(adbc.Error, match="FS-2001"):
            cursor.execute("SELECT count(*) FROM people")
        administration.enable(by(), "ann")
    header = b"Basic " + base64.b64encode(f"ann:{PASSWORD}".encode())
    assert world.connect("ann", header).rows("SELECT count(*) FROM people") == [(4,)]
