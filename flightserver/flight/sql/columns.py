"""What Flight SQL tells of a column in its metadata: its SQL type, the table that it comes from, what it is good for.

JDBC's `ResultSetMetaData`, and tools that let people edit a result, read it. Only answers to Flight SQL's own messages
carry it; plain Flight does not, because what is fetched there is often stored. Comments are only in GetTables: JDBC's
driver takes the REMARKS of a result's column for its label.

Specification: https://arrow.apache.org/docs/format/FlightSql.html, the metadata of CommandGetTables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa

from flightserver.flight.sql.types import precision, scale, type_name
from flightserver.query.namespace import CATALOG
from flightserver.tables.schema import COMMENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flightserver.query.columns import Origin

_PREFIX = "ARROW:FLIGHT:SQL:"


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What a client may want to know of a column beyond its Arrow type, where it is one of a table.

    Attributes:
        db_schema: Of the table.
        table: Its name.
        remarks: A comment, or empty.
        catalog: Of the table.
    """

    db_schema: str
    table: str
    remarks: str = ""
    catalog: str = CATALOG


def column_metadata(kind: pa.DataType, facts: TableFacts | None, *, is_read_only: bool = False) -> dict[str, str]:
    """Returns the metadata of a column.

    Args:
        kind: Its type.
        facts: Of the table that it comes from unchanged; None where there is none, or it isn't known.
        is_read_only: Whether no statement can change its values.
    """
    named = {} if facts is None else _names(facts)
    described = {
        **named,
        "TYPE_NAME": type_name(kind),
        "PRECISION": precision(kind),
        "SCALE": scale(kind),
        "IS_AUTO_INCREMENT": False,
        "IS_CASE_SENSITIVE": type_name(kind) == "VARCHAR",
        "IS_READ_ONLY": is_read_only,
        "IS_SEARCHABLE": True,
    }
    return {_PREFIX + key: _metadata_text(value) for key, value in described.items() if value is not None}


def _names(facts: TableFacts) -> dict[str, str | None]:
    # The specification says DB_SCHEMA_NAME, all implementations read and write SCHEMA_NAME: both are sent.
    return {
        "CATALOG_NAME": facts.catalog,
        "SCHEMA_NAME": facts.db_schema,
        "DB_SCHEMA_NAME": facts.db_schema,
        "TABLE_NAME": facts.table,
        "REMARKS": facts.remarks or None,
    }


def _metadata_text(value: str | bool | int) -> str:  # noqa: FBT001  # a value of any kind, not a switch
    return value if isinstance(value, str) else str(int(value))


def _with(field: pa.Field, added: Mapping[str, str]) -> pa.Field:
    return field.with_metadata({**(field.metadata or {}), **added})


def annotate(schema: pa.Schema, table: TableFacts, *, is_read_only: bool) -> pa.Schema:
    """Returns a table's schema with the metadata of `column_metadata` in each column, besides what is there already.

    Args:
        schema: The table's columns, with their comments.
        table: Names of the table.
        is_read_only: Whether no statement can change its rows.
    """
    fields = []
    for field in schema:
        facts = replace(table, remarks=(field.metadata or {}).get(COMMENT, b"").decode())
        fields.append(_with(field, column_metadata(field.type, facts, is_read_only=is_read_only)))
    return pa.schema(fields)


def described(schema: pa.Schema, origins: tuple[Origin | None, ...]) -> pa.Schema:
    """Returns the schema of a result with the metadata of its columns, besides what is there already.

    Args:
        schema: As the statement was planned.
        origins: Where its columns come from, as `flightserver.query.columns.origins` found.
    """
    return _described(schema.serialize().to_pybytes(), origins)


@lru_cache(maxsize=1024)
def _described(encoded: bytes, origins: tuple[Origin | None, ...]) -> pa.Schema:
    # Schemas are equal to each other whatever their metadata, so that their bytes are the key.
    schema = pa.ipc.read_schema(pa.py_buffer(encoded))
    return pa.schema([_with(field, _of_result(field, origin)) for field, origin in zip(schema, origins, strict=True)])


def _of_result(field: pa.Field, origin: Origin | None) -> dict[str, str]:
    facts = None if origin is None else TableFacts(origin.schema, origin.table)
    return column_metadata(field.type, facts, is_read_only=origin is None or origin.is_read_only)
