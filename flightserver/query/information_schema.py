"""The schema `information_schema`, in the columns of the SQL standard that clients read.

The engine's own would resolve every table to list it, and would show its internal settings; this one is
computed from the snapshot. Column types are given as SQL names (`data_type`) as PostgreSQL gives them, because
that is what BI tools compare with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from flightserver.catalog.entities import PRIMARY, Dataset, DatasetKey, View
from flightserver.query.keys import foreign_keys, primary_keys
from flightserver.query.namespace import CATALOG, INFORMATION_SCHEMA, PUBLIC, SYSTEM, Scope
from flightserver.query.rowtable import table_of
from flightserver.tables.schema import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_S = pa.string()
_I = pa.int64()

SCHEMATA = pa.schema([("catalog_name", _S), ("schema_name", _S), ("schema_owner", _S)])
TABLES = pa.schema([("table_catalog", _S), ("table_schema", _S), ("table_name", _S), ("table_type", _S)])
COLUMNS = pa.schema(
    [
        ("table_catalog", _S),
        ("table_schema", _S),
        ("table_name", _S),
        ("column_name", _S),
        ("ordinal_position", _I),
        ("column_default", _S),
        ("is_nullable", _S),
        ("data_type", _S),
        ("character_maximum_length", _I),
        ("numeric_precision", _I),
        ("numeric_scale", _I),
        ("datetime_precision", _I),
    ]
)
VIEWS = pa.schema([("table_catalog", _S), ("table_schema", _S), ("table_name", _S), ("view_definition", _S)])
TABLE_CONSTRAINTS = pa.schema(
    [
        ("constraint_catalog", _S),
        ("constraint_schema", _S),
        ("constraint_name", _S),
        ("table_catalog", _S),
        ("table_schema", _S),
        ("table_name", _S),
        ("constraint_type", _S),
        ("is_deferrable", _S),
        ("initially_deferred", _S),
        ("enforced", _S),
        ("nulls_distinct", _S),
    ]
)
KEY_COLUMN_USAGE = pa.schema(
    [
        ("constraint_catalog", _S),
        ("constraint_schema", _S),
        ("constraint_name", _S),
        ("table_catalog", _S),
        ("table_schema", _S),
        ("table_name", _S),
        ("column_name", _S),
        ("ordinal_position", _I),
        ("position_in_unique_constraint", _I),
    ]
)
REFERENTIAL_CONSTRAINTS = pa.schema(
    [
        ("constraint_catalog", _S),
        ("constraint_schema", _S),
        ("constraint_name", _S),
        ("unique_constraint_catalog", _S),
        ("unique_constraint_schema", _S),
        ("unique_constraint_name", _S),
        ("match_option", _S),
        ("update_rule", _S),
        ("delete_rule", _S),
    ]
)
CONSTRAINT_COLUMN_USAGE = pa.schema(
    [
        ("table_catalog", _S),
        ("table_schema", _S),
        ("table_name", _S),
        ("column_name", _S),
        ("constraint_catalog", _S),
        ("constraint_schema", _S),
        ("constraint_name", _S),
    ]
)

_OWN: dict[str, pa.Schema] = {
    "schemata": SCHEMATA,
    "tables": TABLES,
    "columns": COLUMNS,
    "views": VIEWS,
    "table_constraints": TABLE_CONSTRAINTS,
    "key_column_usage": KEY_COLUMN_USAGE,
    "referential_constraints": REFERENTIAL_CONSTRAINTS,
    "constraint_column_usage": CONSTRAINT_COLUMN_USAGE,
}

_DIGITS = {8: 3, 16: 5, 32: 10, 64: 19}
"""Bits of an integer -> decimal digits that it holds."""
_SECOND_FRACTION = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def sql_type(kind: pa.DataType) -> str:
    """The SQL name of an Arrow type, as `data_type` shows it."""
    types = pa.types
    named: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
        (types.is_boolean, "boolean"),
        (types.is_int8, "tinyint"),
        (types.is_int16, "smallint"),
        (types.is_int32, "integer"),
        (types.is_int64, "bigint"),
        (types.is_uint8, "tinyint unsigned"),
        (types.is_uint16, "smallint unsigned"),
        (types.is_uint32, "integer unsigned"),
        (types.is_uint64, "bigint unsigned"),
        (types.is_float32, "real"),
        (types.is_float64, "double precision"),
        (types.is_decimal, "numeric"),
        (types.is_string, "character varying"),
        (types.is_binary, "bytea"),
        (types.is_fixed_size_binary, "bytea"),
        (types.is_date, "date"),
        (types.is_time, "time without time zone"),
        (types.is_list, "ARRAY"),
    )
    if types.is_timestamp(kind):
        return "timestamp without time zone" if kind.tz is None else "timestamp with time zone"
    return next((name for test, name in named if test(kind)), str(kind))


def _precision(kind: pa.DataType) -> tuple[int | None, int | None, int | None]:
    types = pa.types
    if types.is_integer(kind):
        return _DIGITS[kind.bit_width], 0, None
    if types.is_decimal(kind):
        return kind.precision, kind.scale, None
    if types.is_floating(kind):
        return (24 if kind.bit_width == 32 else 53), None, None  # noqa: PLR2004  # IEEE 754 significand bits
    if types.is_timestamp(kind) or types.is_time(kind):
        return None, None, _SECOND_FRACTION[kind.unit]
    return None, None, None


def placements(scope: Scope) -> Iterator[tuple[str, str, Dataset | View]]:
    """Each dataset and view where a client finds it: under its bucket, and in `public` where its bare name means it."""
    found = scope.snapshot
    relations: Sequence[tuple[DatasetKey, Dataset | View]] = (*found.datasets.items(), *found.views.items())
    homes: dict[str, list[str]] = {}
    for key, _ in relations:
        homes.setdefault(key.name, []).append(key.bucket)
    for key, relation in relations:
        yield key.bucket, key.name, relation
        there = homes[key.name]
        first = next((bucket for bucket in (scope.bucket, PRIMARY) if bucket in there), None)
        if key.bucket == first or len(there) == 1:
            yield PUBLIC, key.name, relation


def _column_rows(schema: str, table: str, columns: pa.Schema) -> Iterator[tuple[object, ...]]:
    for position, field in enumerate(columns, start=1):
        precision, scale, fraction = _precision(field.type)
        yield (
            CATALOG,
            schema,
            table,
            field.name,
            position,
            None,
            "YES" if field.nullable else "NO",
            sql_type(field.type),
            None,
            precision,
            scale,
            fraction,
        )


class InformationSchema:
    """Computes the tables.

    Args:
        system: Schemas of the tables in `system`, by name; they are listed as views.
    """

    def __init__(self, system: Mapping[str, pa.Schema]) -> None:
        self._fixed = {SYSTEM: system, INFORMATION_SCHEMA: _OWN}

    def tables(self) -> Mapping[str, Callable[[Scope], pa.Table]]:
        """Table name -> function that computes it for a scope."""
        return {
            "schemata": self._schemata,
            "tables": self._tables,
            "columns": self._columns,
            "views": self._views,
            "table_constraints": self._constraints,
            "key_column_usage": self._key_columns,
            "referential_constraints": self._referential_constraints,
            "constraint_column_usage": self._constraint_columns,
        }

    def fixed(self, scope: Scope) -> dict[str, dict[str, pa.Schema]]:
        """Schemas of the tables that every lakehouse has, for who asks: schema -> table -> Arrow schema."""
        return {
            schema: {name: columns for name, columns in tables.items() if scope.has_fixed(schema, name)}
            for schema, tables in self._fixed.items()
        }

    def _schemata(self, scope: Scope) -> pa.Table:
        return table_of(SCHEMATA, [(CATALOG, name, "flightserver") for name in scope.schemas()])

    def _tables(self, scope: Scope) -> pa.Table:
        rows: list[tuple[object, ...]] = [
            (CATALOG, schema, name, "VIEW" if isinstance(one, View) else "BASE TABLE")
            for schema, name, one in placements(scope)
        ]
        rows += [(CATALOG, schema, name, "VIEW") for schema, tables in self.fixed(scope).items() for name in tables]
        return table_of(TABLES, rows)

    def _columns(self, scope: Scope) -> pa.Table:
        rows = [
            row for schema, name, one in placements(scope) for row in _column_rows(schema, name, decode(one.schema))
        ]
        for schema, tables in self.fixed(scope).items():
            for name, columns in tables.items():
                rows += _column_rows(schema, name, columns)
        return table_of(COLUMNS, rows)

    def _views(self, scope: Scope) -> pa.Table:
        rows = [(CATALOG, schema, name, one.sql) for schema, name, one in placements(scope) if isinstance(one, View)]
        return table_of(VIEWS, rows)

    def _constraints(self, scope: Scope) -> pa.Table:
        placed = list(placements(scope))
        named = [(key.schema, key.table, key.name, "PRIMARY KEY") for key in primary_keys(placed)]
        named += [(one.schema, one.table, one.key.name, "FOREIGN KEY") for one in foreign_keys(placed)]
        # Not enforced: whoever plans by YES takes values for unique, and a plain INSERT doesn't look at them.
        rows = [
            (CATALOG, schema, name, CATALOG, schema, table, kind, "NO", "NO", "NO", None)
            for schema, table, name, kind in named
        ]
        return table_of(TABLE_CONSTRAINTS, rows)

    def _key_columns(self, scope: Scope) -> pa.Table:
        placed = list(placements(scope))
        rows: list[tuple[object, ...]] = [
            (CATALOG, key.schema, key.name, CATALOG, key.schema, key.table, column, position, None)
            for key in primary_keys(placed)
            for position, column in enumerate(key.columns, start=1)
        ]
        for schema, table, key, referenced in foreign_keys(placed):
            for position, (column, target) in enumerate(zip(key.columns, key.referenced, strict=True), start=1):
                place = referenced.columns.index(target) + 1
                rows.append((CATALOG, schema, key.name, CATALOG, schema, table, column, position, place))
        return table_of(KEY_COLUMN_USAGE, rows)

    def _referential_constraints(self, scope: Scope) -> pa.Table:
        rows = [
            # As PostgreSQL calls MATCH SIMPLE.
            (CATALOG, schema, key.name, CATALOG, other.schema, other.name, "NONE", key.on_update, key.on_delete)
            for schema, _, key, other in foreign_keys(list(placements(scope)))
        ]
        return table_of(REFERENTIAL_CONSTRAINTS, rows)

    def _constraint_columns(self, scope: Scope) -> pa.Table:
        placed = list(placements(scope))
        rows: list[tuple[object, ...]] = [
            (CATALOG, key.schema, key.table, column, CATALOG, key.schema, key.name)
            for key in primary_keys(placed)
            for column in key.columns
        ]
        rows += [
            (CATALOG, other.schema, other.table, column, CATALOG, schema, key.name)
            for schema, _, key, other in foreign_keys(placed)
            for column in key.referenced
        ]
        return table_of(CONSTRAINT_COLUMN_USAGE, rows)
