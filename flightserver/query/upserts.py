"""Streams of upserts and of keys: changes of rows without SQL.

Theory of operation: the rows of an upsert are written first, as one segment, however many there are, with bounded
memory. Then the engine finds by the primary key which rows of the dataset they replace, and which of themselves were
followed by others of the same key: the last one wins. Both go into one delta. When others have added or removed rows
meanwhile, only the finding is done again. Keys to delete are held in memory, as bound values are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from msgspec.structs import replace as changed

from flightserver.catalog.quoting import delimited
from flightserver.catalog.staging import StagedTransaction
from flightserver.catalog.transaction import Confirmed
from flightserver.errors import CommitConflict, InvalidRequest
from flightserver.query.namespace import ADDED, TARGET, Scope
from flightserver.tables.plan import find_target, new_lineage
from flightserver.tables.rebase import REFUSED
from flightserver.tables.requests import CreateRequest, Mode, WriteResult
from flightserver.tables.schema import conform, decode, drift, drift_error
from flightserver.tables.writes import check_valid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from flightserver.catalog.entities import Dataset, Segment
    from flightserver.catalog.log import Operation
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.transaction import Commits
    from flightserver.query.engine import Engine
    from flightserver.tables.changes import RowChange
    from flightserver.tables.requests import WriteRequest
    from flightserver.tables.writes import Tables

_ATTEMPTS = 20
"""Searches for the rows that an upsert replaces. Each one more is another's commit that went through."""

KEYS = "__keys"
"""Bare name of the keys to delete."""


