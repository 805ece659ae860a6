"""Valid Arrow streams of many types, as Flight messages, and mutations of them.

A stream is a list of `Piece`: the flatbuffer of an IPC message and its body. A mutation changes some of these bytes, or
their order. `decoded` says what pyarrow makes of the same bytes: what it refuses, the server has to refuse.
"""

from __future__ import annotations

import datetime as dt
import struct
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from fuzz.mutating import mutated
from fuzz.target import flight_data

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTINUATION = b"\xff\xff\xff\xff"
_END = _CONTINUATION + b"\0\0\0\0"
_BODY_LENGTH = 4 + 2 * 3
"""Place in a vtable of the offset of its table's fourth field."""


class Piece(NamedTuple):
    """One IPC message."""

    header: bytes
    body: bytes


def pieces(table: Any, *, compression: str | None = None, batch_rows: int | None = None) -> list[Piece]:
    """The messages of a stream."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression, emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, batch_rows)
    found: list[Piece] = []
    reader = pa.ipc.MessageReader.open_stream(sink.getvalue())
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return found
        body = b"" if message.body is None else message.body.to_pybytes()
        found.append(Piece(message.metadata.to_pybytes(), body))


def as_flight(stream: list[Piece], described: bytes) -> list[bytes]:
    """The messages of a stream as FlightData, the first with the descriptor."""
    return [
        flight_data(header, body, described if number == 0 else None) for number, (header, body) in enumerate(stream)
    ]


def flight_messages(table: Any, described: bytes) -> list[bytes]:
    """A table as FlightData."""
    return as_flight(pieces(table), described)


def encapsulated(stream: list[Piece]) -> bytes | None:
    """The messages as an IPC stream that decodes as Flight decodes them; None if there is none.

    Flight frames bodies itself and ignores the length of a body that the message states, so it is set right. A message
    without a flatbuffer carries only application metadata, and an IPC stream has no such thing.
    """
    parts = []
    for header, body in stream:
        if header:
            padded = header + b"\0" * (-len(header) % 8)
            whole = body + b"\0" * (-len(body) % 8)
            fitting = _with_body_length(padded, len(whole))
            if fitting is None:
                return None
            parts += [_CONTINUATION, struct.pack("<i", len(padded)), fitting, whole]
    return b"".join([*parts, _END])


def _with_body_length(header: bytes, length: int) -> bytes | None:
    """The flatbuffer of a Message (format/Message.fbs) with its fourth field, `bodyLength`, set.

    None if it has no such field, although it would need one.
    """
    try:
        (root,) = struct.unpack_from("<I", header, 0)
        (back,) = struct.unpack_from("<i", header, root)
        vtable = root - back
        (size,) = struct.unpack_from("<H", header, vtable)
        (offset,) = struct.unpack_from("<H", header, vtable + _BODY_LENGTH) if size > _BODY_LENGTH else (0,)
        changed = bytearray(header)
        if offset:
            struct.pack_into("<q", changed, root + offset, length)
        elif length:
            return None
    except struct.error:
        return header
    return bytes(changed)


def first_schema(stream: list[Piece]) -> Any:
    """The schema that the first message is, None if pyarrow can't read it as one: then no handler is called."""
    try:
        header = stream[0].header
        return pa.ipc.read_schema(pa.py_buffer(_CONTINUATION + struct.pack("<i", len(header)) + header))
    except (pa.ArrowException, OSError, IndexError):
        return None


@dataclass(frozen=True)
class Decoded:
    """What pyarrow makes of a stream: a table that was fully validated, or None where it refuses the bytes.

    Attributes:
        table: The table.
        comparable: Whether the stream can be framed for pyarrow's IPC reader as Flight frames it.
    """

    table: Any = None
    comparable: bool = True

    @property
    def verdict(self) -> str:
        """What pyarrow says, in a word or two."""
        return "can't say" if not self.comparable else "refuses" if self.table is None else "accepts"


