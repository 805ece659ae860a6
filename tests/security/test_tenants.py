"""Somebody with all privileges on one bucket does everything there, and nothing anywhere else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from security.calls import begun_session
from security.world import by, command, people

from flightserver.access.granting import Place
from flightserver.catalog.identities import Privilege

if TYPE_CHECKING:
    from security.world import User, World

ERRORS = (pa.ArrowException, OSError, ValueError)
NOTES = pa.table({"id": [3], "text": ["three"]})
APPEND = {"if_not_exist": 1, "if_exists": 2}


@pytest.fixture
def tess(world: World) -> User:
    return world["tess"]


def test_in_its_bucket_it_does_everything(tess: User, root: User) -> None:
    there = tess.having(x_lakehouse_bucket="testing")
    tess.ask("CREATE TABLE testing.mine (id BIGINT PRIMARY KEY, text VARCHAR)")
    there.ask("INSERT INTO mine VALUES (1, 'one')")
    there.put(fl.FlightDescriptor.for_path("mine"), NOTES)
    tess.put(fl.FlightDescriptor.for_path("testing", "mine"), pa.table({"id": [4], "text": ["four"]}))
    tess.having(cookie=begun_session(tess, schema="testing")).ask("UPDATE mine SET text = 'eins' WHERE id = 1")
    tess.having(cookie=begun_session(tess, bucket="testing")).ask("DELETE FROM mine WHERE id = 4")
    tess.ask("CREATE VIEW testing.view AS SELECT text FROM testing.mine")
    tess.ask("ALTER TABLE testing.mine RENAME TO ours")
    tess.call("dataset.alter", {"dataset": "ours", "bucket": "testing", "add": [{"name": "n", "type": "BIGINT"}]})
    tess.call("dataset.compact", {"dataset": "ours", "bucket": "testing"})

    assert root.rows("SELECT id, text FROM testing.ours ORDER BY id") == [(1, "eins"), (3, "three")]
    assert [name for (name,) in tess.rows("SELECT name FROM system.datasets ORDER BY name")] == ["notes", "ours"]
    tess.call("dataset.drop", {"dataset": "ours", "bucket": "testing"})


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE mine (id BIGINT)",
        'CREATE TABLE "primary".mine (id BIGINT)',
        "CREATE TABLE public.mine (id BIGINT)",
        "CREATE TABLE mine AS SELECT * FROM testing.notes",
        "CREATE OR REPLACE TABLE people AS SELECT 1 AS id",
        "CREATE VIEW mine AS SELECT 1 AS x",
        "CREATE OR REPLACE VIEW of_people AS SELECT 1 AS x",
        "INSERT INTO people (id) VALUES (1)",
        "INSERT INTO testing.notes SELECT x, 'x' FROM secret",
        "UPDATE people SET id = 1",
        "DELETE FROM secret",
        "MERGE INTO testing.notes USING secret ON notes.id = x WHEN NOT MATCHED THEN INSERT VALUES (x, 'x')",
        "DROP TABLE people",
        "ALTER TABLE people RENAME TO mine",
        "CREATE TABLE testing.mine (id BIGINT REFERENCES secret (x))",
        "GRANT SELECT ON testing.notes TO tester",
        "CREATE ROLE mine",
    ],
)
def test_elsewhere_it_does_nothing(world: World, tess: User, sql: str) -> None:
    version = world.version
    sessions = [{"schema": "primary"}, {"bucket": "primary"}, {"schema": "testing"}]
    callers = [tess, tess.having(x_lakehouse_bucket="primary")]
    callers += [tess.having(cookie=begun_session(tess, **options)) for options in sessions[:2]]
    for caller in callers:
        with pytest.raises(ERRORS, match=r"FS-(1004|2002)"):
            caller.ask(sql)

    assert world.version == version


@pytest.mark.parametrize(
    ("command_", "bucket"),
    [
        (["people"], ""),
        (["primary", "mine"], ""),
        (["mine"], ""),
        (["mine"], "primary"),
        ('{"ingest": "mine"}', ""),
        ('{"ingest": "mine", "bucket": "primary"}', "testing"),
        ('{"ingest": "people", "mode": "replace"}', ""),
        ('{"delete": "people"}', ""),
        (command("StatementIngest", table="mine", table_definition_options=APPEND), ""),
        (command("StatementIngest", table="mine", schema="primary", table_definition_options=APPEND), "testing"),
    ],
)
def test_rows_get_nowhere_else(world: World, tess: User, command_: list[str] | str | bytes, bucket: str) -> None:
    version = world.version
    caller = tess.having(x_lakehouse_bucket=bucket) if bucket else tess
    where = (
        fl.FlightDescriptor.for_path(*command_)
        if isinstance(command_, list)
        else fl.FlightDescriptor.for_command(command_)
    )

    with pytest.raises(ERRORS, match=r"FS-(1004|2002)"):
        caller.put(where, people([]))

    assert world.version == version


@pytest.mark.parametrize(
    "body",
    [
        {"dataset": "notes", "bucket": "testing", "to": "primary"},
        {"dataset": "people", "to": "testing"},
        {"dataset": "people", "bucket": "primary", "to": "testing"},
        {"dataset": "notes", "bucket": "testing", "to": "nowhere"},
    ],
)
def test_nothing_moves_across_the_border(world: World, tess: User, body: dict[str, Any]) -> None:
    version = world.version

    with pytest.raises(ERRORS, match=r"FS-(1004|2002)"):
        tess.call("dataset.move", body)

    assert world.version == version


def test_indexes_stay_on_their_side_of_the_border(world: World, tess: User) -> None:
    tess.ask("CREATE TABLE testing.mine AS SELECT 1 AS id, [1.0, 0.0] AS at")
    wanted = {"index": "mine_at", "dataset": "mine", "bucket": "testing", "column": "at"}
    assert tess.call("index.create", wanted)["bucket"] == "testing"
    version = world.version
    attempts = {
        "a new one elsewhere": ("index.create", {**wanted, "index": "other", "to": "primary"}),
        "one elsewhere": ("index.move", {"index": "mine_at", "to": "primary"}),
        "one over what isn't seen": ("index.create", {"index": "other", "dataset": "points", "column": "at"}),
        "that of others": ("index.move", {"index": "points_at", "to": "testing"}),
    }

    for what, (action, body) in attempts.items():
        with pytest.raises(ERRORS, match=r"FS-(1004|2002)"):
            pytest.fail(f"{what}: {tess.call(action, body)}")

    assert world.version == version
    assert tess.rows("SELECT bucket, name FROM system.indexes") == [("testing", "mine_at")]
    assert tess.call("index.drop", {"index": "mine_at"}) == {"index": "mine_at", "bucket": "testing"}


def test_an_action_means_the_table_that_it_was_allowed_for(world: World, tess: User, root: User) -> None:
    """A session's schema makes `people` another table than it is without: both steps have to take the same."""
    administration = world.lakehouse.administration
    administration.grant(by(), "tester", [Privilege.SELECT], Place("primary", "people"))
    tess.ask("CREATE TABLE testing.people AS SELECT 1 AS mine")
    here = tess.having(cookie=begun_session(tess, schema="testing"))

    here.call("dataset.tag", {"dataset": "people", "tag": "mine"})
    here.call("dataset.compact", {"dataset": "people"})
    assert here.call("dataset.describe", {"dataset": "people"})["columns"][0]["name"] == "mine"
    with pytest.raises(ERRORS):
        here.call("dataset.move", {"dataset": "people", "to": "testing"})
    here.call("dataset.drop", {"dataset": "people"})

    assert root.rows("SELECT count(*) FROM primary.people") == [(4,)]
    assert root.call("dataset.describe", {"dataset": "people"})["tags"].keys() == {"first"}


def test_buckets_that_it_does_not_see_are_not_named(root: User, tess: User) -> None:
    root.call("bucket.create", {"name": "hidden", "backend": "local"})
    attempts: list[Any] = [
        lambda name: tess.having(x_lakehouse_bucket=name).ask("SELECT 1"),
        lambda name: tess.ask(f"SELECT * FROM {name}.t"),  # a test's own name
        lambda name: tess.having(x_lakehouse_bucket=name).call("dataset.describe", {"dataset": "notes"}),
        lambda name: tess.call("ingest.file", {"dataset": "x", "bucket": "testing", "source": f"s3://{name}/x.csv"}),
    ]
    for attempt in attempts:
        told = []
        for name in ("hidden", "absent"):
            with pytest.raises(ERRORS, match="FS-1004") as refused:
                attempt(name)
            told.append(str(refused.value).replace(name, "NAME"))
        assert told[0] == told[1]
    assert {one["name"] for one in tess.call("bucket.list")["buckets"]} == {"primary", "testing"}
    assert "hidden" not in json.dumps(tess.ask("SELECT * FROM information_schema.schemata").to_pylist())
