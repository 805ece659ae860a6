"""pandas over ADBC: `to_sql` and `read_sql`, with Arrow all the way.

pip install adbc-driver-flightsql adbc-driver-manager pandas pyarrow
python pandas_adbc.py grpc://127.0.0.1:31337
"""

from __future__ import annotations

import sys

import adbc_driver_flightsql.dbapi as flightsql
import pandas as pd


def main(uri: str) -> None:
    """Write a frame, read it back aggregated, and with Arrow-backed columns."""
    readings = pd.DataFrame(
        {
            "sensor": ["roof", "roof", "cellar", "cellar"],
            "taken": pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-01", "2026-01-02"]),
            "celsius": [-3.5, -1.0, 11.25, None],
        }
    )
    with flightsql.connect(uri, autocommit=True) as connection:
        print("written", readings.to_sql("example_readings", connection, index=False, if_exists="replace"))

        means = pd.read_sql(
            "SELECT sensor, avg(celsius) AS mean FROM example_readings GROUP BY sensor ORDER BY sensor", connection
        )
        print(means.to_string(index=False))

        # pandas has no parameters for ADBC drivers; a cursor has them (adbc_dbapi.py).
        sql = "SELECT * FROM example_readings WHERE celsius < 0 ORDER BY taken"
        cold = pd.read_sql(sql, connection, dtype_backend="pyarrow")
        print("cold", len(cold), "rows,", cold["celsius"].dtype)

        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE example_readings")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "grpc://127.0.0.1:31337")
