"""Result tables of the metadata commands: their schemas and their order.

Theory of operation: whoever knows the catalog gives plain rows; `matching_*` filter them as a command asks, and a
builder sorts them as the specification demands, into a table of exactly its schema. Drivers check the schemas to the
letter: that of Go rejects a nullable db_schema_name in GetDbSchemas.

Specification: https://arrow.apache.org/docs/format/FlightSql.html.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from flightserver.flight.sql.columns import TableFacts, annotate
from flightserver.flight.sql.like import like_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from flightserver.flight.sql.messages import GetDbSchemas, GetTables, TableReference


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


VIEW = "VIEW"
"""The kind of table that no statement changes."""

CATALOGS = pa.schema([_required("catalog_name", pa.utf8())])

DB_SCHEMAS = pa.schema([pa.field("catalog_name", pa.utf8()), _required("db_schema_name", pa.utf8())])

TABLES = pa.schema(
    [
        pa.field("catalog_name", pa.utf8()),
        pa.field("db_schema_name", pa.utf8()),
        _required("table_name", pa.utf8()),
        _required("table_type", pa.utf8()),
    ]
)

TABLES_WITH_SCHEMA = TABLES.append(_required("table_schema", pa.binary()))

TABLE_TYPES = pa.schema([_required("table_type", pa.utf8())])

PRIMARY_KEYS = pa.schema(
    [
        pa.field("catalog_name", pa.utf8()),
        pa.field("db_schema_name", pa.utf8()),
        _required("table_name", pa.utf8()),
        _required("column_name", pa.utf8()),
        pa.field("key_name", pa.utf8()),
        _required("key_sequence", pa.int32()),
    ]
)

FOREIGN_KEYS = pa.schema(
    [
        pa.field("pk_catalog_name", pa.utf8()),
        pa.field("pk_db_schema_name", pa.utf8()),
        _required("pk_table_name", pa.utf8()),
        _required("pk_column_name", pa.utf8()),
        pa.field("fk_catalog_name", pa.utf8()),
        pa.field("fk_db_schema_name", pa.utf8()),
        _required("fk_table_name", pa.utf8()),
        _required("fk_column_name", pa.utf8()),
        _required("key_sequence", pa.int32()),
        pa.field("fk_key_name", pa.utf8()),
        pa.field("pk_key_name", pa.utf8()),
        _required("update_rule", pa.uint8()),
        _required("delete_rule", pa.uint8()),
    ]
)
"""Of GetExportedKeys, GetImportedKeys and GetCrossReference."""


class SchemaRow(NamedTuple):
    """A schema of a catalog."""

    catalog: str
    db_schema: str


class TableRow(NamedTuple):
    """A table; its columns as an Arrow schema are asked for only if a client wants them."""

    catalog: str
    db_schema: str
    name: str
    kind: str
    columns: Callable[[], pa.Schema]


class PrimaryKeyColumn(NamedTuple):
    """One column of a primary key; `sequence` counts from 1."""

    catalog: str
    db_schema: str
    table: str
    column: str
    key_name: str | None
    sequence: int


class ForeignKeyColumn(NamedTuple):
    """One column of a foreign key; `sequence` counts from 1, rules are numbers of `RULES`."""

    pk_catalog: str
    pk_db_schema: str
    pk_table: str
    pk_column: str
    fk_catalog: str
    fk_db_schema: str
    fk_table: str
    fk_column: str
    sequence: int
    fk_key_name: str | None
    pk_key_name: str | None
    update_rule: int
    delete_rule: int


RULES = {"CASCADE": 0, "RESTRICT": 1, "SET NULL": 2, "NO ACTION": 3, "SET DEFAULT": 4}
"""What happens to rows that refer to a row which changes -> its number, of the enum UpdateDeleteRules."""


def _table(rows: Sequence[Sequence[object]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def catalogs(names: Iterable[str]) -> pa.Table:
    """Answers GetCatalogs."""
    return _table([(name,) for name in sorted(names)], CATALOGS)


def db_schemas(rows: Iterable[SchemaRow]) -> pa.Table:
    """Answers GetDbSchemas."""
    return _table(sorted(rows), DB_SCHEMAS)


def tables(rows: Iterable[TableRow], *, include_schema: bool) -> pa.Table:
    """Answers GetTables.

    Args:
        rows: The tables, in any order.
        include_schema: Whether the client wants the columns, annotated for it by `annotate`.
    """
    ordered = sorted(rows, key=lambda row: row[:4])
    if not include_schema:
        return _table([row[:4] for row in ordered], TABLES)
    return _table([(*row[:4], _encoded_columns(row)) for row in ordered], TABLES_WITH_SCHEMA)


def _encoded_columns(row: TableRow) -> bytes:
    table = TableFacts(row.db_schema, row.name, catalog=row.catalog)
    schema = annotate(row.columns(), table, is_read_only=row.kind == VIEW)
    data: bytes = schema.serialize().to_pybytes()
    return data


def table_types(kinds: Iterable[str]) -> pa.Table:
    """Answers GetTableTypes."""
    return _table([(kind,) for kind in sorted(set(kinds))], TABLE_TYPES)


def primary_keys(rows: Iterable[PrimaryKeyColumn]) -> pa.Table:
    """Answers GetPrimaryKeys."""
    ordered = sorted(rows, key=lambda row: (row.catalog, row.db_schema, row.table, row.key_name or "", row.sequence))
    return _table(ordered, PRIMARY_KEYS)


def exported_keys(rows: Iterable[ForeignKeyColumn]) -> pa.Table:
    """Answers GetExportedKeys."""
    ordered = sorted(rows, key=lambda row: (*row[4:7], row.fk_key_name or "", row.sequence, row))
    return _table(ordered, FOREIGN_KEYS)


def imported_keys(rows: Iterable[ForeignKeyColumn]) -> pa.Table:
    """Answers GetImportedKeys and GetCrossReference; what the specification leaves open goes by the foreign key."""
    ordered = sorted(rows, key=lambda row: (*row[:3], row.pk_key_name or "", row.sequence, row))
    return _table(ordered, FOREIGN_KEYS)


def _catalog_matches(wanted: str | None, catalog: str) -> bool:
    return wanted is None or wanted == catalog


def matching_schemas(command: GetDbSchemas, rows: Iterable[SchemaRow]) -> list[SchemaRow]:
    """Returns the schemas that a command asks for."""
    pattern = like_pattern(command.db_schema_filter_pattern)
    return [row for row in rows if _catalog_matches(command.catalog, row.catalog) and pattern.matches(row.db_schema)]


def matching_tables(command: GetTables, rows: Iterable[TableRow]) -> list[TableRow]:
    """Returns the tables that a command asks for."""
    schema_pattern = like_pattern(command.db_schema_filter_pattern)
    table_pattern = like_pattern(command.table_name_filter_pattern)
    return [
        row
        for row in rows
        if _catalog_matches(command.catalog, row.catalog)
        and (not command.table_types or row.kind in command.table_types)
        and table_pattern.matches(row.name)
        and schema_pattern.matches(row.db_schema)
    ]


def is_referred_to(reference: TableReference, catalog: str, db_schema: str, table: str) -> bool:
    """Tells whether a key command's reference, whose names are exact, means a table."""
    return (
        reference.table == table
        and _catalog_matches(reference.catalog, catalog)
        and (reference.db_schema is None or reference.db_schema == db_schema)
    )
