"""What people get who have only pyarrow.flight: paths, SQL text, JSON, pages, DoPut and DoExchange."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from query.engine_streams import engine_watched

from flightserver.flight.sql.protocol import FLIGHT_PACKAGE, message_class, parse
from flightserver.flight.sql.results import CancelStatus

if TYPE_CHECKING:
    from conftest import RunningServer

COMMAND = fl.FlightDescriptor.for_command
PATH = fl.FlightDescriptor.for_path

PEOPLE = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "name": ["Ada", None, "Grace"]})


def read(client: fl.FlightClient, descriptor: fl.FlightDescriptor) -> pa.Table:
    """Everything that a descriptor answers, in order."""
    info = client.get_flight_info(descriptor)
    tables = [client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints]
    assert all(table.schema.equals(info.schema, check_metadata=True) for table in tables)
    return pa.concat_tables(tables)


def sql(client: fl.FlightClient, text: str, **options: Any) -> pa.Table:
    """The answer to SQL, with options as JSON."""
    return read(client, COMMAND(json.dumps({"sql": text, **options}) if options else text))


def put(client: fl.FlightClient, descriptor: fl.FlightDescriptor, table: pa.Table) -> Any:
    """Send a table; returns the server's last answer."""
    writer, answers = client.do_put(descriptor, table.schema)
    with writer:
        writer.write_table(table)
        writer.done_writing()
        answer = None
        while (buffer := answers.read()) is not None:
            answer = json.loads(buffer.to_pybytes())
    return answer


def act(client: fl.FlightClient, action: str, **body: Any) -> Any:
    """The last result of an action."""
    return json.loads(list(client.do_action((action, json.dumps(body).encode())))[-1].body.to_pybytes())["result"]


def test_a_table_is_put_and_read_by_its_path(flight_client: fl.FlightClient) -> None:
    answer = put(flight_client, PATH("people"), PEOPLE)

    assert answer == answer | {"dataset": "people", "bucket": "primary", "rows": 3, "unchanged": False}
    assert read(flight_client, PATH("people")) == PEOPLE
    assert read(flight_client, PATH("primary", "people")) == PEOPLE
    assert flight_client.get_schema(PATH("people")).schema == PEOPLE.schema


def test_a_second_put_appends_and_json_says_otherwise(flight_client: fl.FlightClient) -> None:
    put(flight_client, PATH("people"), PEOPLE)
    put(flight_client, PATH("people"), PEOPLE)
    assert sql(flight_client, "SELECT count(*) AS n FROM people").to_pydict() == {"n": [6]}

    put(flight_client, COMMAND('{"ingest": "people", "mode": "replace"}'), PEOPLE.select(["id"]))
    assert read(flight_client, PATH("people")) == PEOPLE.select(["id"])

    with pytest.raises(pa.ArrowInvalid, match=r'column "name": data has string, dataset has no such column.*FS-1006'):
        put(flight_client, PATH("people"), PEOPLE)
    put(flight_client, COMMAND('{"ingest": "people", "mode": "append", "evolve": true}'), PEOPLE)
    assert sql(flight_client, "SELECT name FROM people ORDER BY name").column("name").to_pylist() == [
        "Ada", "Grace", None, None, None, None,
    ]  # fmt: skip


def test_the_flights_are_the_tables(flight_client: fl.FlightClient) -> None:
    put(flight_client, PATH("people"), PEOPLE)
    put(flight_client, PATH("animals"), PEOPLE.slice(1))

    flights = {tuple(info.descriptor.path): info for info in flight_client.list_flights()}

    assert set(flights) == {(b"primary", b"people"), (b"primary", b"animals")}
    assert flights[b"primary", b"animals"].total_records == 2
    table = flight_client.do_get(flights[b"primary", b"animals"].endpoints[0].ticket).read_all()
    assert table == PEOPLE.slice(1)


