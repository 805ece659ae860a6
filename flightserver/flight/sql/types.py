"""SQL types: their names, and what CommandGetXdbcTypeInfo says of each.

A name is what the engine's CREATE TABLE accepts, so that tools which copy a table's columns into DDL succeed. Lists are
named after their element, `BIGINT[]`; structs and maps after their parts. `XDBC_TYPE_INFO` is the result schema of the
specification, https://arrow.apache.org/docs/format/FlightSql.html.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from flightserver.flight.sql.protocol import enum_values
from flightserver.tables.types import decoded, is_any_list

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TEXT_LENGTH = 2**31 - 1
"""Values have 32-bit offsets in Arrow."""

MAX_DECIMAL_DIGITS = 76
"""Of a 256-bit decimal."""

_DECIMAL128_DIGITS = 38

_DIGITS = {8: 3, 16: 5, 32: 10, 64: 19}
_UNSIGNED_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}
_SIGNIFICAND_BITS = {16: 11, 32: 24, 64: 53}
"""IEEE 754, by width."""

_FRACTION_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_DATE_CHARACTERS = len("2026-11-21")
_TIME_CHARACTERS = len("10:00:00")
_TIMESTAMP_CHARACTERS = len("2026-11-21 10:00:00")

_SIMPLE_NAMES: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (pa.types.is_boolean, "BOOLEAN"),
    (pa.types.is_int8, "TINYINT"),
    (pa.types.is_int16, "SMALLINT"),
    (pa.types.is_int32, "INTEGER"),
    (pa.types.is_int64, "BIGINT"),
    (pa.types.is_uint8, "TINYINT UNSIGNED"),
    (pa.types.is_uint16, "SMALLINT UNSIGNED"),
    (pa.types.is_uint32, "INTEGER UNSIGNED"),
    (pa.types.is_uint64, "BIGINT UNSIGNED"),
    (pa.types.is_float16, "REAL"),
    (pa.types.is_float32, "REAL"),
    (pa.types.is_float64, "DOUBLE"),
    (pa.types.is_decimal, "DECIMAL"),
    (pa.types.is_string, "VARCHAR"),
    (pa.types.is_large_string, "VARCHAR"),
    (pa.types.is_string_view, "VARCHAR"),
    (pa.types.is_null, "VARCHAR"),
    (pa.types.is_binary, "BYTEA"),
    (pa.types.is_large_binary, "BYTEA"),
    (pa.types.is_binary_view, "BYTEA"),
    (pa.types.is_fixed_size_binary, "BYTEA"),
    (pa.types.is_date, "DATE"),
    (pa.types.is_time, "TIME"),
    (pa.types.is_interval, "INTERVAL"),
    (pa.types.is_duration, "INTERVAL"),
)


def type_name(kind: pa.DataType) -> str:
    """Returns the SQL name of an Arrow type, without precision and scale."""
    types = pa.types
    kind = decoded(kind)
    if types.is_timestamp(kind):
        return "TIMESTAMP" if kind.tz is None else "TIMESTAMP WITH TIME ZONE"
    if types.is_map(kind):
        return f"MAP<{type_name(kind.key_type)}, {type_name(kind.item_type)}>"
    if types.is_struct(kind):
        fields = (kind.field(index) for index in range(kind.num_fields))
        return f"STRUCT<{', '.join(f'{field.name} {type_name(field.type)}' for field in fields)}>"
    if is_any_list(kind) or types.is_fixed_size_list(kind):
        return f"{type_name(kind.value_type)}[]"
    return next((name for test, name in _SIMPLE_NAMES if test(kind)), str(kind).upper())


def precision(kind: pa.DataType) -> int | None:
    """Returns what JDBC calls COLUMN_SIZE: decimal digits, significand bits or characters; None if it means nothing."""
    types = pa.types
    kind = decoded(kind)
    digits: int | None = None
    if types.is_signed_integer(kind):
        digits = _DIGITS[kind.bit_width]
    elif types.is_unsigned_integer(kind):
        digits = _UNSIGNED_DIGITS[kind.bit_width]
    elif types.is_floating(kind):
        digits = _SIGNIFICAND_BITS[kind.bit_width]
    elif types.is_decimal(kind):
        digits = kind.precision
    elif types.is_date(kind):
        digits = _DATE_CHARACTERS
    elif types.is_time(kind):
        digits = _TIME_CHARACTERS + _fraction_characters(kind.unit)
    elif types.is_timestamp(kind):
        digits = _TIMESTAMP_CHARACTERS + _fraction_characters(kind.unit)
    elif types.is_fixed_size_binary(kind):
        digits = kind.byte_width
    elif type_name(kind) in {"VARCHAR", "BYTEA"}:
        digits = _TEXT_LENGTH
    return digits


def scale(kind: pa.DataType) -> int | None:
    """Returns the digits after the decimal point, of seconds too; None if it means nothing."""
    kind = decoded(kind)
    if pa.types.is_decimal(kind):
        decimals: int = kind.scale
        return decimals
    if pa.types.is_integer(kind):
        return 0
    if pa.types.is_time(kind) or pa.types.is_timestamp(kind):
        return _FRACTION_DIGITS[kind.unit]
    return None


def _fraction_characters(unit: str) -> int:
    digits = _FRACTION_DIGITS[unit]
    return digits + 1 if digits else 0


def parameter_type(kind: pa.DataType | None) -> pa.DataType:
    """Returns the type that is announced for the values of a placeholder.

    Values are taken in any type; this one is what drivers convert to before they send them. It is chosen so that
    Arrow's JDBC driver (18.3) sends what was meant: it takes only text where the type is unknown, writes milliseconds
    into timestamps and times of every unit, and can't write decimals of 256 bits, large and view types.

    Args:
        kind: The type that the engine expects; None if that is unknown.
    """
    types = pa.types
    kind = pa.null() if kind is None else decoded(kind)
    if types.is_null(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.utf8()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if types.is_timestamp(kind):
        return pa.timestamp("ms", kind.tz)
    if types.is_time(kind):
        return pa.time32("ms")
    if types.is_decimal(kind):
        return pa.decimal128(min(kind.precision, _DECIMAL128_DIGITS), min(kind.scale, _DECIMAL128_DIGITS))
    return kind


def parameter_schema(types: Mapping[str, pa.DataType | None]) -> pa.Schema:
    """Returns one nullable field per placeholder, in the order of `types`."""
    return pa.schema([(name, parameter_type(kind)) for name, kind in types.items()])


XDBC_TYPE_INFO = pa.schema(
    [
        pa.field("type_name", pa.utf8(), nullable=False),
        pa.field("data_type", pa.int32(), nullable=False),
        pa.field("column_size", pa.int32()),
        pa.field("literal_prefix", pa.utf8()),
        pa.field("literal_suffix", pa.utf8()),
        pa.field("create_params", pa.list_(pa.field("item", pa.utf8(), nullable=False))),
        pa.field("nullable", pa.int32(), nullable=False),
        pa.field("case_sensitive", pa.bool_(), nullable=False),
        pa.field("searchable", pa.int32(), nullable=False),
        pa.field("unsigned_attribute", pa.bool_()),
        pa.field("fixed_prec_scale", pa.bool_(), nullable=False),
        pa.field("auto_increment", pa.bool_()),
        pa.field("local_type_name", pa.utf8()),
        pa.field("minimum_scale", pa.int32()),
        pa.field("maximum_scale", pa.int32()),
        pa.field("sql_data_type", pa.int32(), nullable=False),
        pa.field("datetime_subcode", pa.int32()),
        pa.field("num_prec_radix", pa.int32()),
        pa.field("interval_precision", pa.int32()),
    ]
)

_XDBC = enum_values("XdbcDataType")
_SUBCODES = enum_values("XdbcDatetimeSubcode")
_NULLABLE = enum_values("Nullable")["NULLABILITY_NULLABLE"]
_SEARCHABLE = enum_values("Searchable")


class _Type(NamedTuple):
    """One SQL type: the Arrow type that shows its largest precision, and what XDBC calls it."""

    arrow: pa.DataType
    xdbc: str
    prefix: str | None = None
    suffix: str | None = None
    parameters: tuple[str, ...] | None = None
    radix: int | None = None
    unsigned: bool | None = None
    scales: tuple[int, int] | None = None
    subcode: str | None = None


def _exact(arrow: pa.DataType, xdbc: str) -> _Type:
    return _Type(arrow, xdbc, radix=10, unsigned=pa.types.is_unsigned_integer(arrow), scales=(0, 0))


def _approximate(arrow: pa.DataType, xdbc: str) -> _Type:
    return _Type(arrow, xdbc, radix=2, unsigned=False)


def _time(arrow: pa.DataType, xdbc: str, subcode: str, **fields: tuple[str, ...] | tuple[int, int]) -> _Type:
    keyword = type_name(arrow).partition(" ")[0]
    return _Type(arrow, xdbc, f"{keyword} '", "'", subcode=subcode, **fields)  # type: ignore[arg-type]  # by name


_TYPES = (
    _Type(pa.bool_(), "XDBC_BIT"),
    _exact(pa.int8(), "XDBC_TINYINT"),
    _exact(pa.int16(), "XDBC_SMALLINT"),
    _exact(pa.int32(), "XDBC_INTEGER"),
    _exact(pa.int64(), "XDBC_BIGINT"),
    _exact(pa.uint8(), "XDBC_TINYINT"),
    _exact(pa.uint16(), "XDBC_SMALLINT"),
    _exact(pa.uint32(), "XDBC_INTEGER"),
    _exact(pa.uint64(), "XDBC_BIGINT"),
    _approximate(pa.float32(), "XDBC_REAL"),
    _approximate(pa.float64(), "XDBC_DOUBLE"),
    _Type(
        pa.decimal256(MAX_DECIMAL_DIGITS),
        "XDBC_DECIMAL",
        parameters=("precision", "scale"),
        radix=10,
        unsigned=False,
        scales=(0, MAX_DECIMAL_DIGITS),
    ),
    _Type(pa.utf8(), "XDBC_VARCHAR", "'", "'"),
    _Type(pa.binary(), "XDBC_VARBINARY", "X'", "'"),
    _time(pa.date32(), "XDBC_DATE", "DATE"),
    _time(pa.time64("ns"), "XDBC_TIME", "TIME", scales=(9, 9)),
    _time(pa.timestamp("ns"), "XDBC_TIMESTAMP", "TIMESTAMP", parameters=("precision",), scales=(0, 9)),
    _time(
        pa.timestamp("ns", "UTC"),
        "XDBC_TIMESTAMP",
        "TIMESTAMP_WITH_TIMEZONE",
        parameters=("precision",),
        scales=(0, 9),
    ),
)


def _row(sql: _Type) -> dict[str, object]:
    name = type_name(sql.arrow)
    least, most = sql.scales or (None, None)
    is_text = name == "VARCHAR"
    return {
        "type_name": name,
        "data_type": _XDBC[sql.xdbc],
        "column_size": 1 if pa.types.is_boolean(sql.arrow) else precision(sql.arrow),
        "literal_prefix": sql.prefix,
        "literal_suffix": sql.suffix,
        "create_params": sql.parameters,
        "nullable": _NULLABLE,
        "case_sensitive": is_text,
        "searchable": _SEARCHABLE["SEARCHABLE_FULL" if is_text else "SEARCHABLE_BASIC"],
        "unsigned_attribute": sql.unsigned,
        "fixed_prec_scale": False,
        "auto_increment": None if sql.radix is None else False,
        "local_type_name": name,
        "minimum_scale": least,
        "maximum_scale": most,
        "sql_data_type": _XDBC["XDBC_DATETIME" if sql.subcode else sql.xdbc],
        "datetime_subcode": _SUBCODES[f"XDBC_SUBCODE_{sql.subcode}"] if sql.subcode else None,
        "num_prec_radix": sql.radix,
        "interval_precision": None,
    }


_ROWS = sorted((_row(sql) for sql in _TYPES), key=lambda row: (row["data_type"], row["type_name"]))


def xdbc_type_info(data_type: int | None) -> pa.Table:
    """Returns the SQL types in the schema `XDBC_TYPE_INFO`, by number and then name.

    Args:
        data_type: A value of the enumeration XdbcDataType, or None for all types.
    """
    rows = [row for row in _ROWS if data_type is None or row["data_type"] == data_type]
    return pa.Table.from_pylist(rows, schema=XDBC_TYPE_INFO)
