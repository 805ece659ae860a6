"""Results as several endpoints, for clients that know no page: asked for by a header, read anywhere, in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from adbc_driver_flightsql import ConnectionOptions, DatabaseOptions, StatementOptions
from flight.sql.commanding import descriptor, streams

from flightserver.errors import InvalidRequest
from flightserver.flight.advertising import Advertising
from flightserver.flight.middleware import PAGE_ROWS_HEADER

if TYPE_CHECKING:
    from conftest import RunningServer

NUMBERS = descriptor("StatementQuery", query="SELECT value AS n FROM generate_series(1, 10) ORDER BY n")


def paged(rows: str) -> fl.FlightCallOptions:
    return fl.FlightCallOptions(headers=[(PAGE_ROWS_HEADER.encode(), rows.encode())])


def test_the_header_cuts_a_result_into_endpoints(flight_client: fl.FlightClient) -> None:
    info = flight_client.get_flight_info(NUMBERS, paged("4"))

    assert [table.column("n").to_pylist() for table in streams(flight_client, info)] == [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
        [9, 10],
    ]
    assert (info.ordered, info.total_records) == (True, 10)
    assert [endpoint.locations for endpoint in info.endpoints] == [[], [], []]


def test_without_the_header_there_is_one_endpoint(flight_client: fl.FlightClient) -> None:
    assert len(flight_client.get_flight_info(NUMBERS).endpoints) == 1
    assert len(flight_client.get_flight_info(NUMBERS, paged("")).endpoints) == 1


def test_the_header_wins_over_the_session(server: RunningServer) -> None:
    session_option = f"{ConnectionOptions.OPTION_SESSION_OPTION_PREFIX.value}page_rows"
    with flightsql.connect(
        server.uri, db_kwargs={DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true"}, autocommit=True
    ) as connection:
        connection.adbc_connection.set_options(**{session_option: "5"})
        with connection.cursor() as cursor:
            by_session, _ = cursor.adbc_execute_partitions("SELECT value FROM generate_series(1, 10)")
            header = f"{StatementOptions.RPC_CALL_HEADER_PREFIX.value}{PAGE_ROWS_HEADER}"
            cursor.adbc_statement.set_options(**{header: "2"})
            by_header, _ = cursor.adbc_execute_partitions("SELECT value FROM generate_series(1, 10)")

    assert (len(by_session), len(by_header)) == (2, 5)


@pytest.mark.parametrize("rows", ["0", "-1", "many", "1.5", "nan", "9999999999"])
def test_a_header_that_is_no_number_of_rows_fails_the_call(flight_client: fl.FlightClient, rows: str) -> None:
    with pytest.raises(pa.ArrowException, match=f"The header {PAGE_ROWS_HEADER}: expected a (whole )?number"):
        flight_client.get_flight_info(NUMBERS, paged(rows))


def test_partitions_are_read_by_other_connections_in_any_order_and_again(server: RunningServer) -> None:
    header = f"{StatementOptions.RPC_CALL_HEADER_PREFIX.value}{PAGE_ROWS_HEADER}"
    with flightsql.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{header: "3"})
        partitions, schema = cursor.adbc_execute_partitions("SELECT value AS n FROM generate_series(1, 10) ORDER BY n")

    read: dict[int, list[list[int]]] = {}
    for place in [3, 0, 2, 1, 2]:
        with flightsql.connect(server.uri, autocommit=True) as other, other.cursor() as cursor:
            cursor.adbc_read_partition(partitions[place])
            table = cursor.fetch_arrow_table()
            read.setdefault(place, []).append(table.column("n").to_pylist())
            assert table.schema.equals(schema, check_metadata=True)

    assert read == {0: [[1, 2, 3]], 1: [[4, 5, 6]], 2: [[7, 8, 9], [7, 8, 9]], 3: [[10]]}


def test_endpoints_carry_the_advertised_location(flight_client: fl.FlightClient) -> None:
    info = flight_client.get_flight_info(NUMBERS, paged("4"))

    located = Advertising("grpc+tls://lake.example:443").located(info)

    assert [one.locations for one in located.endpoints] == [[fl.Location("grpc+tls://lake.example:443")]] * 3
    assert [one.ticket for one in located.endpoints] == [one.ticket for one in info.endpoints]
    assert [one.expiration_time for one in located.endpoints] == [one.expiration_time for one in info.endpoints]
    assert (located.ordered, located.total_records, located.total_bytes, located.app_metadata) == (
        info.ordered,
        info.total_records,
        info.total_bytes,
        info.app_metadata,
    )
    assert located.schema.equals(info.schema, check_metadata=True)
    assert Advertising("").located(info) is info


@pytest.mark.parametrize("uri", ["lake.example:443", "http://lake.example", "grpc://[broken"])
def test_an_advertised_location_that_no_client_could_use_is_refused(uri: str) -> None:
    with pytest.raises(InvalidRequest, match=r"server\.advertise"):
        Advertising(uri)
