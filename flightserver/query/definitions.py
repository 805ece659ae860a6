"""ALTER TABLE, COMMENT, CREATE VIEW and DROP VIEW: statements that change what things are, not rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace as changed

from flightserver.catalog.entities import DatasetKey, View
from flightserver.catalog.quoting import delimited
from flightserver.catalog.requirements import DatasetAt, DatasetUnchangedSchema, ViewAt
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import DropView, PutView, RenameDataset
from flightserver.errors import AlreadyExists, CommitConflict, InvalidRequest, NotFound
from flightserver.query.following import READING, means_still, requirements_of
from flightserver.query.keys import with_foreign_key
from flightserver.query.language import changes as c
from flightserver.query.namespace import Notes
from flightserver.query.wire import wire_schema
from flightserver.tables.definitions import Definition
from flightserver.tables.plan import refuse_external
from flightserver.tables.schema import encode

if TYPE_CHECKING:
    import pyarrow as pa

    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.log import Operation
    from flightserver.catalog.requirements import Requirement
    from flightserver.catalog.transaction import Commits
    from flightserver.query.engine import Engine
    from flightserver.query.language.statements import TableName
    from flightserver.query.namespace import Scope
    from flightserver.query.watchdog import Guard

_ATTEMPTS = 10
"""Commits of one definition; each refusal is another change of the same dataset."""


class Definitions:
    """Carries out statements that define.

    Args:
        engine: Reads SQL types, and looks whether rows satisfy a new key.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def alter(
        self, target: TableName, alter: c.AlterTable, scope: Scope, commits: Commits, operation: Operation, guard: Guard
    ) -> None:
        """ALTER TABLE: all steps or none.

        Raises:
            NotFound: There is no such table or column.
            AlreadyExists: A new name is taken.
            InvalidRequest: A step is not possible, or rows don't satisfy a new key.
        """
        for _ in range(_ATTEMPTS):
            try:
                dataset = scope.dataset(target.name, target.schema)
            except NotFound:
                if alter.if_exists:
                    return
                raise
            refuse_external(dataset)
            try:
                self._alter_once(dataset, alter, scope, commits, operation, guard)
            except CommitConflict as error:
                conflict = error
                scope = scope.again(commits.snapshot())
                if not means_still(dataset, target, scope):
                    break
            else:
                return
        raise conflict

    def comment(
        self, target: TableName, comment: c.Comment, scope: Scope, commits: Commits, operation: Operation
    ) -> None:
        """COMMENT ON TABLE, VIEW or COLUMN.

        Raises:
            NotFound: There is no such table, view or column.
        """
        for _ in range(_ATTEMPTS):
            found = scope.relation(target.name, target.schema)
            try:
                if isinstance(found, View):
                    self._comment_view(found, comment, commits, operation)
                else:
                    definition = Definition.of(found).set_comment(comment.column, comment.text)
                    self._commit(definition, [], commits, operation)
            except CommitConflict as error:
                conflict = error
                scope = scope.again(commits.snapshot())
                if not means_still(found, target, scope):
                    break
            else:
                return
        raise conflict

    def create_view(
        self,
        key: DatasetKey,
        view: c.CreateView,
        scope: Scope,
        commits: Commits,
        operation: Operation,
    ) -> None:
        """CREATE VIEW. Its query is planned, so that it names what exists, and kept as text.

        The text must mean by the commit what was planned: else it is planned again.

        Raises:
            AlreadyExists: The name is taken.
            NotFound, InvalidRequest: The query can't be planned.
            CommitConflict: What it reads is moved or renamed again and again meanwhile.
        """
        for _ in range(_ATTEMPTS):
            try:
                self._create_view_once(key, view, scope, commits, operation)
            except CommitConflict as error:
                if not any(one.refused(error) for one in READING):
                    raise
                conflict = error
                scope = scope.again(commits.snapshot())
            else:
                return
        raise conflict

    def _create_view_once(
        self, key: DatasetKey, view: c.CreateView, scope: Scope, commits: Commits, operation: Operation
    ) -> None:
        found = scope.snapshot.views.get(key)
        if found is not None and view.exists_ok:
            return
        if found is not None and not view.or_replace:
            raise AlreadyExists(f"view {key} exists already: CREATE OR REPLACE VIEW replaces it")
        query = view.definition
        if view.columns:
            names = ", ".join(delimited(name) for name in view.columns)
            query = f"SELECT * FROM ({query}) AS created({names})"  # noqa: S608  # the statement's own text, names quoted
        # What came with the statement, and temporary tables, are not there when the view is read.
        notes = Notes(said={})
        frame = self._engine.view(query, replace(scope, given={}, searching=False, notes=notes))
        made = View(
            bucket=key.bucket,
            name=key.name,
            sql=query,
            schema=encode(wire_schema(frame.schema())),
            created=datetime.now(UTC),
            default_bucket=scope.bucket,
            default_schema=scope.schema,
            comment="" if found is None else found.comment,
        )
        at = ViewAt(key.bucket, key.name, 0 if found is None else found.version)
        # As it was planned, with what whoever asks may not see.
        planned = scope.snapshot
        if scope.newest is not None:
            planned = scope.newest if scope.past is None else commits.snapshot()
        requirements = (at, *requirements_of(made, notes.said or {}, planned))
        commits.commit(Transaction(operation, (PutView(made, replace=found is not None),), requirements))

    def drop_view(
        self, target: TableName, drop: c.DropView, scope: Scope, commits: Commits, operation: Operation
    ) -> None:
        """DROP VIEW.

        Raises:
            NotFound: There is no such view.
            InvalidRequest: It is a table.
        """
        try:
            found = scope.relation(target.name, target.schema)
        except NotFound:
            if drop.exists_ok:
                return
            raise
        if not isinstance(found, View):
            raise InvalidRequest(f"{found.key} is a table: DROP TABLE drops it")
        commits.commit(Transaction(operation, (DropView(found.bucket, found.name, views=True),)))

    def _comment_view(self, view: View, comment: c.Comment, commits: Commits, operation: Operation) -> None:
        if comment.column is not None:
            raise InvalidRequest(f"{view.key} is a view: comments on columns are kept for tables only")
        put = PutView(changed(view, comment=comment.text or ""), replace=True)
        commits.commit(Transaction(operation, (put,), (ViewAt(view.bucket, view.name, view.version),)))

    def _alter_once(
        self, dataset: Dataset, alter: c.AlterTable, scope: Scope, commits: Commits, operation: Operation, guard: Guard
    ) -> None:
        definition = Definition.of(dataset)
        requirements: list[Requirement] = []
        new_name: str | None = None
        for step in alter.steps:
            match step:
                case c.RenameTable(new=new):
                    new_name = new
                case c.SetNullable(column=name, nullable=False):
                    definition = definition.set_nullable(name, nullable=False)
                    self._check_not_null(dataset, (name,), scope, guard)
                    requirements.append(DatasetAt(dataset.bucket, dataset.name, dataset.version))
                case c.SetPrimaryKey(columns=columns, name=name):
                    definition = definition.set_primary_key(columns, name)
                    self._check_not_null(dataset, columns, scope, guard)
                    self._check_unique(dataset, columns, scope, guard)
                    requirements.append(DatasetAt(dataset.bucket, dataset.name, dataset.version))
                case c.AddForeignKey(foreign_key=key):
                    definition = with_foreign_key(definition, key, scope)
                case c.AddColumn(name=name, foreign_key=c.ForeignKey() as key) if name not in definition.schema.names:
                    definition = with_foreign_key(self._altered(definition, step), key, scope)
                case _:
                    definition = self._altered(definition, step)
        self._commit(definition, requirements, commits, operation, new_name)

    def _altered(self, definition: Definition, step: c.Step) -> Definition:
        """The definition after a step that no row can contradict."""
        match step:
            case c.AddColumn(name=name, definition=text, if_not_exists=if_not_exists):
                altered = definition.add_column(self._column(name, text), if_not_exists=if_not_exists)
            case c.DropColumn(name=name, if_exists=if_exists):
                altered = definition.drop_column(name, if_exists=if_exists)
            case c.RenameColumn(old=old, new=new):
                altered = definition.rename_column(old, new)
            case c.SetType(column=name, type=text):
                altered = definition.set_type(name, self._column(name, text).type)
            case c.SetNullable(column=name):
                altered = definition.set_nullable(name, nullable=True)
            case c.DropConstraint(name=name, if_exists=if_exists):
                altered = definition.drop_constraint(name, if_exists=if_exists)
            case _:
                altered = definition.set_primary_key(())
        return altered

    def _column(self, name: str, definition: str) -> pa.Field:
        return self._engine.column_schema(f"{delimited(name)} {definition}").field(0)

    @staticmethod
    def _commit(
        definition: Definition,
        requirements: list[Requirement],
        commits: Commits,
        operation: Operation,
        new_name: str | None = None,
    ) -> None:
        now = definition.dataset
        update = definition.update()
        same = DatasetUnchangedSchema(now.bucket, now.name, now.id, now.schema_fingerprint)
        renamed = () if new_name is None else (RenameDataset(now.bucket, now.name, new_name, views=True),)
        updates = (*(() if update is None else (update,)), *renamed)
        if update is not None and update.foreign_keys is not None:  # all of them, so none may have been added meanwhile
            requirements = [*requirements, DatasetAt(now.bucket, now.name, now.version)]
        commits.commit(Transaction(operation, updates, (same, *requirements)))

    def _check_not_null(self, dataset: Dataset, columns: tuple[str, ...], scope: Scope, guard: Guard) -> None:
        missing = " OR ".join(f"{delimited(name)} IS NULL" for name in columns)
        found = self._count(f"SELECT count(*) FROM {_table(dataset)} WHERE {missing}", scope, guard)  # noqa: S608  # names are quoted
        if found:
            raise InvalidRequest(
                f"{found:,} rows of {dataset.key} are null in {', '.join(columns)}: give them values first"
            )

    def _check_unique(self, dataset: Dataset, columns: tuple[str, ...], scope: Scope, guard: Guard) -> None:
        key = ", ".join(delimited(name) for name in columns)
        grouped = f"SELECT {key} FROM {_table(dataset)} GROUP BY {key} HAVING count(*) > 1"  # noqa: S608  # names are quoted
        found = self._count(f"SELECT count(*) FROM ({grouped}) AS twice", scope, guard)  # noqa: S608  # as above
        if found:
            raise InvalidRequest(
                f"({', '.join(columns)}) can't be the primary key of {dataset.key}: {found:,} values occur more than "
                "once"
            )

    def _count(self, sql: str, scope: Scope, guard: Guard) -> int:
        batches = guard.iterate(self._engine.rows(lambda careful: self._engine.query(sql, scope, {}, careful=careful)))
        return sum(batch.column(0)[0].as_py() for batch in batches)


def _table(dataset: Dataset) -> str:
    return f"{delimited(dataset.bucket)}.{delimited(dataset.name)}"
