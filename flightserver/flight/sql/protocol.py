"""Flight SQL's protobuf messages, in a descriptor pool of their own.

Theory of operation: `Flight.proto`, `FlightSql.proto` and `Status.proto` are compiled into one descriptor set,
`protocol.binpb`, which is loaded here into a private pool; message classes are made from it at import.

Why not generated `_pb2` modules: these register their files in the process-wide default pool. A type URL needs the
full name `arrow.flight.protocol.sql.X`, so our files would meet those of any other library that carries the same
protocol (grpc-status brings `google.rpc.Status`, several clients bring Flight SQL), and the second registration of
a name is a TypeError at import. Two pools never meet. The price is that message classes are untyped: nothing
outside this package sees one, the typed face of the protocol is `messages.py` and `results.py`.

After a change of a .proto file, in this directory::

    python -m grpc_tools.protoc -I . --include_imports --descriptor_set_out=protocol.binpb \
        Flight.proto FlightSql.proto Status.proto

Invariants:
    - Bytes are taken for a `google.protobuf.Any` only if their type URL begins with `type.googleapis.com/`, so SQL and
      JSON text is never mistaken for one, even if it begins with a newline, which is also the tag of a type URL.
    - What a peer sends fails as InvalidRequest, never as a protobuf error.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from flightserver.errors import InvalidRequest

SQL_PACKAGE = "arrow.flight.protocol.sql"
FLIGHT_PACKAGE = "arrow.flight.protocol"

_TYPE_URL_PREFIX = "type.googleapis.com/"
"""https://protobuf.dev/reference/protobuf/google.protobuf/#any"""

_BEGINS_LIKE_ANY = re.compile(rb"\x0a[\x80-\xff]{0,4}[\x00-\x7f]type\.googleapis\.com/")
"""Tag of field 1 (type_url), its length as a varint, and the text that every type URL begins with."""

_VALUE_FIRST = b"\x12"
"""Tag of field 2 (value). Fields may come in any order, and no text begins with this control character."""


class Packed(NamedTuple):
    """The contents of a google.protobuf.Any: a full message name and that message's bytes."""

    name: str
    value: bytes


def _load_pool() -> descriptor_pool.DescriptorPool:
    descriptors = descriptor_pb2.FileDescriptorSet.FromString(
        files("flightserver.flight.sql").joinpath("protocol.binpb").read_bytes()
    )
    pool = descriptor_pool.DescriptorPool()
    for file in descriptors.file:
        pool.Add(file)
    return pool


_pool = _load_pool()


def message_class(name: str) -> Any:
    """Returns the class of a message by its full name, such as `arrow.flight.protocol.sql.CommandGetTables`."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(name))


def enum_values(name: str) -> dict[str, int]:
    """Returns names and numbers of an enumeration of the Flight SQL package, such as `SqlInfo`."""
    enum = _pool.FindEnumTypeByName(f"{SQL_PACKAGE}.{name}")
    return {value.name: value.number for value in enum.values}


_Any = message_class("google.protobuf.Any")


def parse(name: str, data: bytes) -> Any:
    """Parses one bare message.

    Args:
        name: The full name of the message that `data` must be.
        data: Its bytes.

    Raises:
        InvalidRequest: The bytes are not such a message.
    """
    try:
        return message_class(name).FromString(data)
    except DecodeError:
        msg = f"Expected a protobuf message {name}, found {len(data)} bytes that do not decode as one."
        raise InvalidRequest(msg) from None


def unpack(data: bytes) -> Packed | None:
    """Takes a google.protobuf.Any apart.

    Returns:
        What it holds, or None if the bytes are something else, such as SQL or JSON text.

    Raises:
        InvalidRequest: The bytes begin like an Any, but are damaged.
    """
    begins_like_any = _BEGINS_LIKE_ANY.match(data) is not None
    if not begins_like_any and not data.startswith(_VALUE_FIRST):
        return None
    try:
        packed = _Any.FromString(data)
    except DecodeError:
        if not begins_like_any:
            return None
        msg = f"Expected a google.protobuf.Any, found {len(data)} bytes that begin like one but do not decode."
        raise InvalidRequest(msg) from None
    if not packed.type_url.startswith(_TYPE_URL_PREFIX):
        return None
    return Packed(packed.type_url.removeprefix(_TYPE_URL_PREFIX), packed.value)


def pack(message: Any) -> bytes:
    """Returns the bytes of a google.protobuf.Any that holds a message."""
    type_url = _TYPE_URL_PREFIX + message.DESCRIPTOR.full_name
    data: bytes = _Any(type_url=type_url, value=message.SerializeToString()).SerializeToString()
    return data
