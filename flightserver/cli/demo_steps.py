"""What the demo shows: snippets that anyone can copy, and what their results must be.

The text that is shown is the text that is run, so a snippet that is shown works. It leaves its result in a variable,
which is compared with what DuckDB 2.0 and pandas 3.1 computed from the same files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

URI = "grpc://127.0.0.1:31337"
"""Stands in the snippets for the address of the server that runs."""

DELAYS_SQL = """\
SELECT name, count(*) AS flights, avg(dep_delay) AS delay
FROM flights JOIN airlines USING (carrier)
GROUP BY name ORDER BY delay DESC LIMIT 5"""

DELAYS = (
    ("Frontier Airlines Inc.", 685, 20.215542521994134),
    ("ExpressJet Airlines Inc.", 54_173, 19.955389827868213),
    ("Mesa Airlines Inc.", 601, 18.996330275229358),
    ("AirTran Airways Corporation", 3_260, 18.72607467838092),
    ("Southwest Airlines Co.", 12_275, 17.71174377224199),
)

_ROWS = 336_776
_PAGE_ROWS = 1_000
_PAGES = 337


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to show.

    Attributes:
        title: What it shows.
        code: Python that runs as it stands while the server runs.
        shows: The variable that is printed afterwards; empty where the code prints itself.
        findings: What is wrong with the variables that the code left; nothing if all is right.
    """

    title: str
    code: str
    shows: str
    findings: Callable[[dict[str, Any]], list[str]]


def _wrong_delays(rows: list[tuple[str, int, float]]) -> list[str]:
    right = len(rows) == len(DELAYS) and all(
        (found[0], found[1]) == (name, flights) and math.isclose(found[2], delay, rel_tol=1e-9)
        for found, (name, flights, delay) in zip(rows, DELAYS, strict=True)
    )
    return [] if right else [f"the average delays should be {DELAYS}, found {rows}"]


def _wrong_adbc(variables: dict[str, Any]) -> list[str]:
    return _wrong_delays([tuple(row.values()) for row in variables["delays"].to_pylist()])


def _wrong_frame(variables: dict[str, Any]) -> list[str]:
    return _wrong_delays(list(variables["frame"].itertuples(index=False, name=None)))


def _wrong_pages(variables: dict[str, Any]) -> list[str]:
    result, number, page = variables["result"], variables["number"], variables["page"]
    rows = min(_PAGE_ROWS, _ROWS - number * _PAGE_ROWS)
    checks = {
        f"the result should have {_ROWS:,} rows, found {result.rows:,}": result.rows == _ROWS,
        f"the result should have {_PAGES} pages, found {result.pages}": result.pages == _PAGES,
        f"page {number} should have {rows} rows, found {page.num_rows}": page.num_rows == rows,
        f"page {number} should have the same rows each time": result[number].equals(page),
    }
    return [message for message, right in checks.items() if not right]


def _wrong_again(variables: dict[str, Any]) -> list[str]:
    again = variables["again"]
    return [] if again.unchanged and not again.rows else [f"identical bytes were not recognised: {again}"]


def steps(uri: str, flights_file: str) -> list[Step]:
    """Everything that is shown, in order.

    Args:
        uri: Address of the server.
        flights_file: The file that the table flights was loaded from.
    """
    return [
        Step("SQL through ADBC, the standard driver", _ADBC.replace(URI, uri), "delays", _wrong_adbc),
        Step("The same as a pandas frame, with pyarrow alone", _PANDAS.replace(URI, uri), "frame", _wrong_frame),
        Step("Any page of a large result, in any order", _PAGED.replace("URI", uri), "", _wrong_pages),
        Step(
            "Loading the same bytes again changes nothing",
            _AGAIN.replace(URI, uri).replace("FILE", repr(flights_file)),
            "",
            _wrong_again,
        ),
    ]


_ADBC = f'''\
import adbc_driver_flightsql.dbapi as flightsql

with flightsql.connect("{URI}", autocommit=True) as connection, connection.cursor() as cursor:
    cursor.execute("""
        {DELAYS_SQL.replace(chr(10), chr(10) + " " * 8)}
    """)
    delays = cursor.fetch_arrow_table()
'''

_PANDAS = f'''\
from pyarrow import flight

client = flight.connect("{URI}")
sql = """
    {DELAYS_SQL.replace(chr(10), chr(10) + " " * 4)}
"""
info = client.get_flight_info(flight.FlightDescriptor.for_command(sql))
frame = client.do_get(info.endpoints[0].ticket).read_pandas()
'''

_PAGED = """\
import random
import flightclient

client = flightclient.connect("URI")
result = client.pages("SELECT * FROM flights ORDER BY time_hour, carrier, flight, origin", page_rows=1000)
number = random.randrange(len(result))
page = result[number]
print(f"{result.rows:,} rows in {result.pages} pages; page {number}: {page.num_rows} rows from",
      page["time_hour"][0])
"""

_AGAIN = f"""\
import flightclient

with flightclient.connect("{URI}") as client:
    again = client.ingest_file(FILE, "flights")
print("unchanged:", again.unchanged, "- still version", again.version)
"""
