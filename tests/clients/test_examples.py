"""Every script of clients/examples runs against a server and prints what it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import RunningServer

EXAMPLES = Path(__file__).resolve().parents[2] / "clients" / "examples"

PRINTED = {
    "adbc_dbapi.py": [
        "ingested 2",
        "large ['Warszawa', 'Kraków', 'Łódź']",
        "table 5 rows",
        "schema ['id', 'name', 'population']",
        "objects [('primary', 'example_cities'), ('public', 'example_cities')]",
    ],
    "duckdb_arrow.py": ["ingested 2", "apple 15000000000.0", "pear 11250112500.0"],
    "flightclient_pages.py": [
        "ingested 10000 rows into example_numbers",
        "result 10000 rows in 34 pages",
        "page 17 begins with 5100",
        "the last page has 100 rows",
        "kept for longer: True",
        "all pages together 10000 rows",
        "after close: FS-1004",
    ],
    "pandas_adbc.py": ["written 4", "cellar 11.25", "  roof -2.25", "cold 2 rows, double[pyarrow]"],
    "polars_adbc.py": ["written 3", "appended 1", "│ Niezwyciężony ┆ 1      │", "│ Solaris       ┆ 2      │"],
    "pyarrow_flight.py": [
        "put 4 rows",
        "path 4 rows, ['name', 'born']",
        "sql ['Grace', 'Barbara', 'Radia']",
        "pages 2 of which the last has ['Radia']",
        "page 1 of 2 rows ['Barbara', 'Radia']",
        "exchange 2 known",
        "drop {'result': {}}",
    ],
}
"""Script -> lines that are in its output, in this order."""


def test_every_example_has_its_expected_output() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PRINTED)


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_an_example_prints_what_it_promises_and_leaves_nothing_behind(server: RunningServer, name: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-X", "utf8", EXAMPLES / name, server.uri],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert [line for line in lines if line in PRINTED[name]] == PRINTED[name], finished.stdout
    assert not server.lakehouse.catalog.snapshot().datasets
