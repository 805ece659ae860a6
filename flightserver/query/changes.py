"""Statements that change something; INSERT, CREATE TABLE (AS), DROP TABLE and TRUNCATE are carried out here.

The engine computes the rows; `tables/` writes and commits them. Everything is read under the statement's snapshot, so
an INSERT that reads its own target sees it as it was before.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.log import Operation
from flightserver.catalog.quoting import delimited
from flightserver.catalog.transaction import Confirmed
from flightserver.errors import InvalidRequest, NotFound
from flightserver.query.access_changes import ACCESS_KINDS, AccessChanges
from flightserver.query.authorizing import needs_of, target_bucket
from flightserver.query.definitions import Definitions
from flightserver.query.following import following
from flightserver.query.keys import created_keys
from flightserver.query.language.changes import AlterTable, Comment, CreateView, DropView, RenameTable
from flightserver.query.language.statements import Kind, TableName
from flightserver.query.parameters import BOUND, assigned, each_row, insert_from_bound
from flightserver.query.rowchanges import RowChanges, Work
from flightserver.query.wire import wire_schema
from flightserver.tables.schema import decode
from flightserver.tables.writes import CreateRequest, Mode, OnExisting, Tables, WriteRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.access.administering import Administration
    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.transaction import Commits
    from flightserver.query.engine import Engine
    from flightserver.query.language.statements import Statement
    from flightserver.query.namespace import Scope
    from flightserver.query.request import Planned, Request
    from flightserver.query.watchdog import Guard


_MAKING = {Kind.CREATE_TABLE, Kind.CREATE_TABLE_AS, Kind.CREATE_VIEW}
"""Statements that make what a name means: a temporary table hides it, and no more."""


class Changes:
    """Carries out what a planned statement changes.

    Args:
        engine: Computes rows.
        tables: Writes and commits them.
        catalog: Where statements commit that are in no transaction.
        administration: Changes roles and grants.
    """

    def __init__(self, engine: Engine, tables: Tables, catalog: Commits, administration: Administration) -> None:
        self._engine = engine
        self._tables = tables
        self._catalog = catalog
        self._rows = RowChanges(engine)
        self._definitions = Definitions(engine)
        self._access = AccessChanges(administration)

    def carry_out(self, planned: Planned, operation_id: str, guard: Guard) -> int:
        """Run the statement and commit, or stage it in its transaction; returns how many rows it wrote or removed.

        Args:
            planned: A statement of a kind that changes something.
            operation_id: The commit records it, so that the same id never commits twice.
            guard: Interrupts the engine while it computes rows, never the commit.

        Raises:
            CommitConflict: Another write changed the same first; a retry is safe.
        """
        given = given_target(planned)
        if given is not None:
            return _change_given(planned.request, planned.statement, given)
        if planned.statement.kind in ACCESS_KINDS:
            self._access.carry_out(planned, operation_id)
            return 0
        transaction = planned.request.transaction
        if transaction is None:
            commits = self._authorized(planned)
            return self._carry_out(planned, operation_id, guard, self._tables.within(commits), commits)
        with transaction.statement() as staged:
            planned = replace(planned, scope=planned.scope.at(staged.snapshot()))
            return self._carry_out(planned, operation_id, guard, self._tables.within(staged), staged)

    def _authorized(self, planned: Planned) -> Commits:
        """The catalog, as long as whoever asks may do that."""
        needs, rights = needs_of(planned.statement, planned.scope), planned.scope.rights
        if needs is None:
            return self._catalog
        return Confirmed(self._catalog, lambda: needs.check_again(rights, self._catalog.snapshot()))

    def _carry_out(self, planned: Planned, operation_id: str, guard: Guard, tables: Tables, commits: Commits) -> int:
        statement, request, scope = planned.statement, planned.request, planned.scope
        bound = assigned(statement, request.parameters)
        target = statement.target
        if target is None:  # every kind that changes something names its target
            raise InvalidRequest("the statement names no table")
        bucket = target_bucket(scope, target)
        operation = Operation(id=operation_id, kind=statement.kind.value, detail=str(target), user=request.user)
        match statement.kind:
            case Kind.INSERT:
                insert = partial(self._insert, planned, bound, operation, guard, tables)
                return following(target, scope, commits, insert)
            case Kind.UPDATE | Kind.DELETE | Kind.MERGE | Kind.UPSERT:
                work = Work(statement=statement, scope=scope, bound=bound, operation=operation, guard=guard)
                return self._rows.carry_out(work, tables, commits, retry=request.transaction is None)
            case Kind.CREATE_TABLE | Kind.CREATE_TABLE_AS:
                return self._create(planned, DatasetKey(bucket, target.name), bound, operation, guard, tables)
            case Kind.DROP_TABLE:
                return self._drop(planned, target, operation, tables)
            case Kind.TRUNCATE:
                return following(
                    target, scope, commits, lambda found, _: tables.clear(found.name, found.bucket, operation)
                )
            case _:
                return self._define(planned, DatasetKey(bucket, target.name), target, commits, operation, guard)

    def _define(
        self,
        planned: Planned,
        key: DatasetKey,
        target: TableName,
        commits: Commits,
        operation: Operation,
        guard: Guard,
    ) -> int:
        scope = planned.scope
        match planned.statement.change:
            case AlterTable() as alter:
                if any(isinstance(step, RenameTable) for step in alter.steps):
                    planned.request.refuse_in_transaction("ALTER TABLE ... RENAME TO")
                self._definitions.alter(target, alter, scope, commits, operation, guard)
            case Comment() as comment:
                self._definitions.comment(target, comment, scope, commits, operation)
            case CreateView() as view:
                self._definitions.create_view(key, view, scope, commits, operation)
            case DropView() as drop:
                self._definitions.drop_view(target, drop, scope, commits, operation)
        return 0

    def _insert(
        self,
        planned: Planned,
        bound: pa.RecordBatch | None,
        operation: Operation,
        guard: Guard,
        tables: Tables,
        dataset: Dataset,
        scope: Scope,
    ) -> int:
        planned = replace(planned, scope=scope)
        rewritten = insert_from_bound(planned.statement)
        if rewritten is not None and bound is not None:
            given = {**planned.scope.given, BOUND: (bound.schema, [bound])}
            scope = replace(planned.scope, given=given)
            rows = self._engine.rows(lambda careful: self._engine.insert(rewritten, scope, {}, careful=careful))
        else:
            rows = chain.from_iterable(self._inserted(planned, values) for values in each_row(bound))
        schema = decode(dataset.schema)
        request = self._write_request(dataset.name, dataset.bucket, Mode.APPEND, schema, operation)
        return tables.write(request, guard.iterate(rows)).rows

    def _inserted(self, planned: Planned, values: dict[str, Any]) -> Iterator[pa.RecordBatch]:
        return self._engine.rows(
            lambda careful: self._engine.insert(planned.statement.sql, planned.scope, values, careful=careful)
        )

    def _create(
        self,
        planned: Planned,
        key: DatasetKey,
        bound: pa.RecordBatch | None,
        operation: Operation,
        guard: Guard,
        tables: Tables,
    ) -> int:
        statement = planned.statement
        bucket, name = key
        if key in planned.scope.snapshot.datasets and statement.exists_ok and not statement.or_replace:
            return 0
        # Parentheses with keys alone leave the columns to the query.
        listed = statement.columns or (None if statement.query else statement.columns)
        columns = None if listed is None else self._engine.column_schema(listed)
        keys = statement.keys
        if statement.query is None:
            on_existing = OnExisting.REPLACE if statement.or_replace else OnExisting.REFUSE
            tables.create(
                CreateRequest(
                    name=name,
                    bucket=bucket,
                    schema=columns,
                    operation=operation,
                    primary_key=keys.primary_key,
                    on_existing=on_existing,
                    primary_key_name=keys.primary_key_name,
                    foreign_keys=created_keys(keys, key, columns, planned.scope),
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
        request = replace(
            self._write_request(name, bucket, mode, schema, operation),
            primary_key=keys.primary_key,
            primary_key_name=keys.primary_key_name,
            foreign_keys=created_keys(keys, key, schema, planned.scope),
        )
        rows = self._engine.rows(
            lambda careful: self._engine.query(query, planned.scope, values, careful=True) if careful else frame
        )
        return tables.write(request, guard.iterate(rows)).rows

    def _drop(self, planned: Planned, target: TableName, operation: Operation, tables: Tables) -> int:
        try:
            dataset = planned.scope.dataset(target.name, target.schema)
        except NotFound:
            if planned.statement.exists_ok:
                return 0
            raise
        tables.drop(dataset.name, dataset.bucket, operation, if_exists=planned.statement.exists_ok)
        return 0

    @staticmethod
    def _write_request(name: str, bucket: str, mode: Mode, schema: pa.Schema, operation: Operation) -> WriteRequest:
        return WriteRequest(
            name=name,
            bucket=bucket,
            mode=mode,
            schema=schema,
            operation=operation,
            lineage_system="sql",
            lineage_source=operation.kind,
        )


def given_target(planned: Planned) -> str | None:
    """The table that a statement would change if it is no dataset; None when it is one, or is made."""
    target, kind = planned.statement.target, planned.statement.kind
    if target is None or target.schema is not None or kind in _MAKING:
        return None
    return target.name if planned.request.temporary or target.name in planned.request.given else None


def _change_given(request: Request, statement: Statement, name: str) -> int:
    """What a statement does to a table that is no dataset: a temporary one can be dropped, and no more.

    Raises:
        InvalidRequest: It is something else.
        NotFound: It is gone meanwhile, or isn't of who runs the statement.
    """
    if request.drop_temporary is None:
        raise InvalidRequest(f"{name!r} is the stream that came with the statement: it can only be read")
    if statement.kind is not Kind.DROP_TABLE:
        raise InvalidRequest(
            f"{name!r} is a temporary table, or came with the statement: it can be read, ingested into and dropped, "
            f"but not changed by {statement.kind.value.upper()}; a table that it hides is meant by its schema and name"
        )
    if not request.drop_temporary(name) and not statement.exists_ok:
        raise NotFound(
            f"temporary table {name!r} doesn't exist here any more: it was dropped, or is another connection's"
        )
    return 0


def _renamed(query: str, columns: pa.Schema | None) -> str:
    """The query with the column names of CREATE TABLE name (columns) AS query."""
    if columns is None:
        return query
    names = ", ".join(delimited(name) for name in columns.names)
    return f"SELECT * FROM ({query}) AS created({names})"  # noqa: S608  # the statement's own text, names quoted
