"""Ways around policies that aren't queries of today's table: the past, metadata, plain Flight, actions, other users."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from query.substrait_plans import plan
from security.calls import answered, begun_session, sql_action
from security.test_policy_escapes import answer, in_order, refusal, shows_nothing_hidden
from security.world import ANALYST, SEEN_BY_EVE, by, command, people

from flightserver.access.granting import Place
from flightserver.catalog.identities import Policy, Privilege
from flightserver.tables.schema import decode, visible

if TYPE_CHECKING:
    from security.world import User, World

SEEN = in_order(SEEN_BY_EVE)
FORBIDDEN, ABSENT, INVALID = "FS-2002", "FS-1004", "FS-1001"
ERRORS = (pa.ArrowException, OSError, ValueError)


def version_of(world: World, dataset: str = "people") -> int:
    return world.lakehouse.catalog.snapshot().dataset(dataset, "primary").version


# The past.


@pytest.mark.parametrize(
    "clause", ["FOR VERSION AS OF {version}", "FOR VERSION AS OF 'first'", "FOR TIMESTAMP AS OF now()"]
)
def test_the_past_is_protected_as_the_present(world: World, eve: User, clause: str) -> None:
    """The first version is older than all policies."""
    tagged = world.lakehouse.catalog.snapshot().dataset("people", "primary").tags["first"]
    if "now()" in clause:
        clause = "FOR TIMESTAMP AS OF '2100-01-01'"
    sql = f"SELECT * FROM people {clause.format(version=tagged)}"  # the test's own text

    assert answer(eve, sql) == SEEN
    assert answer(eve, json.dumps({"sql": "SELECT * FROM people", "as_of": tagged})) == SEEN
    assert refusal(eve, "SELECT * FROM secret FOR VERSION AS OF 6") == ABSENT


def test_a_former_name_leads_around_nothing(world: World, root: User, eve: User) -> None:
    before = version_of(world)
    world.sql("ALTER TABLE people RENAME TO staff")
    world.sql("INSERT INTO staff VALUES (9, 'eli', 'eli@south.example', 'south', 2222, 8, 'HIDDEN-CODE')")
    past = eve.having(cookie=begun_session(eve, as_of=str(before)))

    assert answer(eve, "SELECT * FROM staff") == SEEN
    assert answer(eve, f"SELECT * FROM staff FOR VERSION AS OF {before}") == SEEN  # a number
    assert answer(past, "SELECT * FROM people") == SEEN
    assert refusal(eve, "SELECT * FROM people") == ABSENT
    info = past.client.get_flight_info(fl.FlightDescriptor.for_path("people"), past.options)
    assert (info.total_records, info.total_bytes) == (-1, -1)
    assert in_order(map(tuple, (row.values() for row in past.table(info.endpoints[0].ticket).to_pylist()))) == SEEN
    hiding = "SELECT rows, bytes FROM system.datasets WHERE name = 'people'"
    assert past.rows(hiding) == [(None, None)]
    assert past.rows("SELECT * FROM system.files") == []
    assert past.rows("SELECT * FROM system.lineage") == []
    assert {nulls for (nulls,) in past.rows("SELECT nulls FROM system.columns")} == {None}
    assert past.rows("SELECT rows, bytes FROM system.buckets WHERE name = 'primary'") == [(None, None)]
    assert answer(eve, "SELECT * FROM of_people FOR VERSION AS OF " + str(before)) == SEEN
    for asked in ({"from": "first"}, {"from": "first", "to": before}, {"from": before}):
        assert refusal(eve, json.dumps({"diff": "staff", **asked})) == FORBIDDEN
        with pytest.raises(fl.FlightUnauthorizedError, match="FS-2002"):
            eve.call("dataset.diff", {"dataset": "staff", **asked})
    assert len(root.ask(json.dumps({"diff": "staff", "from": "first", "to": before}))) == 0


def test_what_was_dropped_stays_hidden(world: World, eve: User) -> None:
    before = version_of(world)
    world.sql("DROP VIEW of_people", "DROP TABLE people", "DROP VIEW of_secret", "DROP TABLE secret")

    for table in ("people", "secret", "of_secret"):
        assert refusal(eve, f"SELECT * FROM {table} FOR VERSION AS OF {before}") == ABSENT  # a name
        assert refusal(eve, json.dumps({"sql": f"SELECT * FROM {table}", "as_of": before})) == ABSENT  # as above
    world.sql(
        "CREATE TABLE people (id BIGINT, region VARCHAR, salary BIGINT)", "INSERT INTO people VALUES (2, 'south', 2222)"
    )
    assert answer(eve, "SELECT * FROM people") == []
    assert refusal(eve, f"SELECT * FROM people FOR VERSION AS OF {before}") == ABSENT  # a number


def test_columns_of_before_are_not_read_where_policies_would_miss_them(world: World, eve: User) -> None:
    before = version_of(world)
    world.sql("ALTER TABLE people RENAME COLUMN bonus TO extra")
    world.sql("ALTER TABLE people DROP COLUMN code")

    assert answer(eve, "SELECT extra FROM people") == [(7,), (9,)]
    assert refusal(eve, f"SELECT code FROM people FOR VERSION AS OF {before}") == FORBIDDEN  # a number


def test_an_open_transaction_sees_what_may_be_seen_now(world: World, eve: User) -> None:
    transaction = answered(eve.act("BeginTransaction", sql_action("BeginTransaction"))[0]).transaction_id
    inside = command("StatementQuery", query="SELECT * FROM people", transaction_id=transaction)
    assert answer(eve, inside) == SEEN

    world.lakehouse.administration.create_policy(by(), Policy("fewer", "primary", "people", filter="id = 1"))
    assert answer(eve, inside) == SEEN[:1]
    world.sql("ALTER TABLE people RENAME TO staff")
    assert answer(eve, inside) == SEEN[:1]
    world.lakehouse.administration.revoke(by(), ANALYST, None, Place("primary", "staff"))
    assert refusal(eve, inside) == ABSENT


def test_a_transaction_keeps_no_table_that_is_renamed_and_dropped_outside(world: World, root: User) -> None:
    """Policies and grants follow the name, to where the transaction's own name doesn't lead."""
    administration = world.lakehouse.administration
    administration.create_policy(by(), Policy("all", "primary", "people", filter="region = 'north'", roles=("reader",)))
    rita = world["rita"]
    transaction = answered(rita.act("BeginTransaction", sql_action("BeginTransaction"))[0]).transaction_id
    inside = command("StatementQuery", query="SELECT region FROM people", transaction_id=transaction)
    assert rita.rows(inside) == [("north",), ("north",)]
    world.sql("ALTER TABLE people RENAME TO staff")
    assert rita.rows(inside) == [("north",), ("north",)]

    root.call("dataset.drop", {"dataset": "staff"})

    assert refusal(rita, inside) == ABSENT


# Metadata.


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name FROM system.datasets WHERE name = 'secret' OR bucket = 'testing'",
        "SELECT * FROM system.datasets WHERE rows IS NOT NULL OR bytes IS NOT NULL",
        "SELECT * FROM system.files",
        "SELECT * FROM system.lineage",
        "SELECT * FROM system.columns WHERE dataset <> 'people' OR nulls IS NOT NULL",
        "SELECT * FROM system.cache",
        "SELECT * FROM system.tags WHERE dataset <> 'people'",
        "SELECT * FROM system.users WHERE name <> 'eve'",
        "SELECT * FROM system.roles WHERE name <> 'analyst'",
        "SELECT * FROM system.grants WHERE role <> 'analyst'",
        "SELECT * FROM system.policies",
        "SELECT * FROM system.results WHERE query_id_prefix IS NOT NULL",
        "SELECT * FROM system.queries WHERE \"user\" <> 'eve'",
        "SELECT name FROM system.buckets WHERE name <> 'primary' OR rows IS NOT NULL OR bytes IS NOT NULL",
        "SELECT * FROM information_schema.tables WHERE table_name = 'secret' OR table_schema = 'testing'",
        "SELECT * FROM information_schema.columns WHERE table_name IN ('secret', 'notes', 'audit', 'commits')",
        "SELECT * FROM information_schema.schemata WHERE schema_name = 'testing'",
        "SELECT * FROM information_schema.table_constraints WHERE table_name <> 'people'",
    ],
)
def test_tables_about_tables_tell_nothing_hidden(world: World, root: User, eve: User, sql: str) -> None:
    root.call("cache.pin", {"dataset": "people"})
    root.ask(json.dumps({"sql": "SELECT * FROM secret", "page_rows": 1}))
    if "system.policies" in sql:
        assert {name for name, *_ in answer_loosely(eve, sql)} <= {"north", "pii"}
        return

    assert eve.rows(sql) == []
    assert version_of(world)


def answer_loosely(user: User, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a table that may name what a policy says, but no value of a table."""
    return user.rows(sql)


