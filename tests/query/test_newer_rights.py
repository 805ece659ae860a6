"""Statements that were understood before rights, policies and names changed, and run afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bucketing import add_bucket
from query.asking import rows, run
from tables.moving import move

from flightserver.access.committing import Author
from flightserver.access.granting import Place
from flightserver.access.principal import Principal
from flightserver.catalog.identities import Policy, Privilege
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import Forbidden
from flightserver.query.language.statements import parse
from flightserver.query.past import PastTables
from flightserver.query.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.access.rights import Rights
    from flightserver.lakehouse import Lakehouse

ROLE = "clerks"
INSIDE = Place("primary", "orders")


def by() -> Author:
    return Author("ann", new_ulid())


@pytest.fixture
def shop(lakehouse: Lakehouse) -> Lakehouse:
    """Orders, which bob may read and change, and nothing else."""
    run(lakehouse, "CREATE TABLE orders AS SELECT 1 AS id UNION ALL SELECT 2")
    to = lakehouse.administration
    to.create_role(by(), ROLE)
    to.grant(by(), ROLE, [one for one in Privilege if one is not Privilege.CREATE], INSIDE)
    to.create_user(by(), "ann", roles=["admin"], certificates=["CN=ann"])
    to.create_user(by(), "bob", roles=[ROLE])
    return lakehouse


def bob(lakehouse: Lakehouse) -> Rights:
    return lakehouse.access.rights(Principal("bob", frozenset({ROLE}), "password", claimed=frozenset()))


def hide(lakehouse: Lakehouse) -> None:
    lakehouse.administration.create_policy(by(), Policy("half", "primary", "orders", filter="id = 1"))


def revoke(lakehouse: Lakehouse) -> None:
    changes = [one for one in Privilege if one not in {Privilege.CREATE, Privilege.SELECT}]
    lakehouse.administration.revoke(by(), ROLE, changes, INSIDE)


def dismiss(lakehouse: Lakehouse) -> None:
    lakehouse.administration.disable(by(), "bob")


def put_another_there(lakehouse: Lakehouse) -> None:
    run(lakehouse, "ALTER TABLE orders RENAME TO own")
    run(lakehouse, "CREATE TABLE orders AS SELECT * FROM own")


@pytest.mark.parametrize("change", [hide, revoke, dismiss, put_another_there])
@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO orders VALUES (3)",
        "UPDATE orders SET id = 4 WHERE id = 2",
        "DELETE FROM orders",
        "TRUNCATE TABLE orders",
        "ALTER TABLE orders ADD COLUMN name VARCHAR",
        "DROP TABLE orders",
    ],
)
def test_a_statement_commits_only_what_is_allowed_when_it_commits(
    shop: Lakehouse, sql: str, change: Callable[[Lakehouse], None]
) -> None:
    planned = shop.queries.plan(Request(sql=sql, rights=bob(shop)))
    change(shop)

    with pytest.raises(Forbidden, match="user 'bob'"):
        shop.queries.update(planned)

    assert rows(shop, "SELECT * FROM orders ORDER BY id") == [(1,), (2,)]


def test_a_statement_still_commits_where_it_is_allowed(shop: Lakehouse) -> None:
    planned = shop.queries.plan(Request(sql="INSERT INTO orders VALUES (3)", rights=bob(shop)))
    shop.administration.create_role(by(), "others")

    assert shop.queries.update(planned) == 1


def test_a_table_is_made_anew_though_the_one_to_replace_has_moved(shop: Lakehouse) -> None:
    """It is where nothing is allowed; what is made has the name that the statement says."""
    add_bucket(shop, "stock")
    add_bucket(shop, "closed")
    shop.administration.grant(by(), ROLE, list(Privilege), Place("stock", ""))
    run(shop, "CREATE TABLE stock.orders AS SELECT 1 AS id")
    planned = shop.queries.plan(Request(sql="CREATE OR REPLACE TABLE stock.orders AS SELECT 3 AS id", rights=bob(shop)))
    move(shop, "orders", "closed", "stock")

    assert shop.queries.update(planned) == 1
    assert rows(shop, "SELECT * FROM stock.orders") == [(3,)]
    assert rows(shop, "SELECT * FROM closed.orders") == [(1,)]


def test_rights_that_came_with_a_request_are_made_those_of_what_it_reads(shop: Lakehouse) -> None:
    before = bob(shop)
    hide(shop)
    run(shop, "ALTER TABLE orders RENAME TO own")

    assert rows(shop, "SELECT * FROM own", rights=before) == [(1,)]
    planned = shop.queries.plan(Request(sql="SELECT * FROM own", rights=before))
    assert planned.request.rights is planned.scope.rights is before.at(shop.catalog.snapshot().access)
    assert shop.queries.store(planned, 10).rows == 1


@pytest.mark.parametrize("at", ["FOR VERSION AS OF {version}", "FOR TIMESTAMP AS OF '2100-01-01'"])
def test_what_a_clause_finds_is_never_newer_than_what_hides_it(shop: Lakehouse, at: str) -> None:
    """Others commit between the moment in which the names of a statement mean something and the clause's look-up."""
    scope = shop.queries.scope(Request(sql="", rights=bob(shop)))
    hide(shop)
    run(shop, "INSERT INTO orders VALUES (1001)")
    version = shop.catalog.snapshot().version

    found = PastTables(shop.catalog).scope(scope, parse(f"SELECT * FROM orders {at.format(version=version)}"))

    [named] = found.named.values()
    assert (named.version, found.newest, found.rights) == (version, shop.catalog.snapshot(), bob(shop))
    assert found.is_protected(shop.catalog.snapshot().dataset("orders"))


def test_a_statement_that_is_tried_again_is_judged_anew(shop: Lakehouse) -> None:
    scope = shop.queries.scope(Request(sql="", rights=bob(shop)))
    hide(shop)
    run(shop, "ALTER TABLE orders RENAME TO own")
    newest = shop.catalog.snapshot()

    again = scope.again(newest)

    assert [key.name for key in again.snapshot.datasets] == ["own"]
    assert again.is_protected(newest.dataset("own"))


def test_a_transaction_is_tried_again_as_it_is(shop: Lakehouse) -> None:
    transaction = shop.transactions.get(shop.transactions.begin("bob"))
    options: dict[str, Any] = {"rights": bob(shop), "transaction": transaction}
    run(shop, "INSERT INTO orders VALUES (3)", **options)
    scope = shop.queries.scope(Request(sql="", **options))
    run(shop, "INSERT INTO orders VALUES (4), (5)")

    assert scope.again(transaction.snapshot()).dataset("orders").rows == 3
