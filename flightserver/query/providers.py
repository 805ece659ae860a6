"""Names in SQL: the catalog `lakehouse` with its schemas, resolved lazily in a scope (`namespace.py`).

The engine asks these providers while it plans, on the thread that plans, so the scope of the statement being planned
stands in a thread-local. Providers may not call the engine on that thread (a runtime inside a runtime panics); tables
are therefore made on other threads, one for each table that is being made: a bucket that hangs, or a view that
searches, may take long, and nobody who needs neither waits for that. A view is planned there, under a scope of its own,
and its names are resolved on yet other threads, so that views of views never wait for themselves. What bounds the
threads is that of calls (`server.max_calls`), times the depth of views.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from datafusion.catalog import CatalogProvider, SchemaProvider, Table

from flightserver.catalog.entities import View
from flightserver.errors import FlightserverError, NotFound
from flightserver.query.failures import missing_table
from flightserver.query.namespace import (
    ADDED,
    BARE,
    CANDIDATES,
    PUBLIC,
    TARGET,
    VIEW,
    Found,
    PastView,
)
from flightserver.query.protection import PROTECTED, protection
from flightserver.query.search_targets import search_target
from flightserver.tables.schema import ROW_ID
from flightserver.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future

    import pyarrow as pa
    from datafusion import DataFrame

    from flightserver.catalog.entities import Dataset
    from flightserver.query.namespace import Notes, Scope
    from flightserver.query.scan import Scans


@dataclass(slots=True)
class _Planning:
    scope: Scope
    failure: FlightserverError | None = None


class Namespace(CatalogProvider):
    """The catalog provider; `use` sets the scope for the planning thread.

    Args:
        scans: Makes tables of datasets.
        fixed: schema -> table -> function that computes the table; `system` and `information_schema`.
        plan: Plans the query of a view in its scope.
        protect: Plans the query that stands in the place of a dataset in its scope.
    """

    def __init__(
        self,
        scans: Scans,
        fixed: Mapping[str, Mapping[str, Callable[[Scope], pa.Table]]],
        plan: Callable[[View, Scope], DataFrame],
        protect: Callable[[Dataset, str, Scope], DataFrame],
    ) -> None:
        self._scans = scans
        self._fixed = fixed
        self._plan = plan
        self._protect = protect
        self._current = threading.local()
        # It starts a thread when none is idle.
        self._threads = ThreadPoolExecutor(sys.maxsize, thread_name_prefix="make-table")

    def close(self) -> None:
        """Stop the threads; one that waits for a bucket that hangs isn't waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def use(self, scope: Scope) -> Iterator[None]:
        """Resolve names by `scope` on this thread; a domain error met on the way replaces the engine's own."""
        planning = _Planning(scope)
        self._current.planning = planning
        try:
            yield
        except ValueError as error:  # how the engine's binding raises what went wrong while planning
            if planning.failure is not None and missing_table(error) is not None:
                raise planning.failure from None
            raise
        finally:
            self._current.planning = None
            planning.failure = None  # it leads to the frames of who plans, and to what the engine computes for them

    def schema_names(self) -> set[str]:
        """All schemas of the current scope."""
        return {BARE, *self._planning().scope.schemas()}

    def schema(self, name: str) -> SchemaProvider | None:  # type: ignore[override]  # annotated narrower than it is
        """The schema provider of that name."""
        return _Schema(self, name) if name == BARE or self._planning().scope.has_schema(name) else None

    def table(self, schema: str, name: str) -> Table | None:
        """The table of that name, or None after noting why there is none."""
        planning = self._planning()
        made = self._threads.submit(self._make, planning.scope, schema, name)
        try:
            _wait(made, planning.scope.notes)
            return made.result()
        except FlightserverError as error:
            planning.failure = error
            return None
        finally:
            del made  # it holds the error, and the error this frame

    def _make(self, scope: Scope, schema: str, name: str) -> Table:
        if schema == BARE:
            known = self._of_statement(scope, name)
            if known is not None:
                return known
            if scope.schema in self._fixed and name in self._fixed[scope.schema]:
                schema = scope.schema
        if schema in self._fixed:
            sources = self._fixed_for(scope, schema)
            source = sources.get(name)
            if source is None:
                names = ", ".join(sorted(sources))
                msg = f"table {name!r} doesn't exist in schema {schema!r}: there are {names}"
                raise NotFound(msg)
            table = source(scope)
            return self._scans.memory_table(table.schema, [table.combine_chunks().to_batches()])
        return self._relation(scope.relation(name, schema), scope)

    def _of_statement(self, scope: Scope, name: str) -> Table | None:
        """What only this statement, or we for it, call by a bare name."""
        if name in scope.given:
            schema, batches = scope.given[name]
            return self._scans.memory_table(schema, [batches])
        if name in scope.named:
            return self._relation(scope.named[name], scope)
        if name in scope.searches or name in scope.found:
            return self._search(name, scope)
        return self._generated(scope, name)

    def _generated(self, scope: Scope, name: str) -> Table | None:
        """What only we call by a bare name."""
        with_ids = {TARGET: scope.target, ADDED: scope.added}.get(name)
        if with_ids is not None:
            return self._scans.table(with_ids, row_ids=True)
        if name == CANDIDATES and scope.candidates is not None:
            return self._candidates(scope.candidates, scope)
        if name == PROTECTED and scope.protected is not None:
            return self._scans.table(scope.protected, row_ids=scope.numbered)
        return None

    def _search(self, name: str, scope: Scope) -> Table:
        scope.notes.has_searches = True
        found = scope.found.get(name)
        if found is None:
            target = search_target(scope, scope.searches[name].index)
            found = Found(target.schema.empty_table(), is_protected=target.hidden is not None)
        # `check_explained` goes by the name.
        alias = PROTECTED if found.is_protected else None
        return self._scans.memory_table(found.rows.schema, [found.rows.to_batches()], alias)

    def _candidates(self, dataset: Dataset, scope: Scope) -> Table:
        hidden = protection(dataset, scope.rights, scope.newest, passed=(ROW_ID,))
        if hidden is None:
            return self._scans.table(dataset, row_ids=True)
        return Table(self._protect(dataset, hidden.sql, replace(scope.behind(dataset), numbered=True)).alias(VIEW))

    def _fixed_for(self, scope: Scope, schema: str) -> dict[str, Callable[[Scope], pa.Table]]:
        return {name: source for name, source in self._fixed[schema].items() if scope.has_fixed(schema, name)}

    def _relation(self, found: Dataset | View | PastView, scope: Scope) -> Table:
        if isinstance(found, PastView):
            return self._relation(found.view, replace(scope, snapshot=found.snapshot))
        if isinstance(found, View):
            return Table(self._plan(found, scope.inside(found)).alias(VIEW))
        hidden = protection(found, scope.rights, scope.newest)
        if hidden is not None:
            return Table(self._protect(found, hidden.sql, scope.behind(found)).alias(VIEW))
        return self._scans.table(found)

    def names(self, schema: str) -> set[str]:
        """Tables of a schema, for SHOW TABLES."""
        scope = self._planning().scope
        if schema in self._fixed:
            return set(self._fixed_for(scope, schema))
        relations = (*scope.snapshot.datasets, *scope.snapshot.views)
        meant = scope.bucket_of(schema) or schema
        return {key.name for key in relations if meant in {BARE, PUBLIC, key.bucket}}

    def _planning(self) -> _Planning:
        planning: _Planning | None = getattr(self._current, "planning", None)
        if planning is None:
            msg = "the engine asked for a name outside of planning"
            raise RuntimeError(msg)
        return planning


def _wait(made: Future[Table], notes: Notes) -> None:
    """Wait for a table, which may take long to make; when the watchdog interrupts, so are searches of its views."""
    try:
        wait_for(made)
    except BaseException:
        notes.cancelled = True
        raise


class _Schema(SchemaProvider):
    """One schema; asks the namespace for everything."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        self._namespace = namespace
        self._name = name

    @property
    def table_names(self) -> list[str]:  # type: ignore[override]  # the binding wants a property that is a list
        """Names of the tables."""
        return sorted(self._namespace.names(self._name))

    def table(self, name: str) -> Table | None:
        """The table of that name."""
        return self._namespace.table(self._name, name)

    def table_exist(self, name: str) -> bool:
        """Whether there is such a table."""
        return name in self._namespace.names(self._name)
