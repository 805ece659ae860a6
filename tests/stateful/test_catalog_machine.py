"""The catalog against a plain model: any commits, by several servers, with any part of the past looked at."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from catalog.making import NOON, dataset, lineage, segment, transaction
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from flightserver.catalog.catalog import Catalog
from flightserver.catalog.checkpoints import CHECKPOINTS
from flightserver.catalog.entities import PRIMARY, DatasetKey
from flightserver.catalog.requirements import ContentAbsent, DatasetAbsent, DatasetAt, DatasetUnchangedSchema
from flightserver.catalog.updates import AppendSegments, CreateDataset, DropDataset, ReplaceSegments
from flightserver.errors import CommitConflict, FlightserverError, NotFound, RequestError
from flightserver.storage.memory import MemoryObjects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flightserver.catalog.requirements import Requirement
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.transaction import Transaction
    from flightserver.catalog.updates import Update

names = st.sampled_from(["people", "orders", "Ünïcode name"])
rows = st.integers(0, 5)
contents = st.sampled_from(["c1", "c2"])
fingerprints = st.sampled_from(["f1", "f2"])


@dataclass(frozen=True)
class Table:
    """What the model knows of a dataset."""

    id: str
    version: int
    fingerprint: str
    ranges: tuple[tuple[int, int], ...]
    next_row_id: int
    contents: frozenset[str] = frozenset()

    def added(self, version: int, count: int) -> Table:
        return replace(
            self,
            version=version,
            ranges=(*self.ranges, (self.next_row_id, count)),
            next_row_id=self.next_row_id + count,
        )


@dataclass
class Model:
    """Every version that there was, and the outcome of every operation."""

    versions: list[tuple[datetime, Mapping[str, Table]]] = field(default_factory=list)
    outcomes: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def version(self) -> int:
        return len(self.versions)

    @property
    def tables(self) -> Mapping[str, Table]:
        return self.versions[-1][1]

    def commit(self, now: datetime, tables: Mapping[str, Table]) -> None:
        time = max(now, self.versions[-1][0]) if self.versions else now
        self.versions.append((time, tables))


class CatalogMachine(RuleBasedStateMachine):
    """Several servers, one bucket."""

    catalogs = Bundle("catalogs")

    def __init__(self) -> None:
        super().__init__()
        self.objects = MemoryObjects()
        self.now = NOON
        self.model = Model()
        self.open_catalogs: list[Catalog] = []
        self.held: list[tuple[Snapshot, int]] = []

    def teardown(self) -> None:
        for catalog in self.open_catalogs:
            catalog.close()

    @initialize(target=catalogs)
    def create(self) -> Catalog:
        self.model.commit(self.now, {})
        return self.opened(2)

    @rule(target=catalogs, every=st.sampled_from([1, 2, 3, 100]))
    def open_another(self, every: int) -> Catalog:
        """Start another server, or the same again: they can't be told apart."""
        return self.opened(every)

    def opened(self, every: int) -> Catalog:
        for catalog in self.open_catalogs:
            catalog.close()  # waits for its checkpoints, so that there is something to open from
        catalog = Catalog.open(self.objects, checkpoint_every=every, clock=lambda: self.now)
        self.open_catalogs.append(catalog)
        return catalog

    @rule(seconds=st.integers(-30, 60))
    def let_the_clock_jump(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    def succeed(self, catalog: Catalog, each: Transaction, tables: Mapping[str, Table]) -> None:
        outcome = catalog.commit(each)
        self.model.commit(self.now, tables)
        assert (outcome.version, outcome.rows) == (self.model.version, each.operation.rows)
        self.model.outcomes[each.operation.id] = (outcome.version, outcome.rows)

    def fail(self, catalog: Catalog, each: Transaction, error: type[FlightserverError]) -> None:
        try:
            catalog.commit(each)
        except error:
            return
        message = f"{each} should have failed with {error.__name__}"
        raise AssertionError(message)

    @rule(catalog=catalogs, name=names, count=rows, fingerprint=fingerprints, requires=st.booleans())
    def create_dataset(self, catalog: Catalog, name: str, count: int, fingerprint: str, *, requires: bool) -> None:
        new = dataset(name, count)
        new = type(new)(new.id, PRIMARY, name, b"schema", fingerprint, new.created, segments=new.segments)
        requirements = (DatasetAbsent(PRIMARY, name),) if requires else ()
        each = transaction(CreateDataset(new), requires=requirements, rows=count)
        if name in self.model.tables:
            self.fail(catalog, each, CommitConflict if requires else RequestError)
        else:
            table = Table(new.id, self.model.version + 1, fingerprint, (), 0).added(self.model.version + 1, count)
            self.succeed(catalog, each, {**self.model.tables, name: table})

    @rule(catalog=catalogs, name=names, count=rows, content=contents, once=st.booleans(), known=st.data())
    def append(
        self, catalog: Catalog, name: str, count: int, content: str, *, once: bool, known: st.DataObject
    ) -> None:
        """Append under requirements that were true at some version, and may be no longer."""
        seen = self.model.versions[known.draw(st.integers(0, self.model.version - 1))][1].get(name)
        table = self.model.tables.get(name)
        requirements: list[Requirement] = [ContentAbsent(PRIMARY, name, content)] if once else []
        if seen is not None:
            requirements.append(DatasetUnchangedSchema(PRIMARY, name, seen.id, seen.fingerprint))
        update = AppendSegments(PRIMARY, name, (segment(count),), lineage(count, content))
        each = transaction(update, requires=tuple(requirements), rows=count)
        if table is None:
            self.fail(catalog, each, RequestError if seen is None else CommitConflict)
        elif (once and content in table.contents) or (
            seen is not None and (seen.id, seen.fingerprint) != (table.id, table.fingerprint)
        ):
            self.fail(catalog, each, CommitConflict)
        else:
            added = table.added(self.model.version + 1, count)
            added = replace(added, contents=added.contents | {content})
            self.succeed(catalog, each, {**self.model.tables, name: added})

    @rule(catalog=catalogs, name=names, count=rows, fingerprint=fingerprints, known=st.data())
    def replace(self, catalog: Catalog, name: str, count: int, fingerprint: str, known: st.DataObject) -> None:
        """Replace what is still as it was at some version."""
        seen = self.model.versions[known.draw(st.integers(0, self.model.version - 1))][1].get(name)
        table = self.model.tables.get(name)
        update = ReplaceSegments(PRIMARY, name, (segment(count),), b"schema", fingerprint)
        version = 0 if seen is None else seen.version
        each = transaction(update, requires=(DatasetAt(PRIMARY, name, version),), rows=count)
        if table is None or table.version != version:
            self.fail(catalog, each, CommitConflict)
        else:
            emptied = replace(table, fingerprint=fingerprint, ranges=(), contents=frozenset())
            after = emptied.added(self.model.version + 1, count)
            self.succeed(catalog, each, {**self.model.tables, name: after})

    @rule(catalog=catalogs, name=names)
    def drop(self, catalog: Catalog, name: str) -> None:
        each = transaction(DropDataset(PRIMARY, name))
        if name in self.model.tables:
            self.succeed(catalog, each, {key: value for key, value in self.model.tables.items() if key != name})
        else:
            self.fail(catalog, each, RequestError)

    @rule(catalog=catalogs, drops=st.lists(names, min_size=1, max_size=4))
    def recreate_many_or_none(self, catalog: Catalog, drops: list[str]) -> None:
        """A transaction of many updates happens whole or not at all."""
        updates: list[Update] = []
        after = dict(self.model.tables)
        fits = True
        for name in drops:
            new = dataset(name, 1)
            updates += [DropDataset(PRIMARY, name), CreateDataset(new)]
            fits = fits and name in after
            after[name] = Table(new.id, self.model.version + 1, "f1", (), 0).added(self.model.version + 1, 1)
        if fits:
            self.succeed(catalog, transaction(*updates), after)
        else:
            self.fail(catalog, transaction(*updates), RequestError)

    @precondition(lambda self: self.model.outcomes)
    @rule(catalog=catalogs, known=st.data())
    def repeat_an_operation(self, catalog: Catalog, known: st.DataObject) -> None:
        operation = known.draw(st.sampled_from(sorted(self.model.outcomes)))

        outcome = catalog.commit(transaction(DropDataset(PRIMARY, "never there"), operation=operation))

        assert (outcome.version, outcome.rows) == self.model.outcomes[operation]

    @rule(which=st.integers(0, 5), damage=st.sampled_from(["delete", "truncate", "garbage"]))
    def damage_a_checkpoint(self, which: int, damage: str) -> None:
        keys = [meta.key for meta in self.objects.list(CHECKPOINTS)]
        if keys:
            key = keys[-1 - which % len(keys)]
            data = self.objects.get(key)
            self.objects.delete(key)
            if damage != "delete":
                self.objects.put(key, data[: len(data) // 2] if damage == "truncate" else b"garbage")

    @rule(catalog=catalogs, known=st.data())
    def travel_to_a_version(self, catalog: Catalog, known: st.DataObject) -> None:
        version = known.draw(st.integers(1, self.model.version))

        self.check(catalog.snapshot_at(version), version)

    @rule(catalog=catalogs, known=st.data(), seconds=st.integers(-40, 40))
    def travel_to_a_time(self, catalog: Catalog, known: st.DataObject, seconds: int) -> None:
        start, _ = known.draw(st.sampled_from(self.model.versions))
        time = start + timedelta(seconds=seconds)
        versions = [number for number, (at, _) in enumerate(self.model.versions, start=1) if at <= time]
        if versions:
            self.check(catalog.snapshot_at(time), versions[-1])
        else:
            try:
                catalog.snapshot_at(time)
            except NotFound:
                return
            message = f"{time} is before the catalog"
            raise AssertionError(message)

    @rule(catalog=catalogs)
    def hold_a_snapshot(self, catalog: Catalog) -> None:
        self.held.append((catalog.snapshot(), self.model.version))

    @rule(catalog=catalogs, name=names)
    def look_at_the_history(self, catalog: Catalog, name: str) -> None:
        if name not in self.model.tables:
            return
        current = self.model.tables[name]
        ours = [(number, tables.get(name)) for number, (_, tables) in enumerate(self.model.versions, start=1)]
        changes = [
            (number, sum(count for _, count in table.ranges))
            for number, table in ours
            if table is not None and table.id == current.id and table.version == number
        ]

        history = catalog.history(catalog.snapshot().dataset(name, PRIMARY))

        assert [(each.version, each.rows) for each in history] == changes[::-1]

    @invariant()
    def every_server_sees_the_newest_version_and_held_snapshots_stay(self) -> None:
        for catalog in self.open_catalogs:
            self.check(catalog.snapshot(), self.model.version)
        for snapshot, version in self.held:
            self.check(snapshot, version)

    def check(self, snapshot: Snapshot, version: int) -> None:
        time, tables = self.model.versions[version - 1]
        assert (snapshot.version, snapshot.time) == (version, time)
        assert snapshot.datasets.keys() == {DatasetKey(PRIMARY, name) for name in tables}
        for name, table in tables.items():
            found = snapshot.dataset(name, PRIMARY)
            assert (found.id, found.version, found.schema_fingerprint) == (table.id, table.version, table.fingerprint)
            assert tuple((each.first_row_id, each.rows) for each in found.segments) == table.ranges
            assert (found.rows, found.next_row_id) == (sum(count for _, count in table.ranges), table.next_row_id)
            assert {each.content for each in found.lineage} == table.contents


TestCatalogMachine = CatalogMachine.TestCase
