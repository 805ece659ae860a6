"""The composition root: everything of one server process, opened from settings and usable without any server.

    with Lakehouse.open(Settings()) as lakehouse:
        planned = lakehouse.queries.plan(Request(rights=UNRESTRICTED, sql="SELECT 1"))
        rows = list(lakehouse.queries.stream(planned))

The data directory holds the root of the bucket `primary` (the truth), `server/` (this process's own: ticket
key, paged results, spill files; safe to lose but for the key) and `inbox/`, from which ingest may read.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Self

import msgspec

from flightserver.access.administering import Administration
from flightserver.access.audit import Audit
from flightserver.access.rights import AccessControl
from flightserver.catalog.catalog import Catalog
from flightserver.catalog.entities import PRIMARY
from flightserver.errors import BackendUnavailable, InvalidRequest
from flightserver.federation.configured import configured_primary, configured_timeouts
from flightserver.federation.expiring import Expiry
from flightserver.federation.keeping import Keeper
from flightserver.federation.mirroring import Mirror
from flightserver.federation.opening import Opener
from flightserver.federation.places import LocalRoots
from flightserver.federation.probing import check_primary
from flightserver.federation.rescue import Rescue
from flightserver.federation.service import BucketService
from flightserver.ingest.fetching import Fetcher
from flightserver.ingest.roots import Roots
from flightserver.ingest.service import Ingest
from flightserver.ingest.source import Limits
from flightserver.ingest.uploads import Uploads
from flightserver.query.admission import Admission
from flightserver.query.attached import AttachedTables
from flightserver.query.cache import Cache
from flightserver.query.cached_rows import RowsInMemory
from flightserver.query.changes import Changes
from flightserver.query.diff import Diffs
from flightserver.query.engine import Engine, Sources
from flightserver.query.gate import Gate
from flightserver.query.information_schema import InformationSchema
from flightserver.query.maintenance import AutoCompaction
from flightserver.query.namespace import INFORMATION_SCHEMA, SYSTEM
from flightserver.query.past import PastTables
from flightserver.query.results import ResultStore
from flightserver.query.running import RunningQueries
from flightserver.query.service import Queries
from flightserver.query.sorting import Sorting
from flightserver.query.system import SYSTEM_SCHEMAS, system_tables
from flightserver.query.temporary import TemporaryTables
from flightserver.query.transactions import Transactions
from flightserver.query.upserts import RowStreams
from flightserver.query.watchdog import Watchdog
from flightserver.storage.buckets import Buckets
from flightserver.storage.local import LocalObjects
from flightserver.tables.collecting import Collector
from flightserver.tables.compaction import Compactor
from flightserver.tables.exporting import ExportRoot, Exports
from flightserver.tables.external.attaching import ExternalTables
from flightserver.tables.external.locations import Locations
from flightserver.tables.moving import Mover
from flightserver.tables.segments import Layout
from flightserver.tables.versions import Versions
from flightserver.tables.writes import Tables
from flightserver.telemetry import Events, Metrics
from flightserver.vectors.frames import Frames
from flightserver.vectors.refreshing import AutoRefresh
from flightserver.vectors.searching import Searcher
from flightserver.vectors.service import Indexes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from flightserver.settings import CatalogSettings, QuerySettings, ResultSettings, Settings
    from flightserver.tables.deltas import DeadRows

_UPLOAD_LIFE = timedelta(days=1)
"""After which an upload that nobody has ingested is taken for forgotten."""

_MAX_PROCESSES = 64
"""Server processes on one data directory; beyond it something is started in a loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lakehouse:
    """The parts that the wire and the commands call. Made by `open`; `close` stops its threads."""

    settings: Settings
    server_name: str
    buckets: Buckets
    keeper: Keeper
    expiry: Expiry
    mirror: Mirror
    mover: Mover
    bucket_service: BucketService
    opener: Opener
    catalog: Catalog
    access: AccessControl
    administration: Administration
    audit: Audit
    tables: Tables
    ingest: Ingest
    uploads: Uploads
    engine: Engine
    gate: Gate
    watchdog: Watchdog
    queries: Queries
    external: ExternalTables
    exports: Exports
    streams: RowStreams
    transactions: Transactions
    temporary: TemporaryTables
    versions: Versions
    diffs: Diffs
    collector: Collector
    compactor: Compactor
    sorting: Sorting
    auto_compaction: AutoCompaction
    results: ResultStore
    cache: Cache
    indexes: Indexes
    auto_refresh: AutoRefresh
    information_schema: InformationSchema
    metrics: Metrics
    events: Events

    @classmethod
    def open(cls, settings: Settings) -> Self:  # long: the composition root names each part once, in order
        """Open or create the lakehouse in `settings.server.data`.

        Raises:
            BackendUnavailable: The directory can't be made, or the catalog can't be read.
        """
        data = settings.server.data
        primary = configured_primary(settings.primary)
        root, own = data / PRIMARY, data / "server"
        _make_directories(own / "spill", data / "inbox", *([] if primary.s3 else [root]))
        server_name = f"{socket.gethostname()}:{os.getpid()}"
        buckets, events = Buckets(), Events()
        rescue = Rescue(buckets, events)
        opener = _opener(settings, rescue)
        buckets.add(opener.open_strictly(primary))
        check_primary(buckets.get(PRIMARY))
        every = settings.catalog.checkpoint_every
        catalog = Catalog.open(
            buckets.get(PRIMARY).objects, checkpoint_every=every, server=server_name, primary=primary
        )
        administration, audit = Administration(catalog), Audit()
        keeper = Keeper(buckets, catalog, opener, events, settings.buckets.check_seconds, primary)
        layout = Layout(**msgspec.structs.asdict(settings.layout))
        tables = Tables(catalog, buckets, layout)
        uploads = Uploads((own if primary.s3 else root) / "_staging", settings.ingest.upload_bytes)
        uploads.collect(_UPLOAD_LIFE)
        roots = Roots((data / "inbox", *settings.ingest.roots))
        limits = Limits(decompressed_bytes=settings.ingest.decompressed_bytes)
        query = settings.query
        results = _result_store(own, settings.results)
        running, watchdog = RunningQueries(), Watchdog()
        admission = Admission(query.max_running, query.max_waiting, query.wait_seconds, query.max_running_per_user)
        metrics = Metrics()
        memory = RowsInMemory(buckets, tables.dead, query.partitions)
        cache = Cache(memory, catalog.snapshot, settings.cache, events)
        gate = Gate(admission, running, watchdog, metrics, query.timeout_seconds)
        information_schema = InformationSchema(SYSTEM_SCHEMAS)
        fixed = {
            SYSTEM: system_tables(
                catalog,
                buckets,
                running,
                results,
                cache,
                settings.rows(),
                events=events,
                audit=audit,
                health=keeper.health,
            ),
            INFORMATION_SCHEMA: information_schema.tables(),
        }
        past = PastTables(catalog)
        external = ExternalTables(Locations((data / "inbox", *settings.ingest.roots)))
        frames = Frames(buckets, own / "vectors", settings.vectors.open_bytes)
        searcher = Searcher(frames, buckets, tables.dead, events)
        sources = Sources(cache.partitions, tables.dead, AttachedTables(external).table, past.scope, searcher)
        engine = Engine(query, own / "spill", buckets, sources, fixed, watchdog)
        streams = RowStreams(engine, tables, catalog)
        ingest = Ingest(streams, catalog, uploads, roots, limits, Fetcher(buckets, uploads))
        idle = settings.server.session_idle_seconds
        queries = Queries(
            engine=engine,
            catalog=catalog,
            changes=Changes(engine, tables, catalog, administration),
            gate=gate,
            results=results,
            past=past,
            cache=cache,
            statement_bytes=query.statement_bytes,
        )
        collector = _collector(catalog, buckets, settings.catalog)
        compactor = _compactor(catalog, buckets, layout, tables.dead, settings)
        auto_compaction = AutoCompaction(compactor, catalog, settings.compaction, events)
        indexes = Indexes(catalog, buckets, collector, frames)
        auto_refresh = AutoRefresh(indexes, catalog, settings.vectors, events)
        expiry = Expiry(catalog, buckets, events, settings.buckets.expire_seconds)
        mirror = Mirror(catalog, buckets, events, settings.buckets.mirror_seconds)
        opened = cls(
            settings=settings,
            server_name=server_name,
            buckets=buckets,
            keeper=keeper,
            expiry=expiry,
            mirror=mirror,
            mover=Mover(catalog, buckets, collector),
            bucket_service=BucketService(
                catalog, buckets, opener, keeper, collector, LocalRoots(opener, settings.buckets.roots)
            ),
            opener=opener,
            catalog=catalog,
            access=AccessControl(catalog),
            administration=administration,
            audit=audit,
            tables=tables,
            ingest=ingest,
            uploads=uploads,
            engine=engine,
            gate=gate,
            watchdog=watchdog,
            queries=queries,
            external=external,
            exports=Exports(_export_roots(data, settings), buckets, tables.dead, layout),
            streams=streams,
            transactions=Transactions(catalog, tables, idle_seconds=idle),
            temporary=TemporaryTables(max_bytes=_temporary_bytes(query), idle_seconds=idle),
            versions=Versions(catalog, buckets),
            diffs=Diffs(engine, catalog),
            collector=collector,
            compactor=compactor,
            sorting=Sorting(engine, buckets),
            auto_compaction=auto_compaction,
            results=results,
            cache=cache,
            indexes=indexes,
            auto_refresh=auto_refresh,
            information_schema=information_schema,
            metrics=_observe(metrics, admission, catalog, results, keeper, rescue, mirror),
            events=events,
        )
        for thread in (keeper, auto_compaction, auto_refresh, expiry, mirror):
            thread.start()
        return opened

    @property
    def has_users(self) -> bool:
        """Whether callers have to say who they are."""
        return bool(self.settings.access.jwks or self.access.state().users)

    def close(self) -> None:
        """Stop the threads and release the directories; what was acknowledged is on disk already."""
        self.keeper.stop()
        self.expiry.stop()
        self.mirror.stop()
        self.auto_compaction.stop()
        self.auto_refresh.stop()
        self.transactions.close()
        self.temporary.close()
        self.engine.close()
        self.indexes.close()
        self.cache.close()
        self.watchdog.stop()
        self.results.stop()
        self.catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def catalog_alone(settings: Settings) -> Iterator[Catalog]:
    """Open or create the catalog and nothing else of a lakehouse; servers may have it open at the same time.

    Raises:
        BackendUnavailable: The directory can't be made, or the catalog can't be read.
    """
    data, primary = settings.server.data, configured_primary(settings.primary)
    _make_directories(*([] if primary.s3 else [data / PRIMARY]))
    buckets = Buckets()
    buckets.add(_opener(settings, Rescue(buckets, Events())).open_strictly(primary))
    check_primary(buckets.get(PRIMARY))
    catalog = Catalog.open(
        buckets.get(PRIMARY).objects,
        checkpoint_every=settings.catalog.checkpoint_every,
        server=f"{socket.gethostname()}:{os.getpid()}",
        primary=primary,
    )
    try:
        yield catalog
    finally:
        catalog.close()


