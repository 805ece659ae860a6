"""Types of JSON fields over many blocks.

Theory of operation: pyarrow infers the types of each block; `widen` joins them field by field. Integers widen to
decimals (over 64 bits) and to doubles; a field that was null or absent so far takes any type; lists and objects
widen inside. Nothing else widens: a field that is a number here and a text there is an error of the data, which the
user must see.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

_NUMBERS = (pa.int64(), pa.decimal128(38, 0), pa.float64())


class ConflictError(Exception):
    """A field has values of kinds that no type holds.

    Args:
        path: The field, dots between levels.
        first: What it was.
        second: What it is now.
    """

    def __init__(self, path: str, first: Any, second: Any) -> None:
        super().__init__(path)
        self.path = path
        self.first = first
        self.second = second


def widen(first: Any, second: Any, path: str) -> Any:
    """Return the narrowest type that holds values of both.

    Raises:
        ConflictError: There is none.
    """
    if first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    if first in _NUMBERS and second in _NUMBERS:
        return max(first, second, key=_NUMBERS.index)
    if pa.types.is_list(first) and pa.types.is_list(second):
        return pa.list_(widen(first.value_type, second.value_type, f"{path}[]"))
    if pa.types.is_struct(first) and pa.types.is_struct(second):
        return pa.struct(widen_fields(dict(_fields(first)), dict(_fields(second)), f"{path}."))
    raise ConflictError(path, first, second)


def widen_fields(first: dict[str, Any], second: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Widen types by field name; new fields come last.

    Raises:
        ConflictError: A field's types have nothing in common.
    """
    result = dict(first)
    for name, field_type in second.items():
        result[name] = widen(result[name], field_type, prefix + name) if name in result else field_type
    return result


def without_instants(field_type: Any) -> Any:
    """Return `field_type` with text where pyarrow took texts for timestamps.

    It decides that block by block, and takes dates for timestamps too.
    """
    if pa.types.is_timestamp(field_type):
        return pa.string()
    if pa.types.is_list(field_type):
        return pa.list_(without_instants(field_type.value_type))
    if pa.types.is_struct(field_type):
        return pa.struct([(name, without_instants(inner)) for name, inner in _fields(field_type)])
    return field_type


def storable(field_type: Any) -> Any | None:
    """Return the type to store a field as, or None if it never holds anything.

    What was always null becomes text; objects that never have a field are left out, since Parquet can't hold them.
    """
    if pa.types.is_null(field_type):
        return pa.string()
    if pa.types.is_list(field_type):
        inner = storable(field_type.value_type)
        return None if inner is None else pa.list_(inner)
    if pa.types.is_struct(field_type):
        fields = [(name, kept) for name, inner in _fields(field_type) if (kept := storable(inner)) is not None]
        return pa.struct(fields) if fields else None
    return field_type


def _fields(struct: Any) -> list[tuple[str, Any]]:
    return [(struct.field(place).name, struct.field(place).type) for place in range(struct.num_fields)]
