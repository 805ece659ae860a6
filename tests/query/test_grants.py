"""GRANT, REVOKE, CREATE ROLE and DROP ROLE, and the tables that show who may do what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from query.asking import count, rows, run

from flightserver.access.committing import Author
from flightserver.access.granting import Place
from flightserver.access.principal import Principal
from flightserver.access.rights import UNRESTRICTED, Rights
from flightserver.catalog.identities import ADMIN, Grant, Policy, Privilege
from flightserver.errors import AlreadyExists, FlightserverError, Forbidden, InvalidRequest, NotFound
from flightserver.query.language.changes import CreateRole, DropRole, Membership, Privileges, TableName
from flightserver.query.language.statements import Kind, parse
from flightserver.query.request import Request

if TYPE_CHECKING:
    from flightserver.catalog.identities import AccessState
    from flightserver.lakehouse import Lakehouse
    from flightserver.query.language.changes import Change

ALL_ON_A_DATASET = tuple(one for one in Privilege if one is not Privilege.CREATE)
BY = "test"


@pytest.fixture
def lakehouse(lakehouse: Lakehouse) -> Lakehouse:
    """With `primary.pets`, `primary.seen`, a view, the role `analysts`, and the administrator `ann`."""
    run(lakehouse, "CREATE TABLE pets AS SELECT 1 AS id, 'a@b.c' AS email")
    run(lakehouse, "CREATE VIEW seen AS SELECT id FROM pets")
    run(lakehouse, "CREATE ROLE analysts")
    lakehouse.administration.create_user(Author(BY), "ann", roles=[ADMIN], certificates=["CN=ann"])
    return lakehouse


def state(lakehouse: Lakehouse) -> AccessState:
    return lakehouse.catalog.snapshot().access


def grants(lakehouse: Lakehouse) -> tuple[Grant, ...]:
    return state(lakehouse).roles["analysts"].grants


@pytest.mark.parametrize(
    ("sql", "kind", "change"),
    [
        (
            'grant select, Insert on table "testing".pets to Analysts',
            Kind.GRANT,
            Privileges((Privilege.SELECT, Privilege.INSERT), "analysts", TableName("pets", "testing")),
        ),
        ("GRANT ALL ON pets TO r", Kind.GRANT, Privileges(None, "r", TableName("pets"))),
        ('GRANT ALL PRIVILEGES ON BUCKET testing TO "R 1"', Kind.GRANT, Privileges(None, "R 1", bucket="testing")),
        ('REVOKE CREATE ON SCHEMA "a:b" FROM r', Kind.REVOKE, Privileges((Privilege.CREATE,), "r", bucket="a:b")),
        ("GRANT ALTER ON ALL TABLES TO r", Kind.GRANT, Privileges((Privilege.ALTER,), "r")),
        (
            "GRANT UPDATE, DELETE ON ALL TABLES IN SCHEMA testing TO r",
            Kind.GRANT,
            Privileges((Privilege.UPDATE, Privilege.DELETE), "r", bucket="testing"),
        ),
        ("GRANT SELECT ON bucket TO r", Kind.GRANT, Privileges((Privilege.SELECT,), "r", TableName("bucket"))),
        (
            "REVOKE SELECT ON lakehouse.testing.pets FROM r",
            Kind.REVOKE,
            Privileges((Privilege.SELECT,), "r", TableName("pets", "testing")),
        ),
        ('GRANT admin TO USER "bob@example.com"', Kind.GRANT, Membership("admin", "bob@example.com")),
        ("REVOKE admin FROM USER bob", Kind.REVOKE, Membership("admin", "bob")),
        ('GRANT "select" TO USER bob', Kind.GRANT, Membership("select", "bob")),
        ("CREATE ROLE r", Kind.CREATE_ROLE, CreateRole("r")),
        ('CREATE ROLE IF NOT EXISTS "R"', Kind.CREATE_ROLE, CreateRole("R", exists_ok=True)),
        ("DROP ROLE r", Kind.DROP_ROLE, DropRole("r")),
        ("drop role if exists r;", Kind.DROP_ROLE, DropRole("r", exists_ok=True)),
    ],
)
def test_statements_are_understood(sql: str, kind: Kind, change: Change) -> None:
    statement = parse(sql)

    assert (statement.kind, statement.target, statement.change) == (kind, None, change)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("GRANT r TO bob", "expected USER, found 'bob'"),
        (
            "GRANT EXECUTE ON pets TO r",
            "expected SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER or ALL, found 'EXECUTE'",
        ),
        ("GRANT SELECT ON pets, cats TO r", "expected TO, found ','"),
        ("GRANT SELECT (id) ON pets TO r", r"expected ON, found '\('"),
        ("GRANT SELECT ON pets FROM r", "expected TO, found 'FROM'"),
        ("GRANT SELECT ON pets TO r WITH GRANT OPTION", "one role at a time"),
        ("GRANT SELECT ON ALL TABLES IN pets TO r", "expected SCHEMA and a name"),
        ("REVOKE GRANT OPTION FOR SELECT ON pets FROM r", "expected SELECT, .* found 'GRANT'"),
        ("CREATE ROLE r LOGIN", "a role has no options"),
        ("CREATE OR REPLACE ROLE r", "expected TABLE or VIEW, found 'ROLE'"),
        ("DROP ROLE r, s", "one role at a time"),
        ("CREATE USER bob PASSWORD 'secret'", "CREATE USER is refused: users are made .* by the actions user.create"),
        ("ALTER USER bob PASSWORD 'secret'", "ALTER USER is refused: .* would be kept in system.queries"),
        ("DROP USER bob", "DROP USER is refused"),
        ("CREATE POLICY p ON pets", "CREATE POLICY is refused: .* policy.create"),
        ("DROP POLICY p", "DROP POLICY is refused"),
    ],
)
def test_what_is_not_understood_is_said(sql: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse(sql)


def test_privileges_are_granted_and_revoked(lakehouse: Lakehouse) -> None:
    run(lakehouse, "GRANT SELECT, INSERT ON pets TO analysts")
    run(lakehouse, 'GRANT SELECT ON "primary".seen TO analysts')
    run(lakehouse, "GRANT ALL ON SCHEMA primary TO analysts")
    run(lakehouse, "GRANT SELECT ON ALL TABLES TO analysts")
    assert grants(lakehouse) == (
        Grant((Privilege.SELECT,)),
        Grant(tuple(Privilege), "primary"),
        Grant((Privilege.SELECT, Privilege.INSERT), "primary", "pets"),
        Grant((Privilege.SELECT,), "primary", "seen"),
    )

    with pytest.raises(InvalidRequest, match="has SELECT on all of bucket 'primary'"):
        run(lakehouse, "REVOKE SELECT ON pets FROM analysts")
    run(lakehouse, "REVOKE SELECT ON ALL TABLES FROM analysts")
    run(lakehouse, "REVOKE ALL ON BUCKET primary FROM analysts")
    run(lakehouse, "REVOKE ALL PRIVILEGES ON seen FROM analysts")
    run(lakehouse, "REVOKE INSERT ON TABLE pets FROM analysts")

    assert grants(lakehouse) == (Grant((Privilege.SELECT,), "primary", "pets"),)


def test_all_on_a_table_is_everything_but_create(lakehouse: Lakehouse) -> None:
    run(lakehouse, "GRANT ALL ON pets TO analysts")

    assert grants(lakehouse) == (Grant(ALL_ON_A_DATASET, "primary", "pets"),)


def test_grants_follow_their_table_and_outlive_it(lakehouse: Lakehouse) -> None:
    run(lakehouse, "GRANT SELECT ON pets TO analysts")
    run(lakehouse, "ALTER TABLE pets RENAME TO animals")
    assert grants(lakehouse) == (Grant((Privilege.SELECT,), "primary", "animals"),)

    run(lakehouse, "DROP TABLE animals")
    run(lakehouse, "REVOKE SELECT ON animals FROM analysts")

    assert grants(lakehouse) == ()


def test_roles_are_given_to_users_and_taken(lakehouse: Lakehouse) -> None:
    run(lakehouse, "GRANT analysts TO USER ann")
    assert state(lakehouse).users["ann"].roles == ("admin", "analysts")

    run(lakehouse, "REVOKE analysts FROM USER ann")
    with pytest.raises(InvalidRequest, match="user 'ann' is the last administrator"):
        run(lakehouse, "REVOKE admin FROM USER ann")

    assert state(lakehouse).users["ann"].roles == ("admin",)


def test_roles_are_made_and_dropped(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE ROLE IF NOT EXISTS analysts")
    run(lakehouse, 'CREATE ROLE "Sales"')
    assert set(state(lakehouse).roles) == {"analysts", "Sales"}

    run(lakehouse, 'DROP ROLE "Sales"')
    run(lakehouse, "DROP ROLE IF EXISTS sales")

    assert set(state(lakehouse).roles) == {"analysts"}


@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        ("GRANT SELECT ON cats TO analysts", NotFound, "'cats'"),
        ("GRANT SELECT ON BUCKET moon TO analysts", NotFound, "'moon'"),
        (
            "GRANT SELECT ON pets TO boss",
            NotFound,
            "there is no role 'boss'; there are: reader, writer, admin, analysts",
        ),
        ("GRANT SELECT ON pets TO reader", InvalidRequest, "role 'reader' is built in"),
        ("GRANT CREATE ON pets TO analysts", InvalidRequest, "CREATE is a privilege on a bucket"),
        ("GRANT analysts TO USER bob", NotFound, "there is no user 'bob'; there are: ann"),
        ("REVOKE SELECT ON BUCKET moon FROM analysts", NotFound, "it has no grants"),
        ("REVOKE SELECT ON cats FROM analysts", NotFound, 'doesn\'t have SELECT on "primary".cats; it has no grants'),
        ("CREATE ROLE analysts", AlreadyExists, "there is a role 'analysts' already"),
        ("CREATE ROLE admin", InvalidRequest, "is built in and can't be created"),
        ("DROP ROLE boss", NotFound, "there is no role 'boss'"),
    ],
)
def test_what_is_not_possible_is_refused(
    lakehouse: Lakehouse, sql: str, error: type[FlightserverError], message: str
) -> None:
    before = state(lakehouse)

    with pytest.raises(error, match=message):
        run(lakehouse, sql)

    assert state(lakehouse) == before


def test_a_statement_runs_once(lakehouse: Lakehouse) -> None:
    request = Request(rights=UNRESTRICTED, sql="CREATE ROLE sales", operation="op")
    for _ in range(2):
        assert lakehouse.queries.update(lakehouse.queries.plan(request)) == 0

    assert "sales" in state(lakehouse).roles


def test_the_log_names_the_statement_and_who_ran_it(lakehouse: Lakehouse) -> None:
    ann = Rights(Principal("ann", frozenset({ADMIN}), "bearer"), state(lakehouse))

    assert count(lakehouse, "GRANT SELECT ON pets TO analysts", rights=ann) == 0

    [last] = rows(lakehouse, 'SELECT kind, detail, "user" FROM system.commits ORDER BY version DESC LIMIT 1')
    assert last == ("grant", 'SELECT on "primary".pets to analysts', "ann")


@pytest.mark.parametrize("sql", ["GRANT SELECT ON pets TO analysts", "CREATE ROLE sales", "DROP ROLE analysts"])
def test_grants_are_not_part_of_a_transaction(lakehouse: Lakehouse, sql: str) -> None:
    transaction = lakehouse.transactions.get(lakehouse.transactions.begin("local"))

    with pytest.raises(InvalidRequest, match="is not available inside of a transaction"):
        run(lakehouse, sql, transaction=transaction)


@pytest.mark.parametrize(
    "sql",
    [
        "GRANT SELECT ON pets TO analysts",
        "REVOKE SELECT ON pets FROM analysts",
        "GRANT admin TO USER bob",
        "CREATE ROLE sales",
        "DROP ROLE analysts",
    ],
)
def test_only_administrators_grant(lakehouse: Lakehouse, sql: str) -> None:
    bob = Rights(Principal("bob", frozenset({"writer", "analysts"}), "bearer"), state(lakehouse))
    before = state(lakehouse)

    with pytest.raises(Forbidden, match="needs the role 'admin'"):
        run(lakehouse, sql, rights=bob)

    assert state(lakehouse) == before


def administer(lakehouse: Lakehouse) -> None:
    """Something in every table."""
    to = lakehouse.administration
    to.create_user(Author(BY), "bob", password="correct horse", roles=["analysts", "reader"])  # noqa: S106  # a test's
    to.create_token(Author(BY), "bob")
    to.disable(Author(BY), "bob")
    to.grant(Author(BY), "analysts", [Privilege.SELECT, Privilege.ALTER], Place("primary", "pets"))
    to.grant(Author(BY), "analysts", [Privilege.CREATE], Place("primary"))
    to.create_role(Author(BY), "sales", comment="sell")
    to.grant(Author(BY), "sales", [Privilege.SELECT], Place())
    to.create_policy(Author(BY), Policy("all", tags={"pii": "'***'"}, exempt=("writer",)))
    masks = {"email": "'?'"}
    to.create_policy(Author(BY), Policy("own", "primary", "pets", filter="id = 1", masks=masks, roles=("analysts",)))


def test_the_tables_show_who_may_do_what(lakehouse: Lakehouse) -> None:
    administer(lakehouse)
    now = state(lakehouse)

    assert rows(lakehouse, "SELECT * FROM system.users ORDER BY name") == [
        ("ann", ["admin"], False, False, 0, ["CN=ann"], now.users["ann"].created, now.users["ann"].version),
        ("bob", ["analysts", "reader"], True, True, 1, [], now.users["bob"].created, now.users["bob"].version),
    ]
    assert rows(lakehouse, "SELECT name, built_in, comment, version FROM system.roles ORDER BY name") == [
        ("admin", True, "", None),
        ("analysts", False, "", now.roles["analysts"].version),
        ("reader", True, "", None),
        ("sales", False, "sell", now.roles["sales"].version),
        ("writer", True, "", None),
    ]
    assert rows(lakehouse, "SELECT * FROM system.grants ORDER BY role, dataset, privilege") == [
        ("analysts", "ALTER", "primary", "pets"),
        ("analysts", "SELECT", "primary", "pets"),
        ("analysts", "CREATE", "primary", None),
        ("sales", "SELECT", None, None),
    ]
    assert rows(lakehouse, "SELECT * EXCLUDE (created, version) FROM system.policies ORDER BY name") == [
        ("all", None, None, None, None, '{"pii":"\'***\'"}', [], ["writer"]),
        ("own", "primary", "pets", "id = 1", '{"email":"\'?\'"}', None, ["analysts"], []),
    ]
    assert now.users["bob"].created is not None
    assert now.users["bob"].created <= datetime.now(UTC)


def test_others_see_themselves_only(lakehouse: Lakehouse) -> None:
    administer(lakehouse)
    bob = Rights(Principal("bob", frozenset({"analysts", "reader"}), "bearer"), state(lakehouse))

    assert rows(lakehouse, "SELECT name FROM system.users", rights=bob) == [("bob",)]
    assert rows(lakehouse, "SELECT name FROM system.roles ORDER BY name", rights=bob) == [("analysts",), ("reader",)]
    assert rows(lakehouse, "SELECT DISTINCT role FROM system.grants", rights=bob) == [("analysts",)]
    assert rows(lakehouse, "SELECT * FROM system.policies", rights=bob) == []
