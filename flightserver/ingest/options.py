"""What a user may say about a file: the `options` of `ingest.file`, decoded and checked per format."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import pyarrow as pa

from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

_Character = Annotated[str, msgspec.Meta(min_length=1, max_length=1, pattern=r"^[\x00-\x7f]$")]
_DECIMAL = re.compile(r"(?:decimal|decimal128|numeric)\((\d{1,2})(?:,\s*(\d{1,2}))?\)")
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:,\s*(?:tz=)?([\w/+:-]+))?\]")
_SQL_TYPES = {
    "bigint": pa.int64(),
    "integer": pa.int32(),
    "int": pa.int32(),
    "smallint": pa.int16(),
    "tinyint": pa.int8(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "varchar": pa.string(),
    "text": pa.string(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "timestamp with time zone": pa.timestamp("us", tz="UTC"),
    "blob": pa.binary(),
}
_DECIMAL_DIGITS = 38


class CsvOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of delimited text; what isn't given is found.

    Args:
        delimiter: What separates values, one ASCII character.
        encoding: A Python codec name such as `utf-8` or `cp1252`.
        header: Whether the first line holds column names.
        null_values: Exactly these unquoted texts are null, besides the empty one.
        column_names: Names in place of the header's.
        column_types: Column -> type, such as `int64`, `string`, `timestamp[us]`, `decimal(10,2)` or an SQL type name.
        quote: What encloses values; empty for none.
        escape: What takes away the next character's meaning.
        decimal_point: What separates fractions.
    """

    delimiter: _Character | None = None
    encoding: str | None = None
    header: bool | None = None
    null_values: tuple[str, ...] | None = None
    column_names: tuple[str, ...] | None = None
    column_types: dict[str, str] = {}
    quote: Annotated[str, msgspec.Meta(max_length=1)] | None = None
    escape: _Character | None = None
    decimal_point: _Character = "."


class JsonOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of JSON and newline-delimited JSON.

    Args:
        encoding: A Python codec name.
        column_types: Top-level field -> type, for texts and numbers.
    """

    encoding: str | None = None
    column_types: dict[str, str] = {}


class NoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parquet and Arrow describe themselves."""


# What msgspec knows of a type it finds out at the first use, and two threads that are first at once crash it (0.22).
_prepared = [msgspec.json.Decoder(kind) for kind in (CsvOptions, JsonOptions, NoOptions)]

_Options = TypeVar("_Options", CsvOptions, JsonOptions, NoOptions)


def decode_options(kind: type[_Options], options: Mapping[str, object], file_format: str) -> _Options:
    """Decode the options of one format.

    Raises:
        InvalidRequest: One isn't known or has the wrong type; the message says which exist.
    """
    try:
        return msgspec.convert(dict(options), kind)
    except msgspec.ValidationError as error:
        known = ", ".join(kind.__struct_fields__) or "no options"
        msg = f"the options aren't valid: {error}; {file_format} takes {known}"
        raise InvalidRequest(msg) from error


def decode_types(types: Mapping[str, str], columns: tuple[str, ...] | list[str], name: str) -> dict[str, pa.DataType]:
    """Decode `column_types` of the file `name`.

    Raises:
        InvalidRequest: A column isn't in the file, or a type isn't known.
    """
    absent = [column for column in types if column not in columns]
    if absent:
        msg = f"{name} has no column {absent[0]!r} that column_types names; it has {', '.join(map(repr, columns))}"
        raise InvalidRequest(msg)
    return {column: type_named(text) for column, text in types.items()}


def type_named(text: str) -> pa.DataType:
    """Return the Arrow type that an Arrow or SQL type name means.

    Raises:
        InvalidRequest: It means none.
    """
    lower = " ".join(text.lower().split())
    if lower in _SQL_TYPES:
        return _SQL_TYPES[lower]
    if match := _DECIMAL.fullmatch(lower):
        precision, scale = int(match[1]), int(match[2] or 0)
        if 1 <= precision <= _DECIMAL_DIGITS and scale <= precision:
            return pa.decimal128(precision, scale)
    if match := _TIMESTAMP.fullmatch(text.strip()):
        return pa.timestamp(match[1], tz=match[2])
    try:
        return pa.type_for_alias(lower)
    except ValueError as error:
        msg = (
            f"{text!r} names no type; use one such as int64, float64, string, bool, date32, timestamp[us], "
            "time64[us] or decimal(10,2)"
        )
        raise InvalidRequest(msg) from error
