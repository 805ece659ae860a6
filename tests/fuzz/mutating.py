"""Mutations of bytes and of protobuf messages, each the outcome of a seeded random source and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from fuzz.target import field, varint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

MIB = 2**20

_BOUNDARIES = [0, 1, 0x7F, 0x80, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
_BAD_TEXTS = [b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\x00b", b"\xe2\x80\xae", b"'\"`;--"]


def _flip(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    for _bit in range(random.choice([1, 1, 1, 2, 4, 16])):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _truncate(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[random.randrange(len(data)) :]


def _delete(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = random.randrange(len(data))
    del data[start : start + random.randint(1, 16)]


def _duplicate(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = random.randrange(len(data))
    piece = data[start : start + random.randint(1, 64)]
    data[start:start] = piece * random.choice([1, 1, 2, 20])


def _splice(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = random.choice(others) if others else b"\x00"
    start = random.randrange(len(other) + 1)
    data[random.randrange(len(data)) :] = other[start:]


def _boundary(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    value = random.choice(_BOUNDARIES)
    width = random.choice([1, 2, 4, 8])
    place = random.randrange(len(data))
    data[place : place + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")


def _insert(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    place = random.randrange(len(data) + 1)
    piece = random.choice([random.randbytes(random.randint(1, 12)), varint(random.choice(_BOUNDARIES)), b"\xff" * 11])
    data[place:place] = piece


def _bad_text(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    place = random.randrange(len(data))
    text = random.choice(_BAD_TEXTS)
    data[place : place + len(text)] = text


_ON_BYTES: list[Callable[[Random, bytearray, Sequence[bytes]], None]] = [
    _flip,
    _flip,
    _truncate,
    _delete,
    _duplicate,
    _splice,
    _boundary,
    _insert,
    _bad_text,
]


def mutated(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """The bytes after one to three mutations.

    Args:
        random: Where every choice comes from.
        data: What is mutated.
        others: Bytes of which parts may be spliced in.
    """
    changed = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 3])):
        if not changed:
            changed += random.randbytes(random.randint(0, 8)) or b"\x00"
        random.choice(_ON_BYTES)(random, changed, others)
    return bytes(changed)


class Field(NamedTuple):
    """One field of a message as it is on the wire; `data` is without its length, or the bytes of its number."""

    number: int
    kind: int
    data: bytes

    def encoded(self) -> bytes:
        """Its bytes."""
        length = varint(len(self.data)) if self.kind == 2 else b""
        return varint(self.number << 3 | self.kind) + length + self.data


def fields(data: bytes) -> list[Field]:
    """The fields of a valid message."""
    found = []
    place = 0
    while place < len(data):
        tag, place = _varint_at(data, place)
        kind = tag & 7
        if kind == 0:
            end = _varint_at(data, place)[1]
        elif kind == 2:
            length, place = _varint_at(data, place)
            end = place + length
        else:
            end = place + (8 if kind == 1 else 4)
        found.append(Field(tag >> 3, kind, data[place:end]))
        place = end
    return found


def _varint_at(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[place] & 0x7F) << shift
        shift += 7
        place += 1
        if data[place - 1] < 0x80:
            return value, place


def _nested(random: Random, data: bytes) -> bytes:
    number = random.randint(1, 6)
    for _ in range(random.choice([10, 101, 1000])):
        data = field(number, data)
    return data


def _giant(random: Random, data: bytes) -> bytes:
    unit = random.choice([data or b"x", b"(", b"%", b"\\", "ü".encode(), b"\xff", b"a,", b'"'])
    return (unit * (random.choice([300, 3000, 3000, 20_000, 20_000, 20_000, 70_000, MIB]) // len(unit) + 1))[:MIB]


def message_mutated(random: Random, message: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A valid message after a change of one of its fields, which most often is a message again."""
    known = fields(message) or [Field(1, 2, b"t")]
    place = random.randrange(len(known))
    one = known[place]
    match random.choice(["data", "data", "number", "kind", "twice", "gone", "nested", "giant", "varint", "length"]):
        case "data":
            known[place] = one._replace(data=mutated(random, one.data, others))
        case "number":
            known[place] = one._replace(number=random.choice([1, 2, 3, 4, 5, 6, 7, 15, 1000, 2**29 - 1]))
        case "kind":
            known[place] = one._replace(kind=random.choice([0, 1, 2, 3, 4, 5, 6, 7]))
        case "twice":
            known += [one] * random.choice([1, 2, 1000])
        case "gone":
            del known[place]
        case "nested":
            known[place] = Field(one.number, 2, _nested(random, one.data))
        case "giant":
            known[place] = Field(one.number, 2, _giant(random, one.data))
        case "varint":
            known[place] = Field(one.number, 0, varint(random.choice(_BOUNDARIES)))
        case "length":
            before = b"".join(each.encoded() for each in known[:place])
            wrong = varint(one.number << 3 | 2) + varint(random.choice([*_BOUNDARIES, len(one.data) + 1])) + one.data
            return before + wrong + b"".join(each.encoded() for each in known[place + 1 :])
    return b"".join(each.encoded() for each in known)


_STRANGE: list[Any] = [
    None,
    True,
    0,
    -1,
    2**31,
    2**63,
    2**64,
    10**400,
    1.5,
    1e308,
    -0.0,
    "",
    "\0",
    "\ud800",
    "../../etc/passwd",
    "file:///etc/passwd",
    "t\nu",
    "\u202e",
    "%",
    "x" * 70_000,
    "2026-13-45T99:99:99Z",
    "9999-12-31T23:59:59+23:59",
    "0001-01-01T00:00:00-23:59",
    [],
    {},
    [[]],
    {"": ""},
    ["a", "a"],
    [None],
]
"""Values that a field may not expect."""


def json_mutated(random: Random, data: bytes) -> bytes:
    """A JSON object with another value, or another name, at one of its places."""
    whole = json.loads(data)
    holder: Any = whole
    while True:
        keys: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return data.replace(b"{", b'{"x": ', 1)
        key = random.choice(keys)
        if not (isinstance(holder[key], dict | list) and holder[key] and random.random() < 0.7):
            break
        holder = holder[key]
    match random.choice(["value", "value", "value", "gone", "named", "deep"]):
        case "value":
            holder[key] = random.choice(_STRANGE)
        case "gone":
            del holder[key]
        case "named" if isinstance(holder, dict):
            holder[random.choice(["", "bucket", "sql", "ingest", "delete", "x" * 5000, "\ud800"])] = holder[key]
        case _:
            holder[key] = 0
            return json.dumps(whole).encode("utf-8", "surrogatepass").replace(b": 0", b": " + b"[" * 2000 + b"]" * 2000)
    return json.dumps(whole, ensure_ascii=random.random() < 0.7).encode("utf-8", "surrogatepass")


def words_mutated(random: Random, text: str, vocabulary: Sequence[str]) -> str:
    """A statement with other words in some places."""
    words = text.split(" ")
    for _ in range(random.choice([1, 1, 2, 4])):
        place = random.randrange(len(words))
        match random.choice(["other", "other", "gone", "twice", "swap", "bracket"]):
            case "other":
                words[place] = random.choice(vocabulary)
            case "gone":
                words[place] = ""
            case "twice":
                words[place:place] = words[place : place + random.randint(1, 5)] * random.choice([1, 1, 1, 100])
            case "swap":
                other = random.randrange(len(words))
                words[place], words[other] = words[other], words[place]
            case "bracket":
                depth = random.choice([1, 1, 5, 200])
                words[place] = "(" * depth + words[place] + ")" * depth
    return " ".join(words)
