"""Statements that change data run once for each ticket, whatever a client asks before, between and after."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow.flight as fl
import pytest
from flight.sql.commanding import descriptor, prepare, put, streams, updated
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from query.asking import bound, many_bound, run

from flightserver.flight.listening import Listener
from flightserver.flight.service import Service
from flightserver.lakehouse import Lakehouse

if TYPE_CHECKING:
    import pyarrow as pa
    from conftest import RunningServer

    from flightserver.settings import Settings

INSERT = "INSERT INTO ticks VALUES (1)"


@pytest.fixture(autouse=True)
def ticks(lakehouse: Lakehouse) -> None:
    """An empty table, whose rows are the runs."""
    run(lakehouse, "CREATE TABLE ticks (n BIGINT)")


def runs(lakehouse: Lakehouse) -> int:
    return len(run(lakehouse, "SELECT n FROM ticks"))


def counts(tables: list[pa.Table]) -> list[int]:
    return [row["count"] for table in tables for row in table.to_pylist()]


def test_describing_a_statement_runs_nothing(flight_client: fl.FlightClient, lakehouse: Lakehouse) -> None:
    for command in ("StatementQuery", "StatementUpdate"):
        asked = descriptor(command, query=INSERT)
        for _ in range(2):
            flight_client.get_flight_info(asked)
            flight_client.get_schema(asked)
    prepare(flight_client, query=INSERT)

    assert runs(lakehouse) == 0


def test_each_ticket_runs_once_and_answers_its_count_again(
    flight_client: fl.FlightClient, lakehouse: Lakehouse
) -> None:
    asked = descriptor("StatementQuery", query="INSERT INTO ticks VALUES (1), (2)")
    first, second = flight_client.get_flight_info(asked), flight_client.get_flight_info(asked)

    assert counts(streams(flight_client, first) + streams(flight_client, first)) == [2, 2]
    assert runs(lakehouse) == 2
    assert counts(streams(flight_client, second)) == [2]
    assert runs(lakehouse) == 4


@pytest.mark.parametrize(
    ("statement", "count"), [("DROP TABLE IF EXISTS later", 0), ("UPDATE ticks SET n = 2 WHERE n = 1", 0)]
)
def test_a_ticket_that_changed_nothing_runs_once_though_the_server_was_restarted(
    settings: Settings, lakehouse: Lakehouse, server: RunningServer, statement: str, count: int
) -> None:
    """It isn't in the data that it has run: what it would have changed comes later."""
    asked = descriptor("StatementQuery", query=statement)
    with fl.connect(server.uri) as client:
        info = client.get_flight_info(asked)
        assert counts(streams(client, info)) == [count]
    run(lakehouse, "CREATE TABLE later (n BIGINT)")
    run(lakehouse, INSERT)
    server.flight.stop(grace_seconds=10)
    lakehouse.close()

    with Lakehouse.open(settings) as again:
        listener = Listener(Service(again), "127.0.0.1", 0)
        try:
            with fl.connect(listener.uri) as client:
                assert counts(streams(client, info)) == [count]
        finally:
            listener.stop(grace_seconds=10)
        assert run(again, "SELECT n FROM ticks").column("n").to_pylist() == [1]
        assert run(again, "SELECT n FROM later").num_rows == 0


def test_each_update_sent_runs_once(flight_client: fl.FlightClient, lakehouse: Lakehouse) -> None:
    asked = descriptor("StatementUpdate", query=INSERT)

    assert [updated(put(flight_client, asked)) for _ in range(2)] == [1, 1]
    assert runs(lakehouse) == 2


def test_a_prepared_update_runs_once_for_all_rows_that_are_sent(
    flight_client: fl.FlightClient, lakehouse: Lakehouse
) -> None:
    prepared = prepare(flight_client, query="INSERT INTO ticks VALUES ($1)")
    asked = descriptor("PreparedStatementUpdate", prepared_statement_handle=prepared.handle)

    assert prepared.is_update
    assert updated(put(flight_client, asked, many_bound([1, 2, 3]))) == 3
    assert runs(lakehouse) == 3


