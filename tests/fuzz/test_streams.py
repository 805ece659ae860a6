"""Mutations of Arrow streams by every way that takes one: what pyarrow refuses is refused, the rest is kept exactly."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from fuzz.mutating import fields
from fuzz.streams import Decoded, Piece, as_flight, corpus, decoded, encapsulated, first_schema, mutation, same_values
from fuzz.target import COUNT, Answer, Target, descriptor, path, shown

from flightserver.flight.sql.protocol import SQL_PACKAGE, message_class, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_BEFORE_THE_HANDLER = re.compile(r"no stable code|status UNKNOWN")
"""pyarrow's server reads the schema itself and answers for a bad one: as UNKNOWN, because to Arrow it is a failed read,
and without a code. No handler and no middleware is asked."""


@dataclass(frozen=True)
class Way:
    """A way by which a stream comes in.

    Attributes:
        rpc: The call.
        described: Its FlightDescriptor.
        compare: What is wrong with what was accepted.
        binds: Whether the rows are values for a statement.
    """

    rpc: str
    described: bytes
    compare: Callable[[fl.FlightClient, Answer, Any], list[str]]
    binds: bool = False


def _stored(client: fl.FlightClient, answer: Answer, sent: Any) -> list[str]:
    """The dataset holds what was sent, and no row more or less than was acknowledged."""
    info = client.get_flight_info(fl.FlightDescriptor.for_path("kept"))
    table = client.do_get(info.endpoints[0].ticket).read_all()
    table.validate(full=True)
    acknowledged = _acknowledged(answer)
    wrong = [] if table.num_rows == acknowledged else [f"{acknowledged} rows acknowledged, {table.num_rows} stored"]
    return wrong if sent is None or same_values(table, sent) else [*wrong, "other values are stored"]


def _acknowledged(answer: Answer) -> int:
    metadata = b"".join(one.data for one in fields(answer.messages[-1]))
    if metadata.startswith(b"{"):
        return int(json.loads(metadata)["rows"])
    rows: int = message_class(f"{SQL_PACKAGE}.DoPutUpdateResult").FromString(metadata).record_count
    return rows


def _answered(client: fl.FlightClient, answer: Answer, sent: Any) -> list[str]:  # noqa: ARG001  # as `_stored`
    """The answer of `SELECT * FROM input` is the input."""
    received = []
    for message in answer.messages:
        parts = {one.number: one.data for one in fields(message)}
        received.append(Piece(parts.get(2, b""), parts.get(1000, b"")))
    data = encapsulated(received)
    assert data is not None
    table = pa.ipc.open_stream(data).read_all()
    table.validate(full=True)
    return [] if sent is None or same_values(table, sent) else ["other values were answered"]


def _nothing(client: fl.FlightClient, answer: Answer, sent: Any) -> list[str]:  # noqa: ARG001  # as `_stored`
    return []


def _ways(client: fl.FlightClient) -> list[Way]:
    ingest = message_class(f"{SQL_PACKAGE}.CommandStatementIngest")(table="kept")
    ingest.table_definition_options.if_not_exist = 1
    ingest.table_definition_options.if_exists = 3
    handles = [_handle(client, sql) for sql in ("SELECT $1", "INSERT INTO bound VALUES ($1, $2)")]
    query, update = (message_class(f"{SQL_PACKAGE}.CommandPreparedStatement{kind}") for kind in ("Query", "Update"))
    return [
        Way("DoPut", descriptor(b'{"ingest": "kept", "mode": "replace"}'), _stored),
        Way("DoPut", descriptor(pack(ingest)), _stored),
        Way("DoExchange", descriptor(b"SELECT * FROM input"), _answered),
        Way("DoPut", path("appended"), _nothing),
        Way("DoPut", descriptor(pack(query(prepared_statement_handle=handles[0]))), _nothing, binds=True),
        Way("DoPut", descriptor(pack(update(prepared_statement_handle=handles[1]))), _nothing, binds=True),
        Way("DoPut", descriptor(b'{"delete": "keyed"}'), _nothing),
        Way("DoPut", descriptor(b'{"upload": "rows.bin"}'), _nothing),
        Way("DoPut", descriptor(b'{"ingest": "keyed", "mode": "upsert"}'), _nothing),
    ]


def _handle(client: fl.FlightClient, sql: str) -> bytes:
    request = message_class(f"{SQL_PACKAGE}.ActionCreatePreparedStatementRequest")(query=sql)
    [result] = list(client.do_action(("CreatePreparedStatement", pack(request))))
    packed = unpack(result.body.to_pybytes())
    assert packed is not None
    answer = message_class(f"{SQL_PACKAGE}.ActionCreatePreparedStatementResult").FromString(packed.value)
    handle: bytes = answer.prepared_statement_handle
    return handle


def _prepare(client: fl.FlightClient) -> None:
    for sql in (
        "CREATE TABLE bound (a BIGINT, b TEXT)",
        "CREATE TABLE keyed (a BIGINT NOT NULL, b TEXT, PRIMARY KEY (a))",
        "CREATE TABLE kept (a BIGINT)",
    ):
        info = client.get_flight_info(fl.FlightDescriptor.for_command(sql))
        client.do_get(info.endpoints[0].ticket).read_all()


def _complaints(
    client: fl.FlightClient, way: Way, stream: list[Piece], answer: Answer, wrong: list[str]
) -> tuple[list[str], Decoded]:
    """What is wrong with an answer, in the light of what pyarrow makes of the stream."""
    reference = decoded(stream)
    if answer.failed:
        early = first_schema(stream) is None
        return [one for one in wrong if not (early and _BEFORE_THE_HANDLER.fullmatch(one))], reference
    # The rest of a stream without columns is not read when values are bound: there are none.
    unread = way.binds and not first_schema(stream).names
    if reference.comparable and reference.table is None and not unread:
        wrong.append("it accepted what pyarrow refuses")
    try:
        wrong += way.compare(client, answer, reference.table)
    except (pa.ArrowException, OSError) as error:
        wrong.append(f"what it accepted can't be read: {error}")
    return wrong, reference


@pytest.mark.timeout(3600)
def test_mutated_streams_are_refused_or_kept_exactly(tmp_path: Path, record_testsuite_property: Any) -> None:
    streams = corpus()
    wrong: list[str] = []
    figures: Counter[str] = Counter()
    with Target(tmp_path) as target, fl.connect(f"grpc://{target.address}") as client:
        _prepare(client)
        ways = _ways(client)
        for number in range(COUNT):
            stream, way = mutation(number, streams), ways[number % len(ways)]
            sent = as_flight(stream, way.described)
            answer, found = target.checked(way.rpc, iter(sent))
            complaints, reference = _complaints(client, way, stream, answer, found)
            early = answer.failed and first_schema(stream) is None
            figures["before the handler" if early else f"{answer.code}, pyarrow {reference.verdict}"] += 1
            if complaints:
                wrong.append(shown(number, way.rpc, sent, answer, complaints))
            if not target.lives():
                break
        wrong += target.log_complaints()
        assert not wrong, "\n".join(wrong[:20])
        assert target.stop() == 0
    record_testsuite_property("answers to mutated streams", dict(figures))
    assert sum(figures.values()) == COUNT


def test_the_streams_are_valid_before_they_are_mutated() -> None:
    assert all(decoded(stream).table is not None for stream in corpus())


@pytest.mark.parametrize("number", range(3))
def test_a_mutation_is_always_the_same(number: int) -> None:
    assert mutation(number, corpus()) == mutation(number, corpus())
