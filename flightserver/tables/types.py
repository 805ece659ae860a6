"""Arrow types that a dataset may have, and the order among them.

A *canonical* type is one that Parquet, DataFusion and JDBC all read without loss. Arrow has many types for the same
values (three kinds of string, five of list, dictionaries, run ends); clients send any of them, datasets hold one:

- strings and binaries with 32-bit offsets, lists as `list<item>`, maps unsorted; no views, dictionaries or run ends,
  at any depth; extension types are their storage;
- `null` is a string that happens to be null; `float16` is `float32`; `date64` is `date32`; seconds of time and
  timestamp, which Parquet lacks, are milliseconds;
- decimals have 128 bits, or 256 where more than 38 digits need them, and 0 <= scale <= precision as Parquet demands;
- values inside lists, structs and maps are nullable, because that is what DataFusion and JDBC make of them; only
  map keys are not.

Unions and calendar intervals have no Parquet form and are refused.

`widened` orders canonical types: it tells which type holds everything that two types hold. It is directional only for
nanoseconds, whose range ends in the year 2262: a dataset is never widened to them, because one row beyond, which it
may have already, makes the engine refuse to read the column.
"""

from __future__ import annotations

import re
import zoneinfo
from typing import Any

import pyarrow as pa

from flightserver.errors import SchemaMismatch

type_is = pa.types

