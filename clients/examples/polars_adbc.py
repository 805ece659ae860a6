"""polars over ADBC: `write_database` and `read_database`.

pip install adbc-driver-flightsql adbc-driver-manager polars pyarrow
python polars_adbc.py grpc://127.0.0.1:31337
"""

from __future__ import annotations

import sys
from datetime import date

import adbc_driver_flightsql.dbapi as flightsql
import polars as pl


def main(uri: str) -> None:
    """Write a frame, append to it, and read it back by a query with a parameter."""
    books = pl.DataFrame(
        {
            "title": ["Solaris", "Cyberiada", "Niezwyciężony"],
            "published": [date(1961, 6, 1), date(1965, 1, 1), date(1964, 1, 1)],
            "pages": [204, 295, None],
        }
    )
    with flightsql.connect(uri, autocommit=True) as connection:
        print("written", books.write_database("example_books", connection, if_table_exists="replace"))
        print("appended", books.head(1).write_database("example_books", connection, if_table_exists="append"))

        found = pl.read_database(
            "SELECT title, count(*) AS copies FROM example_books WHERE published < ? GROUP BY title ORDER BY title",
            connection,
            execute_options={"parameters": [date(1965, 1, 1)]},
        )
        print(found)

        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE example_books")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "grpc://127.0.0.1:31337")
