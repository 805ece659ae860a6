"""What the metadata commands answer, from the newest snapshot.

Every dataset is a table of the schema of its bucket, and of `public` where its bare name means it; the tables of
`system` and `information_schema` are views.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from flightserver.catalog.entities import View as CatalogView
from flightserver.errors import InvalidRequest
from flightserver.flight.sql import messages as m
from flightserver.flight.sql import metadata
from flightserver.flight.sql.info import SQL_INFO, sql_info
from flightserver.flight.sql.metadata import (
    RULES,
    VIEW,
    ForeignKeyColumn,
    PrimaryKeyColumn,
    SchemaRow,
    TableRow,
    is_referred_to,
)
from flightserver.flight.sql.types import xdbc_type_info
from flightserver.query.information_schema import placements
from flightserver.query.keys import foreign_keys, primary_keys
from flightserver.query.namespace import CATALOG, Scope
from flightserver.query.request import Request
from flightserver.tables.schema import decode, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.catalog.entities import Dataset
    from flightserver.flight.middleware import CallContext
    from flightserver.flight.sql.info import Limits
    from flightserver.query.information_schema import InformationSchema
    from flightserver.query.service import Queries
    from flightserver.query.temporary import TemporaryTables

TABLE = "TABLE"
LOCAL_TEMPORARY = "LOCAL TEMPORARY"
"""JDBC's name, which ODBC has too."""


class Answers:
    """Answers metadata commands."""

    def __init__(
        self, queries: Queries, information_schema: InformationSchema, temporary: TemporaryTables, limits: Limits
    ) -> None:
        self._queries = queries
        self._limits = limits
        self._temporary = temporary
        self._information_schema = information_schema

    def schema(self, command: m.Command) -> pa.Schema:
        """The schema of the answer; nothing is looked up.

        Raises:
            InvalidRequest: The command is none that has an answer.
        """
        match command:
            case m.GetSqlInfo():
                return SQL_INFO
            case m.GetXdbcTypeInfo():
                return xdbc_type_info(0).schema
            case m.GetTables(include_schema=True):
                return metadata.TABLES_WITH_SCHEMA
            case _:
                fixed = {
                    m.GetCatalogs: metadata.CATALOGS,
                    m.GetDbSchemas: metadata.DB_SCHEMAS,
                    m.GetTables: metadata.TABLES,
                    m.GetTableTypes: metadata.TABLE_TYPES,
                    m.GetPrimaryKeys: metadata.PRIMARY_KEYS,
                    m.GetExportedKeys: metadata.FOREIGN_KEYS,
                    m.GetImportedKeys: metadata.FOREIGN_KEYS,
                    m.GetCrossReference: metadata.FOREIGN_KEYS,
                }
                if type(command) not in fixed:
                    raise InvalidRequest(f"{type(command).__name__} has no answer to read")
                return fixed[type(command)]

    def table(self, command: m.Command, call: CallContext) -> pa.Table:
        """The answer.

        Raises:
            InvalidRequest: The command is none that has an answer.
        """
        scope = self._queries.scope(
            Request(sql="", bucket=call.bucket, as_of=call.session.options.as_of, rights=call.rights)
        )
        match command:
            case m.GetSqlInfo(info=ids):
                answer = sql_info(ids, self._limits)
            case m.GetXdbcTypeInfo(data_type=number):
                answer = xdbc_type_info(number)
            case m.GetCatalogs():
                answer = metadata.catalogs([CATALOG])
            case m.GetDbSchemas():
                rows = [SchemaRow(CATALOG, name) for name in scope.schemas()]
                answer = metadata.db_schemas(metadata.matching_schemas(command, rows))
            case m.GetTables():
                found = metadata.matching_tables(command, self._tables(scope, call))
                answer = metadata.tables(found, include_schema=command.include_schema)
            case m.GetTableTypes():
                answer = metadata.table_types([TABLE, VIEW, LOCAL_TEMPORARY])
            case m.GetPrimaryKeys(table=reference):
                answer = metadata.primary_keys(_primary_key(scope, reference))
            case m.GetExportedKeys() | m.GetImportedKeys() | m.GetCrossReference():
                answer = _foreign_key_table(scope, command)
            case _:
                raise InvalidRequest(f"{type(command).__name__} has no answer to read")
        return answer

    def _tables(self, scope: Scope, call: CallContext) -> Iterator[TableRow]:
        for name, (schema, _) in self._temporary.given(call.owner).items():
            yield TableRow(CATALOG, "", name, LOCAL_TEMPORARY, partial(_as_it_is, schema))
        for schema, name, one in placements(scope):
            kind = VIEW if isinstance(one, CatalogView) else TABLE
            yield TableRow(CATALOG, schema, name, kind, partial(_columns, one))
        for schema, tables in self._information_schema.fixed(scope).items():
            for name, columns in tables.items():
                yield TableRow(CATALOG, schema, name, VIEW, partial(pa.schema, columns))


def _as_it_is(schema: pa.Schema) -> pa.Schema:
    return schema


def _columns(relation: Dataset | CatalogView) -> pa.Schema:
    return visible(decode(relation.schema))


def _primary_key(scope: Scope, reference: m.TableReference) -> Iterator[PrimaryKeyColumn]:
    for schema, table, name, columns in primary_keys(placements(scope)):
        if is_referred_to(reference, CATALOG, schema, table):
            for sequence, column in enumerate(columns, start=1):
                yield PrimaryKeyColumn(CATALOG, schema, table, column, name, sequence)


def _foreign_key_table(scope: Scope, command: m.GetExportedKeys | m.GetImportedKeys | m.GetCrossReference) -> pa.Table:
    match command:
        case m.GetExportedKeys(table=referenced):
            return metadata.exported_keys(_foreign_keys(scope, referenced, None))
        case m.GetImportedKeys(table=referring):
            return metadata.imported_keys(_foreign_keys(scope, None, referring))
        case m.GetCrossReference(parent=referenced, foreign=referring):
            return metadata.imported_keys(_foreign_keys(scope, referenced, referring))


def _foreign_keys(
    scope: Scope, referenced: m.TableReference | None, referring: m.TableReference | None
) -> Iterator[ForeignKeyColumn]:
    """The columns of foreign keys that refer to a table, and that a table has; None is any."""
    for schema, table, key, other in foreign_keys(list(placements(scope))):
        if (referenced is None or is_referred_to(referenced, CATALOG, other.schema, other.table)) and (
            referring is None or is_referred_to(referring, CATALOG, schema, table)
        ):
            for sequence, (column, target) in enumerate(zip(key.columns, key.referenced, strict=True), start=1):
                yield ForeignKeyColumn(
                    *(CATALOG, other.schema, other.table, target),
                    *(CATALOG, schema, table, column),
                    sequence=sequence,
                    fk_key_name=key.name,
                    pk_key_name=other.name,
                    update_rule=RULES[key.on_update],
                    delete_rule=RULES[key.on_delete],
                )
