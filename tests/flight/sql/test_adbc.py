"""The metadata tables, sessions and errors as a real driver, ADBC for Flight SQL, reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import adbc_driver_manager
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from adbc_driver_flightsql import ConnectionOptions, DatabaseOptions
from adbc_driver_flightsql import dbapi as flightsql

from flightserver.errors import CommitConflict, InvalidRequest
from flightserver.flight.middleware import MIDDLEWARE, CallMiddlewareFactory, OpenHandshake, call_context, send_session
from flightserver.flight.sql import messages as m
from flightserver.flight.sql import metadata, results
from flightserver.flight.sql.decoding import decode_action, decode_command
from flightserver.flight.sql.info import Limits, sql_info
from flightserver.flight.sql.metadata import SchemaRow, TableRow
from flightserver.flight.sql.sessions import Sessions
from flightserver.flight.sql.types import xdbc_type_info
from flightserver.flight.status import translated

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = Limits(prepared_seconds=3600, transaction_seconds=3600, statement_bytes=4096)
COLUMNS = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("price", pa.decimal128(10, 2))])
TABLES = [
    TableRow("lakehouse", "public", "orders", "TABLE", lambda: COLUMNS),
    TableRow("lakehouse", "system", "queries", "SYSTEM TABLE", lambda: COLUMNS),
]
SCHEMAS = [SchemaRow("lakehouse", "public"), SchemaRow("lakehouse", "system")]


def answer(command: m.Command | None) -> pa.Table:
    match command:
        case m.GetSqlInfo(info):
            return sql_info(info, LIMITS)
        case m.GetCatalogs():
            return metadata.catalogs(["lakehouse"])
        case m.GetDbSchemas():
            return metadata.db_schemas(metadata.matching_schemas(command, SCHEMAS))
        case m.GetTables():
            return metadata.tables(metadata.matching_tables(command, TABLES), include_schema=command.include_schema)
        case m.GetTableTypes():
            return metadata.table_types(row.kind for row in TABLES)
        case m.GetXdbcTypeInfo(data_type):
            return xdbc_type_info(data_type)
        case m.StatementQuery("conflict"):
            raise CommitConflict("orders has changed; a retry is safe", details={"dataset": "orders"})
        case _:
            raise InvalidRequest(f"not in this test: {command}")


class MetadataServer(fl.FlightServerBase):
    """Answers metadata commands and keeps sessions; has no data."""

    def __init__(self) -> None:
        self.sessions = Sessions()
        super().__init__(
            "grpc://127.0.0.1:0",
            auth_handler=OpenHandshake(),
            middleware={MIDDLEWARE: CallMiddlewareFactory(self.sessions)},
        )

    @translated("GetFlightInfo")
    def get_flight_info(self, _context: Any, descriptor: Any) -> Any:
        table = answer(decode_command(descriptor.command))
        return fl.FlightInfo(table.schema, descriptor, [fl.FlightEndpoint(descriptor.command, [])], -1, -1)

    @translated("DoGet")
    def do_get(self, _context: Any, ticket: Any) -> Any:
        return fl.RecordBatchStream(answer(decode_command(ticket.ticket)))

    @translated("DoAction")
    def do_action(self, context: Any, action: Any) -> Any:
        call = call_context(context)
        match decode_action(action.type, action.body.to_pybytes()):
            case m.SetSessionOptions(options):
                session, rejected = self.sessions.set_options(call.session_id, options)
                send_session(context, session)
                return iter([results.rejected_session_options({name: one.error for name, one in rejected.items()})])
            case m.GetSessionOptions():
                chosen = self.sessions.options(call.session_id)
                return iter([results.session_options({"catalog": "lakehouse", "schema": "public", **chosen.values()})])
            case m.CloseSession():
                self.sessions.close(call.session_id)
                return iter([results.closed_session(results.CloseStatus.CLOSED)])
            case other:
                raise InvalidRequest(f"not in this test: {other}")


@pytest.fixture(scope="module")
def server() -> Iterator[MetadataServer]:
    with MetadataServer() as server:
        yield server


@pytest.fixture
def connection(server: MetadataServer) -> Iterator[Any]:
    options = {DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true", "username": "ada", "password": "secret"}
    with flightsql.connect(f"grpc://127.0.0.1:{server.port}", db_kwargs=options, autocommit=True) as connection:
        yield connection


def test_the_driver_reads_who_the_server_is(connection: Any) -> None:
    info = connection.adbc_get_info()

    assert info["vendor_name"] == "flightserver"
    assert info["vendor_arrow_version"] == pa.__version__
    assert info["vendor_version"] == sql_info([1], LIMITS).column("value")[0].as_py()


def test_the_driver_lists_catalogs_schemas_tables_and_columns(connection: Any) -> None:
    (catalog,) = connection.adbc_get_objects(depth="all").read_all().to_pylist()

    assert catalog["catalog_name"] == "lakehouse"
    found = {schema["db_schema_name"]: schema["db_schema_tables"] for schema in catalog["catalog_db_schemas"]}
    assert {name: [table["table_name"] for table in tables] for name, tables in found.items()} == {
        "public": ["orders"],
        "system": ["queries"],
    }
    (price,) = [column for column in found["public"][0]["table_columns"] if column["column_name"] == "price"]
    assert price["xdbc_type_name"] == "DECIMAL"
    assert price["xdbc_is_autoincrement"] is False


def test_the_driver_passes_patterns_on(connection: Any) -> None:
    (catalog,) = connection.adbc_get_objects(depth="tables", db_schema_filter="sys%").read_all().to_pylist()

    assert [schema["db_schema_name"] for schema in catalog["catalog_db_schemas"]] == ["system"]


def test_the_driver_reads_the_schema_and_the_types_of_tables(connection: Any) -> None:
    assert connection.adbc_get_table_schema("orders", db_schema_filter="public").equals(COLUMNS)
    assert connection.adbc_get_table_types() == ["SYSTEM TABLE", "TABLE"]


def test_the_driver_keeps_a_session_by_its_cookie(server: MetadataServer, connection: Any) -> None:
    assert connection.adbc_current_catalog == "lakehouse"
    assert connection.adbc_current_db_schema == "public"

    connection.adbc_current_db_schema = "system"
    connection.adbc_connection.set_options(**{ConnectionOptions.OPTION_SESSION_OPTION_PREFIX.value + "page_rows": "7"})

    assert connection.adbc_current_db_schema == "system"
    assert len(server.sessions) == 1


def test_the_driver_is_told_which_option_it_may_not_set(connection: Any) -> None:
    with pytest.raises(adbc_driver_manager.Error, match="color"):
        connection.adbc_connection.set_options(
            **{ConnectionOptions.OPTION_SESSION_OPTION_PREFIX.value + "color": "red"}
        )


def test_the_driver_shows_the_stable_code_and_the_details_of_an_error(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.adbc_statement.set_sql_query("conflict")
        with pytest.raises(adbc_driver_manager.Error) as caught:
            cursor.adbc_statement.execute_query()

    assert "orders has changed; a retry is safe [FS-3001]" in str(caught.value)
    details = b"".join(value if isinstance(value, bytes) else value.encode() for _, value in caught.value.details)
    assert b"FS-3001" in details
    assert b"orders" in details
