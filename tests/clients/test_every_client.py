"""What every client does alike, through each of them: queries, errors, statements that change data, headers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from bucketing import add_bucket
from clients.connecting import CLIENTS, Client, Door
from query.asking import rows, run
from vectors.indexed import create as create_index
from vectors.indexed import make_docs
from vectors.indexed import move as move_index

if TYPE_CHECKING:
    from conftest import RunningServer

READING = ("pandas", "polars", "DuckDB")
"""Clients whose functions for SQL take queries alone."""


def _each(*, but: tuple[str, ...] = ()) -> list[Any]:
    return [
        pytest.param(client, marks=pytest.mark.client(name), id=name)
        for name, client in CLIENTS.items()
        if name not in but
    ]


@pytest.fixture
def door(server: RunningServer) -> Door:
    """The way to a server where the bucket `testing` and `public` have each a table `people`."""
    add_bucket(server.lakehouse, "testing")
    run(server.lakehouse, "CREATE TABLE people AS SELECT 1 AS id, 'Ada' AS name")
    run(server.lakehouse, "CREATE TABLE testing.people AS SELECT 2 AS id, 'Łucja 🚀' AS name")
    return Door(server.uri)


@pytest.mark.feature("queries")
@pytest.mark.parametrize("client", _each())
def test_rows_are_what_they_are(client: Client, door: Door, request: pytest.FixtureRequest) -> None:
    with client.connect(door, request) as query:
        assert query("SELECT id, name FROM testing.people UNION ALL SELECT * FROM people ORDER BY id") == [
            (1, "Ada"),
            (2, "Łucja 🚀"),
        ]


@pytest.mark.feature("queries")
@pytest.mark.parametrize("client", _each())
def test_a_result_may_have_no_rows(client: Client, door: Door, request: pytest.FixtureRequest) -> None:
    with client.connect(door, request) as query:
        assert query("SELECT id FROM people WHERE id > 1") == []


@pytest.mark.feature("large results")
@pytest.mark.parametrize("client", _each())
def test_a_result_of_many_batches_is_whole_and_in_order(
    client: Client, server: RunningServer, request: pytest.FixtureRequest
) -> None:
    sql = "SELECT value, 'row ' || value AS text FROM generate_series(1, 100000) ORDER BY value"

    with client.connect(Door(server.uri), request) as query:
        assert query(sql) == [(number, f"row {number}") for number in range(1, 100_001)]


@pytest.mark.feature("errors with their code")
@pytest.mark.parametrize("client", _each())
def test_an_error_says_what_is_wrong_and_the_next_query_works(
    client: Client, door: Door, request: pytest.FixtureRequest
) -> None:
    with client.connect(door, request) as query:
        with pytest.raises(client.errors, match=r"there is no dataset 'nobody' \[FS-1004\]") as caught:
            query("SELECT * FROM nobody")
        assert "Traceback" not in str(caught.value)
        assert query("SELECT id FROM people") == [(1,)]


@pytest.mark.feature("headers")
@pytest.mark.parametrize("client", _each())
def test_a_header_names_the_bucket_of_bare_names(client: Client, door: Door, request: pytest.FixtureRequest) -> None:
    with client.connect(replace(door, headers={"x-lakehouse-bucket": "testing"}), request) as query:
        assert query("SELECT name FROM people") == [("Łucja 🚀",)]


@pytest.mark.feature("headers")
@pytest.mark.parametrize("client", _each())
def test_a_bucket_that_is_not_there_is_refused(client: Client, door: Door, request: pytest.FixtureRequest) -> None:
    elsewhere = replace(door, headers={"x-lakehouse-bucket": "nowhere"})

    with (
        pytest.raises(client.errors, match="there is no bucket 'nowhere'; there are: primary, testing"),
        client.connect(elsewhere, request) as query,
    ):
        query("SELECT name FROM people")


@pytest.mark.feature("schema of the connection")
@pytest.mark.parametrize("client", _each(but=("flightclient",)))  # which sends no header but the bucket
def test_a_header_names_the_schema_of_bare_names(client: Client, door: Door, request: pytest.FixtureRequest) -> None:
    with client.connect(replace(door, headers={"schema": "testing"}), request) as query:
        assert query("SELECT name FROM people") == [("Łucja 🚀",)]
    with client.connect(replace(door, headers={"schema": "system"}), request) as query:
        assert query("SELECT name FROM buckets ORDER BY name") == [("primary",), ("testing",)]


@pytest.mark.feature("schema of the connection")
@pytest.mark.parametrize("client", _each(but=("flightclient",)))
def test_a_schema_that_is_not_there_is_refused_with_those_there_are(
    client: Client, door: Door, request: pytest.FixtureRequest
) -> None:
    told = "schema 'nowhere' doesn't exist: there are .*primary.*testing"

    with (
        pytest.raises(client.errors, match=told),
        client.connect(replace(door, headers={"schema": "nowhere"}), request) as query,
    ):
        query("SELECT name FROM people")


@pytest.mark.feature("time travel")
@pytest.mark.parametrize("client", _each())
def test_a_table_is_read_as_it_was(
    client: Client, door: Door, server: RunningServer, request: pytest.FixtureRequest
) -> None:
    version = server.lakehouse.catalog.snapshot().version
    run(server.lakehouse, "UPDATE people SET name = 'Augusta'")

    with client.connect(door, request) as query:
        assert query(f"SELECT name FROM people FOR VERSION AS OF {version}") == [("Ada",)]
        assert query("SELECT name FROM people") == [("Augusta",)]


@pytest.mark.feature("exactly once")
@pytest.mark.parametrize("client", _each(but=READING))
def test_a_statement_that_changes_data_runs_once(
    client: Client, door: Door, server: RunningServer, request: pytest.FixtureRequest
) -> None:
    with client.connect(door, request) as query:
        query("UPDATE people SET id = id + 1")
        query("INSERT INTO people SELECT 10 + id, name FROM people")

    assert rows(server.lakehouse, "SELECT id FROM people ORDER BY id") == [(2,), (12,)]


@pytest.mark.feature("update counts")
@pytest.mark.parametrize(
    "client", [one for one in _each() if one.id in {"SQLAlchemy", "flightclient", "pyarrow.flight"}]
)
def test_the_count_of_a_change_is_the_row_that_it_answers(
    client: Client, door: Door, request: pytest.FixtureRequest
) -> None:
    with client.connect(door, request) as query:
        assert query("INSERT INTO people VALUES (3, 'Grace'), (4, NULL)") == [(2,)]
        assert query("DELETE FROM people WHERE id > 4") == [(0,)]


@pytest.mark.feature("vector search")
@pytest.mark.parametrize("client", _each())
def test_the_nearest_rows_are_found_wherever_the_index_lies(
    client: Client, server: RunningServer, request: pytest.FixtureRequest
) -> None:
    make_docs(server.lakehouse)
    add_bucket(server.lakehouse, "testing")
    create_index(server.lakehouse)
    search = "SELECT id, round(_distance, 6) FROM vector_search('directions', '[1, 0]', 3, 'id <> 1')"
    nearest = [(0, 0.0), (359, 0.000152), (2, 0.000609)]

    with client.connect(Door(server.uri), request) as query:
        assert query(search) == nearest
        move_index(server.lakehouse, "testing")
        assert query(search) == nearest
        with pytest.raises(client.errors, match=r"the query vector has 3 numbers, .* have 2 \[FS-1003\]"):
            query("SELECT id FROM vector_search('directions', '[1, 0, 0]', 3)")
