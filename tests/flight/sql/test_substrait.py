"""Substrait plans over the wire: as statements, prepared, from tickets, and what the server says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from flight.sql.commanding import act, descriptor, prepare, put, streams
from query.asking import bound, run
from query.substrait_plans import plan

from flightserver.flight.listening import Listener
from flightserver.flight.service import Service
from flightserver.lakehouse import Lakehouse
from flightserver.query.substrait import MAX_VERSION, MIN_VERSION

if TYPE_CHECKING:
    from conftest import RunningServer

    from flightserver.settings import Settings

QUERY = "SELECT name FROM people WHERE id > 1 ORDER BY id"


@pytest.fixture(autouse=True)
def people(lakehouse: Lakehouse) -> None:
    """A table."""
    run(lakehouse, "CREATE TABLE people (id BIGINT NOT NULL, name VARCHAR)")
    run(lakehouse, "INSERT INTO people VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Edsger')")


def names(tables: list[pa.Table]) -> list[str]:
    return [name for table in tables for name in table.column("name").to_pylist()]


def test_a_plan_is_described_and_fetched_as_a_statement_is(flight_client: fl.FlightClient) -> None:
    asked = descriptor("StatementSubstraitPlan", plan={"plan": plan(QUERY), "version": MAX_VERSION})

    info = flight_client.get_flight_info(asked)
    schema = flight_client.get_schema(asked).schema
    tables = streams(flight_client, info)

    assert names(tables) == ["Grace", "Edsger"]
    assert schema.equals(info.schema, check_metadata=True)
    assert tables[0].schema.equals(info.schema, check_metadata=True)
    assert info.schema.field("name").metadata[b"ARROW:FLIGHT:SQL:TABLE_NAME"] == b"people"
    assert names(streams(flight_client, info)) == ["Grace", "Edsger"]


def test_a_prepared_plan_is_run_with_each_value_bound(flight_client: fl.FlightClient) -> None:
    data = plan("SELECT name FROM people WHERE id = $1")
    prepared = prepare(flight_client, "CreatePreparedSubstraitPlan", plan={"plan": data, "version": ""})
    asked = descriptor("PreparedStatementQuery", prepared_statement_handle=prepared.handle)

    found = []
    for number in (3, 1):
        put(flight_client, asked, bound(number))
        found += names(streams(flight_client, flight_client.get_flight_info(asked)))

    assert found == ["Edsger", "Ada"]
    assert not prepared.is_update
    assert prepared.schema is not None
    assert prepared.schema.equals(flight_client.get_schema(asked).schema, check_metadata=True)
    act(flight_client, "ClosePreparedStatement", prepared_statement_handle=prepared.handle)
    with pytest.raises(KeyError, match="prepare it again"):
        flight_client.get_flight_info(asked)


def test_a_plan_sees_the_writes_of_its_transaction(flight_client: fl.FlightClient) -> None:
    (begun,) = act(flight_client, "BeginTransaction")
    put(flight_client, descriptor("StatementUpdate", query="DELETE FROM people", transaction_id=begun.transaction_id))
    fields = {"plan": {"plan": plan(QUERY), "version": ""}}

    inside = descriptor("StatementSubstraitPlan", transaction_id=begun.transaction_id, **fields)
    outside = descriptor("StatementSubstraitPlan", **fields)

    assert names(streams(flight_client, flight_client.get_flight_info(inside))) == []
    assert names(streams(flight_client, flight_client.get_flight_info(outside))) == ["Grace", "Edsger"]


def test_a_ticket_of_a_plan_outlives_the_server_that_made_it(settings: Settings, lakehouse: Lakehouse) -> None:
    first = Listener(Service(lakehouse), "127.0.0.1", 0)
    with fl.connect(first.uri) as client:
        info = client.get_flight_info(descriptor("StatementSubstraitPlan", plan={"plan": plan(QUERY), "version": ""}))
    first.stop(grace_seconds=10)

    with Lakehouse.open(settings) as again:
        run(again, "DELETE FROM people")
        second = Listener(Service(again), "127.0.0.1", 0)
        with fl.connect(second.uri) as client:
            (table,) = streams(client, info)
        second.stop(grace_seconds=10)

    assert table.column("name").to_pylist() == ["Grace", "Edsger"]
    assert table.schema.equals(info.schema, check_metadata=True)


def test_queries_list_a_plan_by_its_size(server: RunningServer, flight_client: fl.FlightClient) -> None:
    data = plan(QUERY)
    asked = descriptor("StatementSubstraitPlan", plan={"plan": data, "version": ""})
    streams(flight_client, flight_client.get_flight_info(asked))

    listed = run(server.lakehouse, "SELECT sql FROM system.queries WHERE sql LIKE 'substrait%'").to_pylist()

    assert listed == [{"sql": f"substrait plan of {len(data)} bytes"}]


def test_a_plan_can_be_neither_sent_as_an_update_nor_of_another_release(flight_client: fl.FlightClient) -> None:
    data = plan(QUERY)

    with pytest.raises(pa.ArrowInvalid, match="it reads, use GetFlightInfo"):
        put(flight_client, descriptor("StatementSubstraitPlan", plan={"plan": data, "version": ""}))
    with pytest.raises(pa.ArrowInvalid, match=r"plans of .* can be read"):
        flight_client.get_flight_info(descriptor("StatementSubstraitPlan", plan={"plan": data, "version": "2.0.0"}))
    with pytest.raises(pa.ArrowInvalid, match="doesn't decode"):
        flight_client.get_flight_info(descriptor("StatementSubstraitPlan", plan={"plan": b"\x00", "version": ""}))


def test_the_server_says_which_releases_it_reads(flight_client: fl.FlightClient) -> None:
    (table,) = streams(flight_client, flight_client.get_flight_info(descriptor("GetSqlInfo", info=[5, 6, 7])))
    facts = {row["info_name"]: row["value"] for row in table.to_pylist()}

    assert facts == {5: True, 6: MIN_VERSION, 7: MAX_VERSION}
