"""Collection against a plain model: any history, any hour, and nothing is lost that could still be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tables import indexing
from tables.archive import Archive, operation

from flightserver.catalog.entities import PRIMARY
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import DropDataset, RenameDataset
from flightserver.errors import NotFound
from flightserver.tables.versions import dataset_at
from flightserver.tables.writes import Mode

if TYPE_CHECKING:
    from datetime import datetime

    from flightserver.catalog.entities import Dataset

RETENTION_HOURS = 48
GRACE_HOURS = 5

names = st.sampled_from(["t", "u"])
indexes = st.sampled_from(["i", "j"])
tags = st.sampled_from(["a", "b"])


class CollectingMachine(RuleBasedStateMachine):
    """Datasets and indexes come and go under two names each; after each commit the model notes what they hold."""

    def __init__(self) -> None:
        super().__init__()
        self.archive = Archive.open()
        self.numbers = iter(range(10**9))
        self.committed: list[datetime] = []
        """When each version was committed; version 1 comes first."""
        self.held: dict[int, dict[str, list[Any]]] = {}
        """Rows by dataset id, by version."""
        self.generations: dict[int, set[str]] = {}
        """Keys of the generations of vector indexes, by version."""

    @property
    def datasets(self) -> dict[str, Dataset]:
        return {key.name: one for key, one in self.archive.catalog.snapshot().datasets.items()}

    @invariant()
    def every_version_is_noted(self) -> None:
        snapshot = self.archive.catalog.snapshot()
        while len(self.committed) < snapshot.version:
            version = len(self.committed) + 1
            (commit,) = (one for one in self.archive.catalog.commits(after=version - 1) if one.version == version)
            self.committed.append(commit.time)
            past = self.archive.catalog.snapshot_at(version, tagged=True)
            self.held[version] = {one.id: self.archive.rows(one) for one in past.datasets.values()}
            self.generations[version] = {one.generation.key for one in past.indexes.values()}

    @rule(hours=st.sampled_from([1, 4, 20, 60]))
    def wait(self, hours: int) -> None:
        self.archive.clock.wait(hours)

    @rule(name=names, rows=st.integers(1, 3))
    def append(self, name: str, rows: int) -> None:
        self.archive.write(*(next(self.numbers) for _ in range(rows)), name=name)

    @rule(name=names)
    def replace(self, name: str) -> None:
        self.archive.write(next(self.numbers), name=name, mode=Mode.REPLACE)

    @rule(name=names)
    def abandon(self, name: str) -> None:
        self.archive.abandon(name)

    @precondition(lambda self: self.datasets)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.datasets)))
        rows = self.archive.rows(self.datasets[name])
        if rows:
            self.archive.remove(*data.draw(st.sets(st.sampled_from(rows), min_size=1)), name=name)

    @precondition(lambda self: self.datasets)
    @rule(data=st.data())
    def rewrite(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.datasets)))
        if self.datasets[name].segments:
            self.archive.rewrite(name)

    @precondition(lambda self: self.datasets)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.datasets)))
        self.archive.catalog.commit(Transaction(operation("drop"), (DropDataset(PRIMARY, name),)))

    @precondition(lambda self: len(self.datasets) == 1)
    @rule()
    def rename(self) -> None:
        (name,) = self.datasets
        renamed = RenameDataset(PRIMARY, name, "u" if name == "t" else "t")
        self.archive.catalog.commit(Transaction(operation("rename"), (renamed,)))

    @precondition(lambda self: self.datasets)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        one = self._one(data)
        version = data.draw(st.sampled_from(self._readable(one)))
        self.archive.restore(version, one.name)
        assert self.archive.rows(self.datasets[one.name]) == self.held[version][one.id]

    @precondition(lambda self: self.datasets)
    @rule(tag=tags, data=st.data())
    def tag(self, tag: str, data: st.DataObject) -> None:
        one = self._one(data)
        if tag in one.tags:
            self.archive.untag(tag, one.name)
        else:
            self.archive.tag(tag, data.draw(st.sampled_from(self._readable(one))), one.name)

    @precondition(lambda self: self.datasets)
    @rule(name=indexes, data=st.data())
    def index(self, name: str, data: st.DataObject) -> None:
        """Make an index, or give one that there is new contents."""
        if self._has_index(name):
            indexing.refresh(self.archive, name)
        else:
            indexing.create(self.archive, name, self._one(data))

    @rule(name=indexes)
    def drop_index(self, name: str) -> None:
        if self._has_index(name):
            indexing.drop(self.archive, name)

    @rule(name=indexes)
    def abandon_generation(self, name: str) -> None:
        indexing.build(self.archive, name)

    @rule()
    def collect(self) -> None:
        told = self.archive.collect(RETENTION_HOURS, GRACE_HOURS, dry_run=True)
        assert self.archive.collect(RETENTION_HOURS, GRACE_HOURS) == told
        self.every_version_is_noted()
        assert self.archive.collect(RETENTION_HOURS, GRACE_HOURS).objects == 0
        self._all_within_retention_is_readable()
        self._all_tagged_is_readable()
        self._the_rest_is_refused()

    def teardown(self) -> None:
        """Nothing is kept for ever: when all is dropped and retention is over, no file is left."""
        for name in self.datasets:
            self.archive.catalog.commit(Transaction(operation("drop"), (DropDataset(PRIMARY, name),)))
        self.archive.clock.wait(RETENTION_HOURS + 1)
        self.archive.collect(RETENTION_HOURS, GRACE_HOURS)
        assert self.archive.files() == set()
        assert indexing.objects(self.archive) == {}

    def _has_index(self, name: str) -> bool:
        return (PRIMARY, name) in self.archive.catalog.snapshot().indexes

    def _one(self, data: st.DataObject) -> Dataset:
        return self.datasets[data.draw(st.sampled_from(sorted(self.datasets)))]

    def _readable(self, one: Dataset) -> list[int]:
        horizon = self.archive.catalog.snapshot().horizon
        return [version for version, held in self.held.items() if version >= horizon and one.id in held]

    def _all_within_retention_is_readable(self) -> None:
        start = self.archive.clock.now.timestamp() - RETENTION_HOURS * 3600
        first = sum(1 for time in self.committed if time.timestamp() <= start)
        for version in range(max(first, 1), len(self.committed) + 1):
            past = self.archive.catalog.snapshot_at(version)
            assert {one.id: self.archive.rows(one) for one in past.datasets.values()} == self.held[version]
            assert self.generations[version] <= set(indexing.objects(self.archive))

    def _all_tagged_is_readable(self) -> None:
        for one in self.datasets.values():
            for tag, version in one.tags.items():
                for at in (tag, version):
                    _, past = dataset_at(self.archive.catalog, one, at)
                    assert self.archive.rows(past) == self.held[version][one.id]

    def _the_rest_is_refused(self) -> None:
        """What is older than the horizon is refused, unless a tag or the horizon itself has it: then it is right."""
        horizon = self.archive.catalog.snapshot().horizon
        for version in range(1, horizon):
            with pytest.raises(NotFound, match="older than files are kept"):
                self.archive.catalog.snapshot_at(version)
            for one in self.datasets.values():
                rows = self._rows_at(version, one)
                if rows is None:
                    assert version not in one.tags.values()
                else:
                    assert rows == self.held[version][one.id]

    def _rows_at(self, version: int, one: Dataset) -> list[Any] | None:
        try:
            return self.archive.rows(dataset_at(self.archive.catalog, one, version)[1])
        except NotFound:
            return None


TestCollecting = CollectingMachine.TestCase
