"""What `sqlalchemy_environment.py` has the other interpreter do: one engine, and each line of the input a statement.

Run as `python sqlalchemy_session.py URL`. Each line of the input is a statement as JSON, each line of the output its
rows or its error, as JSON.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import Any

import flightsql.sqlalchemy  # noqa: F401  # registers the dialect
import pandas as pd
import sqlalchemy as sa


@cache
def engine() -> Any:
    """The engine, whose making logs in."""
    return sa.create_engine(sys.argv[1])


def answered(sql: str) -> dict[str, Any]:
    """Rows of a statement, or what went wrong."""
    try:
        with engine().connect() as connection:
            found = connection.execute(sa.text(sql)).fetchall()
    except Exception as error:  # noqa: BLE001  # whatever the driver raises is the answer
        return {"error": f"{type(error).__name__}: {error}"}
    return {"rows": [[None if pd.isna(value) else value for value in row] for row in found]}


def main() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        print(json.dumps(answered(json.loads(line)), default=str), flush=True)  # noqa: T201  # the answer


if __name__ == "__main__":
    main()