def _opener(settings: Settings, rescue: Rescue) -> Opener:
    data, buckets = settings.server.data, settings.buckets
    return Opener(data, data / buckets.credentials, configured_timeouts(buckets), rescue)


def _export_roots(data: Path, settings: Settings) -> tuple[ExportRoot, ...]:
    return tuple(ExportRoot(path, LocalObjects(path)) for path in (data / "exports", *settings.export.roots))


def _observe(  # whoever knows a value
    metrics: Metrics,
    admission: Admission,
    catalog: Catalog,
    results: ResultStore,
    keeper: Keeper,
    rescue: Rescue,
    mirror: Mirror,
) -> Metrics:
    """Connect gauges to what knows their values; none may ask storage, which may hang while somebody watches it."""

    def reachable() -> dict[str, float]:
        found = {name: keeper.health(name) for name in sorted(catalog.known.buckets)}
        return {name: float(health.reachable) for name, health in found.items() if health is not None}

    metrics.running.set_function(lambda: admission.counts().running)
    metrics.waiting.set_function(lambda: admission.counts().waiting)
    metrics.refused.set_function(lambda: admission.counts().refused)
    metrics.catalog_version.set_function(lambda: catalog.known.version)
    metrics.results.set_function(lambda: results.count)
    metrics.result_bytes.set_function(lambda: results.bytes)
    metrics.bucket_reachable.set_function(reachable)
    metrics.rescued_reads.set_function(rescue.served)
    metrics.mirror_age.set_function(mirror.ages)
    metrics.mirror_failures.set_function(mirror.failures)
    return metrics


