"""Rows of a dataset against a plain dictionary: appends, removals, updates, compactions and those in between."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tables.compacting import KEY, append, by_name_backwards, change, commit, compact, live, rows, staged
from tables.lake import Lake, before_commit

from flightserver.catalog.catalog import Catalog
from flightserver.storage.buckets import Buckets, OpenBucket, url_scheme
from flightserver.storage.local import LocalObjects
from flightserver.tables.segments import Layout
from flightserver.tables.selection import Wanted
from flightserver.tables.writes import Tables

if TYPE_CHECKING:
    from flightserver.catalog.staging import StagedTransaction
    from flightserver.tables.compaction import CompactResult

THOROUGH = os.environ.get("FLIGHTSERVER_TEST_THOROUGH") == "1"
names = st.sampled_from(["a", "b", "c"])
picks = st.sets(st.integers(0, 39), max_size=12)
WANTED = Wanted(target_bytes=64 * 1024, small_bytes=64 * 1024, workers=2)


def _table(ids: list[int], name: str) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int64()), "name": pa.array([name] * len(ids), pa.string())})


class RowsMachine(RuleBasedStateMachine):
    """One dataset; a row's `id` is its own for ever, its `name` is what updates change."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        root = Path(self._directory.name)
        objects = LocalObjects(root)
        bucket = OpenBucket("primary", objects, url_scheme("primary"), root)
        buckets = Buckets()
        buckets.add(bucket)
        catalog = Catalog.open(objects)
        self.lake = Lake(root, bucket, buckets, catalog, Tables(catalog, buckets, Layout(row_group_rows=16)))
        self.model: dict[int, str] = {}
        self.next = 0
        self.open: StagedTransaction | None = None
        self.open_model: dict[int, str] = {}

    def teardown(self) -> None:
        self.lake.catalog.close()
        self._directory.cleanup()

    @initialize()
    def begin(self) -> None:
        self._append(40, "a")

    @rule(count=st.integers(1, 40), name=names)
    def append(self, count: int, name: str) -> None:
        self._append(count, name)

    @rule(picks=picks)
    def remove(self, picks: set[int]) -> None:
        self._remove(self._picked(picks))

    @rule(picks=picks, name=names)
    def update(self, picks: set[int], name: str) -> None:
        ids = self._picked(picks)
        change(self.lake, lambda found: np.isin(found, ids), _table(ids, name))
        self.model.update(dict.fromkeys(ids, name))

    @rule(ordered=st.booleans())
    def compact(self, *, ordered: bool) -> None:
        before = rows(self.lake)

        result = self._compact(ordered=ordered)

        assert result.rows == len(self.model)
        if not ordered:
            assert rows(self.lake) == before, "the order of rows stays"
            assert self._compact(ordered=False).unchanged

    @rule(picks=picks, ordered=st.booleans())
    def compact_while_others_remove(self, picks: set[int], *, ordered: bool) -> None:
        ids = self._picked(picks)
        with before_commit(self.lake, lambda: self._remove(ids)):
            self._compact(ordered=ordered)
        if ids and not set(ids).isdisjoint(self.model):
            self._remove(ids)

    @rule(picks=picks, ordered=st.lists(st.booleans(), min_size=1, max_size=2))
    def remove_while_others_compact(self, picks: set[int], ordered: list[bool]) -> None:
        ids = self._picked(picks)
        with before_commit(self.lake, lambda: [self._compact(ordered=one) for one in ordered]):
            self._remove(ids)

    @precondition(lambda self: self.open is None)
    @rule(picks=picks, name=names)
    def begin_transaction(self, picks: set[int], name: str) -> None:
        ids = self._picked(picks)
        self.open = staged(self.lake)
        change(self.lake, lambda found: np.isin(found, ids), _table(ids, name), into=self.open)
        self.open_model = dict.fromkeys(ids, name)

    @precondition(lambda self: self.open is not None)
    @rule()
    def end_transaction(self) -> None:
        assert self.open is not None
        commit(self.lake, self.open)
        self.model.update(self.open_model)
        self.open, self.open_model = None, {}

    @invariant()
    def rows_are_those_of_the_model(self) -> None:
        dataset = self.lake.catalog.snapshot().datasets.get(KEY)
        if dataset is None:
            return
        found = rows(self.lake)
        ids = found.column("id").to_pylist()
        assert len(ids) == dataset.rows == len(self.model)
        assert dict(zip(ids, found.column("name").to_pylist(), strict=True)) == self.model
        row_ids = [row_id for _, part in live(self.lake, dataset) for row_id in part.tolist()]
        assert len(set(row_ids)) == len(row_ids)

    def _append(self, count: int, name: str) -> None:
        ids = list(range(self.next, self.next + count))
        append(self.lake, _table(ids, name))
        self.model.update(dict.fromkeys(ids, name))
        self.next += count

    def _picked(self, picks: set[int]) -> list[int]:
        """Ids of rows that are alive and that the open transaction doesn't change."""
        alive = sorted(self.model)
        return [alive[pick] for pick in picks if pick < len(alive) and alive[pick] not in self.open_model]

    def _remove(self, ids: list[int]) -> None:
        change(self.lake, lambda found: np.isin(found, ids))
        for number in ids:
            self.model.pop(number, None)

    def _compact(self, *, ordered: bool) -> CompactResult:
        if not self.model:
            return compact(self.lake, WANTED)
        return compact(self.lake, WANTED, by_name_backwards(self.lake) if ordered else None)


TestRows = RowsMachine.TestCase
# Each step writes files and makes them durable: thousands of them would take longer than a test may.
TestRows.settings = settings(max_examples=150 if THOROUGH else 30, stateful_step_count=50 if THOROUGH else 30)
