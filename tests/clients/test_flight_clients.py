"""flightclient and plain pyarrow.flight: what is theirs beside what every client does; and DuckDB's types."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import duckdb
import flightclient
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from clients.samples import all_types, more_people, people
from flight.sql.commanding import act, descriptor, updated
from flight.sql.commanding import put as put_rows
from query.asking import rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import RunningServer

COMMIT, ROLLBACK = 1, 2
"""What ends a transaction or goes back to a savepoint, in Flight SQL."""

ENDLESS = "SELECT a.value FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b"
"""10^12 rows, none of which costs much: it runs until somebody stops it."""

SELECT = "SELECT * FROM things ORDER BY id"


@pytest.fixture
def client(server: RunningServer) -> Iterator[flightclient.Client]:
    """A connection of flightclient."""
    with flightclient.connect(server.uri) as opened:
        yield opened


def put(client: fl.FlightClient, path: str, table: pa.Table) -> None:
    """Sends a table by DoPut."""
    writer, _ = client.do_put(fl.FlightDescriptor.for_path(path), table.schema)
    with writer:
        writer.write_table(table)


def fetched(client: fl.FlightClient, sql: str) -> pa.Table:
    """All endpoints of a statement's answer."""
    info = client.get_flight_info(fl.FlightDescriptor.for_command(sql.encode()))
    return pa.concat_tables([client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints])


def has_ended(server: RunningServer) -> bool:
    """Whether the endless statement was cancelled, soon; fails with its state otherwise."""
    deadline = time.monotonic() + 60
    states = f"SELECT state FROM system.queries WHERE sql = '{ENDLESS}'"
    while (found := rows(server.lakehouse, states)) != [("cancelled",)]:
        if time.monotonic() > deadline:
            pytest.fail(f"the statement is {found}")
        time.sleep(0.05)
    return True


@pytest.mark.client("flightclient")
@pytest.mark.feature("every type", "bulk ingest")
def test_flightclient_sends_and_fetches_every_type(client: flightclient.Client) -> None:
    assert client.ingest(all_types(), "things").rows == 3

    assert client.query(SELECT).equals(all_types())


@pytest.mark.client("flightclient")
@pytest.mark.feature("parameters")
def test_flightclient_binds_values(client: flightclient.Client) -> None:
    client.ingest(people(), "people")

    found = client.query("SELECT id FROM people WHERE id >= ? AND name = ?", [2, "Łucja 🚀"])

    assert found.to_pylist() == [{"id": 4}]


@pytest.mark.client("flightclient")
@pytest.mark.feature("tables and columns")
def test_flightclient_lists_tables(client: flightclient.Client) -> None:
    client.ingest(people(), "people")

    assert [(table.name, table.rows) for table in client.tables()] == [("people", 4)]


@pytest.mark.client("flightclient")
@pytest.mark.feature("partitions")
def test_flightclient_reads_a_result_page_by_page(client: flightclient.Client) -> None:
    with client.pages("SELECT value FROM generate_series(1, 10) ORDER BY value", page_rows=4) as pages:
        assert [pages[number]["value"].to_pylist() for number in range(len(pages))] == [
            [1, 2, 3, 4],
            [5, 6, 7, 8],
            [9, 10],
        ]


@pytest.mark.client("pyarrow.flight")
@pytest.mark.feature("every type", "bulk ingest")
def test_plain_flight_sends_and_fetches_every_type(flight_client: fl.FlightClient) -> None:
    put(flight_client, "things", all_types())

    assert fetched(flight_client, SELECT).equals(all_types())


@pytest.mark.client("flightclient")
@pytest.mark.feature("cancel")
def test_closing_a_stream_of_flightclient_stops_its_statement(
    client: flightclient.Client, server: RunningServer
) -> None:
    stream = client.stream(ENDLESS)
    assert next(stream).num_rows > 0
    stream.close()

    assert has_ended(server)


