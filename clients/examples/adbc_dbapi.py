"""ADBC's DB-API: cursors, parameters, bulk ingestion and metadata.

pip install adbc-driver-flightsql adbc-driver-manager pyarrow
python adbc_dbapi.py grpc://127.0.0.1:31337
"""

from __future__ import annotations

import sys

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa


def main(uri: str) -> None:
    """Create a table, fill it in two ways, query it, and ask the server what it has."""
    # Each statement is committed by itself; without autocommit, connection.commit() commits all since the last.
    with flightsql.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS example_cities")
        cursor.execute("CREATE TABLE example_cities (id BIGINT NOT NULL, name VARCHAR, population BIGINT)")

        cursor.executemany(
            "INSERT INTO example_cities VALUES (?, ?, ?)",
            [(1, "Warszawa", 1_862_000), (2, "Kraków", 804_000), (3, "Gdynia", None)],
        )

        # For more than a handful of rows: Arrow data, in one call.
        more = pa.table({"id": [4, 5], "name": ["Łódź", "Toruń"], "population": [655_000, 196_000]})
        print("ingested", cursor.adbc_ingest("example_cities", more, mode="append"))

        cursor.execute("SELECT name FROM example_cities WHERE population > ? ORDER BY population DESC", (500_000,))
        print("large", [name for (name,) in cursor.fetchall()])

        cursor.execute("SELECT * FROM example_cities ORDER BY id")
        print("table", cursor.fetch_arrow_table().num_rows, "rows")

        print("schema", connection.adbc_get_table_schema("example_cities").names)
        catalogs = (
            connection.adbc_get_objects(depth="tables", table_name_filter="example_cities").read_all().to_pylist()
        )
        tables = {
            (schema["db_schema_name"], table["table_name"])
            for catalog in catalogs
            for schema in catalog["catalog_db_schemas"]
            for table in schema["db_schema_tables"]
        }
        print("objects", sorted(tables))

        cursor.execute("DROP TABLE example_cities")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "grpc://127.0.0.1:31337")