def _collector(catalog: Catalog, buckets: Buckets, settings: CatalogSettings) -> Collector:
    retention, grace = settings.retention_hours, settings.collect_grace_hours
    return Collector(catalog, buckets, retention_hours=retention, grace_hours=grace)


def _compactor(catalog: Catalog, buckets: Buckets, layout: Layout, dead: DeadRows, settings: Settings) -> Compactor:
    cut = dataclasses.replace(layout, file_bytes=settings.compaction.target_bytes)
    return Compactor(catalog, buckets, cut, dead, workers=settings.query.partitions)


def _temporary_bytes(settings: QuerySettings) -> int:
    return settings.memory_bytes // 4 if settings.temporary_bytes is None else settings.temporary_bytes


def _result_store(own: Path, settings: ResultSettings) -> ResultStore:
    """A store in the first directory that no other server process on this data directory uses."""
    for number in range(_MAX_PROCESSES):
        try:
            return ResultStore(
                own / f"results-{number}",
                max_results=settings.max_results,
                max_bytes=settings.max_bytes,
                ttl=timedelta(seconds=settings.ttl_seconds),
            )
        except InvalidRequest:
            continue
    raise BackendUnavailable(f"{_MAX_PROCESSES} servers use this data directory already")


def _make_directories(*paths: Path) -> None:
    for path in paths:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BackendUnavailable(f"the data directory can't be made: {error.strerror}") from error
