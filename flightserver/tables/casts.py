"""Arrays of any Arrow type as arrays of a canonical type, without loss.

A value either arrives exactly as it was or not at all: integers that do not fit, digits that would be cut off and
instants between two ticks are refused. Kinds are never mixed (a string is not parsed, a number is not printed),
because a guess that is right in one row is wrong in the next. Buffers are shared wherever the layout is the same.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flightserver.errors import SchemaMismatch
from flightserver.tables.types import canonical_type, decoded, is_any_list

type_is = pa.types

_KINDS = (
    ("integer", type_is.is_integer),
    ("float", type_is.is_floating),
    ("decimal", type_is.is_decimal),
    ("date", type_is.is_date),
    ("time", type_is.is_time),
    ("duration", type_is.is_duration),
)
_EXACT_ACROSS_KINDS = {("integer", "float"), ("integer", "decimal"), ("date", "timestamp without time zone")}


def conform_array(array: pa.Array, target: pa.DataType, column: str) -> pa.Array:
    """The same values as `target`.

    Args:
        array: Any Arrow array.
        target: A canonical type.
        column: Name for messages; nested ones are dotted.

    Raises:
        SchemaMismatch: The types have nothing in common, or a value has no exact form in `target`.
    """
    source = array.type
    if source.equals(target, check_metadata=True):
        return array
    if isinstance(source, pa.BaseExtensionType):
        return conform_array(array.storage, target, column)
    if type_is.is_dictionary(source):
        return _decode_dictionary(array, target, column)
    if type_is.is_run_end_encoded(source):
        return _expand_runs(array, target, column)
    if type_is.is_nested(source) or type_is.is_nested(target):
        return _conform_nested(array, target, column)
    return _conform_plain(array, target, column)


def _conform_plain(array: pa.Array, target: pa.DataType, column: str) -> pa.Array:
    source = array.type
    if type_is.is_null(source):
        return pa.nulls(len(array), target)
    _check_kinds(source, target, column)
    try:
        return array.cast(target)
    except pa.ArrowInvalid as error:
        msg = f'column "{column}": a {source} value has no exact form as {target}: {error}'
        raise SchemaMismatch(msg) from None


def _decode_dictionary(array: pa.Array, target: pa.DataType, column: str) -> pa.Array:
    if not len(array.dictionary):
        # Every value is null; indices below a null list or struct may be there all the same and mean nothing.
        return pa.nulls(len(array), target)
    return conform_array(array.dictionary, target, column).take(array.indices)


def _expand_runs(array: pa.Array, target: pa.DataType, column: str) -> pa.Array:
    # Decoding run *numbers* works for values of any type; pyarrow's own decoder knows only some.
    values = conform_array(array.values, target, column)
    numbers = pa.RunEndEncodedArray.from_arrays(array.run_ends, pa.arange(0, len(values)))
    return values.take(pc.run_end_decode(numbers).slice(array.offset, len(array)))


def _kind(data_type: pa.DataType) -> str:
    if type_is.is_timestamp(data_type):
        return "timestamp without time zone" if data_type.tz is None else "timestamp with time zone"
    return next((name for name, check in _KINDS if check(data_type)), str(data_type))


def _check_kinds(source: pa.DataType, target: pa.DataType, column: str) -> None:
    given, wanted = _kind(canonical_type(source, column)), _kind(target)
    narrower = given == wanted == "float" and source.bit_width > target.bit_width
    if narrower or (given != wanted and (given, wanted) not in _EXACT_ACROSS_KINDS):
        msg = f'column "{column}": data has {decoded(source)}, {target} is needed: cast it before sending'
        raise SchemaMismatch(msg)


def _conform_nested(array: pa.Array, target: pa.DataType, column: str) -> pa.Array:
    source = array.type
    if type_is.is_null(source):
        return pa.nulls(len(array), target)
    if type_is.is_list(target) and is_any_list(source):
        return _conform_list(array, target, column)
    if type_is.is_list(target) and type_is.is_fixed_size_list(source) and source.list_size == 0:
        return _conform_list(array, target, column)
    if type_is.is_fixed_size_list(target) and source.num_fields == 1 and type_is.is_fixed_size_list(source):
        if source.list_size == target.list_size:
            return _rebuild(array, target, [conform_array(array.values, target.value_type, f"{column}[]")], buffers=1)
    elif type_is.is_map(target) and type_is.is_map(source):
        return _conform_map(array, target, column)
    elif type_is.is_struct(target) and type_is.is_struct(source):
        return _conform_struct(array, target, column)
    msg = f'column "{column}": data has {source}, {target} is needed: cast it before sending'
    raise SchemaMismatch(msg)


def _rebuild(array: pa.Array, target: pa.DataType, children: list[Any], *, buffers: int) -> pa.Array:
    """`array` with other children under the same validity and offsets."""
    own = array.buffers()[:buffers]
    return pa.Array.from_buffers(target, len(array), own, offset=array.offset, children=children)


def _conform_list(array: pa.Array, target: pa.DataType, column: str) -> pa.Array:
    if not type_is.is_list(array.type):
        array = _with_plain_offsets(array, column)
    return _rebuild(array, target, [conform_array(array.values, target.value_type, f"{column}[]")], buffers=2)


def _with_plain_offsets(array: pa.Array, column: str) -> pa.Array:
    """Any list as one with 32-bit offsets. pyarrow's own cast of list views forgets the offsets of nulls at the end."""
    ends = pc.cumulative_sum(pc.list_value_length(array).cast(pa.int64()).fill_null(0))
    try:
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends.cast(pa.int32())])
    except pa.ArrowInvalid:
        msg = f'column "{column}": {ends[-1]} list values in one batch are more than 2**31 - 1: send smaller batches'
        raise SchemaMismatch(msg) from None
    return pa.ListArray.from_arrays(offsets, array.flatten(), mask=array.is_null())


def _conform_map(array: pa.Array, target: pa.DataType, column: str) -> pa.Array:
    keys = conform_array(array.keys, target.key_type, f"{column}.key")
    items = conform_array(array.items, target.item_type, f"{column}.value")
    entries = pa.StructArray.from_arrays([keys, items], fields=[target.key_field, target.item_field])
    return _rebuild(array, target, [entries], buffers=2)


def _conform_struct(array: pa.Array, target: pa.DataType, column: str) -> pa.Array:
    names = [field.name for field in array.type]
    extra = sorted(set(names) - {field.name for field in target})
    if extra:
        shown = ", ".join(f'"{name}"' for name in extra)
        msg = f'column "{column}": data has fields that {target} lacks: {shown}'
        raise SchemaMismatch(msg)
    # Flattened, so that values under a null struct, which mean nothing, are null before they are cast.
    fields = array.flatten()
    children = [
        conform_array(fields[names.index(field.name)], field.type, f"{column}.{field.name}")
        if field.name in names
        else pa.nulls(len(array), field.type)
        for field in target
    ]
    mask = array.is_null() if array.null_count else None
    return pa.StructArray.from_arrays(children, fields=list(target), mask=mask)
