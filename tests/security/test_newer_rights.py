"""Calls on a server that hasn't looked yet at what another server of the same lakehouse has changed.

The rights of a call are made when it arrives, by what its server knew of users and policies then; what it reads is
newer. Here the second server never looks by itself, so that each call begins with the rights of before the change.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from security.calls import answered, sql_action
from security.test_policy_escapes import answer, in_order, refusal, shows_nothing_hidden
from security.world import ANALYST, SEEN_BY_EVE, TESTER, User, by, command
from tables.moving import move

from flightserver.access.granting import Place
from flightserver.access.rights import AccessControl
from flightserver.catalog.identities import READER, Policy, Privilege
from flightserver.catalog.transaction import Confirmed
from flightserver.flight.listening import Listener
from flightserver.flight.service import Service
from flightserver.lakehouse import Lakehouse
from flightserver.query.upserts import RowStreams
from flightserver.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from security.world import World

SEEN = in_order(SEEN_BY_EVE)
FORBIDDEN, ABSENT = "FS-2002", "FS-1004"
ERRORS = (pa.ArrowException, OSError, ValueError)
ONE_ROW = pa.table({"x": [1]})
NOTE = pa.table({"id": [3], "text": ["three"]})
KEY = pa.table({"id": [1]})
NOTES = Place("testing", "notes")
ON_DATASETS = [one for one in Privilege if one is not Privilege.CREATE]


@dataclasses.dataclass
class Two:
    """The second server."""

    lakehouse: Lakehouse
    uri: str
    connections: list[fl.FlightClient]

    def __call__(self, user: User) -> User:
        """A user of the first server, on this one."""
        self.connections.append(fl.connect(self.uri))
        return User(user.name, self.uri, user.header, self.connections[-1])


@pytest.fixture
def two(world: World) -> Iterator[Two]:
    """A second server over the directory, whose clock for looking at users and policies stands still."""
    settings = load_settings(None, {"server": {"data": world.lakehouse.settings.server.data}})
    with Lakehouse.open(settings) as lakehouse:
        late = dataclasses.replace(lakehouse, access=AccessControl(lakehouse.catalog, lambda: 0.0))
        flight = Listener(Service(late), "127.0.0.1", 0)
        server = Two(lakehouse, flight.uri, [])
        try:
            yield server
        finally:
            for one in server.connections:
                one.close()
            flight.stop(grace_seconds=10)


def by_statement(user: User, table: str) -> list[tuple[Any, ...]]:
    return answer(user, f"SELECT * FROM {table}")  # the test's own text


def by_exchange(user: User, table: str) -> list[tuple[Any, ...]]:
    found = user.exchange(f"SELECT p.* FROM {table} AS p, input", ONE_ROW)  # as above
    return rows_of(found)


def by_kept_result(user: User, table: str) -> list[tuple[Any, ...]]:
    made = user.call("result.create", {"sql": f"SELECT * FROM {table}"})  # as above
    return rows_of(user.table(json.dumps({"query_id": made["query_id"], "page": 0}).encode()))


def by_prepared_statement(user: User, table: str) -> list[tuple[Any, ...]]:
    return answer(user, command("PreparedStatementQuery", prepared_statement_handle=prepared(user, table)))


def by_path(user: User, table: str) -> list[tuple[Any, ...]]:
    bucket, _, name = table.rpartition(".")
    path = [one for one in (bucket.strip('"'), name) if one]
    info = user.client.get_flight_info(fl.FlightDescriptor.for_path(*path), user.options)
    assert (info.total_records, info.total_bytes) == (-1, -1)
    return rows_of(user.table(info.endpoints[0].ticket))


WAYS = [by_statement, by_exchange, by_kept_result, by_prepared_statement, by_path]


def prepared(user: User, table: str) -> bytes:
    body = sql_action("CreatePreparedStatement", query=f"SELECT * FROM {table}")  # as above
    handle: bytes = answered(user.act("CreatePreparedStatement", body)[0]).prepared_statement_handle
    return handle


def rows_of(found: pa.Table) -> list[tuple[Any, ...]]:
    rows = in_order(map(tuple, (row.values() for row in found.to_pylist())))
    shows_nothing_hidden(str(rows))
    return rows


@pytest.mark.parametrize("more", [[], [READER]])
@pytest.mark.parametrize("way", WAYS)
def test_policies_and_grants_are_found_under_the_newest_name(  # what is asked, and by whom
    world: World, two: Two, root: User, eve: User, way: Callable[[User, str], list[tuple[Any, ...]]], more: list[str]
) -> None:
    """Who may read everything would see what the policies hide, and who has a grant on the dataset wouldn't see it."""
    world.lakehouse.administration.set_roles(by(), "eve", [ANALYST, *more])
    late = two(eve)
    assert way(late, "people") == SEEN

    world.sql("ALTER TABLE people RENAME TO staff")
    assert way(late, "staff") == SEEN
    root.call("dataset.move", {"dataset": "staff", "to": "testing"})
    assert way(late, "testing.staff") == SEEN
    root.call("bucket.rename", {"name": "testing", "to": "lab"})
    assert way(late, "lab.staff") == SEEN