def test_a_prepared_update_that_is_queried_runs_once_for_each_ticket(
    flight_client: fl.FlightClient, lakehouse: Lakehouse
) -> None:
    prepared = prepare(flight_client, query="INSERT INTO ticks VALUES ($1)")
    asked = descriptor("PreparedStatementQuery", prepared_statement_handle=prepared.handle)
    put(flight_client, asked, bound(7))
    info = flight_client.get_flight_info(asked)
    flight_client.get_schema(asked)

    assert counts(streams(flight_client, info) + streams(flight_client, info)) == [1, 1]
    assert runs(lakehouse) == 1


def test_drivers_run_each_statement_once(server: RunningServer, lakehouse: Lakehouse) -> None:
    seen = []
    with flightsql.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(INSERT)
        seen.append(runs(lakehouse))
        cursor.execute("INSERT INTO ticks VALUES (?)", (2,))
        seen.append(runs(lakehouse))
        cursor.executemany("INSERT INTO ticks VALUES (?)", [(3,), (4,)])
        seen.append(runs(lakehouse))
        cursor.adbc_statement.set_sql_query(INSERT)
        changed = cursor.adbc_statement.execute_update()
        seen.append(runs(lakehouse))
        cursor.execute("UPDATE ticks SET n = n + 1")
        cursor.execute("DELETE FROM ticks WHERE n = 2")

    assert (seen, changed) == ([1, 2, 4, 5], 1)
    assert sorted(run(lakehouse, "SELECT n FROM ticks").column("n").to_pylist()) == [3, 4, 5]


_numbers = count()

STEPS = st.lists(
    st.tuples(st.sampled_from(["describe", "ticket", "fetch", "send", "bind", "bound ticket"]), st.integers(0, 9)),
    max_size=12,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=STEPS)
def test_any_order_of_calls_runs_each_ticket_once(
    flight_client: fl.FlightClient, lakehouse: Lakehouse, steps: list[tuple[str, int]]
) -> None:
    """The model: tickets that were given out, with the rows that each adds, and those that were fetched."""
    table = f"model_{next(_numbers)}"
    run(lakehouse, f"CREATE TABLE {table} (n BIGINT)")
    plain = f"INSERT INTO {table} VALUES (1)"
    prepared = prepare(flight_client, query=f"INSERT INTO {table} VALUES ($1)")
    by_handle = descriptor("PreparedStatementQuery", prepared_statement_handle=prepared.handle)
    put(flight_client, by_handle, many_bound([0]))
    rows_bound, expected = 1, 0
    tickets: list[tuple[fl.FlightInfo, int]] = []
    fetched: set[int] = set()
    for step, number in steps:
        match step:
            case "describe":
                flight_client.get_schema(descriptor("StatementQuery", query=plain))
                flight_client.get_schema(by_handle)
            case "ticket":
                tickets.append((flight_client.get_flight_info(descriptor("StatementQuery", query=plain)), 1))
            case "bind":
                rows_bound = number + 1
                put(flight_client, by_handle, many_bound(list(range(rows_bound))))
            case "bound ticket":
                tickets.append((flight_client.get_flight_info(by_handle), rows_bound))
            case "send":
                assert updated(put(flight_client, descriptor("StatementUpdate", query=plain))) == 1
                expected += 1
            case "fetch" if tickets:
                place = number % len(tickets)
                info, rows = tickets[place]
                assert counts(streams(flight_client, info)) == [rows]
                expected += 0 if place in fetched else rows
                fetched.add(place)
        assert _rows(lakehouse, table) == expected


def _rows(lakehouse: Lakehouse, table: str) -> Any:
    return run(lakehouse, f"SELECT count(*) AS n FROM {table}").column("n")[0].as_py()  # our own name
