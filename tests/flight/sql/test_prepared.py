"""What is kept of prepared statements, and values that are hard to bind."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from flight.sql.commanding import descriptor, prepare, put, streams

from flightserver.errors import LimitExceeded, NotFound
from flightserver.flight.sql.prepared import PreparedStatements


def rows(count: int) -> pa.RecordBatch:
    """Rows of 8 bytes each."""
    return pa.RecordBatch.from_pydict({"1": list(range(count))})


def test_statements_used_longest_ago_make_room_for_others() -> None:
    prepared = PreparedStatements(max_bytes=1000)
    old, used, new = (prepared.create("SELECT $1") for _ in range(3))
    prepared.bind(old, rows(50))
    prepared.bind(used, rows(50))
    prepared.get(used)

    prepared.bind(new, rows(50))

    assert prepared.size == 2 * (len("SELECT $1") + 400)
    with pytest.raises(NotFound, match="make room for others: prepare it again"):
        prepared.get(old)
    assert [prepared.get(handle).parameters for handle in (used, new)] == [rows(50), rows(50)]


def test_rows_that_alone_are_too_many_are_refused_and_those_before_stay() -> None:
    prepared = PreparedStatements(max_bytes=1000)
    handle = prepared.create("SELECT $1")
    prepared.bind(handle, rows(2))

    with pytest.raises(LimitExceeded, match="may have 1,000: bind fewer rows"):
        prepared.bind(handle, rows(1000))

    assert prepared.get(handle).parameters == rows(2)


def test_closing_gives_the_room_back() -> None:
    prepared = PreparedStatements(max_bytes=1000)
    handle = prepared.create("SELECT $1", substrait=b"plan")
    prepared.bind(handle, rows(10))
    assert prepared.size == len("SELECT $1") + len(b"plan") + 80

    prepared.close(handle)
    prepared.close(handle)

    assert prepared.size == 0


def test_a_statement_that_was_not_used_for_an_hour_is_forgotten() -> None:
    now = 0.0
    prepared = PreparedStatements(max_bytes=1000, clock=lambda: now)
    handle = prepared.create("SELECT 1")
    now = 3601.0

    prepared.create("SELECT 2")

    with pytest.raises(NotFound, match="not used for an hour"):
        prepared.get(handle)
    assert prepared.size == len("SELECT 2")


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int64()),
        pa.list_(pa.string()),
        pa.large_list(pa.int64()),
        pa.null(),
        pa.map_(pa.string(), pa.int8()),
    ],
    ids=str,
)
def test_a_null_list_can_be_bound(flight_client: fl.FlightClient, kind: pa.DataType) -> None:
    prepared = prepare(flight_client, query="SELECT $1 IS NULL AS missing")
    asked = descriptor("PreparedStatementQuery", prepared_statement_handle=prepared.handle)
    put(flight_client, asked, pa.RecordBatch.from_arrays([pa.nulls(2, kind)], names=["1"]))

    (table,) = streams(flight_client, flight_client.get_flight_info(asked))

    assert table.to_pydict() == {"missing": [True, True]}


def test_null_lists_are_inserted_beside_others(flight_client: fl.FlightClient) -> None:
    put(flight_client, descriptor("StatementUpdate", query="CREATE TABLE bags (things BIGINT[])"))
    prepared = prepare(flight_client, query="INSERT INTO bags VALUES ($1)")
    sent = pa.RecordBatch.from_arrays([pa.array([None, [1, None], []], pa.list_(pa.int64()))], names=["1"])
    put(flight_client, descriptor("PreparedStatementUpdate", prepared_statement_handle=prepared.handle), sent)

    info = flight_client.get_flight_info(descriptor("StatementQuery", query="SELECT things FROM bags"))

    assert streams(flight_client, info)[0].to_pydict() == {"things": [None, [1, None], []]}


def test_who_has_most_of_what_is_kept_makes_room_by_own_statements() -> None:
    prepared = PreparedStatements(max_bytes=1000)
    theirs = prepared.create("SELECT 1", user="ada")
    mine = [prepared.create("SELECT " + "1" * 300, user="eve") for _ in range(4)]

    assert prepared.get(theirs, "ada").sql == "SELECT 1"
    with pytest.raises(NotFound):
        prepared.get(mine[0], "eve")
    with pytest.raises(NotFound):
        prepared.get(theirs, "eve")
    prepared.close(theirs, "eve")
    assert prepared.get(theirs, "ada").sql == "SELECT 1"
