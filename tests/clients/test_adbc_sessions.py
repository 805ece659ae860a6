"""Session options over ADBC, and metadata of more tables than fit into one message."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pytest

from flightserver.catalog.entities import Dataset
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import CreateDataset
from flightserver.tables.schema import encode, fingerprint

if TYPE_CHECKING:
    from conftest import RunningServer

pytestmark = pytest.mark.client("ADBC")

OPTION = "adbc.flight.sql.session.option."
COOKIES = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}


@pytest.mark.feature("sessions", "time travel")
def test_a_session_reads_the_past_and_returns_to_the_present(server: RunningServer) -> None:
    with flightsql.connect(server.uri, autocommit=True, db_kwargs=COOKIES) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t AS SELECT 1 AS a")
        version = server.lakehouse.catalog.snapshot().version
        cursor.execute("INSERT INTO t VALUES (2)").fetchall()

        connection.adbc_connection.set_options(**{f"{OPTION}as_of": str(version)})
        past = cursor.execute("SELECT a FROM t").fetchall()
        with pytest.raises(flightsql.ProgrammingError, match="the past can be read but not changed"):
            cursor.execute("INSERT INTO t VALUES (3)")
        connection.adbc_connection.set_options(**{f"{OPTION}as_of": ""})

        assert past == [(1,)]
        assert cursor.execute("SELECT count(*) FROM t").fetchall() == [(2,)]


@pytest.mark.feature("tables and columns")
def test_the_tables_of_a_large_lakehouse_are_listed_with_their_schemas(server: RunningServer) -> None:
    schema = pa.schema([(f"a_rather_long_name_of_column_{number}", pa.int64()) for number in range(60)])
    encoded, mark = encode(schema), fingerprint(schema)
    created = tuple(
        CreateDataset(Dataset(new_ulid(), "primary", f"t{number}", encoded, mark, datetime.now(UTC)))
        for number in range(1200)
    )
    server.lakehouse.catalog.commit(Transaction(Operation(id=new_ulid(), kind="test"), created, ()))

    with flightsql.connect(server.uri, autocommit=True) as connection:
        (found,) = connection.adbc_get_objects(depth="all", db_schema_filter="primary").read_all().to_pylist()

    (primary,) = found["catalog_db_schemas"]
    assert len(primary["db_schema_tables"]) == 1200
    assert all(len(table["table_columns"]) == 60 for table in primary["db_schema_tables"])
