"""Statements from text to rows or counts.

A statement is planned against one snapshot. Queries stream: a slot of the admission is held and the watchdog stands
guard from the first batch to the last. Statements that change data run once, whatever a client does: the
operation id that came with the request is recorded by the commit, and a second run finds it there and
returns the recorded count.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import Forbidden, InvalidRequest, NotFound, RequestError
from flightserver.query.authorizing import authorize
from flightserver.query.counting import counted
from flightserver.query.language.statements import Kind, Statement, parse
from flightserver.query.namespace import Notes, Scope
from flightserver.query.once import Once
from flightserver.query.parameters import assigned, each_row
from flightserver.query.placeholder_types import placeholder_types
from flightserver.query.plan_shapes import reads
from flightserver.query.protection import applied_to, check_explained, check_policy
from flightserver.query.request import COUNT_SCHEMA, Planned, Request
from flightserver.query.substrait import read_plan
from flightserver.query.wire import sliced, to_wire, wire_schema
from flightserver.tables.schema import decode, visible

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from datafusion import DataFrame

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.identities import Policy
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.query.cache import Cache
    from flightserver.query.changes import Changes
    from flightserver.query.engine import Engine
    from flightserver.query.gate import Gate
    from flightserver.query.holdings import CachedDataset
    from flightserver.query.past import PastTables
    from flightserver.query.results import ResultStore, StoredResult


class Queries:
    """Plans, streams, updates and stores.

    Args:
        engine: Plans and runs SQL.
        catalog: Gives each statement its snapshot.
        changes: Carries out what changes data.
        gate: Admission, registry and watchdog.
        results: The store of paged results.
        past: Finds the earlier versions that a statement names.
        cache: Datasets held in memory.
        statement_bytes: Longest text that is read.
    """

    def __init__(  # noqa: PLR0913  # the composition root gives each part
        self,
        *,
        engine: Engine,
        catalog: Catalog,
        changes: Changes,
        gate: Gate,
        results: ResultStore,
        past: PastTables,
        cache: Cache,
        statement_bytes: int,
    ) -> None:
        self._engine = engine
        self._catalog = catalog
        self._changes = changes
        self._gate = gate
        self._results = results
        self._past = past
        self._cache = cache
        self._statement_bytes = statement_bytes
        self._once = Once()

    def plan(self, request: Request) -> Planned:
        """Understand a statement without running anything.

        Placeholders without values are allowed: the schema is then what the engine makes of nulls.

        Raises:
            InvalidRequest: It can't be parsed or planned, or is of a kind that is refused.
            NotFound: It names a table, bucket or version that does not exist, or that whoever asks may not see.
            Forbidden: Whoever asks may not do that.
        """
        if request.substrait is not None:
            return self._plan_substrait(request, request.substrait)
        size = len(request.sql.encode("utf-8", "replace"))
        if size > self._statement_bytes:
            raise InvalidRequest(f"the statement has {size:,} bytes; at most {self._statement_bytes:,} are read")
        if "\0" in request.sql:
            raise InvalidRequest("the statement has the character NUL, which no text or name may have: leave it out")
        statement = parse(request.sql)
        scope = self.scope(request)
        scope = self._past.scope(scope, statement)
        request = request.judged_by(scope)
        if statement.kind.is_update:
            if request.as_of is not None:
                raise InvalidRequest("as_of is set: the past can be read but not changed")
            authorize(statement, scope)
            return Planned(request, statement, scope, COUNT_SCHEMA, None)
        parameters: dict[str, Any] = {}
        if request.parameters is not None:
            parameters = next(each_row(assigned(statement, request.parameters)), {})
        known = counted(statement.sql, scope)
        if known is not None:
            statement = replace(statement, sql=known)
        frame = self._engine.query(statement.sql, scope, parameters)
        if request.rights.has_policies:
            check_explained(frame.logical_plan().display_indent())
        schema = wire_schema(self._engine.answer_schema(frame))
        return Planned(request, statement, scope, schema, frame, searches=scope.notes.has_searches)

    def _plan_substrait(self, request: Request, data: bytes) -> Planned:
        if len(data) > self._statement_bytes:
            raise InvalidRequest(f"the plan has {len(data):,} bytes; at most {self._statement_bytes:,} are read")
        query = read_plan(data)
        statement = Statement(Kind.QUERY, request.sql, query.placeholders)
        scope = self.scope(request)
        request = request.judged_by(scope)
        parameters: dict[str, Any] = {}
        if request.parameters is not None:
            parameters = next(each_row(assigned(statement, request.parameters)), {})
        frame = self._engine.substrait(query, scope, parameters)
        schema = wire_schema(self._engine.answer_schema(frame))
        return Planned(request, statement, scope, schema, frame, query, searches=scope.notes.has_searches)

    def parameter_types(self, planned: Planned) -> dict[str, pa.DataType]:
        """Placeholder -> Arrow type, for those whose type is known before a value is bound."""
        return placeholder_types(self._engine, planned)

    def stream(self, planned: Planned) -> Generator[pa.RecordBatch]:
        """Run a statement; batches have exactly `planned.schema` and a size that every client accepts.

        A statement that changes data answers one row with its count.

        Raises:
            Overloaded: Too much is running already.
            QueryTimeout, Cancelled: It was stopped.
            LimitExceeded: It needs more memory than it may use, even without hash joins.
        """
        if planned.frame is None:
            count = self.update(planned)
            yield pa.RecordBatch.from_arrays([pa.array([count], pa.int64())], schema=planned.schema)
            return
        with self._gate.run(planned) as (handle, slot):
            for batch in self._gate.guard(planned, handle).iterate(self._rows(planned)):
                for piece in sliced(_sendable(batch, planned.schema)):
                    handle.progress(piece.num_rows, piece.nbytes)
                    slot.pause()
                    yield piece
                    slot.resume(self._gate.gone(planned, handle))

    def update(self, planned: Planned) -> int:
        """Run a statement that changes data; returns the number of rows it wrote or removed.

        The same operation runs once, and answers the same count whenever it is asked again.

        Raises:
            InvalidRequest: It is a query, or can't be planned.
            CommitConflict: Another write changed the same table first; a retry is safe.
        """
        if planned.frame is not None:
            raise InvalidRequest("a query answers rows, not a count: run it as a query")
        operation = planned.request.operation or new_ulid()
        recorded = planned.scope.snapshot.operations.get(operation)
        if recorded is not None:
            return recorded.rows
        return self._once.run(operation, lambda: self._carry_out(planned, operation))

    def _carry_out(self, planned: Planned, operation: str) -> int:
        with self._gate.run(planned) as (handle, _):
            rows = self._changes.carry_out(_searching(planned, None), operation, self._gate.guard(planned, handle))
            self._record(planned, operation)
            handle.progress(rows, 0)
            return rows

    def _record(self, planned: Planned, operation: str) -> None:
        """Have the log know of a statement that a ticket may ask for again though it has changed nothing."""
        request = planned.request
        if not request.repeatable or request.transaction is not None or request.temporary:
            return
        if operation not in self._catalog.known.operations:  # what was committed here is known here
            kind = planned.statement.kind.value
            self._catalog.commit(Transaction(Operation(operation, kind, "nothing to change", request.user), ()))

    def store(self, planned: Planned, page_rows: int, *, max_pages: int | None = None) -> StoredResult:
        """Run a query into the result store, to be read by pages.

        Raises:
            InvalidRequest: The statement changes data, `page_rows` is out of range, or there would be more than
                `max_pages` pages.
            LimitExceeded: The result is larger than the store.
        """
        request = planned.request
        if planned.frame is None:
            raise InvalidRequest("only a query has pages; this statement changes data")
        with closing(self.stream(planned)) as rows:  # the store may fail as well, by its limits
            stored = self._results.store(planned.schema, rows, page_rows, sql=request.sql, rights=request.rights)
        if max_pages is not None and stored.pages > max_pages:
            self._results.close(stored.query_id)
            least = -(-stored.rows // max_pages)
            raise InvalidRequest(
                f"{stored.rows:,} rows by pages of {page_rows} give {stored.pages:,} endpoints; at most {max_pages:,} "
                f"are sent: ask for page_rows of {least} or more, or use the action result.create"
            )
        return stored

    def pin(self, dataset: Dataset) -> CachedDataset:
        """Hold a dataset in memory, now and at its later versions.

        Raises:
            InvalidRequest: It is attached.
            LimitExceeded: It doesn't fit.
        """
        return self._cache.pin(dataset)

    def check_policy(self, policy: Policy) -> None:
        """Return when a policy can be applied to the datasets that it is about, as they are now.

        Raises:
            InvalidRequest: It can't; says to which, and why.
        """
        check_policy(policy)
        snapshot = self._catalog.snapshot()
        for dataset in snapshot.datasets.values():
            if not policy.is_about(dataset.key):
                continue
            try:
                sql = applied_to(dataset, policy)
                schema = visible(decode(dataset.schema))
                self._engine.change(sql, Scope(snapshot, newest=snapshot).behind(dataset), {}, schema)
            except (Forbidden, RequestError) as error:
                raise InvalidRequest(
                    f"policy {policy.name!r} can't be applied to {dataset.key}: {error.message}"
                ) from None

    @property
    def known(self) -> Snapshot:
        """As `newest`, as far as this process has read."""
        return self._catalog.known

    def newest(self) -> Snapshot:
        """The newest snapshot, for whomever; what is looked up in it is judged by rights `at` its state."""
        return self._catalog.snapshot()

    def cancel(self, operation: str) -> bool:
        """Stop the statement that runs for a request's operation id; False when none does."""
        return self._gate.cancel(operation)

    def scope(self, request: Request) -> Scope:
        """What names mean to a request, by the newest snapshot and the rights of who asks that this one gives.

        Raises:
            NotFound: Its bucket, or the version it asks for, doesn't exist.
        """
        snapshot = past = None
        if request.as_of is not None:
            snapshot = past = self._catalog.snapshot_at(request.as_of)
        elif request.transaction is not None:
            snapshot, past = request.transaction.snapshot(), request.transaction.staged().base
        # Last of all, so that nothing that is read is newer than what it is judged by.
        newest = self._catalog.snapshot()
        rights = request.rights.at(newest.access)
        snapshot = rights.visible(newest if snapshot is None else snapshot, newest, past=past)
        if request.bucket is not None:
            snapshot.bucket(request.bucket)
        scope = Scope(snapshot, request.bucket, request.schema, request.given, rights=rights, newest=newest, past=past)
        if request.schema not in scope.schemas():
            raise NotFound(f"schema {request.schema!r} doesn't exist: there are {', '.join(scope.schemas())}")
        return scope

    def _rows(self, planned: Planned) -> Iterator[pa.RecordBatch]:
        """Batches of every bound row's query, one after the other."""
        bound = assigned(planned.statement, planned.request.parameters)
        if planned.searches:
            planned = _searching(planned, bound)
        for number, values in enumerate(each_row(bound)):
            usual = planned.frame if number == 0 and not planned.searches else None
            yield from self._engine.rows(partial(self._planned_frame, planned, values, usual))

    def _planned_frame(
        self,
        planned: Planned,
        values: dict[str, Any],
        usual: DataFrame | None,
        careful: bool,  # noqa: FBT001  # `Engine.rows` calls it
    ) -> DataFrame:
        if usual is not None and not careful:
            return usual
        if planned.plan is not None:
            return self._engine.substrait(planned.plan, planned.scope, values, careful=careful)
        return self._engine.query(planned.statement.sql, planned.scope, values, careful=careful)


def _searching(planned: Planned, bound: pa.RecordBatch | None) -> Planned:
    """The statement with searches done where it is planned; only within its limits.

    What it reads is known from its plan without them, which was made for the first row of bound values.
    """
    is_one = bound is None or bound.num_rows == 1
    notes = Notes(reads=reads(planned.frame) if is_one and planned.frame is not None else None)
    return replace(planned, scope=replace(planned.scope, searching=True, notes=notes))


def _sendable(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    try:
        return to_wire(batch, schema)
    except pa.ArrowException as error:
        raise InvalidRequest(f"the result has a type that can't be sent: {error}; cast it in the query") from None
