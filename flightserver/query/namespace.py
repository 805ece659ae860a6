"""Names in SQL: the catalog `lakehouse` with its schemas, resolved lazily against one snapshot.

The engine asks these providers while it plans, on the thread that plans, so the scope of the statement being planned
stands in a thread-local. Providers may not call the engine on that thread (a runtime inside a runtime panics); tables
are therefore made on a small pool of others. A view is planned there, under a scope of its own, and its names are
resolved on the pool of the next depth, so that views of views never wait for themselves.

Schemas: `public` (every dataset by its bare name), one per bucket, `system` and `information_schema`.
"""

from __future__ import annotations

import difflib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from datafusion.catalog import CatalogProvider, SchemaProvider, Table

from flightserver.access.rights import UNRESTRICTED
from flightserver.catalog.entities import DatasetKey, View
from flightserver.catalog.migration import home
from flightserver.errors import FlightserverError, InvalidRequest, NotFound
from flightserver.query.failures import missing_table
from flightserver.query.protection import PROTECTED, protection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa
    from datafusion import DataFrame

    from flightserver.access.rights import Rights
    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.query.scan import Scans

CATALOG = "lakehouse"
PUBLIC = "public"
SYSTEM = "system"
INFORMATION_SCHEMA = "information_schema"
BARE = "__bare"
"""Where the engine looks for names without a schema; no client sees this name."""
TARGET = "__target"
"""Bare name of the table that a statement changes, with the ids of its rows as `_rid`; no client's statement has it."""
ADDED = "__added"
"""As `__target`, of rows that are written but not part of a dataset yet."""
VIEW = "__view"
"""Name of the query that stands in the place of a relation; `flightserver.query.columns` knows it by that."""
MAX_VIEW_DEPTH = 16
"""Views of views of views, and so on. Each is planned anew with every statement that names it."""
ADMINISTRATION = frozenset({"audit", "commits", "events", "settings"})
"""Tables of `system` that only administrators have: what others do, and the server itself."""
INPUT = "input"
"""Name under which a statement sees the stream that was sent with it."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What names mean to one statement.

    Attributes:
        snapshot: The catalog as the whole statement sees it.
        bucket: Where bare names are looked up first; None for primary.
        schema: The session's schema, where bare names are looked up before `public`.
        given: Tables that came with the statement, by bare name: a schema and its batches.
        named: Relations of other versions, by the bare names that stand for them in the statement.
        target: What the bare name `__target` means.
        added: What the bare name `__added` means.
        depth: How many views this scope is inside of.
        rights: Of who asks; the snapshot has only what they may see.
        newest: The newest snapshot as it is, by which rights are judged; None for the server's own work.
        past: The earlier version that the snapshot is, or that its transaction began with; None for the newest.
        protected: What the bare name `__protected` means.
    """

    snapshot: Snapshot
    bucket: str | None = None
    schema: str = PUBLIC
    given: Mapping[str, tuple[pa.Schema, list[pa.RecordBatch]]] = field(default_factory=dict)
    named: Mapping[str, Dataset | PastView] = field(default_factory=dict)
    target: Dataset | None = None
    added: Dataset | None = None
    depth: int = 0
    rights: Rights = UNRESTRICTED
    newest: Snapshot | None = None
    past: Snapshot | None = None
    protected: Dataset | None = None

    def dataset(self, name: str, schema: str | None = None) -> Dataset:
        """The dataset that a name means.

        Raises:
            NotFound: There is none; the message suggests near names.
            InvalidRequest: A bare name is ambiguous, or it is a view.
        """
        key = self.relation(name, schema).key
        return self.snapshot.dataset(key.name, key.bucket)

    def relation(self, name: str, schema: str | None = None) -> Dataset | View:
        """As `dataset`, for datasets and views."""
        if schema in {None, BARE}:
            if self._has(self.schema, name):
                return self.snapshot.relation(name, bucket=self.schema)
            schema = PUBLIC
        if schema == PUBLIC:
            return self.snapshot.relation(name, bucket=self.bucket if self._has(self.bucket, name) else None)
        bucket = self.bucket_of(schema)
        if bucket is not None:
            return self.snapshot.relation(name, bucket=bucket)
        raise NotFound(self.missing(CATALOG, schema, name))

    def bucket_of(self, schema: str | None) -> str | None:
        """The bucket that a schema means, or None. The text of a view may have a name that a bucket had before."""
        known = self.snapshot.buckets
        meant = home(known, schema) if schema is not None and self.depth else schema
        return meant if meant in known else None

    def _has(self, bucket: str | None, name: str) -> bool:
        if bucket is None:
            return False
        key = DatasetKey(bucket, name)
        return key in self.snapshot.datasets or key in self.snapshot.views

    def inside(self, view: View) -> Scope:
        """What names mean in the query of a view.

        Raises:
            InvalidRequest: Views are nested too deeply, or read each other.
        """
        if self.depth >= MAX_VIEW_DEPTH:
            msg = f"view {view.key} is inside of {MAX_VIEW_DEPTH} others, or reads itself: replace one of them"
            raise InvalidRequest(msg)
        return Scope(
            self.snapshot,
            view.default_bucket,
            view.default_schema,
            depth=self.depth + 1,
            rights=self.rights,
            newest=self.newest,
        )

    def behind(self, dataset: Dataset) -> Scope:
        """What names mean in the query that stands in the place of a dataset: its rows, and all of the lakehouse.

        Raises:
            InvalidRequest: Predicates of policies read what policies protect, again and again.
        """
        if self.depth >= MAX_VIEW_DEPTH:
            raise InvalidRequest(f"what reads {dataset.key} is inside of {MAX_VIEW_DEPTH} views: make it simpler")
        return Scope(self.newest or self.snapshot, depth=self.depth + 1, protected=dataset)

    def at(self, snapshot: Snapshot) -> Scope:
        """The same names at another version, of which again only what may be seen."""
        seen = snapshot if self.newest is None else self.rights.visible(snapshot, self.newest, past=self.past)
        return replace(self, snapshot=seen)

    def has_fixed(self, schema: str, name: str) -> bool:
        """Whether a table of `system` or `information_schema` exists for who asks."""
        return self.rights.is_admin or schema != SYSTEM or name not in ADMINISTRATION

    def hides(self, dataset: Dataset) -> bool:
        """Whether policies are about a dataset of this scope, so that its numbers of rows aren't told."""
        return self.newest is not None and bool(self.rights.policies_on(dataset, self.newest))

    def key_now(self, found: Dataset | View) -> DatasetKey:
        """What a relation of this scope is called now, which grants and policies go by."""
        return found.key if self.newest is None else self.rights.key_now(found, self.newest) or found.key

    def now(self, found: Dataset | View) -> Dataset | None:
        """A dataset of this scope as it is now, or as it was when it was dropped; None for a view."""
        if isinstance(found, View):
            return None
        newest = None if self.newest is None else self.newest.datasets.get(self.key_now(found))
        return newest if newest is not None and newest.id == found.id else found

    def is_protected(self, dataset: Dataset) -> bool:
        """Whether rows or values of a dataset are hidden from who asks."""
        return protection(dataset, self.rights, self.newest) is not None

    def missing(self, catalog: str, schema: str, name: str) -> str:
        """Says that a table does not exist, and which near names do."""
        schema = PUBLIC if schema == BARE else schema
        if catalog != CATALOG:
            return f"catalog {catalog!r} doesn't exist: there is one, {CATALOG!r}"
        known = self.schemas()
        if schema not in known:
            return f"table {name!r} in schema {schema!r} doesn't exist: the schemas are {', '.join(sorted(known))}"
        relations = (*self.snapshot.datasets, *self.snapshot.views)
        names = [key.name for key in relations if schema in {PUBLIC, key.bucket}]
        near = [other for other in names if other.lower() == name.lower()] or difflib.get_close_matches(name, names, 3)
        hint = ", ".join(other if other.islower() else f'"{other}"' for other in near)
        tail = f"did you mean {hint}?" if hint else "system.datasets lists the tables"
        return f"table {name!r} doesn't exist in schema {schema!r}: {tail}"

    def schemas(self) -> list[str]:
        """Names of all schemas."""
        return [PUBLIC, *self.snapshot.buckets, SYSTEM, INFORMATION_SCHEMA]


