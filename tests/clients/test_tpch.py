"""The 22 queries of TPC-H at scale factor 0.1, through ADBC; DuckDB reads the same Parquet files and must agree.

The texts in `tpch/` are those of the specification (https://www.tpc.org/tpch/, clause 2.4) with its validation
values. The data come from the generator, through `ingest.file`, as a user would load them.
"""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import duckdb
import pyarrow.flight as fl
import pytest
from clients.comparing import differences

from flightserver.flight.listening import Listener
from flightserver.flight.service import Service
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# One worker loads the data for all 22.
pytestmark = pytest.mark.xdist_group("tpch")

TABLES = ("region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem")
QUERIES = sorted((Path(__file__).parent / "tpch").glob("q*.sql"))
TIES = {"q03", "q05", "q10", "q11", "q18"}
"""Queries whose ORDER BY leaves the order of equal amounts open."""


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one Parquet file a table."""
    directory = tmp_path_factory.mktemp("tpch")
    generator = Path(sysconfig.get_path("scripts")) / "tpchgen-cli"
    subprocess.run([generator, "parquet", "-s", "0.1", "--quiet", "--output-dir", directory], check=True)
    return directory


@pytest.fixture(scope="module")
def lakehouse_uri(parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that has ingested the files."""
    data = tmp_path_factory.mktemp("lakehouse")
    settings = load_settings(None, {"server": {"data": data}, "ingest": {"roots": [parquet]}})
    with Lakehouse.open(settings) as lakehouse:
        server = Listener(Service(lakehouse), "127.0.0.1", 0)
        try:
            with fl.connect(server.uri) as client:
                for table in TABLES:
                    ingest(client, parquet / f"{table}.parquet", table)
            yield server.uri
        finally:
            server.stop(grace_seconds=10)


def ingest(client: Any, source: Path, dataset: str) -> None:
    """Load one file by the action that users call."""
    body = json.dumps({"source": str(source), "dataset": dataset}).encode()
    results = [json.loads(each.body.to_pybytes()) for each in client.do_action(fl.Action("ingest.file", body))]
    assert results[-1]["result"]["rows"] > 0


@pytest.fixture(scope="module")
def duck(parquet: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB over the same files."""
    with duckdb.connect() as opened:
        for table in TABLES:
            opened.execute(f"CREATE VIEW {table} AS SELECT * FROM '{parquet / f'{table}.parquet'}'")
        yield opened


def test_all_22_queries_are_there() -> None:
    assert [query.stem for query in QUERIES] == [f"q{number:02}" for number in range(1, 23)]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.stem)
def test_the_answer_is_that_of_duckdb(query: Path, lakehouse_uri: str, duck: duckdb.DuckDBPyConnection) -> None:
    sql = query.read_text(encoding="utf-8")
    with flightsql.connect(lakehouse_uri, autocommit=True) as connection, connection.cursor() as cursor:
        ours = cursor.execute(sql).fetch_arrow_table()

    theirs = duck.sql(sql).to_arrow_table()

    assert theirs.num_rows > 0
    assert differences(ours, theirs, ordered=query.stem not in TIES) == []


@pytest.mark.parametrize("table", TABLES)
def test_every_row_is_loaded_as_duckdb_reads_it(
    table: str, lakehouse_uri: str, duck: duckdb.DuckDBPyConnection
) -> None:
    first = f"{duck.sql(f'DESCRIBE {table}').fetchall()[0][0]}"
    second = f"{duck.sql(f'DESCRIBE {table}').fetchall()[1][0]}"
    order = f"{first}, l_linenumber" if table == "lineitem" else f"{first}, {second}"
    sql = f"SELECT * FROM {table} ORDER BY {order}"
    with flightsql.connect(lakehouse_uri, autocommit=True) as connection, connection.cursor() as cursor:
        ours = cursor.execute(sql).fetch_arrow_table()

    theirs = duck.sql(sql).to_arrow_table()

    # The generator declares its columns as required; DuckDB knows no such thing of a result.
    assert ours.cast(theirs.schema).equals(theirs)