@pytest.mark.client("pyarrow.flight")
@pytest.mark.feature("cancel")
def test_cancelling_a_reader_of_plain_flight_stops_its_statement(
    flight_client: fl.FlightClient, server: RunningServer
) -> None:
    info = flight_client.get_flight_info(fl.FlightDescriptor.for_command(ENDLESS.encode()))
    reader = flight_client.do_get(info.endpoints[0].ticket)
    assert reader.read_chunk().data.num_rows > 0
    reader.cancel()

    assert has_ended(server)


@pytest.mark.client("pyarrow.flight")
@pytest.mark.feature("parameters")
def test_plain_flight_binds_values_by_a_command_in_json(flight_client: fl.FlightClient) -> None:
    put(flight_client, "people", people())
    command = {"sql": "SELECT id FROM people WHERE id >= ? AND name = ?", "parameters": [2, "Łucja 🚀"]}

    assert fetched(flight_client, json.dumps(command)).to_pylist() == [{"id": 4}]


@pytest.mark.client("pyarrow.flight")
@pytest.mark.feature("partitions")
def test_each_page_of_a_result_is_an_endpoint_of_plain_flight(flight_client: fl.FlightClient) -> None:
    command = json.dumps({"sql": "SELECT value FROM generate_series(1, 10) ORDER BY value", "page_rows": 4})
    info = flight_client.get_flight_info(fl.FlightDescriptor.for_command(command.encode()))

    pages = [flight_client.do_get(endpoint.ticket).read_all() for endpoint in reversed(info.endpoints)]

    assert [page["value"].to_pylist() for page in pages] == [[9, 10], [5, 6, 7, 8], [1, 2, 3, 4]]


@pytest.mark.client("pyarrow.flight")
@pytest.mark.feature("bulk ingest")
def test_plain_flight_appends(flight_client: fl.FlightClient) -> None:
    put(flight_client, "people", people())
    put(flight_client, "people", more_people())

    found = fetched(flight_client, "SELECT * FROM people ORDER BY id")
    assert found.equals(pa.concat_tables([people(), more_people()]).combine_chunks())


@pytest.mark.client("pyarrow.flight")
@pytest.mark.feature("tables and columns")
def test_plain_flight_lists_tables_with_their_columns(flight_client: fl.FlightClient) -> None:
    put(flight_client, "people", people())

    [listed] = flight_client.list_flights()

    assert (listed.descriptor.path, listed.total_records) == ([b"primary", b"people"], 4)
    assert listed.schema.equals(people().schema)


@pytest.mark.client("pyarrow.flight")
@pytest.mark.feature("transactions", "savepoints")
def test_plain_flight_sends_the_messages_of_transactions_and_savepoints(flight_client: fl.FlightClient) -> None:
    put(flight_client, "people", people())
    [begun] = act(flight_client, "BeginTransaction")
    within = begun.transaction_id

    def change(sql: str) -> int:
        return updated(put_rows(flight_client, descriptor("StatementUpdate", query=sql, transaction_id=within)))

    assert change("DELETE FROM people WHERE id = 1") == 1
    [marked] = act(flight_client, "BeginSavepoint", transaction_id=within, name="one is gone")
    assert change("DELETE FROM people") == 3
    act(flight_client, "EndSavepoint", savepoint_id=marked.savepoint_id, action=ROLLBACK)
    before = fetched(flight_client, "SELECT count(*) AS n FROM people")
    act(flight_client, "EndTransaction", transaction_id=within, action=COMMIT)

    assert before.to_pylist() == [{"n": 4}]
    assert fetched(flight_client, "SELECT id FROM people ORDER BY id").to_pylist() == [{"id": 2}, {"id": 3}, {"id": 4}]


@pytest.mark.client("DuckDB")
@pytest.mark.feature("every type")
def test_duckdb_reads_every_type(connection: Any) -> None:
    with connection.cursor() as cursor, duckdb.connect() as duck:
        cursor.adbc_ingest("things", all_types(), mode="create")
        cursor.execute(SELECT)
        found = duck.from_arrow(cursor.fetch_record_batch()).to_arrow_table()

    assert found.to_pylist() == all_types().to_pylist()