def test_commands_about_tables_tell_nothing_hidden(eve: User) -> None:
    tables = eve.ask(command("GetTables", include_schema=True)).to_pylist()
    named = {(one["db_schema_name"], one["table_name"]) for one in tables}
    ours = {one for one in named if one[0] not in {"system", "information_schema"}}
    own = {(schema, name) for schema in ("primary", "public") for name in ("people", "of_people", "of_secret")}

    assert ours == own
    assert not {("system", name) for name in ("audit", "commits", "events", "settings")} & named
    schemas = {one["db_schema_name"] for one in eve.ask(command("GetDbSchemas")).to_pylist()}
    assert schemas == {"primary", "public", "system", "information_schema"}
    for key in ("GetPrimaryKeys", "GetExportedKeys", "GetImportedKeys"):
        assert eve.rows(command(key, table="notes")) == []
    assert eve.rows(command("GetTables", table_name_filter_pattern="secret")) == []
    assert [one["name"] for one in eve.call("bucket.list")["buckets"]] == ["primary"]


def test_numbers_of_rows_are_not_told(eve: User) -> None:
    described = eve.call("dataset.describe", {"dataset": "people"})
    flights = {tuple(one.descriptor.path): one for one in eve.client.list_flights(options=eve.options)}

    assert (described["rows"], described["bytes"], described["dead_rows"]) == (None, None, 0)
    assert set(flights) == {(b"primary", b"people"), (b"primary", b"of_people")}
    assert {(one.total_records, one.total_bytes) for one in flights.values()} == {(-1, -1)}
    paged = eve.info(json.dumps({"sql": "SELECT * FROM people", "page_rows": 1}))
    assert (paged.total_records, len(paged.endpoints)) == (2, 2)
    shows_nothing_hidden(json.dumps(described), str(paged.app_metadata))


