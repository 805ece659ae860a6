"""GetPrimaryKeys, GetExportedKeys, GetImportedKeys and GetCrossReference, as a client asks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flightclient
import pyarrow.flight as fl
import pytest
from bucketing import add_bucket
from query.asking import run

from flightserver.flight.sql import metadata
from flightserver.flight.sql.protocol import SQL_PACKAGE, message_class, pack

if TYPE_CHECKING:
    import pyarrow as pa
    from conftest import RunningServer


pytestmark = pytest.mark.usefixtures("shop")


@pytest.fixture
def shop(server: RunningServer) -> RunningServer:
    """Two buckets with tables that refer to each other."""
    for statement in (
        "CREATE TABLE people (id BIGINT PRIMARY KEY, boss BIGINT REFERENCES people ON DELETE SET NULL)",
        "CREATE TABLE parts (maker TEXT, number INT, CONSTRAINT part PRIMARY KEY (maker, number))",
        "CREATE TABLE stock (n INT, m TEXT, owner BIGINT REFERENCES people ON UPDATE CASCADE ON DELETE RESTRICT)",
        "ALTER TABLE stock ADD FOREIGN KEY (n, m) REFERENCES parts (number, maker)",
    ):
        run(server.lakehouse, statement)
    add_bucket(server.lakehouse, "testing")
    run(server.lakehouse, "CREATE TABLE testing.people (id INT REFERENCES public.people ON DELETE SET DEFAULT)")
    return server


def asked(client: fl.FlightClient, command: str, **fields: str) -> pa.Table:
    """The whole answer to a command, whose schema is the one that was announced."""
    packed = pack(message_class(f"{SQL_PACKAGE}.Command{command}")(**fields))
    info = client.get_flight_info(fl.FlightDescriptor.for_command(packed))
    [endpoint] = info.endpoints
    table = client.do_get(endpoint.ticket).read_all()
    assert table.schema.equals(info.schema)
    return table


def keys(client: fl.FlightClient, command: str, **fields: str) -> list[tuple[Any, ...]]:
    """The rows of a key command without the names of the catalog, which are checked here."""
    table = asked(client, command, **fields)
    assert table.schema.equals(metadata.FOREIGN_KEYS)
    assert {*table["pk_catalog_name"].to_pylist(), *table["fk_catalog_name"].to_pylist()} <= {"lakehouse"}
    shown = table.drop_columns(["pk_catalog_name", "fk_catalog_name"])
    return list(zip(*(column.to_pylist() for column in shown.columns), strict=True))


def test_a_primary_key_has_the_name_that_it_was_given(flight_client: fl.FlightClient) -> None:
    table = asked(flight_client, "GetPrimaryKeys", db_schema="public", table="parts")

    assert table.to_pydict() == {
        "catalog_name": ["lakehouse", "lakehouse"],
        "db_schema_name": ["public", "public"],
        "table_name": ["parts", "parts"],
        "column_name": ["maker", "number"],
        "key_name": ["part", "part"],
        "key_sequence": [1, 2],
    }


def test_imported_keys_are_those_of_the_table(flight_client: fl.FlightClient) -> None:
    assert keys(flight_client, "GetImportedKeys", db_schema="public", table="stock") == [
        ("public", "parts", "number", "public", "stock", "n", 1, "stock_n_m_fkey", "part", 3, 3),
        ("public", "parts", "maker", "public", "stock", "m", 2, "stock_n_m_fkey", "part", 3, 3),
        ("public", "people", "id", "public", "stock", "owner", 1, "stock_owner_fkey", "people_pkey", 0, 1),
    ]


def test_exported_keys_are_those_that_refer_to_the_table(flight_client: fl.FlightClient) -> None:
    assert keys(flight_client, "GetExportedKeys", catalog="lakehouse", db_schema="primary", table="people") == [
        ("primary", "people", "id", "primary", "people", "boss", 1, "people_boss_fkey", "people_pkey", 3, 2),
        ("primary", "people", "id", "primary", "stock", "owner", 1, "stock_owner_fkey", "people_pkey", 0, 1),
        ("primary", "people", "id", "testing", "people", "id", 1, "people_id_fkey", "people_pkey", 3, 4),
    ]


def test_a_reference_without_a_schema_means_the_table_in_each(flight_client: fl.FlightClient) -> None:
    found = keys(flight_client, "GetImportedKeys", table="people")

    assert [row[:6] for row in found] == [
        ("primary", "people", "id", "primary", "people", "boss"),
        ("primary", "people", "id", "testing", "people", "id"),
        ("public", "people", "id", "public", "people", "boss"),
    ]


def test_a_cross_reference_is_between_two_tables(flight_client: fl.FlightClient) -> None:
    between = {"pk_table": "people", "fk_table": "stock"}

    assert keys(flight_client, "GetCrossReference", pk_db_schema="public", **between) == [
        ("public", "people", "id", "public", "stock", "owner", 1, "stock_owner_fkey", "people_pkey", 0, 1)
    ]
    assert keys(flight_client, "GetCrossReference", fk_db_schema="primary", **between) == [
        ("primary", "people", "id", "primary", "stock", "owner", 1, "stock_owner_fkey", "people_pkey", 0, 1)
    ]
    assert keys(flight_client, "GetCrossReference", pk_catalog="other", **between) == []


@pytest.mark.parametrize("command", ["GetImportedKeys", "GetExportedKeys"])
@pytest.mark.parametrize("reference", [{"table": "nobody"}, {"table": "people", "catalog": "x"}, {"table": "peopl_"}])
def test_a_table_that_is_not_there_has_no_keys(
    flight_client: fl.FlightClient, command: str, reference: dict[str, str]
) -> None:
    assert keys(flight_client, command, **reference) == []


def test_a_dropped_table_takes_the_keys_that_refer_to_it_along(
    shop: RunningServer, flight_client: fl.FlightClient
) -> None:
    run(shop.lakehouse, "DROP TABLE parts")

    assert [row[7] for row in keys(flight_client, "GetImportedKeys", db_schema="public", table="stock")] == [
        "stock_owner_fkey"
    ]


def test_describing_a_dataset_tells_its_foreign_keys(shop: RunningServer) -> None:
    run(shop.lakehouse, "ALTER TABLE parts RENAME TO pieces")

    with flightclient.connect(shop.uri) as client:
        described = client.call("dataset.describe", {"dataset": "stock"})

    assert described["foreign_keys"] == [
        {
            "name": "stock_owner_fkey",
            "columns": ["owner"],
            "bucket": "primary",
            "referenced_dataset": "people",
            "referenced_columns": ["id"],
            "on_update": "CASCADE",
            "on_delete": "RESTRICT",
        },
        {
            "name": "stock_n_m_fkey",
            "columns": ["n", "m"],
            "bucket": "primary",
            "referenced_dataset": "pieces",
            "referenced_columns": ["number", "maker"],
            "on_update": "NO ACTION",
            "on_delete": "NO ACTION",
        },
    ]
