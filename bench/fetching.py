"""A client that reads one result and tells how long it took: `python -m bench.fetching METHOD URI SQL [PAUSE]`.

METHOD is `flight` (pyarrow.flight with a Flight SQL command) or `adbc`. The clock runs from the question to the last
batch; connecting is outside of it. PAUSE is how many seconds it sleeps after every batch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow.flight as fl
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue

from bench.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

_TYPE_URL = "type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"


@dataclass(frozen=True, slots=True)
class Fetched:
    """One reading: seconds to the first and to the last batch, rows, and bytes of the Arrow buffers received."""

    first: float
    seconds: float
    rows: int
    bytes: int


def fetch(method: str, uri: str, sql: str, pause: float = 0.0) -> Fetched:
    """Read a result in a new process."""
    command = [sys.executable, "-m", "bench.fetching", method, uri, sql, str(pause)]
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE)
    return Fetched(**json.loads(done.stdout))


def statement(sql: str) -> bytes:
    """A Flight SQL query as a descriptor's command.

    CommandStatementQuery's field 1 is the text, as is StringValue's, so that one's encoding serves for both.
    """
    message: bytes = AnyMessage(
        type_url=_TYPE_URL, value=StringValue(value=sql).SerializeToString()
    ).SerializeToString()
    return message


def _by_flight(uri: str, sql: str) -> Iterator[Iterator[pa.RecordBatch]]:
    with fl.connect(uri) as client:
        client.wait_for_available()

        def batches() -> Iterator[pa.RecordBatch]:
            info = client.get_flight_info(fl.FlightDescriptor.for_command(statement(sql)))
            for endpoint in info.endpoints:
                for chunk in client.do_get(endpoint.ticket):
                    yield chunk.data

        yield batches()


def _by_adbc(uri: str, sql: str) -> Iterator[Iterator[pa.RecordBatch]]:
    with flightsql.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:

        def batches() -> Iterator[pa.RecordBatch]:
            cursor.execute(sql)
            yield from cursor.fetch_record_batch()

        yield batches()


_METHODS = {"flight": _by_flight, "adbc": _by_adbc}


def _read(method: str, uri: str, sql: str, pause: float) -> Fetched:
    for batches in _METHODS[method](uri, sql):
        begin = time.perf_counter()
        first = 0.0
        rows = size = 0
        for batch in batches:
            first = first or time.perf_counter() - begin
            rows += batch.num_rows
            size += batch.get_total_buffer_size()
            if pause:
                time.sleep(pause)
        seconds = time.perf_counter() - begin
    return Fetched(first, seconds, rows, size)


if __name__ == "__main__":
    _, how, where, what, wait = sys.argv
    print(json.dumps(asdict(_read(how, where, what, float(wait)))))
