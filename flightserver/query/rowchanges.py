"""UPDATE, DELETE, MERGE and INSERT ... ON CONFLICT: which rows end, which begin.

Theory of operation: a statement becomes one query (`flightserver.query.language`) over its target with row ids, whose
rows say what happens: delete, update, insert. The rows stream into a `RowChange`, so memory holds no more than the
ids of rows that end. Everything is read in one snapshot. When the commit meets another's that changed the same rows, a
statement outside of a transaction runs again on the newest snapshot, a few times; inside of one the conflict is the
client's, who has seen earlier rows.

Values bound for many executions run as one join where that gives the same result, and otherwise one after the
other, each seeing what those before have done, in one commit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from msgspec.structs import replace as changed

from flightserver.catalog.staging import StagedTransaction
from flightserver.errors import CommitConflict, InvalidRequest
from flightserver.query.following import means_still
from flightserver.query.language.building import DELETE, INSERT, UPDATE, change_query, each_once
from flightserver.query.language.statements import Kind
from flightserver.query.parameters import BOUND, each_row
from flightserver.tables.rebase import REFUSED
from flightserver.tables.schema import decode, visible

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.log import Operation
    from flightserver.catalog.transaction import Commits
    from flightserver.query.engine import Engine
    from flightserver.query.language.statements import Statement
    from flightserver.query.namespace import Scope
    from flightserver.query.watchdog import Guard
    from flightserver.tables.changes import RowChange
    from flightserver.tables.writes import Tables

ATTEMPTS = 10
"""Runs of one statement outside of a transaction. Each conflict is another statement that went through."""

_FIXED = 3
"""Columns of a change query before those of the target: action, row id, and how often a conflict key occurs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A statement that changes rows, on its way.

    Attributes:
        statement: What it says.
        scope: What its names mean; the snapshot is that of the first attempt.
        bound: Its values, a row for each execution, or None.
        operation: Who does it; `rows` is set by the commit.
        guard: Interrupts the engine, never the commit.
    """

    statement: Statement
    scope: Scope
    bound: pa.RecordBatch | None
    operation: Operation
    guard: Guard


class HitTwice(Exception):  # no error: it says to run one after the other
    """Two executions of a statement change the same row."""


class RowChanges:
    """Carries out statements that end and begin rows.

    Args:
        engine: Computes them.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def carry_out(self, work: Work, tables: Tables, commits: Commits, *, retry: bool) -> int:
        """Run a statement and commit it; returns how many rows it changed.

        Args:
            work: The statement.
            tables: Commits to `commits`.
            commits: The catalog, or the transaction that the statement is part of.
            retry: Whether it runs again when others were faster.

        Raises:
            CommitConflict: Others change the same rows again and again, or did once and `retry` is not set.
        """
        first = work.scope
        for _ in range(ATTEMPTS if retry else 1):
            try:
                return self._once(work, tables)
            except CommitConflict as error:
                conflict = error
                work = replace(work, scope=work.scope.again(commits.snapshot()))
                target = work.statement.target
                if target is None or not means_still(first.dataset(target.name, target.schema), target, work.scope):
                    break
        raise conflict

    def _once(self, work: Work, tables: Tables) -> int:
        if work.bound is None or work.bound.num_rows == 1:
            return self._run(work, tables, next(each_row(work.bound), {}))
        joined = each_once(work.statement)
        if joined is not None:
            given = {**work.scope.given, BOUND: (work.bound.schema, [work.bound])}
            together = replace(work, statement=joined, scope=replace(work.scope, given=given))
            try:
                return self._run(together, tables, {}, once=work.statement.kind is not Kind.DELETE)
            except HitTwice:
                pass
        return self._one_by_one(work, tables)

    def _one_by_one(self, work: Work, tables: Tables) -> int:
        staged = StagedTransaction(work.scope.snapshot)
        inner = tables.within(staged)
        count = 0
        try:
            for number, values in enumerate(each_row(work.bound)):
                operation = changed(work.operation, id=f"{work.operation.id}-{number}")
                scope = work.scope.at(staged.snapshot())
                count += self._run(replace(work, operation=operation, scope=scope), inner, values)
        except BaseException:
            tables.discard(staged.updates)
            raise
        try:
            return tables.commit_staged(staged, changed(work.operation, rows=count)).rows
        except REFUSED:
            tables.discard(staged.updates)
            raise

    def _run(self, work: Work, tables: Tables, values: dict[str, Any], *, once: bool = False) -> int:
        statement, scope = work.statement, work.scope
        if statement.target is None:  # every kind that changes rows names its target
            raise InvalidRequest("the statement names no table")
        dataset = scope.dataset(statement.target.name, statement.target.schema)
        schema = visible(decode(dataset.schema))
        sql = change_query(statement, schema, dataset.primary_key)
        inside = replace(scope, target=dataset)

        def plan(careful: bool) -> Any:  # noqa: FBT001  # `Engine.rows` calls it
            return self._engine.change(sql, inside, values, schema, careful=careful)

        with tables.change(dataset, scope.snapshot) as change:
            rows = work.guard.iterate(self._engine.rows(plan))
            applied = _Applied(statement.kind, dataset, change, once=once)
            for batch in rows:
                applied.take(batch)
            operation = changed(work.operation, rows=applied.count)
            return change.commit(operation, appended_nothing=statement.kind is Kind.UPSERT).rows


