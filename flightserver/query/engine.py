"""The engine: DataFusion, kept from everything but the lakehouse.

One context per process, so that all statements share one memory pool, one spill directory and the caches of Parquet
footers. What a statement may touch is decided by three guards, each enough alone: its text is sorted
(`statements.py`); it is planned with DDL, DML and settings switched off unless it is an INSERT, whose plan
must then be exactly an INSERT; and names resolve only through our own catalog (`providers.py`), which knows no files.

A statement that fails before its first row, by exhausting memory or by a defect of the engine's estimates, is tried
again in the next of three contexts, which share the pool:

- the usual one shuffles rows between cores and has no disk to spill to, because a shuffle that spills can wait for
  itself for ever (apache/datafusion#24883, not mended in 54);
- the spilling one has the disk, and shuffles nothing. A plan that shuffles nothing anyway begins here;
- the careful one plans without hash joins, which can't spill, without statistics, from files and in small batches.
  That is slower, but a join finishes in about half the memory; and datafusion 54 can't filter a column that spans the
  whole range of its type while it has statistics of it (apache/datafusion#23352, mended in 55).
"""

from __future__ import annotations

import re
from contextlib import closing
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
from datafusion import DataFrame, LogicalPlan, RuntimeEnvBuilder, SessionConfig, SessionContext, SQLOptions, col

from flightserver.catalog.quoting import delimited
from flightserver.errors import Forbidden, InvalidRequest, LimitExceeded, NotFound, RequestError
from flightserver.query.contexts import CAREFUL, FETCHING, FEW_ROWS, FIRST, OPTIONS, SPILLING, USUAL, make_context
from flightserver.query.failures import PlanDefect, missing_table, translate
from flightserver.query.held import held
from flightserver.query.inorder import in_order
from flightserver.query.language.statements import parse
from flightserver.query.namespace import CATALOG, Scope
from flightserver.query.parameters import Parameters, with_types
from flightserver.query.plan_shapes import INLINED, first_rows, shuffles
from flightserver.query.providers import Namespace
from flightserver.query.releasing import release
from flightserver.query.scan import Scans, SmallSegments
from flightserver.query.searching import Searching
from flightserver.query.stores import register_store
from flightserver.query.substrait import consumed, fitted, refusal
from flightserver.tables.schema import decode, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from pathlib import Path

    from datafusion.catalog import Table

    from flightserver.catalog.entities import Dataset, View
    from flightserver.query.cached_rows import Partitions
    from flightserver.query.language.statements import Statement
    from flightserver.query.substrait import SubstraitQuery
    from flightserver.query.watchdog import Watchdog
    from flightserver.settings import QuerySettings
    from flightserver.storage.buckets import Buckets, OpenBucket
    from flightserver.tables.deltas import DeadRows
    from flightserver.tables.nearest import NearestRows

_INSERT_PLAN = re.compile(r"^Dml: op=\[Insert Into\] table=\[")

