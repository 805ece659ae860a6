"""The schema `system`: whatever can be looked at, as tables.

Each table is computed when a statement that names it is planned, from the statement's snapshot, so that a join of
two of them is consistent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from flightserver.query.access_tables import ACCESS_SCHEMAS, access_tables
from flightserver.query.audit_table import AUDIT, audit_table
from flightserver.query.buckets_table import BUCKETS, buckets_table
from flightserver.query.indexes_table import INDEXES, indexes_table
from flightserver.query.rowtable import table_of
from flightserver.tables.schema import decode
from flightserver.tables.segments import read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flightserver.access.audit import Audit
    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Dataset
    from flightserver.query.cache import Cache
    from flightserver.query.namespace import Scope
    from flightserver.query.results import ResultStore
    from flightserver.query.running import RunningQueries
    from flightserver.storage.buckets import Buckets
    from flightserver.storage.health import Health
    from flightserver.telemetry import Events

_UTC = pa.timestamp("us", tz="UTC")

DATASETS = pa.schema(
    [
        ("bucket", pa.string()),
        ("name", pa.string()),
        ("id", pa.string()),
        ("version", pa.int64()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("segments", pa.int64()),
        ("files", pa.int64()),
        ("columns", pa.int64()),
        ("created", _UTC),
        ("primary_key", pa.list_(pa.string())),
        ("comment", pa.string()),
        ("schema_fingerprint", pa.string()),
        ("deltas", pa.int64()),
        ("dead_rows", pa.int64()),
        ("format", pa.string()),
    ]
)
VIEWS = pa.schema(
    [
        ("bucket", pa.string()),
        ("name", pa.string()),
        ("sql", pa.string()),
        ("version", pa.int64()),
        ("created", _UTC),
        ("comment", pa.string()),
        ("meanings", pa.string()),
    ]
)
TAGS = pa.schema([("bucket", pa.string()), ("dataset", pa.string()), ("tag", pa.string()), ("version", pa.int64())])
FILES = pa.schema(
    [
        ("bucket", pa.string()),
        ("dataset", pa.string()),
        ("segment", pa.string()),
        ("key", pa.string()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("row_groups", pa.int64()),
        ("etag", pa.string()),
    ]
)
COLUMNS = pa.schema(
    [
        ("bucket", pa.string()),
        ("dataset", pa.string()),
        ("name", pa.string()),
        ("position", pa.int64()),
        ("type", pa.string()),
        ("nullable", pa.bool_()),
        ("nulls", pa.int64()),
    ]
)
LINEAGE = pa.schema(
    [
        ("bucket", pa.string()),
        ("dataset", pa.string()),
        ("time", _UTC),
        ("system", pa.string()),
        ("source", pa.string()),
        ("job", pa.string()),
        ("rows", pa.int64()),
        ("content", pa.string()),
    ]
)
COMMITS = pa.schema(
    [
        ("version", pa.int64()),
        ("time", _UTC),
        ("server", pa.string()),
        ("operation", pa.string()),
        ("kind", pa.string()),
        ("detail", pa.string()),
        ("user", pa.string()),
        ("rows", pa.int64()),
        ("updates", pa.int64()),
    ]
)
QUERIES = pa.schema(
    [
        ("id", pa.string()),
        ("sql", pa.string()),
        ("user", pa.string()),
        ("kind", pa.string()),
        ("state", pa.string()),
        ("started", _UTC),
        ("finished", _UTC),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("error", pa.string()),
    ]
)
SETTINGS = pa.schema([("name", pa.string()), ("value", pa.string())])
RESULTS = pa.schema(
    [
        ("query_id_prefix", pa.string()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("page_rows", pa.int64()),
        ("expires_at", _UTC),
    ]
)
CACHE = pa.schema(
    [
        ("bucket", pa.string()),
        ("dataset", pa.string()),
        ("version", pa.int64()),
        ("bytes", pa.int64()),
        ("hits", pa.int64()),
        ("pinned", pa.bool_()),
        ("rows", pa.int64()),
        ("loaded_at", _UTC),
    ]
)
EVENTS = pa.schema(
    [
        ("time", _UTC),
        ("kind", pa.string()),
        ("bucket", pa.string()),
        ("dataset", pa.string()),
        ("detail", pa.string()),
    ]
)


SYSTEM_SCHEMAS = {
    "datasets": DATASETS,
    "views": VIEWS,
    "tags": TAGS,
    "files": FILES,
    "columns": COLUMNS,
    "indexes": INDEXES,
    "lineage": LINEAGE,
    "commits": COMMITS,
    "queries": QUERIES,
    "settings": SETTINGS,
    "buckets": BUCKETS,
    "results": RESULTS,
    "cache": CACHE,
    "events": EVENTS,
    **ACCESS_SCHEMAS,
    "audit": AUDIT,
}
"""What clients see when they list the columns of `system`."""


def _datasets(scope: Scope) -> pa.Table:
    return table_of(
        DATASETS,
        (
            (
                one.bucket,
                one.name,
                one.id,
                one.version,
                one.rows if _is_countable(one, scope) else None,
                one.bytes if _is_countable(one, scope) else None,
                len(one.segments),
                sum(segment.files for segment in one.segments),
                len(decode(one.schema)),
                one.created,
                list(one.primary_key),
                one.comment,
                one.schema_fingerprint,
                len(one.deltas),
                sum(segment.dead for segment in one.segments),
                "flightserver" if one.external is None else one.external.format,
            )
            for one in scope.snapshot.datasets.values()
        ),
    )


def _is_countable(one: Dataset, scope: Scope) -> bool:
    """Whether numbers of rows and values are known, and may be known by who asks."""
    return one.external is None and not scope.hides(one)


def _views(scope: Scope) -> pa.Table:
    rows = (
        (one.bucket, one.name, one.sql, one.version, one.created, one.comment, ", ".join(map(str, seen)))
        for one in scope.snapshot.views.values()
        for seen in [[each for each in one.meanings if scope.has(*each.means)]]
    )
    return table_of(VIEWS, rows)


def _tags(scope: Scope) -> pa.Table:
    return table_of(
        TAGS,
        (
            (one.bucket, one.name, tag, version)
            for one in scope.snapshot.datasets.values()
            for tag, version in sorted(one.tags.items())
        ),
    )


def _columns(scope: Scope) -> pa.Table:
    rows = []
    for one in scope.snapshot.datasets.values():
        for position, field in enumerate(decode(one.schema), start=1):
            counted = sum(
                segment.columns[field.name].nulls if field.name in segment.columns else segment.rows
                for segment in one.segments
            )
            nulls = None if scope.hides(one) else counted
            rows.append((one.bucket, one.name, field.name, position, str(field.type), field.nullable, nulls))
    return table_of(COLUMNS, rows)


def _lineage(scope: Scope) -> pa.Table:
    return table_of(
        LINEAGE,
        (
            (one.bucket, one.name, line.time, line.system, line.source, line.job, line.rows, line.content)
            for one in scope.snapshot.datasets.values()
            if not scope.hides(one)
            for line in one.lineage
        ),
    )


def _files(buckets: Buckets) -> Callable[[Scope], pa.Table]:
    def files(scope: Scope) -> pa.Table:
        rows = []
        for one in scope.snapshot.datasets.values():
            if scope.hides(one):
                continue
            for segment in one.segments:
                manifest = read_manifest(buckets.get(segment.bucket), segment)
                rows += [
                    (segment.bucket, one.name, segment.id, file.key, file.rows, file.size, file.row_groups, file.etag)
                    for file in manifest.files
                ]
        return table_of(FILES, rows)

    return files


def _commits(catalog: Catalog) -> Callable[[Scope], pa.Table]:
    def commits(scope: Scope) -> pa.Table:
        rows = []
        for commit in catalog.commits():
            if commit.version > scope.snapshot.version:
                break
            for recorded in commit.transactions:
                operation = recorded.operation
                rows.append(
                    (
                        commit.version,
                        commit.time,
                        commit.server,
                        operation.id,
                        operation.kind,
                        operation.detail,
                        operation.user,
                        operation.rows,
                        len(recorded.updates),
                    )
                )
        return table_of(COMMITS, rows)

    return commits


def _queries(running: RunningQueries) -> Callable[[Scope], pa.Table]:
    return lambda scope: table_of(
        QUERIES,
        (
            (
                one.id,
                one.sql,
                one.user,
                one.kind,
                one.state.value,
                one.started,
                one.finished,
                one.rows,
                one.bytes,
                one.error,
            )
            for one in running.entries()
            if _is_theirs(one.user, scope)
        ),
    )


def _is_theirs(user: str, scope: Scope) -> bool:
    """Whether what a user has run is shown to who asks."""
    return scope.rights.is_admin or user == scope.rights.user


def _results(results: ResultStore) -> Callable[[Scope], pa.Table]:
    return lambda scope: table_of(
        RESULTS,
        # A whole query id is the right to read the result, so only its beginning is shown.
        (
            (one.query_id[:8], one.rows, one.bytes, one.page_rows, one.expires_at)
            for one in results.entries()
            if _is_theirs(one.user, scope)
        ),
    )


def _cache(cache: Cache) -> Callable[[Scope], pa.Table]:
    return lambda scope: table_of(
        CACHE,
        (
            (
                one.key.bucket,
                one.key.name,
                one.rows.dataset.version,
                one.bytes,
                one.hits,
                one.pinned,
                one.rows.dataset.rows,
                one.rows.loaded,
            )
            for one in cache.entries()
            if one.key in scope.snapshot.datasets and _is_countable(one.rows.dataset, scope)
        ),
    )


def system_tables(  # noqa: PLR0913  # whatever there is a table of
    catalog: Catalog,
    buckets: Buckets,
    running: RunningQueries,
    results: ResultStore,
    cache: Cache,
    settings: list[tuple[str, str]],
    *,
    events: Events,
    audit: Audit,
    health: Callable[[str], Health | None],
) -> Mapping[str, Callable[[Scope], pa.Table]]:
    """Every table of the schema `system`: name -> function that computes it for a scope."""
    return {
        "datasets": _datasets,
        "views": _views,
        "tags": _tags,
        "files": _files(buckets),
        "columns": _columns,
        "indexes": indexes_table,
        "lineage": _lineage,
        "commits": _commits(catalog),
        "queries": _queries(running),
        "settings": lambda _: table_of(SETTINGS, settings),
        "buckets": buckets_table(health),
        "results": _results(results),
        "cache": _cache(cache),
        **access_tables(),
        "audit": audit_table(audit),
        "events": lambda _: table_of(
            EVENTS, ((one.time, one.kind, one.bucket, one.dataset, one.detail) for one in events.entries())
        ),
    }