class _Applied:
    """What the rows of a change query do to a `RowChange`."""

    def __init__(self, kind: Kind, dataset: Dataset, change: RowChange, *, once: bool) -> None:
        self.count = 0
        self._kind = kind
        self._dataset = dataset
        self._change = change
        self._once = once
        self._seen = _Seen()

    def take(self, batch: pa.RecordBatch) -> None:
        """Apply a batch.

        Raises:
            InvalidRequest: A row would be changed twice by a statement that may not.
            HitTwice: As above, where executions can run one after the other.
        """
        action = batch.column(0).to_numpy(zero_copy_only=False)
        ending = (action == DELETE) | (action == UPDATE)
        ids = batch.column(1).filter(_mask(ending)).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
        fresh = self._seen.add(ids)
        if not fresh.all():
            self._refuse_twice()
            ending[np.flatnonzero(ending)[~fresh]] = False
            ids = ids[fresh]
            action = np.where(ending | (action == INSERT), action, 0)
        if self._kind is Kind.UPSERT:
            self._check_keys(batch, action)
        self._change.remove(ids)
        beginning = (action == UPDATE) | (action == INSERT)
        if batch.num_columns > _FIXED and beginning.any():
            live = batch.select(range(_FIXED, batch.num_columns))
            self._change.add(live if beginning.all() else live.filter(_mask(beginning)))
        self.count += int((action != 0).sum())

    def _refuse_twice(self) -> None:
        if self._once:
            raise HitTwice
        if self._kind is Kind.MERGE:
            raise InvalidRequest(
                f"MERGE would change a row of {self._dataset.key} twice: several rows of the source match it; make "
                "the source have one row for each"
            )

    def _check_keys(self, batch: pa.RecordBatch, action: NDArray[np.int64]) -> None:
        times = batch.column(2).to_numpy(zero_copy_only=False)
        if ((times > 1) & (action != 0)).any():
            if self._once:
                raise HitTwice
            key = ", ".join(self._dataset.primary_key)
            raise InvalidRequest(
                f"ON CONFLICT would change a row of {self._dataset.key} twice: several of the given rows have the same "
                f"key ({key}); give one for each"
            )


class _Seen:
    """Ids that have been met."""

    def __init__(self) -> None:
        self._met: list[NDArray[np.int64]] = []

    def add(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Remember ids; for each, whether it was not met before."""
        fresh = np.zeros(len(ids), dtype=np.bool_)
        fresh[np.unique(ids, return_index=True)[1]] = True
        for met in self._met:
            fresh &= ~np.isin(ids, met)
        if fresh.any():
            self._met.append(np.sort(ids[fresh]))
        if len(self._met) > 1 and len(self._met[-1]) * 2 >= len(self._met[-2]):
            # Like the runs of a merge sort: few arrays, each id moved a few times.
            self._met[-2:] = [np.sort(np.concatenate(self._met[-2:]))]
        return fresh


def _mask(rows: NDArray[np.bool_]) -> pa.Array:
    return pa.array(rows)
