"""A transaction with savepoints against plain dictionaries: statements, rollbacks to savepoints, releases, commits.

Whole tables are compared after each step, as the transaction and as everybody else sees them; what is undone leaves no
file behind.
"""

from __future__ import annotations

import os
import tempfile
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from query.asking import count, rows, run

from flightserver.errors import NotFound
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings

if TYPE_CHECKING:
    from flightserver.query.transactions import Transaction

THOROUGH = os.environ.get("FLIGHTSERVER_TEST_THOROUGH") == "1"
ALWAYS = ("a", "b")
SOMETIMES = "c"
"""A table that the transaction creates and drops."""

Rows = dict[int, int]
Model = dict[str, Rows]

tables = st.sampled_from(ALWAYS)
moduli = st.integers(1, 4)
places = st.integers(0, 9)


@dataclass
class Savepoint:
    """A savepoint, what the transaction saw when it was set, and the files that there were."""

    id: bytes
    model: Model
    files: set[str]


class SavepointsMachine(RuleBasedStateMachine):
    """One transaction at a time; rows are `id -> n`, and an id is given once."""

    transaction: Transaction

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.lake = Lakehouse.open(load_settings(None, {"server": {"data": Path(self._directory.name) / "data"}}))
        self.next = 0
        self.committed: Model = {}
        self.model: Model = {}
        self.others: Model = {}
        self.savepoints: list[Savepoint] = []
        self.ended: list[bytes] = []
        self.files: set[str] = set()

    def teardown(self) -> None:
        self.lake.close()
        self._directory.cleanup()

    @initialize()
    def fill(self) -> None:
        for name in ALWAYS:
            run(self.lake, f"CREATE TABLE {name} (id BIGINT, n BIGINT)")
            self.committed[name] = {}
            self._insert(name, self.committed, None)
        self._begin()

    @rule(name=tables)
    def insert(self, name: str) -> None:
        self._insert(name, self.model, self.transaction)

    @rule(name=tables, modulus=moduli)
    def update(self, name: str, modulus: int) -> None:
        hit = [key for key in self.model[name] if key % modulus == 0]
        sql = f"UPDATE {name} SET n = n + 1 WHERE id % {modulus} = 0"
        assert count(self.lake, sql, transaction=self.transaction) == len(hit)
        self.model[name] |= {key: self.model[name][key] + 1 for key in hit}

    @rule(name=tables, modulus=moduli)
    def delete(self, name: str, modulus: int) -> None:
        hit = [key for key in self.model[name] if key % modulus == 1]
        sql = f"DELETE FROM {name} WHERE id % {modulus} = 1"
        assert count(self.lake, sql, transaction=self.transaction) == len(hit)
        for key in hit:
            del self.model[name][key]

    @rule()
    def create_or_drop(self) -> None:
        if SOMETIMES in self.model:
            run(self.lake, f"DROP TABLE {SOMETIMES}", transaction=self.transaction)
            del self.model[SOMETIMES]
        else:
            run(self.lake, f"CREATE TABLE {SOMETIMES} AS SELECT * FROM a", transaction=self.transaction)
            self.model[SOMETIMES] = dict(self.model["a"])

    @rule(name=tables)
    def another_inserts(self, name: str) -> None:
        before = self._objects()
        self._insert(name, self.committed, None)
        self.others[name] |= {self.next: self.committed[name][self.next]}
        added = self._objects() - before
        for files in (self.files, *(one.files for one in self.savepoints)):
            files.update(added)

    @rule()
    def set_savepoint(self) -> None:
        made = self.lake.transactions.begin_savepoint(self.transaction.id, "same name")
        self.savepoints.append(Savepoint(made, deepcopy(self.model), self._objects()))

    @precondition(lambda self: self.savepoints)
    @rule(place=places)
    def roll_back_to(self, place: int) -> None:
        place %= len(self.savepoints)
        self._end_savepoints(place + 1)
        savepoint = self.savepoints[place]

        self.lake.transactions.roll_back_to_savepoint(savepoint.id)

        self.model = deepcopy(savepoint.model)
        assert self._objects() == savepoint.files

    @precondition(lambda self: self.savepoints)
    @rule(place=places)
    def release(self, place: int) -> None:
        place %= len(self.savepoints)
        self.lake.transactions.release_savepoint(self.savepoints[place].id)
        self._end_savepoints(place)

    @precondition(lambda self: self.ended)
    @rule(place=places)
    def use_one_that_has_ended(self, place: int) -> None:
        ended = self.ended[place % len(self.ended)]
        with pytest.raises(NotFound):
            self.lake.transactions.roll_back_to_savepoint(ended)
        with pytest.raises(NotFound):
            self.lake.transactions.release_savepoint(ended)

    @rule()
    def commit(self) -> None:
        self.lake.transactions.commit(self.transaction.id)
        self.committed = deepcopy(self.model)
        for name, added in self.others.items():
            self.committed[name] |= added
        self._begin()

    @rule()
    def roll_back(self) -> None:
        self.lake.transactions.roll_back(self.transaction.id)
        assert self._objects() == self.files
        self._begin()

    @invariant()
    def tables_are_those_of_the_model(self) -> None:
        for model, transaction in ((self.committed, None), (self.model, getattr(self, "transaction", None))):
            for name, expected in model.items():
                found = rows(self.lake, f"SELECT id, n FROM {name} ORDER BY id", transaction=transaction)
                assert found == sorted(expected.items())
            listed = rows(self.lake, "SELECT name FROM system.datasets ORDER BY name", transaction=transaction)
            assert listed == [(name,) for name in sorted(model)]

    def _begin(self) -> None:
        self._end_savepoints(0)
        self.transaction = self.lake.transactions.get(self.lake.transactions.begin("ada"))
        self.transaction.staged()  # the snapshot is taken at the first use
        self.model = deepcopy(self.committed)
        self.others = {name: {} for name in ALWAYS}
        self.files = self._objects()

    def _insert(self, name: str, model: Model, transaction: Transaction | None) -> None:
        self.next += 1
        run(self.lake, f"INSERT INTO {name} VALUES ({self.next}, {-self.next})", transaction=transaction)
        model[name][self.next] = -self.next

    def _end_savepoints(self, place: int) -> None:
        self.ended += [one.id for one in self.savepoints[place:]]
        del self.savepoints[place:]

    def _objects(self) -> set[str]:
        return {meta.key for meta in self.lake.buckets.get("primary").objects.list("datasets/")}


TestSavepoints = SavepointsMachine.TestCase
TestSavepoints.settings = settings(max_examples=100 if THOROUGH else 10, stateful_step_count=30)