def decoded(stream: list[Piece]) -> Decoded:
    """Read a stream by pyarrow's own IPC reader."""
    data = encapsulated(stream)
    if data is None:
        return Decoded(comparable=False)
    try:
        with pa.ipc.open_stream(data) as reader:
            batches = []
            for batch in reader:
                batch.validate(full=True)
                batches.append(batch)
            return Decoded(pa.Table.from_batches(batches, schema=reader.schema))
    except (pa.ArrowException, OSError, ValueError):
        return Decoded()


def corpus() -> list[list[Piece]]:
    """Valid streams."""
    plain = [pieces(table) for table in _tables()]
    several = [pieces(table, batch_rows=1) for table in _tables()]
    packed = [pieces(table, compression=codec) for table in _tables() for codec in ("lz4", "zstd")]
    return [*plain, *several, *packed]


def _tables() -> Iterator[Any]:
    texts = ["one", None, "drei ü", "a text that is longer than a view holds in place"]
    numbers = [1, None, -3, 2**31 - 1]
    yield pa.table({"a": pa.array(numbers, pa.int64()), "b": texts})
    for kind in _columns():
        yield pa.table({"a": kind})
    yield pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.list_(pa.string()))})
    yield pa.schema([("a", pa.int32()), ("b", pa.dictionary(pa.int8(), pa.string()))]).empty_table()
    yield pa.table({})
    yield pa.Table.from_arrays([pa.array(numbers), pa.array(texts)], ["a", "a"])
    yield pa.Table.from_arrays([pa.array(numbers), pa.array(texts)], ["", "x.y\"'"])
    yield pa.table({f"c{place}": [place] for place in range(60)})
    required = pa.schema([pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.string(), nullable=False)])
    yield pa.table({"a": [1, 2], "b": ["x", "y"]}, schema=required)
    chunks = [pa.array(values).dictionary_encode() for values in (["x", "y"], ["z", "x"])]
    yield pa.table({"a": pa.chunked_array(chunks)})


def _columns() -> Iterator[Any]:
    texts = ["one", None, "drei ü", "a text that is longer than a view holds in place"]
    numbers = [1, None, -3, 2**15 - 1]
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        yield pa.array(texts, kind)
        yield pa.array(texts).cast(pa.dictionary(pa.int16(), pa.string()))
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view()):
        yield pa.array([b"\xff", None, b"", b"x" * 40], kind)
    yield pa.array([b"abc", None, b"xyz"], pa.binary(3))
    for kind in (pa.int8(), pa.uint64(), pa.int32(), pa.float32(), pa.float64()):
        yield pa.array([1, None, 3], kind)
    yield pa.array([1.5, None, float("nan")], pa.float16())
    yield pa.array([True, None, False])
    yield pa.nulls(4)
    for unit in ("s", "ms", "us", "ns"):
        yield pa.array(numbers, pa.timestamp(unit, "UTC"))
        yield pa.array(numbers, pa.duration(unit))
    yield pa.array([dt.date(2026, 1, 31), None], pa.date32())
    yield pa.array([dt.date(2026, 1, 31), None], pa.date64())
    yield pa.array([dt.time(1, 2), None], pa.time32("ms"))
    yield pa.array([dt.time(1, 2), None], pa.time64("ns"))
    for decimal in (pa.decimal32(7, 2), pa.decimal64(15, 2), pa.decimal128(20, 2), pa.decimal256(50, 2)):
        yield pa.array([Decimal("12.34"), None, Decimal("-9999.99")], decimal)
    yield from _nested_columns()


