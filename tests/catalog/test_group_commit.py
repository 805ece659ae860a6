"""Threads that commit at the same time share one commit object, and each gets its own answer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from catalog.making import append, create, transaction

from flightserver.catalog.catalog import Catalog
from flightserver.catalog.draft import Outcome
from flightserver.catalog.entities import PRIMARY
from flightserver.catalog.group import MAX_GROUP, Entry, GroupCommit
from flightserver.catalog.requirements import DatasetAbsent, DatasetAt
from flightserver.errors import BackendUnavailable, CommitConflict, FlightserverError, NotFound
from flightserver.storage.memory import MemoryObjects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flightserver.catalog.transaction import Transaction
    from flightserver.storage.objects import ObjectMeta


class Gate(MemoryObjects):
    """A store whose puts can be held up; those that come after one that was held up may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()
        self.opened.set()
        self.waiting = threading.Semaphore(0)
        self.failure: FlightserverError | None = None

    def put(self, key: str, data: bytes) -> ObjectMeta:
        if not self.opened.is_set():
            self.waiting.release()
            self.opened.wait()
        elif self.failure is not None:
            raise self.failure
        return super().put(key, data)


def settle(catalog: Catalog, each: Transaction) -> Outcome | FlightserverError:
    try:
        return catalog.commit(each)
    except FlightserverError as error:
        return error


def together(
    catalog: Catalog, gate: Gate, transactions: Sequence[Transaction], *, failure: FlightserverError | None = None
) -> list[Outcome | FlightserverError]:
    """Commit transactions as one group, in order, by holding up a commit before them."""
    gate.opened.clear()
    with ThreadPoolExecutor(len(transactions) + 1) as pool:
        first = pool.submit(catalog.commit, transaction())
        gate.waiting.acquire()
        pending = []
        for count, each in enumerate(transactions, start=1):
            pending.append(pool.submit(settle, catalog, each))
            while len(catalog._group._queue) < count:
                threading.Event().wait(0.001)
        gate.failure = failure
        gate.opened.set()
        first.result()
        outcomes = [each.result() for each in pending]
        gate.failure = None
    return outcomes


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def catalog(gate: Gate) -> Catalog:
    return Catalog.open(gate)


def test_transactions_that_wait_together_become_one_commit(catalog: Catalog, gate: Gate) -> None:
    outcomes = together(catalog, gate, [transaction(create(name, 1), rows=1) for name in "abcdefgh"])

    assert {outcome.version for outcome in outcomes if isinstance(outcome, Outcome)} == {3}
    assert len(outcomes) == 8
    [*_, newest] = catalog.commits()
    assert len(newest.transactions) == 8
    assert Catalog.open(gate).snapshot() == catalog.snapshot()


def test_in_a_group_only_what_conflicts_with_an_earlier_one_fails(catalog: Catalog, gate: Gate) -> None:
    absent = (DatasetAbsent(PRIMARY, "people"),)
    outcomes = together(
        catalog,
        gate,
        [
            transaction(create("people", 3), requires=absent, rows=3),
            transaction(create("people", 9), requires=absent, rows=9),
            transaction(append("people", 4), requires=(DatasetAt(PRIMARY, "people", 3),), rows=4),
            transaction(append("people", 100), create("other"), append("nobody", 1)),
            transaction(append("people", 5), rows=5),
        ],
    )

    assert [type(outcome) for outcome in outcomes] == [Outcome, CommitConflict, Outcome, NotFound, Outcome]
    assert [key.name for key in catalog.snapshot().datasets] == ["people"]
    assert catalog.snapshot().dataset("people").rows == 12
    assert Catalog.open(gate).snapshot() == catalog.snapshot()


def test_the_same_operation_twice_in_a_group_happens_once(catalog: Catalog, gate: Gate) -> None:
    outcomes = together(
        catalog, gate, [transaction(create("a"), operation="once"), transaction(create("b"), operation="once")]
    )

    assert outcomes[0] == outcomes[1]
    assert [key.name for key in catalog.snapshot().datasets] == ["a"]


def test_a_store_that_fails_fails_the_whole_group_and_nothing_is_changed(catalog: Catalog, gate: Gate) -> None:
    before = catalog.snapshot().version + 1
    absent = (DatasetAbsent(PRIMARY, "a"),)
    outcomes = together(
        catalog,
        gate,
        [transaction(create("a"), requires=absent), transaction(create("a"), requires=absent)],
        failure=BackendUnavailable("the disk is on fire"),
    )

    assert [str(outcome) for outcome in outcomes] == ["the disk is on fire"] * 2
    assert catalog.snapshot().version == before
    assert catalog.commit(transaction(create("a"), requires=absent)).version == before + 1


def test_many_threads_and_few_puts_lose_nothing(catalog: Catalog) -> None:
    catalog.commit(transaction(create("people")))

    def work(number: int) -> None:
        for turn in range(25):
            catalog.commit(transaction(append("people", 1), operation=f"{number}-{turn}", rows=1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    people = catalog.snapshot().dataset("people")
    assert people.rows == 200
    assert [each.first_row_id for each in people.segments] == list(range(200))
    assert sum(len(commit.transactions) for commit in catalog.commits(after=2)) == 200


def test_a_group_is_bounded_and_everybody_is_served_in_turn() -> None:
    sizes: list[int] = []
    leading = threading.Event()
    proceed = threading.Event()

    def process(entries: Sequence[Entry[int, int]]) -> None:
        sizes.append(len(entries))
        leading.set()
        proceed.wait()
        for entry in entries:
            entry.outcome = entry.request * 2

    group: GroupCommit[int, int] = GroupCommit(process)
    waiting = 2 * MAX_GROUP + 1
    with ThreadPoolExecutor(waiting + 1) as pool:
        first = pool.submit(group.submit, 0)
        leading.wait()
        others = [pool.submit(group.submit, number) for number in range(1, waiting + 1)]
        while len(group._queue) < waiting:
            threading.Event().wait(0.001)
        proceed.set()
        results = [first.result(), *(other.result() for other in others)]

    assert results == [2 * number for number in range(waiting + 1)]
    assert sizes == [1, MAX_GROUP, MAX_GROUP, 1]


class Interrupted(BaseException):
    """As KeyboardInterrupt in the thread that leads."""


def test_when_the_leader_is_interrupted_nobody_waits_for_ever() -> None:
    def process(entries: Sequence[Entry[int, int]]) -> None:
        if any(entry.request < 0 for entry in entries):
            raise Interrupted
        for entry in entries:
            entry.outcome = entry.request

    group: GroupCommit[int, int] = GroupCommit(process)
    with pytest.raises(Interrupted):
        group.submit(-1)

    assert group.submit(5) == 5
    unsettled: Entry[int, int] = Entry(1)
    with pytest.raises(BackendUnavailable, match="may or may not have happened: ask again with the same operation id"):
        unsettled.get()