def test_a_ticket_reads_what_was_there_when_it_was_given(flight_client: fl.FlightClient) -> None:
    put(flight_client, PATH("people"), PEOPLE)
    by_path = flight_client.get_flight_info(PATH("people")).endpoints[0].ticket
    by_sql = flight_client.get_flight_info(COMMAND("SELECT * FROM people")).endpoints[0].ticket
    put(flight_client, PATH("people"), PEOPLE)
    sql(flight_client, "DROP TABLE people")

    assert flight_client.do_get(by_path).read_all() == PEOPLE
    assert flight_client.do_get(by_sql).read_all() == PEOPLE
    assert flight_client.do_get(by_sql).read_all() == PEOPLE


def test_json_binds_parameters_and_travels_in_time(flight_client: fl.FlightClient) -> None:
    version = put(flight_client, PATH("people"), PEOPLE)["version"]
    sql(flight_client, "TRUNCATE people")

    query = "SELECT name FROM people WHERE id = ?"
    assert sql(flight_client, query, parameters=[3], as_of=version).to_pydict() == {"name": ["Grace"]}
    assert sql(flight_client, query, parameters=[3]).to_pydict() == {"name": []}
    named = sql(flight_client, "SELECT $a || $b AS ab", parameters={"b": "2", "a": "1"})
    assert named.to_pydict() == {"ab": ["12"]}


def test_a_hundred_thousand_rows_are_a_thousand_pages_in_any_order(flight_client: fl.FlightClient) -> None:
    query = "SELECT value AS a, 'v' || value AS b FROM generate_series(0, 99999) ORDER BY value"
    info = flight_client.get_flight_info(COMMAND(json.dumps({"sql": query, "page_rows": 100})))
    facts = json.loads(info.app_metadata)

    assert len(info.endpoints) == facts["pages"] == 1000
    assert info.total_records == facts["rows"] == 100_000
    assert info.ordered
    numbers = random.sample(range(1000), 50)
    for number in [*numbers, *numbers]:
        page = flight_client.do_get(info.endpoints[number].ticket).read_all()
        assert page.column("a").to_pylist() == list(range(number * 100, number * 100 + 100))
    handwritten = json.dumps({"query_id": facts["query_id"], "page": 2, "page_rows": 40_000})
    last = flight_client.do_get(fl.Ticket(handwritten)).read_all()
    assert last.column("b").to_pylist() == [f"v{number}" for number in range(80_000, 100_000)]
    assert read(flight_client, COMMAND(json.dumps({"sql": query, "page_rows": 9_999}))) == sql(flight_client, query)


def test_a_paged_result_is_renewed_and_freed(flight_client: fl.FlightClient) -> None:
    info = flight_client.get_flight_info(COMMAND('{"sql": "SELECT 1 AS a", "page_rows": 1}'))

    renewal = message_class(f"{FLIGHT_PACKAGE}.RenewFlightEndpointRequest")()
    renewal.endpoint.MergeFromString(info.endpoints[0].serialize())
    (renewed,) = flight_client.do_action(("RenewFlightEndpoint", renewal.SerializeToString()))
    cancellation = message_class(f"{FLIGHT_PACKAGE}.CancelFlightInfoRequest")()
    cancellation.info.MergeFromString(info.serialize())
    (cancelled,) = flight_client.do_action(("CancelFlightInfo", cancellation.SerializeToString()))

    endpoint = fl.FlightEndpoint.deserialize(renewed.body.to_pybytes())
    assert endpoint.ticket == info.endpoints[0].ticket
    assert endpoint.expiration_time.as_py() >= info.endpoints[0].expiration_time.as_py()
    result = parse(f"{FLIGHT_PACKAGE}.CancelFlightInfoResult", cancelled.body.to_pybytes())
    assert result.status == CancelStatus.CANCELLED
    with pytest.raises(pa.lib.ArrowKeyError, match="was closed"):
        flight_client.do_get(info.endpoints[0].ticket).read_all()


def test_results_can_be_made_and_closed_by_actions(flight_client: fl.FlightClient) -> None:
    made = act(flight_client, "result.create", sql="SELECT * FROM generate_series(1, 10)", page_rows=4)

    assert (made["rows"], made["pages"], made["page_rows"]) == (10, 3, 4)
    ticket = fl.Ticket(json.dumps({"query_id": made["query_id"], "page": 2}))
    assert flight_client.do_get(ticket).read_all().to_pydict() == {"value": [9, 10]}
    act(flight_client, "result.close", query_id=made["query_id"])
    with pytest.raises(pa.lib.ArrowKeyError, match="was closed"):
        flight_client.do_get(ticket).read_all()


