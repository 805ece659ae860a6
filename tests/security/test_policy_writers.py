"""Writers to whom policies apply carry away no more than they see; and much data in little memory shows no more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow.flight as fl
import pytest
from security.test_policy_escapes import answer, in_order, shows_nothing_hidden
from security.test_policy_paths import ERRORS, SEEN, version_of
from security.world import ANALYST, add_index, by, open_world, people

if TYPE_CHECKING:
    from pathlib import Path

    from security.world import User, World


@pytest.fixture
def wes(world: World) -> User:
    """A writer who sees only a part of `people`."""
    world.lakehouse.administration.create_user(by(), "wes", roles=["writer", ANALYST])
    return world.connect("wes")


def test_what_a_writer_copies_is_what_it_sees(wes: User, root: User) -> None:
    wes.ask("CREATE TABLE copy AS SELECT * FROM people")
    wes.ask("CREATE TABLE more (id BIGINT PRIMARY KEY, salary BIGINT)")
    wes.ask("INSERT INTO more SELECT id, salary FROM people")
    wes.ask("UPDATE more SET salary = (SELECT sum(salary) FROM people)")
    wes.ask(
        "MERGE INTO more USING people ON more.id = people.id + 10 "
        "WHEN NOT MATCHED THEN INSERT (id, salary) VALUES (people.id + 10, people.salary)"
    )
    wes.ask("INSERT INTO more SELECT id + 20, salary FROM people ON CONFLICT (id) DO NOTHING")
    wes.ask("DELETE FROM more WHERE id IN (SELECT id + 20 FROM people WHERE salary > 1000)")

    assert in_order(root.rows("SELECT * FROM copy")) == SEEN
    assert root.rows("SELECT * FROM more ORDER BY id") == [(1, 44), (3, 44), (11, 11), (13, 33), (21, 11), (23, 33)]


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("dataset.export", {"destination": "out"}),
        ("dataset.export", {"destination": "out", "version": 4}),
        ("dataset.restore", {"version": "first"}),
        ("dataset.tag", {"tag": "mine"}),
        ("dataset.compact", {"sort_by": ["salary"]}),
        ("dataset.move", {"to": "testing"}),
        ("dataset.delete", {"keys": [{"id": 2}]}),
        ("dataset.truncate", {}),
        ("dataset.alter", {"drop": ["region"]}),
        ("dataset.alter", {"new_name": "free"}),
        ("dataset.drop", {}),
        ("dataset.history", {}),
        ("dataset.diff", {"from": "first"}),
        ("bucket.presign", {"method": "GET", "key": "datasets/people/x"}),
        ("cache.pin", {}),
        ("index.create", {"index": "mine", "column": "salary"}),
    ],
)
def test_a_writer_takes_no_table_past_its_policies(world: World, wes: User, action: str, body: dict[str, Any]) -> None:
    version = world.version
    whole = body if action == "bucket.presign" else {"dataset": "people", **body}

    with pytest.raises(fl.FlightUnauthorizedError, match="FS-2002") as refused:
        wes.act(action, json.dumps(whole).encode())

    shows_nothing_hidden(str(refused.value))
    assert world.version == version


@pytest.mark.parametrize("action", ["refresh", "move", "drop"])
def test_a_writer_does_not_change_indexes_past_the_policies_of_their_tables(
    world: World, wes: User, action: str
) -> None:
    world.sql("ALTER TABLE people ADD COLUMN face FLOAT[]", "UPDATE people SET face = [1.0, 0.0]")
    add_index(world.lakehouse, "people", "face")
    version = world.version
    body = {"index": "people_face"} | ({"to": "testing"} if action == "move" else {})

    with pytest.raises(fl.FlightUnauthorizedError, match="policies show user 'wes' only a part"):
        wes.call(f"index.{action}", body)

    assert world.version == version


def test_a_name_of_before_exports_nothing_of_what_it_means_now(world: World, wes: User) -> None:
    """`people` was another table when the version was young: policies follow that one."""
    before = version_of(world)
    world.sql("ALTER TABLE people RENAME TO staff")
    wes.ask("CREATE TABLE people AS SELECT 1 AS id")
    world.lakehouse.administration.drop_policy(by(), "pii")

    with pytest.raises(fl.FlightUnauthorizedError, match=r"FS-2002"):
        wes.call("dataset.export", {"dataset": "people", "destination": "out", "version": before})

    assert not (world.lakehouse.settings.server.data / "exports" / "out").exists()


def test_rows_do_not_get_into_a_table_that_is_only_seen_in_part(world: World, wes: User) -> None:
    version = world.version
    rows = people([(2, "x", "x", "north", 1, 1, "1")])
    for command_ in ("people", '{"ingest": "people", "mode": "upsert"}', '{"ingest": "people", "mode": "replace"}'):
        descriptor = (
            fl.FlightDescriptor.for_path("people")
            if command_ == "people"
            else fl.FlightDescriptor.for_command(command_)
        )
        with pytest.raises(fl.FlightUnauthorizedError, match="FS-2002"):
            wes.put(descriptor, rows)
    with pytest.raises(fl.FlightUnauthorizedError, match="FS-2002"):
        wes.put(fl.FlightDescriptor.for_command('{"delete": "people"}'), rows.select(["id"]))

    assert world.version == version


def test_files_of_the_lakehouse_are_not_ingested(world: World, wes: User) -> None:
    segment = world.lakehouse.catalog.snapshot().dataset("secret", "primary").segments[0]
    directory = world.lakehouse.settings.server.data / "primary" / "datasets" / "secret" / segment.id
    file = next(directory.glob("*.parquet"))
    bucket = world.lakehouse.buckets.get("primary").url(f"datasets/secret/{segment.id}/{file.name}")
    for source in (str(file), f"../primary/datasets/secret/{segment.id}/{file.name}", bucket):
        with pytest.raises(ERRORS, match=r"FS-100[14]"):
            wes.call("ingest.file", {"dataset": "stolen", "source": source})
    for location in (str(directory), f"../primary/datasets/secret/{segment.id}", "/"):
        with pytest.raises(ERRORS, match=r"FS-100[14]"):
            wes.call("dataset.attach", {"dataset": "stolen", "location": location})

    assert world["root"].rows("SELECT count(*) FROM system.datasets WHERE name = 'stolen'") == [(0,)]


def test_a_large_table_in_little_memory_shows_the_same(tmp_path: Path) -> None:
    """More than fits is sorted and joined: the statement is planned carefully."""
    with open_world(tmp_path, {"query": {"memory_bytes": 24 * 2**20}}) as world:
        eve = world["eve"]
        world.sql(
            "INSERT INTO people SELECT n + 10, 'n', repeat('x', 40) || n, "
            "CASE WHEN n % 2 = 0 THEN 'north' ELSE 'south' END, "
            "n, CASE WHEN n % 2 = 0 THEN 1 ELSE 0 END, CASE WHEN n % 2 = 0 THEN '1' ELSE 'HIDDEN-CODE' END "
            "FROM (SELECT value AS n FROM generate_series(1, 200000))",
            "DELETE FROM people WHERE id % 100 = 0",
        )
        ours = "SELECT count(*), count(DISTINCT id), min(region), max(region) FROM people"
        kept = 2 + sum(1 for n in range(1, 200_001) if n % 2 == 0 and (n + 10) % 100)
        assert answer(eve, ours) == [(kept, kept, "north", "north")]
        assert answer(
            eve, "SELECT sum(x), count(*) FROM (SELECT region, 1 / bonus AS x FROM people WHERE id > 10)"
        ) == [(kept - 2, kept - 2)]
        joined = (
            "SELECT count(*) FROM (SELECT a.id, b.email, row_number() OVER (ORDER BY a.name, a.id) AS r "
            "FROM people a JOIN people b ON a.id = b.id ORDER BY b.email, a.id) WHERE email <> '***'"
        )
        assert answer(eve, joined) == [(0,)]
