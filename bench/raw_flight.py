"""A Flight server that does nothing but send a table from memory: `python -m bench.raw_flight PORT PARQUET`.

What it reaches is the limit of any server here: the same library, the same batches, no engine.
"""

from __future__ import annotations

import sys
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl
import pyarrow.parquet as pq

from bench.servers import LOOPBACK

BATCH_ROWS = 32_768
"""As many as flightserver puts into a batch."""


class RawFlight(fl.FlightServerBase):
    """Answers every descriptor and every ticket with one table."""

    def __init__(self, port: int, table: pa.Table) -> None:
        super().__init__(f"grpc://{LOOPBACK}:{port}")
        self._table = table

    def get_flight_info(self, _context: Any, descriptor: Any) -> fl.FlightInfo:
        """One endpoint."""
        endpoint = fl.FlightEndpoint(fl.Ticket(b"table"), [])
        return fl.FlightInfo(self._table.schema, descriptor, [endpoint], self._table.num_rows, -1)

    def do_get(self, _context: Any, _ticket: Any) -> fl.FlightDataStream:
        """The table."""
        return fl.RecordBatchStream(self._table)


def plain_table(path: str) -> pa.Table:
    """The table of a Parquet file with strings as plain Arrow strings, in batches of `BATCH_ROWS`."""
    read = pq.read_table(path)
    fields = [
        field.with_type(pa.utf8()) if pa.types.is_string_view(field.type) else field
        for field in read.schema.remove_metadata()
    ]
    plain = read.cast(pa.schema([field.remove_metadata() for field in fields])).combine_chunks()
    return pa.Table.from_batches(plain.to_batches(max_chunksize=BATCH_ROWS))


if __name__ == "__main__":
    RawFlight(int(sys.argv[1]), plain_table(sys.argv[2])).serve()