_READ_ONLY = SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)  # noqa: FBT003  # the binding takes no keywords
_WITH_DML = SQLOptions().with_allow_ddl(False).with_allow_dml(True).with_allow_statements(False)  # noqa: FBT003  # as above


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the rows of datasets are found.

    Attributes:
        in_memory: Batches of a dataset version that is held in memory, split into partitions, or None.
        dead: Dead rows.
        attached: Makes the table of a dataset that others write.
        past: A scope with the earlier versions and searches that a statement names.
        nearest: Searches datasets by vectors.
    """

    in_memory: Callable[[Dataset], Partitions | None]
    dead: DeadRows
    attached: Callable[[Dataset, SessionContext], Table]
    past: Callable[[Scope, Statement], Scope]
    nearest: NearestRows


class Engine:
    """Plans and runs SQL.

    Args:
        settings: Memory, partitions, batch size.
        spill: A directory for what does not fit into memory.
        buckets: Every bucket is registered under its own URL scheme.
        sources: Where rows of datasets are found.
        fixed: Tables of `system` and `information_schema`, see `Namespace`.
        watchdog: Stops threads of statements that nobody reads any more.
    """

    def __init__(
        self,
        settings: QuerySettings,
        spill: Path,
        buckets: Buckets,
        sources: Sources,
        fixed: Mapping[str, Mapping[str, Callable[[Scope], pa.Table]]],
        watchdog: Watchdog,
    ) -> None:
        spill.mkdir(parents=True, exist_ok=True)
        self._watchdog = watchdog
        self._threads = settings.partitions
        self._past = sources.past
        self._held_bytes = settings.memory_bytes // 4
        self._searching = Searching(self, sources.nearest, watchdog, self._held_bytes)
        pool = RuntimeEnvBuilder().with_fair_spill_pool(settings.memory_bytes)
        disk = copy(pool).with_disk_manager_specified(spill)  # the builder changes itself
        self._usual = make_context(settings, copy(pool).with_disk_manager_disabled(), USUAL)
        self._spilling = make_context(settings, disk, SPILLING)
        self._careful = make_context(settings, disk, CAREFUL)
        self._first = make_context(settings, disk, FIRST)
        self._fetching = make_context(settings, disk, FETCHING)
        self._namespaces = {}
        small = SmallSegments(buckets)
        for careful, context in ((False, self._usual), (True, self._careful)):
            # Rows in memory are scanned by all cores at once, each of which needs memory of its own to sort or join.
            in_memory = (lambda _: None) if careful else sources.in_memory
            scans = Scans(context, buckets, in_memory, sources.dead, small, sources.attached)
            namespace = Namespace(
                scans, fixed, partial(self._view, careful=careful), partial(self._protected, careful=careful)
            )
            self._namespaces[context] = namespace
            context.register_catalog_provider(CATALOG, namespace)
        buckets.tell(self._register)

    def _register(self, bucket: OpenBucket) -> None:
        for context in (self._usual, self._spilling, self._careful, self._first, self._fetching):
            register_store(context, bucket)

    def close(self) -> None:
        """Stop the threads that make tables."""
        for namespace in self._namespaces.values():
            namespace.close()

    def query(self, sql: str, scope: Scope, parameters: Parameters, *, careful: bool = False) -> DataFrame:
        """Plan a query; nothing runs yet.

        Raises:
            InvalidRequest: It does not parse or plan, or it is not a query.
            NotFound: It names a table that does not exist.
        """
        return self._plan(sql, scope, parameters, _READ_ONLY, careful=careful)

    def substrait(
        self, query: SubstraitQuery, scope: Scope, parameters: Parameters, *, careful: bool = False
    ) -> DataFrame:
        """Plan a query that came as a Substrait plan; nothing runs yet.

        Raises:
            InvalidRequest: The plan can't be read here, or it is not a query.
            NotFound: It names a table that does not exist.
        """

        def columns(path: list[str]) -> pa.Schema:
            table = ".".join(delimited(part) for part in path)
            return self.query(f"SELECT * FROM {table}", scope, {}, careful=careful).schema()  # noqa: S608  # names are quoted

        context = self._careful if careful else self._usual
        plan = fitted(query, columns, parameters)
        try:
            with self._namespaces[context].use(scope):
                return context.create_dataframe_from_logical_plan(consumed(context, plan))
        except BaseException as error:  # noqa: BLE001  # a panic of the engine is one; `refusal` sorts
            raise refusal(error) from None

    def insert(self, sql: str, scope: Scope, parameters: Parameters, *, careful: bool = False) -> DataFrame:
        """Plan an INSERT; returns its source with the columns and types of the target.

        Raises:
            InvalidRequest: It does not parse or plan, or it is not an INSERT.
            NotFound: It names a table that does not exist.
        """
        plan = self._plan(sql, scope, parameters, _WITH_DML, careful=careful).logical_plan()
        if not _INSERT_PLAN.match(plan.display()):
            msg = "expected INSERT INTO; this statement does something else"
            raise InvalidRequest(msg)
        context = self._careful if careful else self._usual
        return context.create_dataframe_from_logical_plan(plan.inputs()[0])

    def change(
        self,
        sql: str,
        scope: Scope,
        parameters: Parameters,
        schema: pa.Schema,
        *,
        careful: bool = False,
        lenient: bool = False,
    ) -> DataFrame:
        """Plan a query whose columns named as in `schema` are cast to its types, as INSERT does; others stay.

        With `lenient`, a value that can't be cast becomes null.

        Raises:
            InvalidRequest: It does not parse or plan.
            NotFound: It names a table that does not exist.
        """
        frame = self.query(sql, scope, parameters, careful=careful)
        has = frame.schema()
        columns = []
        for name in has.names:
            place = schema.get_field_index(name)
            column = col(delimited(name))
            if place >= 0 and has.field(name).type != schema.field(place).type:
                kind = schema.field(place).type
                column = (column.try_cast(kind) if lenient else column.cast(kind)).alias(name)
            columns.append(column)
        try:
            return frame.select(*columns)
        except Exception as error:  # the binding raises bare Exception; `translate` sorts
            raise translate(error) from error

    def view(self, sql: str, scope: Scope, *, careful: bool = False) -> DataFrame:
        """Plan the query of a view, from its text as it is kept.

        Raises:
            InvalidRequest: It does not parse or plan, or it is not a query.
            NotFound: It names a table or version that does not exist.
        """
        statement = parse(sql)
        return self.query(statement.sql, self._past(scope, statement), {}, careful=careful)

    def _view(self, view: View, scope: Scope, *, careful: bool) -> DataFrame:
        return self.view(view.sql, scope, careful=careful)

    def _protected(self, dataset: Dataset, sql: str, scope: Scope, *, careful: bool) -> DataFrame:
        try:
            # A mask that doesn't fit in some row is null there: an error would quote what it was made of.
            return self.change(sql, scope, {}, visible(decode(dataset.schema)), careful=careful, lenient=True)
        except RequestError as error:
            raise Forbidden(f"a policy on {dataset.key} can't be applied: an administrator must mend it") from error

    def answer(self, sql: str, scope: Scope, parameters: Parameters) -> list[pa.RecordBatch]:
        """All rows of a query, which must be few, or narrow.

        Raises:
            As of `query` and `rows`.
        """
        return held(self.rows(lambda careful: self.query(sql, scope, parameters, careful=careful)), self._held_bytes)

    def fetch(self, sql: str, scope: Scope) -> list[pa.RecordBatch]:
        """All rows of a query for some of the rows of a dataset, by their ids.

        Raises:
            As of `query` and `rows`.
        """
        frame = self.query(sql, scope, {})
        try:
            return held(self._batches(frame, self._fetching, shuffling=True), self._held_bytes)  # in any order
        except (LimitExceeded, PlanDefect):
            pass  # after the error is handled, as in `rows`
        return self.answer(sql, scope, {})

    def protected_rows(self, dataset: Dataset, sql: str, scope: Scope) -> list[pa.RecordBatch]:
        """All rows of the query that stands in the place of a dataset, which must be few.

        Raises:
            Forbidden: A policy can't be applied.
        """
        rows = self.rows(lambda careful: self._protected(dataset, sql, scope, careful=careful))
        return held(rows, self._held_bytes)

    def _plan(
        self, sql: str, scope: Scope, parameters: Parameters, options: SQLOptions, *, careful: bool = False
    ) -> DataFrame:
        if scope.searches and scope.searching:
            scope = replace(scope, found=self._searching.found(scope, parameters))
        elif scope.searches:
            self._searching.check(scope, parameters)
        try:
            return self._plan_once(sql, scope, parameters, options, careful=careful)
        except InvalidRequest as untyped:
            # Some operators can't be planned over placeholders without types, such as `$1 || $2`.
            typed = with_types(sql, {name: value.type for name, value in parameters.items()})
            if typed == sql:
                raise
            try:
                return self._plan_once(typed, scope, parameters, options, careful=careful)
            except InvalidRequest:
                raise untyped from None

    def _plan_once(
        self, sql: str, scope: Scope, parameters: Parameters, options: SQLOptions, *, careful: bool
    ) -> DataFrame:
        context = self._careful if careful else self._usual
        try:
            with self._namespaces[context].use(scope):
                return context.sql_with_options(sql, options, param_values=parameters or None)
        except Exception as error:  # the binding raises bare Exception; `translate` sorts
            missing = missing_table(error)
            if missing is not None:
                raise NotFound(scope.missing(*missing)) from None
            raise translate(error) from error

    def answer_schema(self, frame: DataFrame) -> pa.Schema:
        """The columns that a plan answers.

        The engine plans CASE with the type of its first branch, and finds the type that holds all branches only when it
        optimizes (datafusion 54): `CASE WHEN a THEN 1 ELSE 'x' END` is planned as a number and answers text.
        """
        planned = frame.schema()
        if "CASE" not in frame.logical_plan().display_indent():
            return planned
        try:
            optimized = self._usual.create_dataframe_from_logical_plan(frame.optimized_logical_plan()).schema()
        except Exception:  # noqa: BLE001  # the binding raises bare Exception; the run says it, or plans otherwise
            return planned
        return pa.schema(
            [field.with_type(found.type) for field, found in zip(planned, optimized, strict=True)], planned.metadata
        )

    @staticmethod
    def column_schema(columns: str) -> pa.Schema:
        """The Arrow schema of the column definitions of a CREATE TABLE, as the engine reads SQL types.

        Raises:
            InvalidRequest: They don't parse, or have a type that the engine does not know.
        """
        config = SessionConfig({key: value for key, value in OPTIONS.items() if "catalog" not in key})
        scratch = SessionContext(config)
        try:
            scratch.sql(f"CREATE TABLE columns ({columns})")
        except Exception as error:  # the binding raises bare Exception; `translate` sorts
            raise translate(error) from error
        return scratch.table("columns").schema()

    def rows(self, plan: Callable[[bool], DataFrame]) -> Iterator[pa.RecordBatch]:
        """Run a plan; batches come as they are made, with bounded memory.

        Args:
            plan: Plans the statement; called with True to plan it carefully, if all else fails before a row.

        Raises:
            LimitExceeded: It needs more memory than it may use, even when planned carefully, or more disk.
        """
        usual = plan(False)  # noqa: FBT003  # the argument says careful
        shuffling = shuffles(usual)
        for context in (self._usual, self._spilling) if shuffling else (self._spilling,):
            with closing(self._batches(usual, context, shuffling=shuffling)) as batches:
                try:
                    first = next(batches, None)
                except LimitExceeded:
                    continue  # after the error is handled: it holds what failed, and that its memory
                except PlanDefect:
                    break
                if first is not None:
                    yield first
                    yield from batches
                return
        careful = plan(True)  # noqa: FBT003  # as above
        yield from self._batches(careful, self._careful, shuffling=shuffles(careful))

    def _batches(self, frame: DataFrame, context: SessionContext, *, shuffling: bool) -> Generator[pa.RecordBatch]:
        """Run a plan in a context."""
        plan = frame.logical_plan()
        try:
            if shuffling:
                for batch in context.create_dataframe_from_logical_plan(plan).execute_stream():
                    yield batch.to_pyarrow()
                return
            wanted = first_rows(plan)
            if wanted is not None:
                yield from self._limited(plan, wanted, context)
                return
            frame = context.create_dataframe_from_logical_plan(plan)
            # No local holds the streams: what is raised below holds this frame.
            yield from in_order(frame.execute_stream_partitioned(), self._watchdog, self._threads)
        except Exception as error:  # the binding raises bare Exception; `translate` sorts
            release(error)
            raise translate(error) from error

    def _limited(self, plan: LogicalPlan, wanted: range, context: SessionContext) -> Iterator[pa.RecordBatch]:
        """The rows that a limit wants, counted here: the engine takes those of the partition that is fastest."""
        if context is self._spilling and wanted.stop <= FEW_ROWS:
            context = self._first
        (inner,) = plan.inputs()
        # A limit that nothing filters is reached soon: no other thread need begin.
        shown = inner.display_indent()
        threads = self._threads if "Filter:" in shown or INLINED in shown else 1
        partitions = context.create_dataframe_from_logical_plan(inner).execute_stream_partitioned()
        row = 0
        with closing(in_order(partitions, self._watchdog, threads)) as batches:
            for batch in batches:
                begin, end = max(wanted.start - row, 0), min(wanted.stop - row, batch.num_rows)
                if begin < end:
                    yield batch.slice(begin, end - begin)
                row += batch.num_rows
                if row >= wanted.stop:
                    return