def test_a_schema_says_what_the_stream_will_have(world: World, eve: User) -> None:
    """A mask may be null where its column isn't, and a filter's columns come through a function."""
    masks = {"id": "CASE WHEN id > 1 THEN id END", "name": "left(name, 1)"}
    world.lakehouse.administration.create_policy(by(), Policy("masks", "primary", "people", masks=masks))
    for descriptor in (fl.FlightDescriptor.for_path("people"), fl.FlightDescriptor.for_command("SELECT * FROM people")):
        info = eve.client.get_flight_info(descriptor, eve.options)
        stream = eve.table(info.endpoints[0].ticket)
        assert stream.schema.equals(info.schema, check_metadata=True)
        assert eve.client.get_schema(descriptor, eve.options).schema.equals(info.schema, check_metadata=True)
        assert stream.column("id").to_pylist().count(None) == 1
    kept = visible(decode(world.lakehouse.catalog.snapshot().dataset("people", "primary").schema))
    assert not kept.field("id").nullable


# Plain Flight, tickets and plans.


def test_plain_flight_shows_the_same(eve: User) -> None:
    for path in (["people"], ["primary", "people"], ["of_people"]):
        info = eve.client.get_flight_info(fl.FlightDescriptor.for_path(*path), eve.options)
        assert in_order(tuple(row.values()) for row in eve.table(info.endpoints[0].ticket).to_pylist()) == SEEN
    for path in (["secret"], ["primary", "secret"], ["testing", "notes"], ["of_secret"], ["__protected"]):
        with pytest.raises(ERRORS, match="FS-1004"):
            eve.client.get_flight_info(fl.FlightDescriptor.for_path(*path), eve.options)


