"""Bad input gets its clear error, and leaves the server serving."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = fl.FlightDescriptor.for_command


def read(client: fl.FlightClient, command: bytes | str) -> pa.Table:
    """Everything that a command answers."""
    info = client.get_flight_info(COMMAND(command))
    return pa.concat_tables([client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints])


def put(client: fl.FlightClient, descriptor: fl.FlightDescriptor, table: pa.Table, options: Any = None) -> None:
    """Send a table."""
    writer, _ = client.do_put(descriptor, table.schema, options)
    writer.write_table(table)
    writer.close()


def act(client: fl.FlightClient, action: str, body: Any) -> None:
    """Run an action to its end."""
    list(client.do_action((action, body if isinstance(body, bytes) else json.dumps(body).encode())))


def packed(name: str, value: bytes) -> bytes:
    """A google.protobuf.Any, by hand."""
    url = f"type.googleapis.com/arrow.flight.protocol.sql.{name}".encode()
    return b"\x0a" + bytes([len(url)]) + url + b"\x12" + bytes([len(value)]) + value


def with_a_bad_offset() -> pa.Table:
    """A string column with an offset far beyond its data: reading it unchecked kills the process.

    The last offset is right, or the client would refuse to send it.
    """
    offsets = pa.py_buffer(struct.pack("<3i", 0, 2**31 - 1, 3))
    return pa.table({"s": pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"abc"))})


def with_bad_utf8() -> pa.Table:
    """A string column that is not UTF-8."""
    return pa.table({"s": pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))})


def dropped_page(client: fl.FlightClient) -> None:
    """Read a page after its result was closed."""
    info = client.get_flight_info(COMMAND(json.dumps({"sql": "SELECT 1 AS a", "page_rows": 1})))
    act(client, "result.close", {"query_id": json.loads(info.app_metadata)["query_id"]})
    client.do_get(info.endpoints[0].ticket).read_all()


def changed_ticket(client: fl.FlightClient) -> None:
    """Read with a ticket of which one bit was changed."""
    ticket = bytearray(client.get_flight_info(COMMAND("SELECT 1 AS a")).endpoints[0].ticket.ticket)
    ticket[-1] ^= 1
    client.do_get(fl.Ticket(bytes(ticket))).read_all()


TABLE = fl.FlightDescriptor.for_path("t")

# What is sent, the stable code of the error, and a part of its text.
BAD: dict[str, tuple[Callable[[fl.FlightClient], Any], str, str]] = {
    "malformed protobuf": (
        lambda c: read(c, packed("CommandStatementQuery", b"\xff\xff")),
        "FS-1001",
        "StatementQuery",
    ),
    "unknown message": (lambda c: read(c, packed("CommandNonsense", b"")), "FS-1001", "CommandNonsense"),
    "neither protobuf nor text": (lambda c: read(c, b"\xff\xfe\x00"), "FS-1001", "UTF-8"),
    "JSON without sql": (lambda c: read(c, '{"page_rows": 5}'), "FS-1001", "sql"),
    "JSON with a wrong type": (lambda c: read(c, '{"sql": 5}'), "FS-1001", "sql"),
    "JSON with an unknown field": (lambda c: read(c, '{"sql": "SELECT 1", "pagerows": 5}'), "FS-1001", "pagerows"),
    "page_rows of nothing": (lambda c: read(c, '{"sql": "SELECT 1", "page_rows": 0}'), "FS-1001", "page_rows"),
    "unknown table": (lambda c: read(c, "SELECT * FROM nowhere"), "FS-1004", "nowhere"),
    "unknown path": (lambda c: c.get_flight_info(fl.FlightDescriptor.for_path("nowhere")), "FS-1004", "nowhere"),
    "syntax error": (lambda c: read(c, "SELEC 1"), "FS-1001", "SELEC"),
    "wrong types in SQL": (lambda c: read(c, "SELECT 'x' + 1"), "FS-1001", "coerce"),
    "an error in a running query": (
        lambda c: read(c, "SELECT 1 / (value - 5) FROM generate_series(1, 9)"),
        "FS-1001",
        "zero",
    ),
    "dropped page": (dropped_page, "FS-1004", "was closed"),
    "page beyond the end": (
        lambda c: c.do_get(fl.Ticket(b'{"query_id": "nope", "page": 1}')).read_all(),
        "FS-1004",
        "nope",
    ),
    "changed ticket": (changed_ticket, "FS-2001", "not signed"),
    "nonsense ticket": (lambda c: c.do_get(fl.Ticket(b"nonsense")).read_all(), "FS-1001", "ticket"),
    "an offset out of bounds": (
        lambda c: put(c, TABLE, with_a_bad_offset()),
        "FS-1001",
        "not valid",
    ),
    "text that is not UTF-8": (
        lambda c: put(c, TABLE, with_bad_utf8()),
        "FS-1001",
        "not valid",
    ),
    "path traversal in a name": (
        lambda c: put(c, fl.FlightDescriptor.for_path("../../etc"), pa.table({"a": [1]})),
        "FS-1001",
        "can't name a dataset",
    ),
    "path traversal in a source": (
        lambda c: act(c, "ingest.file", {"source": "../../etc/passwd", "dataset": "t"}),
        "FS-1004",
        "passwd",
    ),
    "an upload with a path": (
        lambda c: put(c, COMMAND('{"upload": "../x"}'), pa.table({"data": pa.array([b"x"])})),
        "FS-1001",
        "../x",
    ),
    "an upload of numbers": (lambda c: put(c, COMMAND('{"upload": "x"}'), pa.table({"a": [1]})), "FS-1001", "binary"),
    "oversized request": (lambda c: read(c, "SELECT 1 -- " + "x" * (5 * 2**20)), "FS-1001", "at most"),
    "oversized action": (lambda c: act(c, "dataset.drop", {"dataset": "x" * (17 * 2**20)}), "FS-1001", "at most"),
    "unknown action": (lambda c: act(c, "dataset.frobnicate", {}), "FS-1004", "dataset.drop"),
    "action body that is no JSON": (lambda c: act(c, "dataset.drop", b"{"), "FS-1001", "JSON"),
    "action body without a field": (lambda c: act(c, "dataset.drop", {}), "FS-1001", "dataset"),
    "action mode that is none": (
        lambda c: act(c, "ingest.file", {"source": "x", "dataset": "t", "mode": "merge"}),
        "FS-1001",
        "mode",
    ),
    "a column named twice": (
        lambda c: put(c, TABLE, pa.Table.from_arrays([pa.array([1])] * 2, ["a", "a"])),
        "FS-1002",
        '"a"',
    ),
    "a path of three parts": (
        lambda c: c.get_flight_info(fl.FlightDescriptor.for_path("a", "b", "c")),
        "FS-1001",
        "a/b/c",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_clear_error_and_the_server_goes_on(flight_client: fl.FlightClient, name: str) -> None:
    send, code, text = BAD[name]

    with pytest.raises((pa.ArrowException, fl.FlightError, KeyError)) as caught:
        send(flight_client)

    message = str(caught.value)
    assert f"[{code}]" in message
    assert text in message
    assert "Traceback" not in message
    assert ".py" not in message
    assert read(flight_client, "SELECT 1 AS a").to_pydict() == {"a": [1]}
    assert read(flight_client, "SELECT count(*) AS n FROM system.datasets").to_pydict() == {"n": [0]}


def test_an_unknown_bucket_in_the_header_is_refused_with_those_that_exist(flight_client: fl.FlightClient) -> None:
    options = fl.FlightCallOptions(headers=[(b"x-lakehouse-bucket", b"nowhere")])

    with pytest.raises(pa.lib.ArrowKeyError, match=r"'nowhere'.*primary.*FS-1004"):
        put(flight_client, TABLE, pa.table({"a": [1]}), options)
