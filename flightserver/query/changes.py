"""Statements that change data: INSERT, CREATE TABLE (AS), DROP TABLE, TRUNCATE.

The engine computes the rows; `tables/` writes and commits them. Everything is read under the statement's snapshot, so
an INSERT that reads its own target sees it as it was before.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flightserver.catalog.entities import PRIMARY, DatasetKey
from flightserver.catalog.log import Operation
from flightserver.errors import InvalidRequest, NotFound
from flightserver.query.namespace import CATALOG, INFORMATION_SCHEMA, PUBLIC, SYSTEM, Scope
from flightserver.query.parameters import BOUND, assigned, each_row, insert_from_bound
from flightserver.query.statements import Kind, TableName
from flightserver.query.wire import wire_schema
from flightserver.tables.schema import decode
from flightserver.tables.writes import CreateRequest, Mode, OnExisting, Tables, WriteRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.query.engine import Engine
    from flightserver.query.request import Planned
    from flightserver.query.watchdog import Guard


class Changes:
    """Carries out what a planned statement changes."""

    def __init__(self, engine: Engine, tables: Tables) -> None:
        self._engine = engine
        self._tables = tables

    def carry_out(self, planned: Planned, operation_id: str, guard: Guard) -> int:
        """Run the statement and commit; returns the number of rows that it wrote or removed.

        Args:
            planned: A statement of a kind that changes data.
            operation_id: The commit records it, so that the same id never commits twice.
            guard: Interrupts the engine while it computes rows, never the commit.

        Raises:
            CommitConflict: Another write changed the same table first; a retry is safe.
        """
        statement, request = planned.statement, planned.request
        bound = assigned(statement, request.parameters)
        target = statement.target
        if target is None:  # every kind that changes data names its target
            raise InvalidRequest("the statement names no table")
        bucket = self._target_bucket(planned, target)
        operation = Operation(id=operation_id, kind=statement.kind.value, detail=str(target), user=request.user)
        match statement.kind:
            case Kind.INSERT:
                return self._insert(planned, target, bound, operation, guard)
            case Kind.CREATE_TABLE | Kind.CREATE_TABLE_AS:
                return self._create(planned, DatasetKey(bucket, target.name), bound, operation, guard)
            case Kind.DROP_TABLE:
                return self._drop(planned, target, operation)
            case _:
                dataset = planned.scope.dataset(target.name, target.schema)
                return self._tables.clear(dataset.name, dataset.bucket, operation)

    def _target_bucket(self, planned: Planned, target: TableName) -> str:
        schema = target.schema or planned.scope.schema
        if schema == PUBLIC:
            return planned.scope.bucket or PRIMARY
        if schema in {SYSTEM, INFORMATION_SCHEMA}:
            raise InvalidRequest(f"schema {schema!r} can be read but not changed")
        if schema not in planned.scope.snapshot.buckets:
            raise NotFound(planned.scope.missing(CATALOG, schema, target.name))
        return schema

    def _insert(
        self, planned: Planned, target: TableName, bound: pa.RecordBatch | None, operation: Operation, guard: Guard
    ) -> int:
        if target.schema is None and target.name in planned.scope.given:
            raise InvalidRequest(f"{target.name!r} is the stream that came with the statement: it can only be read")
        dataset = planned.scope.dataset(target.name, target.schema)
        rewritten = insert_from_bound(planned.statement)
        if rewritten is not None and bound is not None:
            given = {**planned.scope.given, BOUND: (bound.schema, [bound])}
            scope = Scope(planned.scope.snapshot, planned.scope.bucket, planned.scope.schema, given)
            rows = self._engine.rows(lambda careful: self._engine.insert(rewritten, scope, {}, careful=careful))
        else:
            rows = chain.from_iterable(self._inserted(planned, values) for values in each_row(bound))
        schema = decode(dataset.schema)
        request = self._write_request(dataset.name, dataset.bucket, Mode.APPEND, schema, operation)
        return self._tables.write(request, guard.iterate(rows)).rows

    def _inserted(self, planned: Planned, values: dict[str, Any]) -> Iterator[pa.RecordBatch]:
        return self._engine.rows(
            lambda careful: self._engine.insert(planned.statement.sql, planned.scope, values, careful=careful)
        )

    def _create(
        self, planned: Planned, key: DatasetKey, bound: pa.RecordBatch | None, operation: Operation, guard: Guard
    ) -> int:
        statement = planned.statement
        bucket, name = key
        if key in planned.scope.snapshot.datasets and statement.exists_ok and not statement.or_replace:
            return 0
        columns = None if statement.columns is None else self._engine.column_schema(statement.columns)
        if statement.query is None:
            on_existing = OnExisting.REPLACE if statement.or_replace else OnExisting.REFUSE
            self._tables.create(
                CreateRequest(
                    name=name,
                    bucket=bucket,
                    schema=columns,
                    operation=operation,
                    primary_key=statement.primary_key,
                    on_existing=on_existing,
                )
            )
            return 0
        if bound is not None and bound.num_rows != 1:
            raise InvalidRequest(f"CREATE TABLE AS runs once: bind one row of values, not {bound.num_rows}")
        values = next(each_row(bound), {})
        query = _renamed(statement.query, columns)
        frame = self._engine.query(query, planned.scope, values)
        mode = Mode.REPLACE if statement.or_replace else Mode.CREATE
        # That a literal or a count is never null says nothing about what the table may hold later.
        found = pa.schema([field.with_nullable(True) for field in wire_schema(frame.schema())])  # noqa: FBT003  # pyarrow's signature
        schema = found if columns is None else columns
        request = self._write_request(name, bucket, mode, schema, operation, statement.primary_key)
        rows = self._engine.rows(
            lambda careful: self._engine.query(query, planned.scope, values, careful=True) if careful else frame
        )
        return self._tables.write(request, guard.iterate(rows)).rows

    def _drop(self, planned: Planned, target: TableName, operation: Operation) -> int:
        try:
            dataset = planned.scope.dataset(target.name, target.schema)
        except NotFound:
            if planned.statement.exists_ok:
                return 0
            raise
        self._tables.drop(dataset.name, dataset.bucket, operation, if_exists=planned.statement.exists_ok)
        return 0

    @staticmethod
    def _write_request(
        name: str, bucket: str, mode: Mode, schema: pa.Schema, operation: Operation, primary_key: tuple[str, ...] = ()
    ) -> WriteRequest:
        return WriteRequest(
            name=name,
            bucket=bucket,
            mode=mode,
            schema=schema,
            operation=operation,
            lineage_system="sql",
            lineage_source=operation.kind,
            primary_key=primary_key,
        )


def quoted(name: str) -> str:
    """`name` as it stands between double quotes in SQL."""
    return name.replace('"', '""')


def _renamed(query: str, columns: pa.Schema | None) -> str:
    """The query with the column names of CREATE TABLE name (columns) AS query."""
    if columns is None:
        return query
    names = ", ".join(f'"{quoted(name)}"' for name in columns.names)
    return f"SELECT * FROM ({query}) AS created({names})"  # noqa: S608  # the statement's own text, names quoted