def test_rows_that_are_sent_meet_only_what_is_seen(eve: User) -> None:
    sent = people([(number, "", "", "", 0, 0, "") for number in (1, 2, 3, 4)])
    joined = "SELECT people.id, people.email, people.salary FROM people JOIN input ON people.id = input.id"

    assert in_order(tuple(row.values()) for row in eve.exchange(joined, sent).to_pylist()) == [
        (1, "***", 11),
        (3, "***", 33),
    ]
    with pytest.raises(ERRORS, match="FS-1004"):
        eve.exchange("SELECT * FROM secret, input", sent)


def test_plans_show_what_statements_show(eve: User) -> None:
    whole = people([]).schema
    asked = plan("SELECT * FROM people WHERE salary < 1000", {"people": whole})
    secret = plan("SELECT * FROM secret", {"secret": pa.schema([("x", pa.int64())])})

    substrait = {"plan": asked, "version": "0.54.0"}
    assert answer(eve, command("StatementSubstraitPlan", plan=substrait)) == SEEN
    assert refusal(eve, command("StatementSubstraitPlan", plan={"plan": secret, "version": "0.54.0"})) == ABSENT


def test_bound_values_ask_no_hidden_rows(eve: User) -> None:
    asked = {"sql": "SELECT id FROM people WHERE id = $1 OR email = $2", "parameters": [2, "ann@north.example"]}

    assert answer(eve, json.dumps(asked)) == []


def test_a_temporary_table_hides_only_ones_own(eve: User, root: User) -> None:
    command_ = command(
        "StatementIngest", table="people", temporary=True, table_definition_options={"if_not_exist": 1, "if_exists": 1}
    )
    eve.put(fl.FlightDescriptor.for_command(command_), pa.table({"region": ["north"], "id": [7]}))

    assert answer(eve, "SELECT * FROM people") == [("north", 7)]
    assert answer(eve, "SELECT * FROM primary.people") == SEEN
    assert answer(eve, "SELECT * FROM of_people") == SEEN
    assert root.rows("SELECT count(*) FROM people") == [(4,)]


# Views of others, policies that read tables, and names.


def test_views_show_what_their_reader_may_see(world: World, root: User, eve: User) -> None:
    world.sql(
        "CREATE VIEW sums AS SELECT sum(salary) AS s, count(*) AS n FROM people",
        "CREATE VIEW deep AS SELECT * FROM sums",
    )
    for name in ("sums", "deep"):
        world.lakehouse.administration.grant(by(), ANALYST, [Privilege.SELECT], Place("primary", name))

    assert answer(eve, "SELECT * FROM deep") == [(44, 2)]
    assert root.rows("SELECT n FROM deep") == [(4,)]


def test_a_view_has_no_rights_of_its_own(world: World, eve: User) -> None:
    world.sql("CREATE VIEW outer_one AS SELECT * FROM people")
    world.lakehouse.administration.grant(by(), ANALYST, [Privilege.SELECT], Place("primary", "outer_one"))
    world.lakehouse.administration.revoke(by(), ANALYST, None, Place("primary", "people"))

    assert refusal(eve, "SELECT * FROM outer_one") == ABSENT


