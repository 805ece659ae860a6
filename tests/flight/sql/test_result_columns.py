"""What Flight SQL tells of the columns of a result, and that every schema that is sent of a result is the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from flight.sql.commanding import act, descriptor, prepare, put, streams
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from query.asking import bound, run

from flightserver.flight.sql import columns
from flightserver.flight.sql.columns import TableFacts
from flightserver.query.wire import wire_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import RunningServer

    from flightserver.lakehouse import Lakehouse

PREFIX = "ARROW:FLIGHT:SQL:"


@pytest.fixture
def client(lakehouse: Lakehouse, flight_client: fl.FlightClient) -> fl.FlightClient:
    """A client of a server with a commented table, which is a merge of deltas, and a view."""
    for sql in (
        "CREATE TABLE people (id BIGINT NOT NULL, name VARCHAR, born DATE, pay DECIMAL(10, 2))",
        "INSERT INTO people VALUES (1, 'Ada', '1815-12-10', 1.50), (2, 'Grace', '1906-12-09', NULL), (3, 'X', NULL, 3)",
        "DELETE FROM people WHERE id = 3",
        "COMMENT ON COLUMN people.name IS 'as she signed'",
        "CREATE VIEW names AS SELECT upper(name) AS loud, name FROM people",
    ):
        run(lakehouse, sql)
    return flight_client


def told(field: pa.Field) -> dict[str, str]:
    return {
        key.decode().removeprefix(PREFIX): value.decode()
        for key, value in (field.metadata or {}).items()
        if key.startswith(PREFIX.encode())
    }


def statement(client: fl.FlightClient, sql: str) -> pa.Schema:
    return client.get_schema(descriptor("StatementQuery", query=sql)).schema


def test_a_column_of_a_table_is_told_with_its_table_and_type_but_no_comment(client: fl.FlightClient) -> None:
    schema = statement(client, "SELECT name AS called, pay FROM public.people p ORDER BY id LIMIT 1")

    assert told(schema.field("called")) == {
        "CATALOG_NAME": "lakehouse",
        "SCHEMA_NAME": "public",
        "DB_SCHEMA_NAME": "public",
        "TABLE_NAME": "people",
        "TYPE_NAME": "VARCHAR",
        "PRECISION": "2147483647",
        "IS_AUTO_INCREMENT": "0",
        "IS_CASE_SENSITIVE": "1",
        "IS_READ_ONLY": "0",
        "IS_SEARCHABLE": "1",
    }
    assert {key: told(schema.field("pay"))[key] for key in ("TYPE_NAME", "PRECISION", "SCALE")} == {
        "TYPE_NAME": "DECIMAL",
        "PRECISION": "10",
        "SCALE": "2",
    }


def test_a_computed_column_is_told_by_its_type_alone(client: fl.FlightClient) -> None:
    schema = statement(client, "SELECT id + 1 AS next FROM people")

    assert told(schema.field("next")) == {
        "TYPE_NAME": "BIGINT",
        "PRECISION": "19",
        "SCALE": "0",
        "IS_AUTO_INCREMENT": "0",
        "IS_CASE_SENSITIVE": "0",
        "IS_READ_ONLY": "1",
        "IS_SEARCHABLE": "1",
    }


def test_tables_are_listed_with_the_comments_of_their_columns(client: fl.FlightClient) -> None:
    info = client.get_flight_info(descriptor("GetTables", include_schema=True, db_schema_filter_pattern="public"))
    (listed,) = streams(client, info)
    found = {row["table_name"]: pa.ipc.read_schema(pa.py_buffer(row["table_schema"])) for row in listed.to_pylist()}

    assert told(found["people"].field("name"))["REMARKS"] == "as she signed"
    assert "REMARKS" not in told(found["people"].field("id"))
    assert {name: told(schema.field("name"))["IS_READ_ONLY"] for name, schema in found.items()} == {
        "people": "0",
        "names": "1",
    }


def test_annotation_keeps_what_a_column_says_already() -> None:
    schema = pa.schema([pa.field("name", pa.string(), metadata={"pii": "yes", "comment": "full name"})])

    annotated = columns.annotate(schema, TableFacts("public", "people"), is_read_only=False)

    found = annotated.field("name").metadata
    assert found[b"pii"] == b"yes"
    assert found[b"ARROW:FLIGHT:SQL:REMARKS"] == b"full name"


QUERIES = [
    "SELECT * FROM people",
    "SELECT name, count(*) AS n FROM people GROUP BY name",
    "SELECT loud FROM names",
    "SELECT sql FROM system.queries",
    "SELECT arrow_cast(name, 'Dictionary(Int32, Utf8)') AS d, arrow_cast(name, 'Utf8View') AS v FROM people",
    "SELECT p.id, q.name FROM people p LEFT JOIN people q ON q.id = p.id + 1",
    "SELECT 1 AS one",
    "SELECT name FROM people WHERE false",
    "EXPLAIN SELECT * FROM people",
    "SHOW TABLES",
]


@pytest.mark.parametrize("sql", QUERIES)
def test_every_schema_of_a_statement_is_the_same(client: fl.FlightClient, sql: str) -> None:
    asked = descriptor("StatementQuery", query=sql)
    info = client.get_flight_info(asked)
    prepared = prepare(client, query=sql)
    by_handle = descriptor("PreparedStatementQuery", prepared_statement_handle=prepared.handle)
    (begun,) = act(client, "BeginTransaction")
    inside = client.get_flight_info(descriptor("StatementQuery", query=sql, transaction_id=begun.transaction_id))
    paged = client.get_flight_info(asked, fl.FlightCallOptions(headers=[(b"x-lakehouse-page-rows", b"1")]))
    schemas = [
        client.get_schema(asked).schema,
        prepared.schema,
        client.get_schema(by_handle).schema,
        client.get_flight_info(by_handle).schema,
        inside.schema,
        paged.schema,
        # The second stream is planned anew from its ticket.
        *(table.schema for one in (info, info, inside, paged) for table in streams(client, one)),
        *(table.schema for table in streams(client, client.get_flight_info(by_handle))),
    ]

    assert all(told(field)["TYPE_NAME"] for field in info.schema)
    for schema in schemas:
        assert info.schema.equals(schema, check_metadata=True)


@pytest.mark.parametrize("sql", ["INSERT INTO people VALUES (7, 'New', NULL, NULL)", "DELETE FROM people"])
def test_every_schema_of_a_count_is_the_same(client: fl.FlightClient, sql: str) -> None:
    asked = descriptor("StatementQuery", query=sql)
    info = client.get_flight_info(asked)

    assert told(info.schema.field("count"))["TYPE_NAME"] == "BIGINT"
    assert info.schema.equals(client.get_schema(asked).schema, check_metadata=True)
    for table in streams(client, info) + streams(client, info):
        assert info.schema.equals(table.schema, check_metadata=True)


@pytest.mark.parametrize("sql", QUERIES)
def test_plain_flight_is_told_nothing_of_it(client: fl.FlightClient, sql: str) -> None:
    asked = fl.FlightDescriptor.for_command(json.dumps({"sql": sql}))
    info = client.get_flight_info(asked)
    schemas = [info.schema, client.get_schema(asked).schema, *(table.schema for table in streams(client, info))]

    assert [told(field) for schema in schemas for field in schema if told(field)] == []
    for schema in schemas:
        assert info.schema.equals(schema, check_metadata=True)


def test_rows_sent_to_a_statement_come_back_in_the_announced_schema(client: fl.FlightClient) -> None:
    sent = pa.table({"id": [1, 2]})
    writer, reader = client.do_exchange(fl.FlightDescriptor.for_command(b"SELECT id, id * 2 AS two FROM input"))
    writer.begin(sent.schema)
    writer.write_table(sent)
    writer.done_writing()
    answer = reader.read_all()
    writer.close()

    assert answer.to_pydict() == {"id": [1, 2], "two": [2, 4]}
    assert all(field.metadata is None for field in answer.schema)


def test_a_table_that_was_fetched_so_is_stored_without_it(client: fl.FlightClient, lakehouse: Lakehouse) -> None:
    info = client.get_flight_info(descriptor("StatementQuery", query="SELECT * FROM people"))
    (fetched,) = streams(client, info)
    writer, _ = client.do_put(fl.FlightDescriptor.for_path("copy"), fetched.schema)
    writer.write_table(fetched)
    writer.close()

    stored = _schema(lakehouse, "copy")

    assert [told(field) for field in stored if told(field)] == []
    assert stored.field("name").type == pa.string()


def _schema(lakehouse: Lakehouse, name: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(lakehouse.catalog.snapshot().dataset(name, "primary").schema))


NUMBERS = st.sampled_from(["id", "pay", "1", "NULL", "CAST(id AS INT)", "length(name)", "1.5", "id % 2", "$1"])
TEXTS = st.sampled_from(["name", "'x'", "CAST(id AS VARCHAR)", "arrow_cast(name, 'Utf8View')", "NULL", "upper(name)"])
CONDITIONS = st.sampled_from(["id > 1", "name IS NULL", "pay < 2", "true", "NULL", "born > DATE '1900-01-01'"])


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("coalesce({}, {})".format, inner, inner),
        st.builds("CASE WHEN {} THEN {} ELSE {} END".format, CONDITIONS, inner, inner),
        st.builds("CASE WHEN {} THEN {} END".format, CONDITIONS, inner),
        st.builds("nullif({}, {})".format, inner, inner),
        st.builds("make_array({}, {})".format, inner, inner),
        st.builds("named_struct('a', {}, 'b', {})".format, inner, CONDITIONS),
        st.builds("(SELECT max({}) FROM people)".format, inner),
    )


EXPRESSIONS = st.one_of(
    st.recursive(NUMBERS, larger, max_leaves=3),
    st.recursive(TEXTS, larger, max_leaves=3),
    st.builds("min({}) OVER (PARTITION BY id)".format, NUMBERS),
    CONDITIONS,
    st.just("born"),
)
SOURCES = st.sampled_from(
    [
        "people",
        "people LEFT JOIN (SELECT name AS loud FROM names) n ON name = loud",
        "(SELECT * FROM people UNION ALL SELECT * FROM people) AS people",
    ]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(expressions=st.lists(EXPRESSIONS, min_size=1, max_size=3), source=SOURCES)
def test_what_is_announced_of_any_query_is_what_is_streamed(
    client: fl.FlightClient, expressions: list[str], source: str
) -> None:
    listed = ", ".join(f"{expression} AS c{number}" for number, expression in enumerate(expressions))
    sql = f"SELECT {listed} FROM {source}"
    try:
        prepared = prepare(client, query=sql)
        asked = descriptor("PreparedStatementQuery", prepared_statement_handle=prepared.handle)
        if "$1" in sql:
            put(client, asked, bound(5))
        info = client.get_flight_info(asked)
    except pa.ArrowInvalid:  # types that don't go together
        return

    assert info.schema.equals(client.get_schema(asked).schema, check_metadata=True)
    assert info.schema.equals(wire_schema(info.schema), check_metadata=True)
    try:
        chunks = list(_chunks(client, info))
    except pa.ArrowInvalid as error:  # as above, found out by the engine's optimiser
        assert "coerc" in str(error)  # noqa: PT017  # any other error fails the test
        return
    for chunk in chunks:
        assert chunk.schema.equals(info.schema, check_metadata=True)
        chunk.validate(full=True)
        for field, column in zip(info.schema, chunk.columns, strict=True):
            assert field.nullable or not column.null_count


def _chunks(client: fl.FlightClient, info: fl.FlightInfo) -> Iterator[pa.RecordBatch]:
    for endpoint in info.endpoints:
        reader = client.do_get(endpoint.ticket)
        assert reader.schema.equals(info.schema, check_metadata=True)
        yield from (chunk.data for chunk in reader)


def test_a_dot_in_a_name_is_part_of_the_name(server: RunningServer) -> None:
    run(server.lakehouse, 'CREATE TABLE "a.b" (id BIGINT)')
    with fl.connect(server.uri) as client:
        found = told(statement(client, 'SELECT id FROM "a.b"').field("id"))

    assert (found["SCHEMA_NAME"], found["TABLE_NAME"]) == ("primary", "a.b")