@pytest.mark.parametrize("way", WAYS)
def test_what_was_taken_away_is_gone_at_once(
    world: World, two: Two, eve: User, way: Callable[[User, str], list[tuple[Any, ...]]]
) -> None:
    administration, late = world.lakehouse.administration, two(eve)
    assert way(late, "people") == SEEN

    administration.create_policy(by(), Policy("fewer", "primary", "people", filter="id = 1"))
    assert way(late, "people") == SEEN[:1]
    administration.revoke(by(), ANALYST, None, Place("primary", "people"))
    with pytest.raises(ERRORS, match=ABSENT):
        way(late, "people")
    administration.grant(by(), ANALYST, [Privilege.SELECT], Place("primary", "people"))
    assert way(late, "people") == SEEN[:1]
    administration.set_roles(by(), "eve", [])
    with pytest.raises(ERRORS, match=ABSENT):
        way(late, "people")


def test_what_was_planned_before_is_judged_by_what_holds_now(world: World, two: Two, eve: User) -> None:
    administration, late = world.lakehouse.administration, two(eve)
    infos = [late.info("SELECT * FROM people") for _ in range(4)]
    handle = command("PreparedStatementQuery", prepared_statement_handle=prepared(late, "people"))
    described = late.client.get_flight_info(fl.FlightDescriptor.for_path("people"), late.options)

    world.sql("ALTER TABLE people RENAME TO staff")
    assert rows_of(late.table(infos[0].endpoints[0].ticket)) == SEEN
    assert rows_of(late.table(described.endpoints[0].ticket)) == SEEN
    assert refusal(late, handle) == ABSENT
    world.sql("ALTER TABLE staff RENAME TO people")
    assert answer(late, handle) == SEEN
    administration.create_policy(by(), Policy("fewer", "primary", "people", filter="id = 1"))
    assert rows_of(late.table(infos[1].endpoints[0].ticket)) == SEEN[:1]
    administration.tag_columns(by(), "primary", "people", {"name": ["pii"]})
    assert {row[1] for row in rows_of(late.table(late.info("SELECT * FROM people").endpoints[0].ticket))} == {"***"}
    assert {row[1] for row in rows_of(late.table(infos[2].endpoints[0].ticket))} == {"***"}
    administration.revoke(by(), ANALYST, None, Place("primary", "people"))
    for ticket in (infos[3].endpoints[0].ticket, described.endpoints[0].ticket):
        with pytest.raises(ERRORS, match=ABSENT):
            late.table(ticket)
    assert refusal(late, handle) == ABSENT


def test_a_plan_that_was_kept_is_not_read_past_a_tag_that_came_after(world: World, two: Two, eve: User) -> None:
    late = two(eve)
    ticket = late.info("SELECT * FROM people").endpoints[0].ticket

    world.lakehouse.administration.tag_columns(by(), "primary", "people", {"name": ["pii"]})

    assert {row[1] for row in rows_of(late.table(ticket))} == {"***"}


def test_an_open_transaction_follows_what_was_changed(world: World, two: Two, eve: User) -> None:
    late = two(eve)
    transaction = answered(late.act("BeginTransaction", sql_action("BeginTransaction"))[0]).transaction_id
    inside = command("StatementQuery", query="SELECT * FROM people", transaction_id=transaction)
    assert answer(late, inside) == SEEN

    world.sql("ALTER TABLE people RENAME TO staff")
    assert answer(late, inside) == SEEN
    world.lakehouse.administration.revoke(by(), ANALYST, None, Place("primary", "staff"))
    assert refusal(late, inside) == ABSENT


