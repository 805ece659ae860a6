"""Savepoints: a part of a transaction is undone, and the rest commits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from query.asking import count, rows, run

from flightserver.errors import LimitExceeded, NotFound
from flightserver.query.transactions import Transactions

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse
    from flightserver.query.transactions import Transaction


@pytest.fixture
def lake(lakehouse: Lakehouse) -> Lakehouse:
    run(lakehouse, "CREATE TABLE items (n BIGINT)")
    run(lakehouse, "INSERT INTO items VALUES (1)")
    return lakehouse


@pytest.fixture
def transaction(lake: Lakehouse) -> Transaction:
    return lake.transactions.get(lake.transactions.begin("ada"))


def items(lake: Lakehouse, transaction: Transaction | None = None) -> list[Any]:
    return [n for (n,) in rows(lake, "SELECT n FROM items ORDER BY n", transaction=transaction)]


def add(lake: Lakehouse, transaction: Transaction, n: int) -> None:
    run(lake, f"INSERT INTO items VALUES ({n})", transaction=transaction)


def objects(lake: Lakehouse) -> set[str]:
    return {meta.key for meta in lake.buckets.get("primary").objects.list("datasets/")}


def test_a_rollback_to_a_savepoint_undoes_what_came_later_and_deletes_its_files(
    lake: Lakehouse, transaction: Transaction
) -> None:
    add(lake, transaction, 2)
    before = objects(lake)
    savepoint = lake.transactions.begin_savepoint(transaction.id, "half")
    add(lake, transaction, 3)
    assert count(lake, "DELETE FROM items WHERE n < 3", transaction=transaction) == 2
    run(lake, "ALTER TABLE items ADD COLUMN name TEXT", transaction=transaction)
    run(lake, "CREATE TABLE extra AS SELECT 1 AS a", transaction=transaction)
    assert objects(lake) > before

    lake.transactions.roll_back_to_savepoint(savepoint)

    assert items(lake, transaction) == [1, 2]
    assert objects(lake) == before
    assert run(lake, "SELECT * FROM items", transaction=transaction).schema.names == ["n"]
    with pytest.raises(NotFound, match="extra"):
        run(lake, "SELECT * FROM extra", transaction=transaction)
    add(lake, transaction, 4)
    assert lake.transactions.commit(transaction.id) == 2
    assert items(lake) == [1, 2, 4]


def test_a_savepoint_outlives_rollbacks_to_it(lake: Lakehouse, transaction: Transaction) -> None:
    savepoint = lake.transactions.begin_savepoint(transaction.id, "start")
    for n in (2, 3):
        add(lake, transaction, n)
        assert items(lake, transaction) == [1, n]
        lake.transactions.roll_back_to_savepoint(savepoint)
        assert items(lake, transaction) == [1]

    lake.transactions.commit(transaction.id)

    assert items(lake) == [1]


def test_a_release_keeps_the_changes_and_ends_later_savepoints(lake: Lakehouse, transaction: Transaction) -> None:
    outer = lake.transactions.begin_savepoint(transaction.id, "outer")
    add(lake, transaction, 2)
    middle = lake.transactions.begin_savepoint(transaction.id, "middle")
    add(lake, transaction, 3)
    inner = lake.transactions.begin_savepoint(transaction.id, "inner")

    lake.transactions.release_savepoint(middle)

    assert items(lake, transaction) == [1, 2, 3]
    for ended in (middle, inner):
        with pytest.raises(NotFound, match=r"has ended: .* the latest that are left: 'outer'"):
            lake.transactions.roll_back_to_savepoint(ended)
    lake.transactions.roll_back_to_savepoint(outer)
    assert items(lake, transaction) == [1]


def test_a_rollback_ends_later_savepoints_alone(lake: Lakehouse, transaction: Transaction) -> None:
    first = lake.transactions.begin_savepoint(transaction.id, "same name")
    add(lake, transaction, 2)
    second = lake.transactions.begin_savepoint(transaction.id, "same name")
    add(lake, transaction, 3)

    lake.transactions.roll_back_to_savepoint(first)

    with pytest.raises(NotFound, match="has ended"):
        lake.transactions.release_savepoint(second)
    lake.transactions.release_savepoint(first)
    with pytest.raises(NotFound, match="left: none"):
        lake.transactions.release_savepoint(first)


def test_what_was_undone_conflicts_with_nobody(lake: Lakehouse, transaction: Transaction) -> None:
    savepoint = lake.transactions.begin_savepoint(transaction.id, "s")
    run(lake, "DELETE FROM items", transaction=transaction)
    lake.transactions.roll_back_to_savepoint(savepoint)
    add(lake, transaction, 2)
    run(lake, "DELETE FROM items")

    lake.transactions.commit(transaction.id)

    assert items(lake) == [2]


def test_a_transaction_that_undid_everything_commits_nothing(lake: Lakehouse, transaction: Transaction) -> None:
    version = lake.catalog.snapshot().version
    savepoint = lake.transactions.begin_savepoint(transaction.id, "s")
    add(lake, transaction, 2)
    lake.transactions.roll_back_to_savepoint(savepoint)

    assert lake.transactions.commit(transaction.id) == 0
    assert lake.catalog.snapshot().version == version


def test_a_savepoint_ends_with_its_transaction(lake: Lakehouse, transaction: Transaction) -> None:
    savepoint = lake.transactions.begin_savepoint(transaction.id, "s")
    lake.transactions.roll_back(transaction.id)

    with pytest.raises(NotFound, match="no open transaction"):
        lake.transactions.roll_back_to_savepoint(savepoint)
    with pytest.raises(NotFound, match="no open transaction"):
        lake.transactions.begin_savepoint(transaction.id, "t")


def test_a_savepoint_of_another_transaction_means_nothing_here(lake: Lakehouse, transaction: Transaction) -> None:
    other = lake.transactions.begin("bob")
    theirs = lake.transactions.begin_savepoint(other, "s")
    number = theirs.removeprefix(other)

    with pytest.raises(NotFound, match="never had such a savepoint"):
        lake.transactions.release_savepoint(transaction.id + number)


@pytest.mark.parametrize("wrong", [b"", b"x", b"x.", b"x.-1", b"x." + b"9" * 5000, b"x.\xd9\xa3"])
def test_an_id_that_is_none_is_refused(lake: Lakehouse, wrong: bytes) -> None:
    with pytest.raises(NotFound, match="no id of a savepoint"):
        lake.transactions.release_savepoint(wrong)


@pytest.mark.parametrize("number", [b".0", b".2", b".999999999999999999"])
def test_a_number_that_was_never_given_is_refused(lake: Lakehouse, transaction: Transaction, number: bytes) -> None:
    lake.transactions.begin_savepoint(transaction.id, "the first")

    with pytest.raises(NotFound, match="never had"):
        lake.transactions.roll_back_to_savepoint(transaction.id + number)


def test_a_transaction_has_a_thousand_savepoints_at_most(lake: Lakehouse, transaction: Transaction) -> None:
    savepoints = [lake.transactions.begin_savepoint(transaction.id, str(number)) for number in range(1000)]
    with pytest.raises(LimitExceeded, match="1,000 savepoints: release some"):
        lake.transactions.begin_savepoint(transaction.id, "one more")

    lake.transactions.release_savepoint(savepoints[-1])

    lake.transactions.begin_savepoint(transaction.id, "one more")


def test_after_a_long_pause_a_savepoint_without_changes_marks_the_new_beginning(lake: Lakehouse) -> None:
    now = [0.0]
    transactions = Transactions(lake.catalog, lake.tables, idle_seconds=60, clock=lambda: now[0])
    transaction = transactions.get(transactions.begin("ada"))
    savepoint = transactions.begin_savepoint(transaction.id, "s")
    run(lake, "INSERT INTO items VALUES (2)")
    now[0] = 61.0
    add(lake, transaction, 3)
    assert items(lake, transaction) == [1, 2, 3]

    transactions.roll_back_to_savepoint(savepoint)

    assert items(lake, transaction) == [1, 2]
    transactions.close()
