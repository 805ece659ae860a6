"""Arrow's JDBC driver against the server: connections, statements, counts, errors, large results, cancelling."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.flight as fl
import pytest
from clients.jdbc_program import Connection, Jdbc, JdbcError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from conftest import RunningServer

pytestmark = pytest.mark.client("JDBC")

QUOTED = 'odd. "names" ü 🚀'
"""A name that is one only in double quotes."""


@pytest.fixture
def people(jdbc_connection: Connection) -> Connection:
    """A connection, when the table `people` has three rows."""
    jdbc_connection.update("CREATE TABLE people (id BIGINT PRIMARY KEY, name VARCHAR, score DOUBLE)")
    jdbc_connection.update("INSERT INTO people VALUES (1, 'Ada', 9.5), (2, 'Łucja 🚀', NULL), (3, NULL, -0.25)")
    return jdbc_connection


@pytest.mark.feature("queries")
def test_a_query_answers_rows(people: Connection) -> None:
    rows = people.query("SELECT id, name, score FROM people ORDER BY id")

    assert rows == [[1, "Ada", 9.5], [2, "Łucja 🚀", None], [3, None, -0.25]]


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"catalog": "lakehouse"},
        {"user": "somebody", "password": "anything"},
        {"token": "anything"},
        {"x-lakehouse-bucket": "primary"},
        {"threadPoolSize": "4"},
    ],
    ids=str,
)
def test_an_open_server_takes_every_way_to_connect(
    jdbc: Jdbc, server: RunningServer, properties: Mapping[str, str]
) -> None:
    connection = jdbc.connect(server.uri, **properties)

    assert connection.ask("get")["valid"]
    assert connection.query("SELECT count(*) AS n FROM system.buckets") == [[1]]


def test_a_catalog_that_does_not_exist_is_refused(jdbc: Jdbc, server: RunningServer) -> None:
    with pytest.raises(JdbcError, match="Cannot set session option for catalog"):
        jdbc.connect(server.uri, catalog="other")


@pytest.mark.feature("headers")
def test_a_property_that_the_driver_does_not_know_is_a_header(jdbc: Jdbc, server: RunningServer) -> None:
    with (
        jdbc.connect(server.uri, **{"x-lakehouse-bucket": "nowhere"}) as connection,
        pytest.raises(JdbcError, match="no bucket 'nowhere'"),
    ):
        connection.query("SELECT 1")


@pytest.mark.feature("update counts")
@pytest.mark.parametrize(
    ("sql", "count"),
    [
        ("INSERT INTO people VALUES (4, 'Grace', 1), (5, 'Edsger', 2)", 2),
        ("INSERT INTO people VALUES (1, 'Augusta', 1) ON CONFLICT (id) DO UPDATE SET name = excluded.name", 1),
        ("UPDATE people SET score = 0 WHERE id <> 2", 2),
        ("DELETE FROM people WHERE name IS NULL", 1),
        ("DELETE FROM people WHERE id > 100", 0),
        ("TRUNCATE TABLE people", 3),
        ("CREATE TABLE more (id BIGINT)", 0),
        ("CREATE TABLE more AS SELECT * FROM people", 3),
        ("ALTER TABLE people ADD COLUMN born DATE", 0),
        ("DROP TABLE people", 0),
    ],
)
def test_a_statement_that_changes_something_answers_its_count(people: Connection, sql: str, count: int) -> None:
    assert people.update(sql) == [count]


@pytest.mark.feature("exactly once")
@pytest.mark.parametrize(
    "request_",
    [{}, {"parameters": [[["Double", 1.0]]]}, {"parameters": [[["Double", 1.0]]], "update": True}],
    ids=["statement", "execute", "executeUpdate"],
)
def test_a_statement_that_changes_something_runs_once(people: Connection, request_: dict[str, Any]) -> None:
    one = "?" if "parameters" in request_ else "1.0"

    people.ask("execute", sql=f"UPDATE people SET score = score + {one} WHERE id = 1", **request_)

    assert people.query("SELECT score FROM people WHERE id = 1") == [[10.5]]


@pytest.mark.feature("batches")
def test_a_batch_is_one_change_and_answers_its_count(people: Connection, server: RunningServer) -> None:
    before = server.lakehouse.catalog.snapshot().version
    rows = [[["Long", number], ["String", f"name {number}"]] for number in range(100, 200)]

    answer = people.ask("batch", sql="INSERT INTO people (id, name) VALUES (?, ?)", parameters=rows)

    # The driver (18.3) sends all rows at once and is told one count.
    assert answer == {"counts": [100]}
    assert people.query("SELECT count(*) AS n, max(name) AS last FROM people WHERE id >= 100") == [[100, "name 199"]]
    assert server.lakehouse.catalog.snapshot().version == before + 1


@pytest.mark.feature("batches")
@pytest.mark.parametrize(
    ("sql", "rows", "left"),
    [
        ("UPDATE people SET name = ? WHERE id = ?", [["a", 1], ["b", 3]], [[1, "a"], [2, "Łucja 🚀"], [3, "b"]]),
        ("DELETE FROM people WHERE name = ? OR id = ?", [["Ada", 9], ["x", 3]], [[2, "Łucja 🚀"]]),
    ],
)
def test_batches_update_and_delete(people: Connection, sql: str, rows: list[Any], left: list[Any]) -> None:
    parameters = [[["String", text], ["Long", number]] for text, number in rows]

    assert people.ask("batch", sql=sql, parameters=parameters) == {"counts": [2]}
    assert people.query("SELECT id, name FROM people ORDER BY id") == left


@pytest.mark.feature(
    "transactions", reason="the driver sends neither commit nor rollback: each statement commits by itself"
)
def test_without_autocommit_statements_still_commit_by_themselves(people: Connection) -> None:
    # commit() and rollback() of the driver (18.3) do nothing: it sends neither BeginTransaction nor EndTransaction.
    people.ask("set", autoCommit=False)
    people.update("DELETE FROM people WHERE id = 1")
    people.ask("rollback")

    assert people.query("SELECT id FROM people ORDER BY id") == [[2], [3]]


def test_identifiers_may_have_dots_quotes_and_unicode(jdbc_connection: Connection) -> None:
    name = '"' + QUOTED.replace('"', '""') + '"'
    jdbc_connection.update(f"CREATE TABLE {name} ({name} INTEGER)")
    jdbc_connection.update(f"INSERT INTO {name} VALUES (?)", [("Int", 7)])

    answer = jdbc_connection.ask("execute", sql=f"SELECT * FROM {name}")

    assert answer["rows"] == [[7]]
    assert [column["label"] for column in answer["columns"]] == [QUOTED]
    listed = jdbc_connection.metadata("getTables", None, "public", None, ["TABLE"])
    assert [row["TABLE_NAME"] for row in listed] == [QUOTED]


@pytest.mark.feature("errors with their code")
@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT nothing FROM people", "No field named nothing. Valid fields are people.id, people.name, people.score"),
        ("SELECT * FROM nobody", r"there is no dataset 'nobody' \[FS-1004\]"),
        ("SELEC 1", r"a statement can't start with 'SELEC'; expected SELECT"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("INSERT INTO people (id) VALUES (NULL)", "id"),
        ("SELECT 1 / (id - 1) AS n FROM people", "(?i)divide by zero"),
    ],
)
def test_an_error_is_an_sql_exception_with_our_message(people: Connection, sql: str, message: str) -> None:
    with pytest.raises(JdbcError, match=message) as caught:
        people.ask("execute", sql=sql)

    assert caught.value.is_sql
    assert "Traceback" not in str(caught.value)


def test_max_rows_and_fetch_size_are_obeyed(jdbc_connection: Connection) -> None:
    sql = "SELECT value FROM generate_series(1, 10)"

    assert jdbc_connection.query(sql, maxRows=3) == [[1], [2], [3]]
    assert jdbc_connection.query(sql, fetchSize=2) == [[number] for number in range(1, 11)]


def digests(table: pa.Table) -> list[str]:
    """As `Statements.digest` computes them."""
    texts = "".join(f"{text}\0" for text in table["text"].to_pylist()).encode()
    numbers = [np.asarray(table[name]).astype(f">{kind}8").tobytes() for name, kind in (("id", "i"), ("x", "f"))]
    return [hashlib.sha256(data).hexdigest() for data in (*numbers, texts)]


@pytest.mark.feature("large results")
def test_a_million_rows_arrive_as_they_are(jdbc_connection: Connection, flight_client: fl.FlightClient) -> None:
    sql = "SELECT value AS id, value * 0.1 AS x, 'größe ' || value AS text FROM generate_series(1, 1000000)"
    info = flight_client.get_flight_info(fl.FlightDescriptor.for_command(sql.encode()))
    sent = flight_client.do_get(info.endpoints[0].ticket).read_all()

    received = jdbc_connection.ask("digest", sql=sql)

    assert sent.num_rows == 1_000_000
    assert received == {"rows": 1_000_000, "columns": digests(sent)}


@pytest.mark.feature("partitions")
def test_all_pages_of_a_paged_result_are_read(jdbc: Jdbc, server: RunningServer) -> None:
    with jdbc.connect(server.uri, **{"x-lakehouse-page-rows": "4"}) as connection:
        rows = connection.query("SELECT value FROM generate_series(1, 10) ORDER BY value")

    assert sorted(rows) == [[number] for number in range(1, 11)]


def test_a_large_text_arrives_as_it_is(jdbc_connection: Connection) -> None:
    text = "ż" * 3_000_000

    assert jdbc_connection.query("SELECT ? AS text", [("String", text)]) == [[text]]


def states(connection: Connection) -> list[Any]:
    """State of the statements that read the endless series."""
    sql = "SELECT state FROM system.queries WHERE sql LIKE '%1000000000)' ORDER BY started"
    return [state for [state] in connection.query(sql)]


@pytest.mark.feature("cancel")
def test_cancel_stops_the_statement_on_the_server(jdbc: Jdbc, server: RunningServer) -> None:
    connection = jdbc.connect(server.uri)
    answer = connection.ask("cancel", sql="SELECT value FROM generate_series(1, 1000000000)", after=1000)

    # Of which class depends on where the driver was at that moment: it isn't always a SQLException.
    assert "error" in answer["ended"], answer
    deadline = time.monotonic() + 60
    while states(connection) != ["cancelled"]:
        assert time.monotonic() < deadline, states(connection)
        time.sleep(0.2)
    try:
        connection.close()
    except JdbcError as error:  # a cancel that meets a read: the driver releases a batch twice, or never
        assert "Memory was leaked by query" in str(error)  # noqa: PT017  # mostly there is none


def test_the_driver_gives_up_after_the_query_timeout(jdbc_connection: Connection) -> None:
    slow = "SELECT sum(value) AS n FROM generate_series(1, 1000000000)"

    with pytest.raises(JdbcError, match="Query timed out after 1 SECONDS"):
        jdbc_connection.query(slow, timeout=1)


def test_connections_are_independent(jdbc: Jdbc, server: RunningServer) -> None:
    with jdbc.connect(server.uri) as first, jdbc.connect(server.uri) as second:
        first.update("CREATE TABLE shared (id BIGINT)")
        first.update("INSERT INTO shared VALUES (1)")

        assert second.query("SELECT * FROM shared") == [[1]]