def test_actions_and_lists_see_the_newest(world: World, two: Two, root: User, eve: User) -> None:
    late = two(eve)
    assert late.call("dataset.describe", {"dataset": "people"})["rows"] is None

    world.sql("ALTER TABLE people RENAME TO staff")
    facts = late.call("dataset.describe", {"dataset": "staff"})
    assert (facts["rows"], facts["bytes"]) == (None, None)
    world.sql("ALTER TABLE staff RENAME TO crew")
    with pytest.raises(ERRORS, match=FORBIDDEN):
        late.call("dataset.history", {"dataset": "crew"})
    world.sql("ALTER TABLE crew RENAME TO team")
    with pytest.raises(ERRORS, match=FORBIDDEN):
        late.call("dataset.diff", {"dataset": "team", "from": "first"})
    root.call("dataset.move", {"dataset": "team", "to": "testing"})
    assert [one["name"] for one in late.call("bucket.list")["buckets"]] == ["primary", "testing"]
    world.sql("ALTER TABLE testing.team RENAME TO staff")
    flights = list(late.client.list_flights(options=late.options))
    shown = {tuple(part.decode() for part in one.descriptor.path): one.total_records for one in flights}
    assert shown == {("testing", "staff"): -1, ("primary", "of_people"): -1}
    root.call("bucket.rename", {"name": "testing", "to": "lab"})
    assert late.rows("SELECT bucket, name, rows FROM system.datasets") == [("lab", "staff", None)]
    world.lakehouse.administration.revoke(by(), ANALYST, None, Place("lab", "staff"))
    with pytest.raises(ERRORS, match=ABSENT):
        late.call("dataset.describe", {"dataset": "staff"})


def test_nobody_changes_what_was_just_taken_away(world: World, two: Two) -> None:
    administration, late = world.lakehouse.administration, two(world["tess"])
    note = pa.table({"id": [3], "text": ["three"]})
    version = world.version
    for change in (
        lambda: late.ask("INSERT INTO testing.notes VALUES (3, 'three')"),
        lambda: late.put(fl.FlightDescriptor.for_path("testing", "notes"), note),
        lambda: late.put(fl.FlightDescriptor.for_command(b'{"delete": "notes", "bucket": "testing"}'), note),
        lambda: late.call("dataset.truncate", {"dataset": "notes", "bucket": "testing"}),
        lambda: late.call("dataset.drop", {"dataset": "notes", "bucket": "testing"}),
        lambda: late.ask("CREATE TABLE testing.mine (id BIGINT)"),
    ):
        assert two.lakehouse.catalog.snapshot().version == version
        administration.set_roles(by(), "tess", ["reader"])
        with pytest.raises(ERRORS, match=FORBIDDEN):
            change()
        administration.set_roles(by(), "tess", [TESTER])
        version = version + 2

    assert world.version == version


def test_a_dataset_of_the_same_name_is_not_the_one_that_was_allowed(world: World, two: Two, root: User) -> None:
    """The notes that tess may change are called otherwise, and what has their name is somebody else's."""
    late = two(world["tess"])
    administration = world.lakehouse.administration
    administration.revoke(by(), TESTER, None, Place("testing"))
    administration.grant(by(), TESTER, [Privilege.SELECT, Privilege.INSERT], Place("testing", "notes"))
    note = pa.table({"id": [3], "text": ["three"]})
    writer, _ = late.client.do_put(fl.FlightDescriptor.for_path("testing", "notes"), note.schema, late.options)
    writer.write_table(note)
    world.sql("ALTER TABLE testing.notes RENAME TO own", "CREATE TABLE testing.notes AS SELECT * FROM testing.own")
    writer.done_writing()
    with pytest.raises(ERRORS, match=FORBIDDEN):
        writer.close()

    assert root.rows("SELECT count(*) FROM testing.notes") == [(2,)]


@pytest.fixture
def tess(world: World) -> User:
    """Somebody who may do everything with the notes, and nothing else."""
    world.lakehouse.administration.revoke(by(), TESTER, None, Place("testing"))
    world.lakehouse.administration.grant(by(), TESTER, ON_DATASETS, NOTES)
    return world["tess"]


COMMIT = (Confirmed, "commit")
"""All that a call has sent or named is read."""

DELETE = (RowStreams, "delete")
"""The keys are read; for the rows nobody has looked yet."""


def before(step: tuple[type, str], change: Callable[[], object]) -> Any:
    """Change something once, between what a call was allowed to do and this step of it."""
    real = getattr(*step)
    left = [change]

    def first(*args: Any, **options: Any) -> Any:
        if left:
            left.pop()()
        return real(*args, **options)

    return patch.object(*step, first)


def sent(user: User, **asked: str) -> None:
    table = KEY if "delete" in asked else NOTE
    user.put(fl.FlightDescriptor.for_command(json.dumps({**asked, "bucket": "testing"}).encode()), table)


def loaded(world: World, user: User, action: str, **asked: str) -> None:
    """Ask for an action about the notes, with an upload of rows or keys."""
    with world.lakehouse.uploads.start("rows.csv", user=user.name) as upload:
        upload.write(b"id\n1\n" if action == "dataset.delete" else b"id,text\n3,three\n")
        source = upload.finish().id
    user.call(action, {"dataset": "notes", "bucket": "testing", "source": source, **asked})