@dataclass(frozen=True, slots=True)
class PastView:
    """A view at another version, and what it reads there."""

    view: View
    snapshot: Snapshot


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
        # Threads are started when they are needed.
        self._pools = [ThreadPoolExecutor(4, thread_name_prefix="make-table") for _ in range(MAX_VIEW_DEPTH + 1)]

    def close(self) -> None:
        """Stop the pools."""
        for pool in self._pools:
            pool.shutdown()

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

    def schema_names(self) -> set[str]:
        """All schemas of the current scope."""
        return {BARE, *self._planning().scope.schemas()}

    def schema(self, name: str) -> SchemaProvider | None:  # type: ignore[override]  # annotated narrower than it is
        """The schema provider of that name."""
        is_known = name in self.schema_names() or self._planning().scope.bucket_of(name) is not None
        return _Schema(self, name) if is_known else None

    def table(self, schema: str, name: str) -> Table | None:
        """The table of that name, or None after noting why there is none."""
        planning = self._planning()
        try:
            pool = self._pools[planning.scope.depth]
            return pool.submit(self._make, planning.scope, schema, name).result()
        except FlightserverError as error:
            planning.failure = error
            return None

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
        with_ids = {TARGET: scope.target, ADDED: scope.added}.get(name)
        if with_ids is not None:
            return self._scans.table(with_ids, row_ids=True)
        if name == PROTECTED and scope.protected is not None:
            return self._scans.table(scope.protected)
        return None

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
