"""`flightserver query`: run one statement and print its rows.

Rows are written while they come, so a result of any size needs little memory; a table shows the first rows only,
and stops the statement then.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
from pyarrow import csv

from flightserver.cli.connecting import add_address, open_client
from flightserver.cli.rendering import csv_batch, csv_schema, json_rows, output_console, rich_table
from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flightclient import Stream

TABLE_ROWS = 100
"""More rows are not read by people; the other formats have them all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the flags."""
    parser.add_argument("sql", metavar="SQL", help="one statement")
    parser.add_argument(
        "--format",
        choices=list(_WRITERS),
        default="table",
        help=f"table (default; {TABLE_ROWS} rows at most), csv, json (an array, a row a line) or arrow (IPC stream)",
    )
    parser.add_argument("--as-of", type=_version, metavar="N", help="read at this version, or at this ISO 8601 time")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of standard output")
    add_address(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the rows.

    Raises:
        InvalidRequest: The output can't be written, or is a terminal and the format binary.
    """
    write = _WRITERS[arguments.format]
    if arguments.format == "arrow" and arguments.output is None and sys.stdout.isatty():
        raise InvalidRequest("an Arrow stream is binary, and standard output is a terminal; give --output FILE")
    with (
        open_client(arguments) as client,
        client.stream(arguments.sql, as_of=arguments.as_of) as stream,
        _opened(arguments.output) as sink,
    ):
        write(stream, sink)
    return 0


def _version(text: str) -> int | datetime:
    try:
        return int(text) if text.isdigit() else datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a version nor an ISO 8601 time") from None


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        return
    try:
        sink = path.open("wb")
    except OSError as error:
        raise InvalidRequest(f"{str(path)!r} can't be written: {error.strerror}") from None
    with sink:
        yield sink


def _write_table(stream: Stream, sink: BinaryIO) -> None:
    batches: list[pa.RecordBatch] = []
    for batch in stream:
        batches.append(batch)
        if sum(each.num_rows for each in batches) > TABLE_ROWS:
            break
    rows = pa.Table.from_batches(batches, schema=stream.schema)
    text = None if sink is sys.stdout.buffer else StringIO()
    console = output_console(text)
    console.print(rich_table(rows.slice(0, TABLE_ROWS)))
    counted = f"{rows.num_rows:,} row{'' if rows.num_rows == 1 else 's'}"
    more = f"the first {TABLE_ROWS} rows; --format csv, json or arrow has them all"
    console.print(more if rows.num_rows > TABLE_ROWS else counted, style="dim")
    if text is not None:
        sink.write(text.getvalue().encode())


def _write_csv(stream: Stream, sink: BinaryIO) -> None:
    with csv.CSVWriter(sink, csv_schema(stream.schema)) as writer:
        for batch in stream:
            writer.write_batch(csv_batch(batch))


def _write_json(stream: Stream, sink: BinaryIO) -> None:
    before = "[\n"
    for batch in stream:
        for row in json_rows(batch):
            sink.write(f"{before}{row}".encode())
            before = ",\n"
    sink.write(b"[]\n" if before == "[\n" else b"\n]\n")


def _write_arrow(stream: Stream, sink: BinaryIO) -> None:
    with pa.ipc.new_stream(sink, stream.schema) as writer:
        for batch in stream:
            writer.write_batch(batch)


_WRITERS: dict[str, Callable[[Stream, BinaryIO], None]] = {
    "table": _write_table,
    "csv": _write_csv,
    "json": _write_json,
    "arrow": _write_arrow,
}
