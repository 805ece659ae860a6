"""DuckDB beside the server: filter there, join here with local data, and send the result back.

DuckDB reads the Arrow stream of a result while it comes; nothing is written to disk.

    pip install adbc-driver-flightsql adbc-driver-manager duckdb pyarrow
    python duckdb_arrow.py grpc://127.0.0.1:31337
"""

from __future__ import annotations

import sys

import adbc_driver_flightsql.dbapi as flightsql
import duckdb


def main(uri: str) -> None:
    """Join rows of the server with a local table, and ingest what comes out."""
    with (
        flightsql.connect(uri, autocommit=True) as connection,
        connection.cursor() as cursor,
        duckdb.connect() as local,
    ):
        local.execute(
            "CREATE TABLE prices AS SELECT * FROM (VALUES ('apple', 0.5), ('pear', 0.75)) AS p (fruit, price)"
        )

        cursor.execute(
            "SELECT CASE WHEN value % 3 = 0 THEN 'pear' ELSE 'apple' END AS fruit, value AS pieces "
            "FROM generate_series(1, 300000)"
        )
        local.register("sold", cursor.fetch_record_batch())
        revenue = local.sql(
            "SELECT fruit, sum(pieces * price)::DOUBLE AS revenue FROM sold JOIN prices USING (fruit) GROUP BY ALL"
        ).to_arrow_table()

        print("ingested", cursor.adbc_ingest("example_revenue", revenue, mode="replace"))
        cursor.execute("SELECT * FROM example_revenue ORDER BY fruit")
        for fruit, total in cursor.fetchall():
            print(fruit, total)

        cursor.execute("DROP TABLE example_revenue")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "grpc://127.0.0.1:31337")