def _nested_columns() -> Iterator[Any]:
    lists = [[1, None], None, [], [3, 4, 5]]
    for maker in (pa.list_, pa.large_list, pa.list_view, pa.large_list_view):
        yield pa.array(lists, maker(pa.int32()))
        yield pa.array([[["x"], None], None, []], maker(maker(pa.string_view())))
    yield pa.array([[1, 2], None, [3, None]], pa.list_(pa.float32(), 2))
    yield pa.array([{"x": 1, "y": ["a"]}, None, {"x": None, "y": None}])
    yield pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64()))
    deep = pa.list_(pa.struct([("m", pa.map_(pa.string(), pa.struct([("d", pa.decimal128(5, 1))])))]))
    yield pa.array([[{"m": [("k", {"d": Decimal("1.5")})]}], None], deep)
    yield pa.RunEndEncodedArray.from_arrays(pa.array([2, 4, 5], pa.int32()), pa.array(["x", None, "y"]))
    kinds = pa.array([0, 1, 0], pa.int8())
    children = [pa.array([1, 2, 3]), pa.array(["a", "b", "c"])]
    yield pa.UnionArray.from_sparse(kinds, children)
    yield pa.UnionArray.from_dense(kinds, pa.array([0, 0, 1], pa.int32()), children)
    yield pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0123456789abcdef", None], pa.binary(16)))
    yield pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}', None]))
    tensor = pa.fixed_shape_tensor(pa.int32(), (2, 2))
    yield pa.ExtensionArray.from_storage(tensor, pa.array([[1, 2, 3, 4]], tensor.storage_type))
    yield pa.array([(1, 2, 3), None], pa.month_day_nano_interval())
    strings = pa.array(["x", "y"]).dictionary_encode()
    yield pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), strings)


def mutation(number: int, streams: list[list[Piece]]) -> list[Piece]:
    """The mutated stream of that number.

    Args:
        number: Decides everything.
        streams: The corpus.
    """
    random = Random(f"stream {number}")  # noqa: S311  # repeatable on purpose
    stream = list(random.choice(streams))
    other = random.choice(streams)
    for _ in range(random.choice([1, 1, 1, 2])):
        place = random.randrange(len(stream)) if stream else 0
        if not stream:
            break
        header, body = stream[place]
        # Most of what begins wrong never comes to the server's own code.
        if place == 0 and random.random() < 0.7:
            place = random.randrange(len(stream))
            header, body = stream[place]
        kind = random.choice(["header", "header", "words", "body", "body", "body", "length", "order", "mixed"])
        match kind:
            case "header":
                stream[place] = Piece(mutated(random, header, [other[0].header]), body)
            case "words":
                stream[place] = Piece(_word_changed(random, header), body)
            case "body" if body:
                stream[place] = Piece(
                    header, _word_changed(random, body) if random.random() < 0.6 else _cut(random, body)
                )
            case "length" if body:
                stream[place] = Piece(
                    header, body[: random.randrange(len(body) + 1)] + random.choice([b"", b"\0" * 64])
                )
            case "order":
                again = [*stream, stream[place]]
                stream = random.choice([stream[::-1], stream * 2, stream[1:], stream[:place], again])
            case "mixed":
                stream[place] = random.choice(other)
    return stream


def _word_changed(random: Random, data: bytes) -> bytes:
    """One number of 1, 2, 4 or 8 bytes at its natural place gets another value: lengths, offsets, enumerations."""
    width = random.choice([1, 2, 4, 4, 8])
    if len(data) < width:
        return data
    place = random.randrange(len(data) // width) * width
    bits = 8 * width
    near = int.from_bytes(data[place : place + width], "little") + random.choice([-8, -1, 1, 2, 8, 64])
    far = random.choice(
        [0, 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1, 2 ** (bits // 2), random.getrandbits(bits)]
    )
    value: int = random.choice([near, far]) % 2**bits
    return data[:place] + value.to_bytes(width, "little") + data[place + width :]


def _cut(random: Random, body: bytes) -> bytes:
    """Other bytes in the body; of the same length, because FlightData and IPC streams say lengths differently."""
    changed = bytearray(body)
    for _ in range(random.choice([1, 2, 8])):
        changed[random.randrange(len(changed))] = random.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF])
    return bytes(changed)


def same_values(stored: Any, reference: Any) -> bool:
    """Whether a table that was read back has the values that were sent, whatever types it has them in."""
    if stored.num_rows != reference.num_rows or stored.num_columns != reference.num_columns:
        return False
    for field, column in zip(stored.schema, reference.columns, strict=True):
        sent = _plain(column)
        if sent is not None and repr(_plain(stored.column(field.name))) != repr(sent):
            return False
    return True


def _plain(column: Any) -> list[Any] | None:
    """A column as Python values; None for values that Python can't hold."""
    try:
        if isinstance(column.type, pa.BaseExtensionType):
            column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException, OSError):
        return None
    return values