class RowStreams:
    """Writes of every mode, and deletes by key. All methods may be called from any thread.

    Args:
        engine: Finds rows by key.
        tables: Writes.
        commits: The catalog, or a transaction of several statements.
    """

    def __init__(self, engine: Engine, tables: Tables, commits: Commits) -> None:
        self._engine = engine
        self._tables = tables
        self._commits = commits

    def within(self, transaction: Commits) -> RowStreams:
        """The same, in a transaction of several statements."""
        return RowStreams(self._engine, self._tables.within(transaction), transaction)

    def write(self, request: WriteRequest, batches: Iterable[pa.RecordBatch]) -> WriteResult:
        """Write rows in one commit, see `Tables.write`; mode upsert as well.

        Raises:
            InvalidRequest: Mode upsert, and the dataset has no primary key, or the request names none for a new one; or
                a batch that a client sent is not valid Arrow.
            CommitConflict: Mode upsert, and others change the dataset again and again.
        """
        if request.mode is not Mode.UPSERT:
            return self._tables.write(request, batches)
        snapshot = self._commits.snapshot()
        recorded = snapshot.operations.get(request.operation.id)
        if recorded is not None:
            return WriteResult(
                dataset=request.name,
                bucket=request.bucket,
                version=recorded.version,
                rows=recorded.rows,
                unchanged=True,
            )
        if request.key in snapshot.datasets or request.key in snapshot.views:
            return self._upsert(request, batches, self._tables, self._commits)
        return self._create(request, batches, snapshot)

    def delete(
        self,
        key: tuple[str, str],
        keys: pa.Table,
        operation: Operation,
        *,
        dataset_id: str | None = None,
        confirm: Callable[[], None] | None = None,
    ) -> int:
        """Delete the rows that equal one of these in all columns that they have; returns how many.

        Args:
            key: Bucket and name of the dataset.
            keys: At least one column of the dataset; those of its primary key, if it has one.
            operation: Who does it.
            dataset_id: The dataset that is meant; None for the one that has the name when the search begins.
            confirm: Asked right before the commit; what it raises calls it off.

        Raises:
            InvalidRequest: The columns aren't the primary key's.
            SchemaMismatch: A column isn't the dataset's, or a value doesn't fit.
            NotFound: There is no dataset of this name, or none any more.
            CommitConflict: Another dataset has the name by now, or others change the same rows again and again.
        """
        if confirm is not None:
            return self.within(Confirmed(self._commits, confirm)).delete(key, keys, operation, dataset_id=dataset_id)
        for _ in range(_ATTEMPTS):
            snapshot = self._commits.snapshot()
            recorded = snapshot.operations.get(operation.id)
            if recorded is not None:
                return recorded.rows
            dataset = snapshot.dataset(key[1], key[0])
            dataset_id = dataset_id or dataset.id
            if dataset.id != dataset_id:
                raise CommitConflict(
                    f"{dataset.key} is another dataset by now than when this began: nothing was deleted; "
                    "ask again if this one is meant"
                )
            given = _keys(dataset, keys)
            scope = Scope(snapshot, given={KEYS: (given.schema, given.to_batches())}, target=dataset)
            sql = _matching(given.schema.names, KEYS)
            with self._tables.change(dataset, snapshot) as change:
                ids = self._ids(sql, scope)
                change.remove(ids)
                try:
                    return change.commit(changed(operation, rows=len(ids))).rows
                except CommitConflict as error:
                    conflict = error
        raise conflict

    def _create(self, request: WriteRequest, batches: Iterable[pa.RecordBatch], snapshot: Snapshot) -> WriteResult:
        """An upsert to a dataset that isn't there: create and fill it in one commit."""
        if not request.primary_key:
            raise InvalidRequest(f"{request.key} doesn't exist and would have no primary key: say `primary_key`")
        staged = StagedTransaction(snapshot)
        inner = self._tables.within(staged)
        operation = request.operation
        try:
            inner.create(
                CreateRequest(
                    name=request.name,
                    bucket=request.bucket,
                    schema=request.schema,
                    operation=changed(operation, id=f"{operation.id}-create"),
                    primary_key=request.primary_key,
                )
            )
            result = self._upsert(request, batches, inner, staged)
        except BaseException:
            self._tables.discard(staged.updates)
            raise
        try:
            outcome = self._tables.commit_staged(staged, changed(operation, rows=result.rows))
        except REFUSED:
            self._tables.discard(staged.updates)
            raise
        return replace(result, version=outcome.version)

    def _upsert(
        self, request: WriteRequest, batches: Iterable[pa.RecordBatch], tables: Tables, commits: Commits
    ) -> WriteResult:
        base = commits.snapshot()
        target = find_target(replace(request, mode=Mode.APPEND), base)
        dataset = base.dataset(request.name, request.bucket)
        if not dataset.primary_key:
            raise InvalidRequest(
                f"dataset {dataset.key} has no primary key, by which an upsert finds the rows to replace: "
                f"ALTER TABLE ... ADD PRIMARY KEY (...) sets one"
            )
        if target.schema != decode(dataset.schema):
            raise drift_error(f"an upsert can't evolve {dataset.key}", drift(decode(dataset.schema), request.schema))
        with tables.change(dataset, base) as change:
            for number, batch in enumerate(batches):
                if request.validate:
                    check_valid(batch, number)
                change.add(batch)
            segment = change.written()
            for _ in range(_ATTEMPTS):
                rows = self._replace(change, segment, base)
                lineage = new_lineage(
                    request.lineage_system,
                    request.lineage_source,
                    request.operation,
                    rows=rows,
                    content=request.content,
                )
                operation = changed(request.operation, rows=rows)
                try:
                    outcome = change.commit(operation, lineage=lineage, appended_nothing=True)
                except CommitConflict as error:
                    conflict = error
                    base = commits.snapshot()
                    change.again(base, base.dataset(request.name, request.bucket))
                else:
                    return WriteResult(
                        dataset=request.name,
                        bucket=request.bucket,
                        version=outcome.version,
                        rows=rows,
                        bytes=0 if segment is None else segment.bytes,
                        files=0 if segment is None else segment.files,
                    )
            raise conflict

    def _replace(self, change: RowChange, segment: Segment | None, base: Snapshot) -> int:
        """Find the rows that end; returns how many of the new ones stay."""
        if segment is None:
            return 0
        dataset = change.dataset
        added = changed(dataset, id=segment.id, segments=(segment,), deltas=())
        scope = Scope(base, target=dataset, added=added)
        key = dataset.primary_key
        if dataset.segments:
            change.remove(self._ids(_matching(key, ADDED), scope))
        columns = ", ".join(delimited(name) for name in key)
        sql = (
            f'SELECT a."_rid" FROM "{ADDED}" AS a JOIN (SELECT {columns}, max("_rid") AS "__last" FROM "{ADDED}" '  # noqa: S608  # names are quoted
            f'GROUP BY {columns} HAVING count(*) > 1) AS b ON {_equal(key, "a", "b")} WHERE a."_rid" < b."__last"'
        )
        earlier = self._ids(sql, scope) - segment.row_id_base
        change.remove_own(earlier)
        return segment.rows - len(earlier)

    def _ids(self, sql: str, scope: Scope) -> NDArray[np.int64]:
        batches = self._engine.rows(lambda careful: self._engine.query(sql, scope, {}, careful=careful))
        found = [batch.column(0).to_numpy(zero_copy_only=False) for batch in batches]
        return np.concatenate(found).astype(np.int64, copy=False) if found else np.empty(0, np.int64)


def _keys(dataset: Dataset, keys: pa.Table) -> pa.Table:
    """The keys with the types that the dataset has for their columns."""
    schema = decode(dataset.schema)
    if dataset.primary_key and set(keys.schema.names) != set(dataset.primary_key):
        raise InvalidRequest(
            f"keys of {dataset.key} have the columns {', '.join(dataset.primary_key)}, "
            f"those given are {', '.join(keys.schema.names)}"
        )
    unknown = [name for name in keys.schema.names if name not in schema.names]
    if unknown or not keys.schema.names:
        raise InvalidRequest(
            f"dataset {dataset.key} has no column {', '.join(unknown) or 'of those given'}: "
            f"it has {', '.join(schema.names)}"
        )
    wanted = pa.schema([schema.field(name) for name in keys.schema.names]).remove_metadata()
    return pa.Table.from_batches([conform(batch, wanted) for batch in keys.to_batches()], wanted)


def _matching(columns: Iterable[str], other: str) -> str:
    """The rows of the target whose columns equal those of a row of another table."""
    return f'SELECT t."_rid" FROM "{TARGET}" AS t LEFT SEMI JOIN "{other}" AS o ON {_equal(columns, "t", "o")}'  # noqa: S608  # names are quoted


def _equal(columns: Iterable[str], left: str, right: str) -> str:
    return " AND ".join(f'"{left}".{delimited(name)} = "{right}".{delimited(name)}' for name in columns)
