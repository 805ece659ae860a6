"""Searches against a comparison of all rows: any history, version and index, and the same rows in the same order."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from query.asking import run
from vectors.indexed import create, refresh
from vectors.searched import add, compact, found_by, index_of, make_points, searcher, shown, sql_of, wanted

from flightserver.catalog.indexes import METRICS, PRECISIONS
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings

if TYPE_CHECKING:
    from vectors.searched import Vector

THOROUGH = os.environ.get("FLIGHTSERVER_TEST_THOROUGH") == "1"

numbers = st.integers(-2, 2).map(float)
"""So few that vectors are often equal, or equally far away."""
directions = st.lists(numbers, min_size=2, max_size=2)
several = st.none() | st.just([1.0]) | directions | directions | directions
indexes = st.sampled_from(["one", "two"])
picks = st.sets(st.integers(0, 15), min_size=1, max_size=8)


class SearchingMachine(RuleBasedStateMachine):
    """The dataset `points` and up to two indexes; some generations are lost."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.lakehouse = Lakehouse.open(load_settings(None, {"server": {"data": Path(self._directory.name)}}))
        self.searcher = searcher(self.lakehouse)
        self.next = 0

    def teardown(self) -> None:
        self.lakehouse.close()
        self._directory.cleanup()

    @property
    def names(self) -> list[str]:
        return sorted(key.name for key in self.lakehouse.catalog.snapshot().indexes)

    def _picked(self, picked: set[int], version: int | None = None) -> set[int]:
        """Ids of rows that there are."""
        there = sorted(shown(self.lakehouse, version))
        return {there[pick] for pick in picked if pick < len(there)}

    @initialize(
        vectors=st.lists(several, min_size=4, max_size=12),
        metric=st.sampled_from(METRICS),
        precision=st.sampled_from(PRECISIONS),
    )
    def begin(self, vectors: list[Vector | None], metric: str, precision: str) -> None:
        make_points(self.lakehouse)
        self.first = self.lakehouse.catalog.snapshot().version
        self.append(vectors)
        self.make_index("one", metric, precision)

    @rule(vectors=st.lists(several, min_size=1, max_size=12))
    def append(self, vectors: list[Vector | None]) -> None:
        add(self.lakehouse, self.next, vectors)
        self.next += len(vectors)

    @rule(picked=picks)
    def delete(self, picked: set[int]) -> None:
        if ids := self._picked(picked):
            run(self.lakehouse, f"DELETE FROM points WHERE id IN ({', '.join(map(str, ids))})")

    @rule(picked=picks, vector=several)
    def update(self, picked: set[int], vector: Vector | None) -> None:
        if ids := self._picked(picked):
            listed = ", ".join(map(str, ids))
            run(self.lakehouse, f"UPDATE points SET direction = {sql_of(vector)} WHERE id IN ({listed})")

    @rule()
    def compact(self) -> None:
        compact(self.lakehouse)

    @rule(name=indexes, metric=st.sampled_from(METRICS), precision=st.sampled_from(PRECISIONS))
    def make_index(self, name: str, metric: str, precision: str) -> None:
        if name in self.names:
            refresh(self.lakehouse, name)
        else:
            create(self.lakehouse, name, dataset="points", metric=metric, precision=precision, dimension=2)

    @rule(data=st.data())
    def lose_generation(self, data: st.DataObject) -> None:
        """What is open already goes on serving; nobody else can open it."""
        index = index_of(self.lakehouse, data.draw(st.sampled_from(self.names)))
        self.lakehouse.buckets.get("primary").objects.delete(index.generation.key)

    @rule()
    def restart(self) -> None:
        """Forget what is kept in memory."""
        self.searcher = searcher(self.lakehouse)

    @rule(
        vectors=st.lists(directions.filter(any), min_size=1, max_size=5),
        k=st.integers(1, 30),
        allowed=st.none() | picks,
        data=st.data(),
    )
    def search(self, vectors: list[Vector], k: int, allowed: set[int] | None, data: st.DataObject) -> None:
        index = index_of(self.lakehouse, data.draw(st.sampled_from(self.names)))
        newest = self.lakehouse.catalog.snapshot().version
        version = data.draw(st.none() | st.integers(self.first, newest))
        ids = None if allowed is None else self._picked(allowed, version)
        for vector in vectors:
            asked = np.array(vector, np.float32)
            found = found_by(self.searcher, self.lakehouse, index, asked, k, ids, version)
            assert found == wanted(self.lakehouse, index, asked, k, ids, version)


TestSearching = SearchingMachine.TestCase
# Each step writes files and makes them durable: thousands of them would take longer than a test may.
TestSearching.settings = settings(max_examples=150 if THOROUGH else 25, stateful_step_count=50 if THOROUGH else 25)
