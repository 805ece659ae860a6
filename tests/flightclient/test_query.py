"""Statements and streams through the typed client."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from flightclient.errors import InvalidRequest

if TYPE_CHECKING:
    from conftest import RunningServer
    from flightclient import Client

SERIES = "SELECT value FROM generate_series(1, {rows})"


def test_a_query_answers_a_table(client: Client) -> None:
    assert client.query("SELECT 1 AS one, 'a' AS letter").to_pylist() == [{"one": 1, "letter": "a"}]


def test_a_query_without_rows_answers_its_columns(client: Client) -> None:
    table = client.query("SELECT 1 AS one WHERE false")

    assert (table.num_rows, table.column_names) == (0, ["one"])


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT ? + ? AS n", [40, 2]),
        ("SELECT $2 + $1 AS n", (40, 2)),
        ("SELECT $b + $a AS n", {"a": 40, "b": 2}),
    ],
)
def test_parameters_are_bound_by_place_or_by_name(
    client: Client, sql: str, parameters: list[int] | dict[str, int]
) -> None:
    assert client.query(sql, parameters)["n"].to_pylist() == [42]


@pytest.mark.parametrize("value", [date(2026, 1, 1), b"bytes", float("nan")])
def test_a_parameter_that_json_has_no_form_for_is_refused_before_it_is_sent(client: Client, value: object) -> None:
    with pytest.raises(InvalidRequest, match="send it as text and cast it in SQL"):
        client.query("SELECT ?", [value])  # type: ignore[list-item]  # what is refused


def test_a_statement_that_changes_data_answers_its_count(client: Client) -> None:
    assert client.query("CREATE TABLE t AS SELECT * FROM (VALUES (1), (2)) AS v (n)").to_pylist() == [{"count": 2}]


def test_as_of_reads_the_tables_as_they_were(client: Client) -> None:
    first = client.ingest(pa.table({"n": [1]}), "t")
    between = datetime.now(UTC)
    client.ingest(pa.table({"n": [2]}), "t")

    counts = [client.query("SELECT * FROM t", as_of=as_of).num_rows for as_of in (None, first.version, between)]

    assert counts == [2, 1, 1]


def test_a_stream_has_its_schema_before_its_rows(client: Client) -> None:
    with client.stream(SERIES.format(rows=100_000)) as stream:
        assert stream.schema.names == ["value"]
        sizes = [batch.num_rows for batch in stream]

    assert sum(sizes) == 100_000
    assert len(sizes) > 1


def test_a_stream_is_read_by_whatever_reads_arrow_streams(client: Client) -> None:
    stream = client.stream(SERIES.format(rows=1000))

    assert pa.RecordBatchReader.from_stream(stream).read_all().num_rows == 1000


def test_a_stream_that_is_closed_stops_its_statement(client: Client, server: RunningServer) -> None:
    with client.stream(SERIES.format(rows=10**9)) as stream:
        next(stream)

    deadline = time.monotonic() + 10
    while server.lakehouse.gate.admission.counts().running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.lakehouse.gate.admission.counts().running == 0


def test_a_closed_stream_may_be_closed_again_and_is_at_its_end(client: Client) -> None:
    stream = client.stream(SERIES.format(rows=100_000))
    next(stream)
    stream.close()
    stream.close()

    assert list(stream) == []


def test_an_error_in_the_middle_of_a_stream_is_raised_where_it_is_read(client: Client) -> None:
    stream = client.stream("SELECT 10 / (value - 90000) AS n FROM generate_series(1, 100000)")

    with pytest.raises(InvalidRequest, match="Divide by zero"):
        stream.read_all()


def test_tables_are_listed_with_their_facts(client: Client) -> None:
    client.ingest(pa.table({"n": [1, 2, 3]}), "t")

    (table,) = client.tables()

    assert (table.bucket, table.name, table.rows, table.schema.names) == ("primary", "t", 3, ["n"])
    assert table.bytes > 0