DELETING: dict[str, Callable[[World, User], object]] = {
    "sent keys": lambda _, user: sent(user, delete="notes"),
    "uploaded keys": lambda world, user: loaded(world, user, "dataset.delete"),
    "keys in the request": lambda _, user: user.call(
        "dataset.delete", {"dataset": "notes", "bucket": "testing", "keys": [{"id": 1}]}
    ),
}
"""Ways to delete the note 1."""

ADDING: dict[str, Callable[[World, User], object]] = {
    "sent by path": lambda _, user: user.put(fl.FlightDescriptor.for_path("testing", "notes"), NOTE),
    "sent to append": lambda _, user: sent(user, ingest="notes", mode="append"),
    "sent to upsert": lambda _, user: sent(user, ingest="notes", mode="upsert"),
    "uploaded to append": lambda world, user: loaded(world, user, "ingest.file", mode="append"),
    "uploaded to upsert": lambda world, user: loaded(world, user, "dataset.upsert"),
}
"""Ways to add the note 3."""


@pytest.mark.parametrize("step", [DELETE, COMMIT])
@pytest.mark.parametrize("way", DELETING)
def test_rows_are_deleted_only_as_long_as_that_is_allowed(
    world: World, tess: User, way: str, step: tuple[type, str]
) -> None:
    """The keys may have taken long to come."""
    administration = world.lakehouse.administration
    with (
        before(step, lambda: administration.revoke(by(), TESTER, ON_DATASETS, NOTES)),
        pytest.raises(ERRORS, match=FORBIDDEN),
    ):
        DELETING[way](world, tess)
    assert world["root"].rows("SELECT id FROM testing.notes ORDER BY id") == [(1,), (2,)]

    administration.grant(by(), TESTER, ON_DATASETS, NOTES)
    DELETING[way](world, tess)
    assert world["root"].rows("SELECT id FROM testing.notes") == [(2,)]


@pytest.mark.parametrize("step", [DELETE, COMMIT])
@pytest.mark.parametrize("way", DELETING)
def test_rows_are_deleted_of_no_other_dataset_that_has_the_name_by_then(
    world: World, root: User, way: str, step: tuple[type, str]
) -> None:
    """Not even for an administrator, who may do that: it isn't what was asked."""

    def swap() -> None:
        world.sql("ALTER TABLE testing.notes RENAME TO own", "CREATE TABLE testing.notes AS SELECT * FROM testing.own")

    with before(step, swap), pytest.raises(ERRORS, match="another dataset by now"):
        DELETING[way](world, root)

    assert [root.rows(f"SELECT id FROM testing.{one} ORDER BY id") for one in ("notes", "own")] == [[(1,), (2,)]] * 2


@pytest.mark.parametrize("way", ADDING)
def test_who_sends_rows_is_told_where_the_dataset_is_by_now(world: World, tess: User, way: str) -> None:
    """The grants have followed it, so that there is none left on the name that the rows were sent to."""
    with (
        before(COMMIT, lambda: move(world.lakehouse, "notes", "primary", "testing")),
        pytest.raises(ERRORS, match=rf"is \"primary\"\.notes by now.*{ABSENT}"),
    ):
        ADDING[way](world, tess)

    assert tess.rows("SELECT id FROM primary.notes ORDER BY id") == [(1,), (2,)]


@pytest.mark.parametrize("way", ADDING)
def test_who_may_not_insert_any_more_is_not_told_where_the_dataset_is(world: World, tess: User, way: str) -> None:
    def move_and_revoke() -> None:
        move(world.lakehouse, "notes", "primary", "testing")
        world.lakehouse.administration.revoke(by(), TESTER, ON_DATASETS, Place("primary", "notes"))

    with before(COMMIT, move_and_revoke), pytest.raises(ERRORS, match=FORBIDDEN) as refused:
        ADDING[way](world, tess)

    assert "primary" not in str(refused.value)


def test_administrators_of_before_administer_nothing(world: World, two: Two, root: User) -> None:
    late = two(root)
    administration = world.lakehouse.administration
    administration.set_roles(by(), "ada", ["admin"])
    administration.create_token(by(), "ada")
    assert late.call("user.whoami")["is_admin"]

    administration.set_roles(by(), "root", ["reader"])
    assert not late.call("user.whoami")["is_admin"]
    administration.set_roles(by(), "root", ["admin"])
    late.call("user.list")
    administration.set_roles(by(), "root", ["reader"])
    with pytest.raises(ERRORS, match=FORBIDDEN):
        late.call("user.create", {"name": "mallory", "roles": ["admin"]})
    assert "mallory" not in world.lakehouse.catalog.snapshot().access.users
