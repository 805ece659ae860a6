"""Values bound to placeholders.

Bound values come as rows of an Arrow batch, as Flight SQL sends them. Columns match placeholders by name where every
placeholder has a column of its name, else by position (`$1` is the first column). Values are bound before
planning, because the engine takes an unbound placeholder for a null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flightserver.errors import InvalidRequest
from flightserver.query.language.tokens import substituted
from flightserver.query.wire import wire_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flightserver.query.language.statements import Statement

_SQL_TYPES = {
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INT",
    "int64": "BIGINT",
    "float": "REAL",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "large_string": "VARCHAR",
    "binary": "BYTEA",
    "date32[day]": "DATE",
}

Parameters = dict[str, Any]
"""Placeholder name without `$` -> pyarrow scalar."""

BOUND = "__bound"
"""Name under which an INSERT of bound rows reads them."""


def assigned(statement: Statement, rows: pa.RecordBatch | None) -> pa.RecordBatch | None:
    """The bound rows with one column per placeholder, named as it, in the statement's order.

    Returns:
        None when the statement has no placeholders.

    Raises:
        InvalidRequest: The number of values differs from the number of placeholders, or a placeholder has values of
            several types.
    """
    names = statement.placeholders
    rows = None if rows is None else _without_unions(rows)
    if not names:
        if rows is not None and rows.num_columns:
            raise InvalidRequest(f"{rows.num_columns} values were bound, but the statement has no placeholders")
        return None
    given = 0 if rows is None else rows.num_columns
    if rows is None or given < len(names):
        listed = ", ".join(f"${name}" for name in names)
        raise InvalidRequest(f"the statement has {len(names)} placeholders ({listed}), {given} values were bound")
    order = _order(names, rows.schema.names)
    if given != len(names) or not all(0 <= index < given for index in order):
        listed, bound = ", ".join(f"${name}" for name in names), ", ".join(rows.schema.names)
        raise InvalidRequest(f"the statement has placeholders {listed}; {given} values were bound: {bound}")
    schema = wire_schema(
        pa.schema([rows.schema.field(index).with_name(name) for index, name in zip(order, names, strict=True)])
    )
    arrays = [_plain(rows.column(index), field.type) for index, field in zip(order, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema([field.with_nullable(True) for field in schema]))  # noqa: FBT003  # pyarrow's own signature


def in_expected_units(rows: pa.RecordBatch, expected: Mapping[str, pa.DataType | None]) -> pa.RecordBatch:
    """The bound rows with times in the units of what they meet; the engine compares no times of different units.

    Args:
        rows: As a client sent them.
        expected: Type of each placeholder, in the statement's order; None where it is unknown.
    """
    columns = list(rows.columns)
    for index, kind in zip(_order(tuple(expected), rows.schema.names), expected.values(), strict=True):
        if kind is not None and pa.types.is_time(kind) and 0 <= index < len(columns):
            columns[index] = _in_unit(columns[index], kind)
    return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)


def _without_unions(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with the values of unions in the type that they have; some drivers bind every value as a union."""
    columns = [_chosen(rows.column(place), name) for place, name in enumerate(rows.schema.names)]
    return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)


def _chosen(column: pa.Array, name: str) -> pa.Array:
    if not pa.types.is_union(column.type):
        return column
    codes = column.type_codes.unique().to_pylist()
    members = [column.type.type_codes.index(code) for code in codes]
    if len(members) > 1:
        found = ", ".join(str(column.type.field(member).type) for member in members)
        raise InvalidRequest(f"the values bound to {name!r} have several types ({found}): bind values of one type")
    if not members:
        return pa.nulls(0)
    values = column.field(members[0])
    return values.take(column.offsets) if column.type.mode == "dense" else values


def _in_unit(column: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return column.cast(kind) if pa.types.is_time(column.type) else column
    except pa.ArrowInvalid:  # finer than the unit: equal to no value of it
        return column


def _order(names: tuple[str, ...], bound: list[str]) -> list[int]:
    """Index of each placeholder's column; -1 where it has none."""
    columns = {name.removeprefix("$"): index for index, name in enumerate(bound)}
    if all(name in columns for name in names):
        return [columns[name] for name in names]
    if all(name.isdecimal() for name in names):
        return [int(name) - 1 for name in names]
    # Clients that bind a tuple number the columns, whatever the placeholders are called.
    by_place = all(not name or name.removeprefix("$").isdecimal() for name in bound)
    return list(range(len(names))) if by_place else [columns.get(name, -1) for name in names]


def _plain(column: pa.Array, kind: pa.DataType) -> pa.Array:
    decoded = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return decoded.cast(kind)


def each_row(bound: pa.RecordBatch | None) -> Iterator[dict[str, Any]]:
    """Placeholder name -> scalar, for every bound row; one empty row when nothing is bound."""
    if bound is None:
        yield {}
        return
    for row in range(bound.num_rows):
        yield {name: _value(bound.column(index)[row]) for index, name in enumerate(bound.schema.names)}


def _value(value: pa.Scalar) -> pa.Scalar:
    """A value as the engine takes it: its binding fails on a null list, which therefore becomes an untyped null."""
    types = pa.types
    kind = value.type
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_map(kind)
    return pa.scalar(None) if is_list and not value.is_valid else value


def with_types(sql: str, types: Mapping[str, pa.DataType]) -> str:
    """The statement with each placeholder cast to its type, for where the engine must know it before it binds.

    The engine plans before it puts values in the place of placeholders, and some operators refuse to be planned over
    values of unknown type: `$1 || $2`.

    Args:
        sql: A statement.
        types: Placeholder -> Arrow type of its value. One that has no value yet is taken for text, and one whose type
            has no SQL name is left as it is.
    """

    def cast(name: str) -> str:
        sql_name = _SQL_TYPES.get(str(types.get(name, pa.string())))
        return f"${name}" if sql_name is None else f"CAST(${name} AS {sql_name})"

    return substituted(sql, cast)


def insert_from_bound(statement: Statement) -> str | None:
    """An INSERT of one VALUES tuple rewritten to read all bound rows at once; None for any other statement.

    `INSERT INTO t VALUES ($1, upper($2))` becomes `INSERT INTO t SELECT "1", upper("2") FROM __bound`: one plan
    and one write, however many rows are bound.
    """
    if statement.row_values is None or not statement.placeholders or statement.searches:
        return None
    place = statement.row_values
    columns = substituted(statement.sql[place.first : place.end], lambda name: f'"{name}"')
    return f'{statement.sql[: place.keyword]}SELECT {columns} FROM "{BOUND}"'  # noqa: S608  # the statement's own text
