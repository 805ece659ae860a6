"""Casts of expressions to the exact Arrow types of columns.

The branches of a CASE are brought to one type by the engine, and that of numbers may hold less than the column does:
a decimal beside a double becomes a double. Each branch is therefore cast to the column's type by itself. SQL has no
names for all Arrow types; `arrow_cast` takes the engine's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS = {"s": "s", "ms": "ms", "us": "µs", "ns": "ns"}
_NAMES: dict[Any, str] = {
    pa.bool_(): "Boolean",
    pa.int8(): "Int8",
    pa.int16(): "Int16",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    pa.uint8(): "UInt8",
    pa.uint16(): "UInt16",
    pa.uint32(): "UInt32",
    pa.uint64(): "UInt64",
    pa.float16(): "Float16",
    pa.float32(): "Float32",
    pa.float64(): "Float64",
    pa.string(): "Utf8",
    pa.large_string(): "LargeUtf8",
    pa.binary(): "Binary",
    pa.large_binary(): "LargeBinary",
    pa.date32(): "Date32",
    pa.date64(): "Date64",
}
_ITEM = "item"


def cast(expression: str, data_type: pa.DataType) -> str:
    """The expression cast to a type; as it is, in parentheses, where the engine has no name for the type."""
    name = type_name(data_type)
    if name is None:
        return f"({expression})"
    literal = name.replace("'", "''")
    return f"arrow_cast({expression}, '{literal}')"


def type_name(data_type: pa.DataType) -> str | None:
    """What the engine calls a type; None for one whose name it could not read back.

    Those are lists whose values are not called `item`, and structs with names that are empty or need an escape.
    """
    if data_type in _NAMES:
        return _NAMES[data_type]
    for is_kind, name in _PARAMETRIC:
        if is_kind(data_type):
            return name(data_type)
    return _nested_name(data_type)


def _timestamp(data_type: pa.DataType) -> str:
    zone = "" if data_type.tz is None else f', "{data_type.tz}"'
    return f"Timestamp({_UNITS[data_type.unit]}{zone})"


_PARAMETRIC: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], str]], ...] = (
    (pa.types.is_timestamp, _timestamp),
    (pa.types.is_time, lambda kind: f"Time{kind.bit_width}({_UNITS[kind.unit]})"),
    (pa.types.is_duration, lambda kind: f"Duration({_UNITS[kind.unit]})"),
    (pa.types.is_decimal, lambda kind: f"Decimal{kind.bit_width}({kind.precision}, {kind.scale})"),
    (pa.types.is_fixed_size_binary, lambda kind: f"FixedSizeBinary({kind.byte_width})"),
)


def _nested_name(data_type: pa.DataType) -> str | None:
    types = pa.types
    if types.is_struct(data_type):
        return _struct_name(list(data_type))
    if types.is_map(data_type):
        entries = _struct_name([data_type.key_field, data_type.item_field])
        ordered = "sorted" if data_type.keys_sorted else "unsorted"
        return None if entries is None else f'Map("entries": non-null {entries}, {ordered})'
    if types.is_list(data_type) or types.is_large_list(data_type) or types.is_fixed_size_list(data_type):
        value = _field_type(data_type.value_field)
        if value is None or data_type.value_field.name != _ITEM:
            return None
        if types.is_fixed_size_list(data_type):
            return f"FixedSizeList({data_type.list_size} x {value})"
        return f"{'LargeList' if types.is_large_list(data_type) else 'List'}({value})"
    return None


def _struct_name(fields: list[pa.Field]) -> str | None:
    parts = []
    for field in fields:
        value = _field_type(field)
        if value is None or not field.name or not field.name.isprintable() or set(field.name) & set('"\\'):
            return None
        parts.append(f'"{field.name}": {value}')
    return f"Struct({', '.join(parts)})"


def _field_type(field: pa.Field) -> str | None:
    name = type_name(field.type)
    return name if name is None or field.nullable else f"non-null {name}"