_MAX_DIGITS_128 = 38
_MAX_DIGITS_256 = 76
_UNITS = ("s", "ms", "us", "ns")
_OFFSET = re.compile(r"[+-]\d\d:\d\d")
_PLAIN: dict[Any, Any] = {
    pa.null(): pa.string(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.binary(0): pa.binary(),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    pa.time32("s"): pa.time32("ms"),
}


def is_any_list(data_type: pa.DataType) -> bool:
    """Whether it is a list of any length: with 32-bit or 64-bit offsets, or a view."""
    return bool(
        type_is.is_list(data_type)
        or type_is.is_large_list(data_type)
        or type_is.is_list_view(data_type)
        or type_is.is_large_list_view(data_type)
    )


def is_vectors(data_type: pa.DataType) -> bool:
    """Whether values are lists of numbers."""
    is_list = is_any_list(data_type) or pa.types.is_fixed_size_list(data_type)
    return is_list and bool(pa.types.is_floating(data_type.value_type) or pa.types.is_integer(data_type.value_type))


def decoded(data_type: pa.DataType) -> pa.DataType:
    """The type of the values: without extension, dictionary and run-end wrappers on its outside."""
    while True:
        if isinstance(data_type, pa.BaseExtensionType):
            data_type = data_type.storage_type
        elif type_is.is_dictionary(data_type) or type_is.is_run_end_encoded(data_type):
            data_type = data_type.value_type
        else:
            return data_type


def canonical_type(data_type: pa.DataType, column: str) -> pa.DataType:
    """The canonical type for values of `data_type`.

    Args:
        data_type: Any Arrow type.
        column: Name for messages.

    Raises:
        SchemaMismatch: The type, or one nested in it, can't be kept.
    """
    values = decoded(data_type)
    if values in _PLAIN:
        return _PLAIN[values]
    if type_is.is_union(values) or type_is.is_interval(values):
        raise _refused(column, values, "a struct with one column per kind, or a duration with months apart")
    if type_is.is_nested(values):
        return _canonical_nested(values, column)
    if type_is.is_decimal(values):
        return _canonical_decimal(values, column)
    if type_is.is_timestamp(values):
        return _canonical_timestamp(values, column)
    return values


def widened(current: pa.DataType, incoming: pa.DataType) -> pa.DataType | None:
    """The canonical type that holds what both hold, or None if there is none.

    Args:
        current: Canonical type of a dataset's column.
        incoming: Any Arrow type. `null` fits everything, at any depth.

    Returns:
        `current` itself when data of `incoming` fits without a change of the dataset.
    """
    values = decoded(incoming)
    if type_is.is_null(values):
        return current
    if type_is.is_nested(values) or type_is.is_nested(current):
        return _widened_nested(current, values)
    other = canonical_type(values, "")
    if other == current:
        return current
    for rule in (_widened_number, _widened_decimal, _widened_unit, _widened_date):
        found = rule(current, other)
        if found is not None:
            return found
    return None


def describe(data_type: pa.DataType) -> list[Any] | str:
    """A canonical type as lists and strings, unambiguous and independent of the Arrow release, to be hashed."""
    if type_is.is_list(data_type):
        return ["list", describe(data_type.value_type)]
    if type_is.is_fixed_size_list(data_type):
        return ["fixed_size_list", data_type.list_size, describe(data_type.value_type)]
    if type_is.is_map(data_type):
        return ["map", describe(data_type.key_type), describe(data_type.item_type)]
    if type_is.is_struct(data_type):
        return ["struct", *([field.name, describe(field.type)] for field in data_type)]
    return str(data_type)


def _refused(column: str, data_type: pa.DataType, instead: str) -> SchemaMismatch:
    return SchemaMismatch(f'column "{column}" is {data_type}, which Parquet can\'t hold: send {instead}')


def list_of(value_type: pa.DataType, size: int = -1) -> pa.DataType:
    """A canonical list; `item` is the name that DataFusion gives to its own lists, so that no cast is needed."""
    return pa.list_(pa.field("item", value_type), size)


def _canonical_nested(data_type: pa.DataType, column: str) -> pa.DataType:
    if is_any_list(data_type) or (type_is.is_fixed_size_list(data_type) and data_type.list_size == 0):
        return list_of(canonical_type(data_type.value_type, f"{column}[]"))
    if type_is.is_fixed_size_list(data_type):
        return list_of(canonical_type(data_type.value_type, f"{column}[]"), data_type.list_size)
    if type_is.is_map(data_type):
        key = canonical_type(data_type.key_type, f"{column}.key")
        return pa.map_(key, canonical_type(data_type.item_type, f"{column}.value"))
    names = [field.name for field in data_type]
    if not names:
        raise _refused(column, data_type, "a struct with at least one field, or null")
    if len(set(names)) != len(names):
        raise _refused(column, data_type, "a struct whose field names differ")
    return pa.struct([(field.name, canonical_type(field.type, f"{column}.{field.name}")) for field in data_type])


def _decimal(precision: int, scale: int, *, bits: int = 128) -> pa.DataType | None:
    if precision > _MAX_DIGITS_256:
        return None
    if precision > _MAX_DIGITS_128 or bits > 128:  # noqa: PLR2004  # the width that the type is named after
        return pa.decimal256(precision, scale)
    return pa.decimal128(precision, scale)


def _canonical_decimal(data_type: pa.DataType, column: str) -> pa.DataType:
    # A negative scale moves into the precision; a scale over the precision makes the precision grow.
    precision = max(data_type.precision - min(data_type.scale, 0), data_type.scale)
    found = _decimal(precision, max(data_type.scale, 0), bits=data_type.bit_width)
    if found is None:
        raise _refused(column, data_type, f"a decimal of at most {_MAX_DIGITS_256} digits with a scale of 0 or more")
    return found


def _canonical_timestamp(data_type: pa.DataType, column: str) -> pa.DataType:
    zone = data_type.tz
    if zone is not None and zone != "UTC" and not _OFFSET.fullmatch(zone):
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            msg = f'column "{column}" is {data_type} and "{zone}" is no time zone: use UTC, an offset or an IANA name'
            raise SchemaMismatch(msg) from None
    return pa.timestamp("ms" if data_type.unit == "s" else data_type.unit, zone)


def _widened_nested(current: pa.DataType, incoming: pa.DataType) -> pa.DataType | None:
    if type_is.is_list(current) and is_any_list(incoming):
        item = widened(current.value_type, incoming.value_type)
        return None if item is None else list_of(item)
    if type_is.is_fixed_size_list(current) and type_is.is_fixed_size_list(incoming):
        item = widened(current.value_type, incoming.value_type)
        return None if item is None or current.list_size != incoming.list_size else list_of(item, current.list_size)
    if type_is.is_map(current) and type_is.is_map(incoming):
        key = widened(current.key_type, incoming.key_type)
        item = widened(current.item_type, incoming.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if type_is.is_struct(current) and type_is.is_struct(incoming):
        return _widened_struct(current, incoming)
    return None


def _widened_struct(current: pa.DataType, incoming: pa.DataType) -> pa.DataType | None:
    merged = {field.name: field.type for field in current}
    for field in canonical_fields(incoming):
        known = merged.get(field.name)
        found = canonical_type(field.type, field.name) if known is None else widened(known, field.type)
        if found is None:
            return None
        merged[field.name] = found
    return pa.struct(list(merged.items()))


def canonical_fields(data_type: pa.DataType) -> list[pa.Field]:
    """The fields of a struct, which may still have any type.

    Raises:
        SchemaMismatch: Two fields have one name.
    """
    _canonical_nested(data_type, "")
    return list(data_type)


def _widened_number(current: pa.DataType, incoming: pa.DataType) -> pa.DataType | None:
    pair = (current, incoming)
    integers = [kind for kind in pair if type_is.is_integer(kind)]
    floats = [kind for kind in pair if type_is.is_floating(kind)]
    if len(integers) + len(floats) != len(pair):
        return None
    if not floats:
        return _widened_integer(current, incoming)
    # A float represents every integer of up to 24 bits (float32) or 53 (float64).
    width = max([kind.bit_width * 2 for kind in integers] + [kind.bit_width for kind in floats])
    return {32: pa.float32(), 64: pa.float64()}.get(width)


def _widened_integer(current: pa.DataType, incoming: pa.DataType) -> pa.DataType | None:
    unsigned = {type_is.is_unsigned_integer(kind) for kind in (current, incoming)}
    if len(unsigned) == 1:
        return max(current, incoming, key=lambda kind: int(kind.bit_width))
    # An unsigned integer needs one bit more, so the next signed size.
    width = max(kind.bit_width * (2 if type_is.is_unsigned_integer(kind) else 1) for kind in (current, incoming))
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(width)


def _widened_decimal(current: pa.DataType, incoming: pa.DataType) -> pa.DataType | None:
    if not (type_is.is_decimal(current) and type_is.is_decimal(incoming)):
        return None
    scale = max(current.scale, incoming.scale)
    digits = max(current.precision - current.scale, incoming.precision - incoming.scale)
    return _decimal(digits + scale, scale, bits=max(current.bit_width, incoming.bit_width))


def _widened_unit(current: pa.DataType, incoming: pa.DataType) -> pa.DataType | None:
    same_kind = any(
        check(current) and check(incoming) for check in (type_is.is_timestamp, type_is.is_time, type_is.is_duration)
    )
    if not same_kind:
        return None
    if type_is.is_timestamp(current) and (current.tz is None) != (incoming.tz is None):
        return None
    unit = max(current.unit, incoming.unit, key=_UNITS.index)
    if unit == current.unit:
        return current
    if type_is.is_time(current):
        return pa.time64(unit)
    if unit == "ns":
        return None
    return pa.duration(unit) if type_is.is_duration(current) else pa.timestamp(unit, current.tz)


def _widened_date(current: pa.DataType, incoming: pa.DataType) -> pa.DataType | None:
    if type_is.is_date(incoming) and type_is.is_timestamp(current) and current.tz is None:
        return current
    if type_is.is_date(current) and type_is.is_timestamp(incoming) and incoming.tz is None and incoming.unit != "ns":
        return incoming
    return None


def leaf_paths(path: str, data_type: pa.DataType) -> list[str]:
    """Paths of the Parquet columns that hold a column of a canonical type, when list items are called `item`.

    Args:
        path: Of the column itself: its name.
        data_type: Its type.
    """
    if type_is.is_list(data_type) or type_is.is_fixed_size_list(data_type):
        return leaf_paths(f"{path}.list.item", data_type.value_type)
    if type_is.is_map(data_type):
        keys = leaf_paths(f"{path}.key_value.key", data_type.key_type)
        return keys + leaf_paths(f"{path}.key_value.value", data_type.item_type)
    if type_is.is_struct(data_type):
        return [found for field in data_type for found in leaf_paths(f"{path}.{field.name}", field.type)]
    return [path]
