"""Names in SQL: the catalog `lakehouse` with its schemas, resolved lazily against one snapshot.

The engine asks these providers while it plans, on the thread that plans, so the scope of the statement being planned
stands in a thread-local. Providers may not call the engine on that thread (a runtime inside a runtime panics); tables
are therefore made on a small pool of others.

Schemas: `public` (every dataset by its bare name), one per bucket, `system` and `information_schema`.
"""

from __future__ import annotations

import difflib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from datafusion.catalog import CatalogProvider, SchemaProvider, Table

from flightserver.errors import FlightserverError, NotFound
from flightserver.query.failures import missing_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa

    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.query.scan import Scans

CATALOG = "lakehouse"
PUBLIC = "public"
SYSTEM = "system"
INFORMATION_SCHEMA = "information_schema"
BARE = "__bare"
"""Where the engine looks for names without a schema; no client sees this name."""
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
    """

    snapshot: Snapshot
    bucket: str | None = None
    schema: str = PUBLIC
    given: Mapping[str, tuple[pa.Schema, list[pa.RecordBatch]]] = field(default_factory=dict)

    def dataset(self, name: str, schema: str | None = None) -> Dataset:
        """The dataset that a name means.

        Raises:
            NotFound: There is none; the message suggests near names.
            InvalidRequest: A bare name is ambiguous.
        """
        if schema in {None, BARE}:
            if self.schema in self.snapshot.buckets and (self.schema, name) in self.snapshot.datasets:
                return self.snapshot.dataset(name, bucket=self.schema)
            schema = PUBLIC
        if schema == PUBLIC:
            return self._bare(name)
        if schema in self.snapshot.buckets:
            return self.snapshot.dataset(name, bucket=schema)
        raise NotFound(self.missing(CATALOG, schema, name))

    def _bare(self, name: str) -> Dataset:
        if self.bucket is not None and (self.bucket, name) in self.snapshot.datasets:
            return self.snapshot.dataset(name, bucket=self.bucket)
        return self.snapshot.dataset(name)

    def missing(self, catalog: str, schema: str, name: str) -> str:
        """Says that a table does not exist, and which near names do."""
        schema = PUBLIC if schema == BARE else schema
        if catalog != CATALOG:
            return f"catalog {catalog!r} doesn't exist: there is one, {CATALOG!r}"
        known = self.schemas()
        if schema not in known:
            return f"table {name!r} in schema {schema!r} doesn't exist: the schemas are {', '.join(sorted(known))}"
        names = [key.name for key in self.snapshot.datasets if schema in {PUBLIC, key.bucket}]
        near = [other for other in names if other.lower() == name.lower()] or difflib.get_close_matches(name, names, 3)
        hint = ", ".join(other if other.islower() else f'"{other}"' for other in near)
        tail = f"did you mean {hint}?" if hint else "system.datasets lists the tables"
        return f"table {name!r} doesn't exist in schema {schema!r}: {tail}"

    def schemas(self) -> list[str]:
        """Names of all schemas."""
        return [PUBLIC, *self.snapshot.buckets, SYSTEM, INFORMATION_SCHEMA]


@dataclass(slots=True)
class _Planning:
    scope: Scope
    failure: FlightserverError | None = None


class Namespace(CatalogProvider):
    """The catalog provider; `use` sets the scope for the planning thread.

    Args:
        scans: Makes tables of datasets.
        fixed: schema -> table -> function that computes the table; `system` and `information_schema`.
    """

    def __init__(self, scans: Scans, fixed: Mapping[str, Mapping[str, Callable[[Scope], pa.Table]]]) -> None:
        self._scans = scans
        self._fixed = fixed
        self._current = threading.local()
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="make-table")

    def close(self) -> None:
        """Stop the pool."""
        self._pool.shutdown()

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
        return _Schema(self, name) if name in self.schema_names() else None

    def table(self, schema: str, name: str) -> Table | None:
        """The table of that name, or None after noting why there is none."""
        planning = self._planning()
        try:
            return self._pool.submit(self._make, planning.scope, schema, name).result()
        except FlightserverError as error:
            planning.failure = error
            return None

    def _make(self, scope: Scope, schema: str, name: str) -> Table:
        if schema == BARE and name in scope.given:
            given_schema, batches = scope.given[name]
            return self._scans.memory_table(given_schema, [batches])
        if schema == BARE and scope.schema in self._fixed and name in self._fixed[scope.schema]:
            schema = scope.schema
        if schema in self._fixed:
            source = self._fixed[schema].get(name)
            if source is None:
                names = ", ".join(sorted(self._fixed[schema]))
                msg = f"table {name!r} doesn't exist in schema {schema!r}: there are {names}"
                raise NotFound(msg)
            table = source(scope)
            return self._scans.memory_table(table.schema, [table.combine_chunks().to_batches()])
        return self._scans.table(scope.dataset(name, schema))

    def names(self, schema: str) -> set[str]:
        """Tables of a schema, for SHOW TABLES."""
        scope = self._planning().scope
        if schema in self._fixed:
            return set(self._fixed[schema])
        return {key.name for key in scope.snapshot.datasets if schema in {BARE, PUBLIC, key.bucket}}

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
