"""Flight SQL by hand: every message that a driver could send, in any order."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.flight as fl

from flightserver.flight.sql.protocol import SQL_PACKAGE, message_class, pack, parse, unpack


def descriptor(command: str, **fields: Any) -> fl.FlightDescriptor:
    """The descriptor of a command, such as `StatementQuery`."""
    return fl.FlightDescriptor.for_command(pack(message_class(f"{SQL_PACKAGE}.Command{command}")(**fields)))


def act(client: fl.FlightClient, action: str, /, **fields: Any) -> list[Any]:
    """The messages that an action answers."""
    body = pack(message_class(f"{SQL_PACKAGE}.Action{action}Request")(**fields))
    answers = [unpack(one.body.to_pybytes()) for one in client.do_action(fl.Action(action, body))]
    return [parse(one.name, one.value) for one in answers if one is not None]


def streams(
    client: fl.FlightClient, info: fl.FlightInfo, options: fl.FlightCallOptions | None = None
) -> list[pa.Table]:
    """What each endpoint streams."""
    return [client.do_get(endpoint.ticket, options).read_all() for endpoint in info.endpoints]


def put(client: fl.FlightClient, where: fl.FlightDescriptor, rows: pa.RecordBatch | None = None) -> bytes:
    """The answer to a DoPut of these rows; of none if none are given."""
    sent = pa.RecordBatch.from_arrays([], schema=pa.schema([])) if rows is None else rows
    writer, reader = client.do_put(where, sent.schema)
    if rows is not None:
        writer.write_batch(rows)
    writer.done_writing()
    answer = reader.read()
    writer.close()
    return b"" if answer is None else answer.to_pybytes()


def updated(answer: bytes) -> int:
    """The count in the answer of an update."""
    return int(parse(f"{SQL_PACKAGE}.DoPutUpdateResult", answer).record_count)


class Prepared(NamedTuple):
    """A prepared statement: its handle, the schema of its answer, whether it is an update."""

    handle: bytes
    schema: pa.Schema | None
    is_update: bool


def prepare(client: fl.FlightClient, action: str = "CreatePreparedStatement", **fields: Any) -> Prepared:
    """Prepare a statement or plan."""
    (answer,) = act(client, action, **fields)
    schema = pa.ipc.read_schema(pa.py_buffer(answer.dataset_schema)) if answer.dataset_schema else None
    return Prepared(answer.prepared_statement_handle, schema, answer.is_update)
