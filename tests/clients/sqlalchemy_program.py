"""What test_sqlalchemy.py does with flightsql-dbapi, in an environment of its own: prints one JSON object.

Run as `python sqlalchemy_program.py PORT`. flightsql-dbapi (0.2.2) needs SQLAlchemy 1.4, which nothing else here does.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import flightsql
import flightsql.sqlalchemy  # registers the dialect
import pandas as pd
import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FEATURES = "feature-sqlalchemy-prepared-statements=on&feature-sqlalchemy-primary-keys=on"


def plain(values: Iterable[Any]) -> list[Any]:
    """Values with None for null, for which flightsql-dbapi has NaN, because it makes rows of a pandas DataFrame."""
    return [None if pd.isna(value) else value for value in values]


def rows(result: Any) -> list[list[Any]]:
    """All rows of a result as lists."""
    return [plain(row) for row in result.fetchall()]


def through_sqlalchemy(engine: Any) -> Mapping[str, Any]:
    """Reflection, queries with and without parameters, and a table made and filled."""
    inspector = sa.inspect(engine)
    people = sa.Table("people", sa.MetaData(), autoload_with=engine, schema="public")
    made = sa.Table(f"made_{id(engine)}", sa.MetaData(), sa.Column("id", sa.BigInteger, primary_key=True))
    made.create(engine)
    with engine.connect() as connection:
        return {
            "schemas": inspector.get_schema_names(),
            "tables": [name for name in inspector.get_table_names("public") if not name.startswith("made_")],
            "columns": [[column.name, str(column.type), column.nullable] for column in people.columns],
            "key": [column.name for column in people.primary_key],
            "text": rows(connection.execute(sa.text("SELECT id, name FROM people ORDER BY id"))),
            "where": rows(connection.execute(sa.select(people.c.id).where(people.c.name == "Grace O'Hara"))),
            "count": connection.execute(sa.select(sa.func.count()).select_from(people)).scalar(),
            "made": rows(connection.execute(sa.select(made))),
        }


def main() -> None:
    """Print what each way of working answers."""
    port = sys.argv[1]
    url = f"datafusion+flightsql://127.0.0.1:{port}?insecure=1"
    client = flightsql.FlightSQLClient(host="127.0.0.1", port=int(port), insecure=True)
    frame = pd.read_sql("SELECT id, name FROM people ORDER BY id", flightsql.connect(client))
    answers = {
        "literal": through_sqlalchemy(sa.create_engine(url)),
        "prepared": through_sqlalchemy(sa.create_engine(f"{url}&{FEATURES}")),
        "pandas": {name: plain(frame[name].tolist()) for name in frame.columns},
    }
    print(json.dumps(answers))  # noqa: T201  # the answer


if __name__ == "__main__":
    main()