def test_a_policy_may_read_what_its_user_may_not(world: World, eve: User) -> None:
    world.sql(
        "CREATE TABLE places (who VARCHAR, place VARCHAR)", "INSERT INTO places VALUES ('eve', 'south'), ('x', 'north')"
    )
    world.lakehouse.administration.drop_policy(by(), "north")
    own = "region IN (SELECT place FROM places WHERE who = current_user)"
    world.lakehouse.administration.create_policy(by(), Policy("own", "primary", "people", filter=own))

    assert eve.rows("SELECT id FROM people ORDER BY id") == [(2,), (4,)]
    assert refusal_loosely(eve, "SELECT * FROM places") == ABSENT
    assert eve.rows("SELECT 'ann' AS current_user, id FROM people ORDER BY id") == [("ann", 2), ("ann", 4)]
    assert eve.rows("WITH places AS (SELECT 'eve' AS who, 'north' AS place) SELECT id FROM people ORDER BY id") == [
        (2,),
        (4,),
    ]
    sent = pa.table({"who": ["eve"], "place": ["north"]})
    temporary = command(
        "StatementIngest", table="places", temporary=True, table_definition_options={"if_not_exist": 1, "if_exists": 1}
    )
    eve.put(fl.FlightDescriptor.for_command(temporary), sent)
    assert eve.rows("SELECT id FROM people ORDER BY id") == [(2,), (4,)]


def refusal_loosely(user: User, sql: str) -> str:
    with pytest.raises(ERRORS, match="FS-1004"):
        user.ask(sql)
    return ABSENT


def test_a_filter_over_a_filter_holds_both(world: World, eve: User) -> None:
    world.lakehouse.administration.create_policy(by(), Policy("a", "primary", filter="id > 1", roles=(ANALYST,)))

    assert answer(eve, "SELECT * FROM people") == SEEN[1:]


def test_a_policy_that_cannot_be_applied_shows_nothing(world: World, eve: User) -> None:
    world.lakehouse.administration.create_policy(by(), Policy("broken", "primary", "people", filter="id / nothing > 1"))

    assert refusal(eve, "SELECT * FROM people") == FORBIDDEN
    assert refusal(eve, "SELECT count(*) FROM people") == FORBIDDEN
    assert {tuple(one.descriptor.path) for one in eve.client.list_flights(options=eve.options)} == set()


def test_names_that_need_quotes_are_protected_too(world: World, eve: User) -> None:
    world.sql(
        'CREATE TABLE "od""d.Name" ("a""b" BIGINT, "current_user" VARCHAR, "value" VARCHAR, "Region" VARCHAR)',
        "INSERT INTO \"od\"\"d.Name\" VALUES (1, 'u', 'bob', 'north'), (2, 'v', 'dan@', 'south')",
    )
    administration = world.lakehouse.administration
    place = Place("primary", 'od"d.Name')
    administration.grant(by(), ANALYST, [Privilege.SELECT], place)
    administration.tag_columns(by(), "primary", 'od"d.Name', {"value": ["pii"]})
    policy = Policy(
        "odd", "primary", 'od"d.Name', filter='"Region" = \'north\' AND "a""b" < 9', masks={'a"b': '"a""b" + 1'}
    )
    administration.create_policy(by(), policy)

    assert answer(eve, 'SELECT * FROM "od""d.Name"') == [(2, "u", "***", "north")]
    assert answer(eve, 'SELECT "Region", 1 / (CASE WHEN "a""b" = 2 THEN 1 ELSE 0 END) FROM "od""d.Name"') == [
        ("north", 1)
    ]
    info = eve.client.get_flight_info(fl.FlightDescriptor.for_path('od"d.Name'), eve.options)
    assert eve.table(info.endpoints[0].ticket).num_rows == 1
