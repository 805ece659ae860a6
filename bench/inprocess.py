"""The lakehouse and its peers in the process that measures: no wire, so that the engines alone are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from flightserver.access.rights import UNRESTRICTED
from flightserver.catalog.entities import PRIMARY
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.lakehouse import Lakehouse
from flightserver.query.request import Request
from flightserver.settings import load_settings
from flightserver.tables.writes import Mode, WriteRequest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

THREADS = 2
"""Of every engine, whatever the machine has: the figures are to be compared with those of a machine of two cores."""


def opened(data: Path, *, cached: bool = False) -> Lakehouse:
    """The lakehouse in `data`; without `cached`, every statement reads files."""
    flags: dict[str, dict[str, object]] = {"server": {"data": data}, "query": {"partitions": THREADS}}
    if not cached:
        flags["cache"] = {"max_bytes": 0}
    return Lakehouse.open(load_settings(None, flags))


def load(lakehouse: Lakehouse, name: str, rows: pa.Table) -> None:
    """Make a dataset of one segment."""
    request = WriteRequest(
        name=name,
        bucket=PRIMARY,
        mode=Mode.CREATE,
        schema=rows.schema,
        operation=Operation(id=new_ulid(), kind="bench"),
        lineage_system="arrow",
        lineage_source="bench",
    )
    lakehouse.tables.write(request, rows.to_batches())


def rows(lakehouse: Lakehouse, sql: str) -> pa.Table:
    """What a query answers."""
    planned = lakehouse.queries.plan(Request(rights=UNRESTRICTED, sql=sql))
    return pa.Table.from_batches(lakehouse.queries.stream(planned), planned.schema)


def run(lakehouse: Lakehouse, sql: str) -> int:
    """Run a statement that changes data; how many rows it changed."""
    return lakehouse.queries.update(lakehouse.queries.plan(Request(rights=UNRESTRICTED, sql=sql)))


def duck(tables: Mapping[str, pa.Table], database: Path | None = None) -> Any:
    """DuckDB with these tables of its own, in memory or in a new file."""
    connection = duckdb.connect(str(database) if database else ":memory:", config={"threads": THREADS})
    for name, table in tables.items():
        connection.register("given", table)
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given")
        connection.unregister("given")
    return connection


def duck_rows(connection: Any, sql: str) -> pa.Table:
    """What DuckDB answers."""
    return connection.sql(sql).to_arrow_table()