def test_sql_runs_against_the_rows_that_come_with_it(flight_client: fl.FlightClient) -> None:
    put(flight_client, PATH("people"), PEOPLE)
    text = "SELECT p.name, i.score FROM input AS i JOIN people AS p ON p.id = i.id ORDER BY score"
    writer, reader = flight_client.do_exchange(COMMAND(text))
    rows = pa.table({"id": [3, 1, 9], "score": [0.5, 1.5, 2.5]})
    with writer:
        writer.begin(rows.schema)
        writer.write_table(rows)
        writer.done_writing()
        answer = reader.read_all()

    assert answer.to_pydict() == {"name": ["Grace", "Ada"], "score": [0.5, 1.5]}


def test_an_insert_runs_once_however_often_its_ticket_is_fetched(flight_client: fl.FlightClient) -> None:
    put(flight_client, PATH("people"), PEOPLE)
    descriptor = COMMAND("INSERT INTO people VALUES (9, 'Once')")
    info = flight_client.get_flight_info(descriptor)
    assert flight_client.get_schema(descriptor).schema == info.schema
    assert sql(flight_client, "SELECT count(*) AS n FROM people").to_pydict() == {"n": [3]}

    counts = [flight_client.do_get(info.endpoints[0].ticket).read_all().to_pydict() for _ in range(3)]

    assert counts == [{"count": [1]}] * 3
    assert sql(flight_client, "SELECT count(*) AS n FROM people").to_pydict() == {"n": [4]}


def test_a_query_whose_client_goes_away_is_stopped(server: RunningServer, flight_client: fl.FlightClient) -> None:
    endless = "SELECT count(*) FROM generate_series(1, 1000000000000) WHERE value % 7 = 0"
    script = f"""if True:
        import pyarrow.flight as fl
        client = fl.connect({server.uri!r})
        client.do_get(client.get_flight_info(fl.FlightDescriptor.for_command({endless!r})).endpoints[0].ticket).read_all()
    """
    states = f"SELECT state FROM system.queries WHERE sql = '{endless}'"

    def state_becomes(state: str) -> bool:
        deadline = time.monotonic() + 60
        while sql(flight_client, states).column("state").to_pylist() != [state] and time.monotonic() < deadline:
            time.sleep(0.02)
        return time.monotonic() < deadline

    with engine_watched() as ended:
        with subprocess.Popen([sys.executable, "-c", script]) as client:  # our own script
            assert state_becomes("running")
            client.kill()

        assert state_becomes("cancelled")
        assert ended()


def test_actions_describe_change_and_forget_datasets(flight_client: fl.FlightClient) -> None:
    put(flight_client, PATH("people"), PEOPLE)
    put(flight_client, PATH("people"), PEOPLE)

    described = act(flight_client, "dataset.describe", dataset="people")
    history = act(flight_client, "dataset.history", dataset="people")
    pinned = act(flight_client, "cache.pin", dataset="people")

    assert described["rows"] == 6
    assert described["columns"][1] == {"name": "name", "type": "string", "nullable": True}
    assert [version["rows"] for version in history["versions"]] == [6, 3]
    assert [entry["dataset"] for entry in pinned["entries"]] == ["people"]
    assert sql(flight_client, "SELECT count(*) AS n FROM people").to_pydict() == {"n": [6]}
    assert act(flight_client, "cache.evict")["entries"] == []
    act(flight_client, "dataset.drop", dataset="people")
    assert not list(flight_client.list_flights())


def test_every_action_is_listed_with_its_schemas(flight_client: fl.FlightClient) -> None:
    listed = {action.type: action.description for action in flight_client.list_actions()}

    ours = {name: text for name, text in listed.items() if "." in name}
    assert {"ingest.file", "result.create", "dataset.describe", "cache.stats", "bucket.list"} <= set(ours)
    for text in ours.values():
        assert set(json.loads(text[text.index("{") :])) == {"request", "response"}
