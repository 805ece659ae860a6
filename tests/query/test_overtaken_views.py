"""CREATE VIEW while what it reads is renamed, moved or dropped: the view reads what its query was planned with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from bucketing import add_bucket
from query.asking import rows, run
from tables.moving import before_each_commit, move

from flightserver.access.committing import Author
from flightserver.access.granting import Place
from flightserver.access.principal import Principal
from flightserver.access.rights import UNRESTRICTED
from flightserver.catalog.entities import PRIMARY, DatasetKey, Meaning
from flightserver.catalog.identities import Privilege
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import AlreadyExists, CommitConflict, NotFound
from flightserver.query.engine import Engine
from flightserver.query.request import Request
from flightserver.tables.schema import decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.lakehouse import Lakehouse
    from flightserver.query.namespace import Scope

MAKE = 'CREATE VIEW names AS SELECT name FROM "x".people ORDER BY id'
ASK = "SELECT * FROM names"
EVE_IN_X = """CREATE TABLE "x".people AS SELECT 3 AS id, 'Eve' AS name"""
ADA, EVE = [("Ada",), ("Bob",)], [("Eve",)]


@pytest.fixture
def people(lakehouse: Lakehouse) -> Lakehouse:
    """`people` of Ada and Bob is in bucket `x`; there is a bucket `y`."""
    add_bucket(lakehouse, "x")
    add_bucket(lakehouse, "y")
    run(lakehouse, """CREATE TABLE "x".people AS SELECT * FROM (VALUES (1, 'Ada'), (2, 'Bob')) AS t(id, name)""")
    return lakehouse


def overtaken(lakehouse: Lakehouse, *changes: Callable[[], object], kind: str = "create view") -> Any:
    """Do each of these once, right before a commit of the kind."""
    left = list(changes)
    return before_each_commit(lakehouse, kind, lambda: left.pop(0)() if left else None)


def sql(lakehouse: Lakehouse, *statements: str) -> Callable[[], object]:
    return lambda: [run(lakehouse, one) for one in statements]


def views(lakehouse: Lakehouse) -> list[DatasetKey]:
    return list(lakehouse.catalog.snapshot().views)


@pytest.mark.parametrize("away", ['ALTER TABLE "x".people RENAME TO staff', 'DROP TABLE "x".people'])
def test_no_view_is_made_of_a_name_that_means_nothing_any_more(people: Lakehouse, away: str) -> None:
    with overtaken(people, sql(people, away)), pytest.raises(NotFound, match="'people'"):
        run(people, MAKE)
    assert views(people) == []


def test_no_view_is_made_of_a_dataset_that_is_moved_away(people: Lakehouse) -> None:
    with overtaken(people, lambda: move(people, "people", "y", source="x")), pytest.raises(NotFound, match="'people'"):
        run(people, MAKE)
    assert views(people) == []


def test_a_bare_name_is_planned_again_and_means_the_dataset_where_it_is_now(people: Lakehouse) -> None:
    with overtaken(people, lambda: move(people, "people", "y", source="x")):
        run(people, "CREATE VIEW names AS SELECT name FROM people ORDER BY id")
    assert rows(people, ASK) == ADA
    [view] = people.catalog.snapshot().views.values()
    assert view.meanings == ()


def columns(lakehouse: Lakehouse) -> list[str]:
    """Names and types of the only view, as the catalog says them."""
    [view] = lakehouse.catalog.snapshot().views.values()
    return [f"{field.name} {field.type}" for field in decode(view.schema)]


def test_what_has_the_name_since_is_planned_anew(people: Lakehouse) -> None:
    rename = 'ALTER TABLE "x".people RENAME TO staff'
    with overtaken(people, sql(people, rename, 'CREATE TABLE "x".people AS SELECT 3 AS id, 1.5 AS name')):
        run(people, MAKE)
    assert rows(people, ASK) == [(1.5,)]
    assert columns(people) == ["name double"]


def test_a_view_that_is_planned_again_follows_as_any_other(people: Lakehouse) -> None:
    with overtaken(people, sql(people, 'ALTER TABLE "x".people RENAME TO staff', EVE_IN_X)):
        run(people, MAKE)
    move(people, "people", "y", source="x")
    assert rows(people, ASK) == EVE
    [view] = people.catalog.snapshot().views.values()
    assert view.meanings == (Meaning("x", "people", DatasetKey("y", "people")),)


@pytest.mark.parametrize("how", ["moved", "created"])
def test_what_hides_the_dataset_by_the_commit_is_what_the_view_is_planned_with(people: Lakehouse, how: str) -> None:
    """The dataset that was read is where it was, but its bare name means another one to all who ask from now on."""

    def hide() -> None:
        run(people, f"CREATE TABLE {'y' if how == 'moved' else 'primary'}.people AS SELECT 1.5 AS id, 2.5 AS name")
        if how == "moved":
            move(people, "people", PRIMARY, source="y")

    with overtaken(people, hide):
        run(people, "CREATE VIEW names AS SELECT name FROM people ORDER BY id")
    assert rows(people, ASK) == [(2.5,)]
    assert columns(people) == ["name double"]


def test_a_view_of_a_view_that_is_replaced_is_planned_again(people: Lakehouse) -> None:
    run(people, 'CREATE VIEW "x".inside AS SELECT 1 AS n')
    with overtaken(people, lambda: run(people, """CREATE OR REPLACE VIEW "x".inside AS SELECT 'text' AS t""")):
        run(people, 'CREATE VIEW names AS SELECT * FROM "x".inside')
    assert rows(people, ASK) == [("text",)]
    view = people.catalog.snapshot().views[DatasetKey(PRIMARY, "names")]
    assert decode(view.schema).names == ["t"]


def test_rows_that_come_meanwhile_cost_the_view_nothing(people: Lakehouse) -> None:
    commits: list[object] = []

    def insert() -> None:
        commits.append(run(people, """INSERT INTO "x".people VALUES (3, 'Eve')"""))

    with before_each_commit(people, "create view", insert):
        run(people, MAKE)
    assert len(commits) == 1
    assert rows(people, ASK) == [*ADA, *EVE]


def test_a_dataset_that_never_stays_is_given_up(people: Lakehouse) -> None:
    homes = ["x", "y"]

    def there_and_back() -> None:
        move(people, "people", homes[1], source=homes[0])
        homes.reverse()

    with before_each_commit(people, "create view", there_and_back), pytest.raises(CommitConflict, match="is the one"):
        run(people, "CREATE VIEW names AS SELECT name FROM people")
    assert views(people) == []


def test_another_view_of_the_name_that_is_made_first_stays(people: Lakehouse) -> None:
    first = "CREATE VIEW names AS SELECT 'first' AS name"
    with overtaken(people, sql(people, first)), pytest.raises(AlreadyExists, match="exists already"):
        run(people, MAKE)
    assert rows(people, ASK) == [("first",)]
    run(people, "DROP VIEW names")
    with overtaken(people, sql(people, first)):
        run(people, MAKE.replace("VIEW", "VIEW IF NOT EXISTS"))
    assert rows(people, ASK) == [("first",)]
    run(people, "DROP VIEW names")
    with overtaken(people, sql(people, first)):
        run(people, MAKE.replace("CREATE", "CREATE OR REPLACE"))
    assert rows(people, ASK) == ADA


def test_who_may_not_see_what_has_the_name_since_makes_no_view_of_it(people: Lakehouse) -> None:
    to = people.administration
    to.create_role(Author("ann", new_ulid()), "clerks")
    to.grant(Author("ann", new_ulid()), "clerks", [Privilege.SELECT], Place("x", "people"))
    to.grant(Author("ann", new_ulid()), "clerks", [Privilege.CREATE], Place("y"))
    to.create_user(Author("ann", new_ulid()), "ann", roles=["admin"], certificates=["CN=ann"])
    to.create_user(Author("ann", new_ulid()), "bob", roles=["clerks"])
    bob = people.access.rights(Principal("bob", frozenset({"clerks"}), "password", claimed=frozenset()))
    swap = sql(people, 'ALTER TABLE "x".people RENAME TO staff', EVE_IN_X)
    with overtaken(people, swap), pytest.raises(NotFound, match="'people'"):
        run(people, MAKE.replace("names", '"y".names'), rights=bob)
    assert views(people) == []


def test_a_view_may_read_an_earlier_version_of_what_is_dropped(people: Lakehouse) -> None:
    then = people.catalog.snapshot().version
    run(people, 'DROP TABLE "x".people')
    run(people, f'CREATE VIEW names AS SELECT name FROM "x".people FOR VERSION AS OF {then} ORDER BY id')
    assert rows(people, ASK) == ADA


@pytest.mark.parametrize(
    "changes",
    [
        ('ALTER TABLE "x".people RENAME TO staff',),
        ('ALTER TABLE "x".people RENAME TO staff', 'CREATE TABLE "x".people AS SELECT 1.5 AS name'),
        ("CREATE TABLE people AS SELECT 1.5 AS name",),
    ],
    ids=["renamed", "another", "hidden"],
)
def test_a_transaction_with_a_view_that_was_overtaken_is_refused(people: Lakehouse, changes: tuple[str, ...]) -> None:
    transaction = people.transactions.begin("ann")
    staged = people.transactions.get(transaction)
    run(people, "CREATE VIEW names AS SELECT name FROM people", transaction=staged)
    run(people, "CREATE TABLE kept AS SELECT 1 AS n", transaction=staged)
    for one in changes:
        run(people, one)
    with pytest.raises(CommitConflict, match="nothing was changed and a retry is safe"):
        people.transactions.commit(transaction)
    assert views(people) == []
    with pytest.raises(NotFound):
        run(people, "SELECT * FROM kept")


@pytest.mark.parametrize("home", ["primary", "y"])
def test_a_table_of_the_transaction_beside_it_changes_nothing_about_what_a_name_must_mean(
    people: Lakehouse, home: str
) -> None:
    """Neither for what was there before, nor for the table itself."""
    transaction = people.transactions.begin("ann")
    staged = people.transactions.get(transaction)
    run(people, f"CREATE TABLE {home}.made AS SELECT 7 AS k", transaction=staged)
    run(people, "CREATE VIEW names AS SELECT people.name FROM people, made", transaction=staged)
    run(people, f"CREATE TABLE {PRIMARY}.{'people' if home == PRIMARY else 'made'} AS SELECT 'hidden' AS name")
    with pytest.raises(CommitConflict, match="means what it meant when its query was planned"):
        people.transactions.commit(transaction)
    assert views(people) == []


@pytest.mark.parametrize(
    "others", ["INSERT INTO \"x\".people VALUES (3, 'Eve')", "CREATE TABLE y.beside AS SELECT 1 AS n"]
)
def test_what_others_do_beside_it_costs_no_transaction_its_view(people: Lakehouse, others: str) -> None:
    transaction = people.transactions.begin("ann")
    staged = people.transactions.get(transaction)
    run(people, "CREATE TABLE y.made AS SELECT 7 AS k", transaction=staged)
    run(
        people, "CREATE VIEW names AS SELECT people.name FROM people, made WHERE id < 3 ORDER BY id", transaction=staged
    )
    run(people, others)
    people.transactions.commit(transaction)
    assert rows(people, ASK) == ADA


def test_the_server_itself_makes_no_view_of_what_its_query_was_not_planned_with(people: Lakehouse) -> None:
    """What hides the dataset comes between planning and what is then required of it."""
    planned, left = Engine.view, ["CREATE TABLE primary.people AS SELECT 1.5 AS id, 2.5 AS name"]

    def view(engine: Engine, query: str, scope: Scope) -> Any:
        frame = planned(engine, query, scope)
        while left:
            run(people, left.pop())
        return frame

    request = Request(sql="CREATE VIEW names AS SELECT name FROM people ORDER BY id", rights=UNRESTRICTED)
    statement = people.queries.plan(request)
    statement = replace(statement, scope=replace(statement.scope, newest=None))
    with patch.object(Engine, "view", view):
        people.queries.update(statement)
    assert rows(people, ASK) == [(2.5,)]
    assert columns(people) == ["name double"]


def test_a_transaction_may_make_what_its_views_read(people: Lakehouse) -> None:
    transaction = people.transactions.begin("ann")
    staged = people.transactions.get(transaction)
    run(people, "CREATE TABLE made AS SELECT 'made' AS name", transaction=staged)
    run(people, "CREATE VIEW inside AS SELECT name FROM made", transaction=staged)
    run(people, 'CREATE VIEW names AS SELECT * FROM inside UNION SELECT name FROM "x".people', transaction=staged)
    run(people, """INSERT INTO "x".people VALUES (3, 'Eve')""")
    people.transactions.commit(transaction)
    assert sorted(rows(people, ASK)) == [*ADA, *EVE, ("made",)]
