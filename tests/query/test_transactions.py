"""Transactions of several statements: all or nothing, a fixed snapshot, own writes, first committer wins."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from query.asking import count, rows, run

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import CommitConflict, NotFound
from flightserver.query.transactions import Transactions
from flightserver.tables.selection import Wanted

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse
    from flightserver.query.transactions import Transaction


@pytest.fixture
def bank(lakehouse: Lakehouse) -> Lakehouse:
    run(lakehouse, "CREATE TABLE accounts AS SELECT * FROM (VALUES (1, 100), (2, 100)) AS t(id, balance)")
    run(lakehouse, "CREATE TABLE journal (source INT, target INT, amount INT)")
    return lakehouse


def begun(bank: Lakehouse) -> Transaction:
    return bank.transactions.get(bank.transactions.begin("ada"))


def balances(bank: Lakehouse, transaction: Transaction | None = None) -> list[Any]:
    return [row[0] for row in rows(bank, "SELECT balance FROM accounts ORDER BY id", transaction=transaction)]


def transfer(bank: Lakehouse, transaction: Transaction, amount: int) -> None:
    run(bank, f"UPDATE accounts SET balance = balance - {amount} WHERE id = 1", transaction=transaction)
    run(bank, f"UPDATE accounts SET balance = balance + {amount} WHERE id = 2", transaction=transaction)
    run(bank, f"INSERT INTO journal VALUES (1, 2, {amount})", transaction=transaction)


def objects(bank: Lakehouse) -> set[str]:
    return {meta.key for meta in bank.buckets.get("primary").objects.list("datasets/")}


def test_nobody_else_sees_a_change_before_the_commit_and_everybody_all_after(bank: Lakehouse) -> None:
    start = bank.catalog.snapshot().version
    transaction = begun(bank)

    transfer(bank, transaction, 30)
    transfer(bank, transaction, 5)

    assert balances(bank, transaction) == [65, 135]
    assert balances(bank) == [100, 100]
    assert rows(bank, "SELECT count(*) FROM journal") == [(0,)]
    assert bank.transactions.commit(transaction.id) == 6
    assert balances(bank) == [65, 135]
    assert rows(bank, "SELECT sum(amount), count(*) FROM journal") == [(35, 2)]
    assert bank.catalog.snapshot().version == start + 1
    [last] = list(bank.catalog.commits(after=start))
    assert [one.operation.kind for one in last.transactions] == ["transaction"]


def test_a_rollback_leaves_nothing_behind(bank: Lakehouse) -> None:
    start, files = bank.catalog.snapshot().version, objects(bank)
    transaction = begun(bank)
    transfer(bank, transaction, 30)
    run(bank, "CREATE TABLE extra AS SELECT 1 AS a", transaction=transaction)
    assert objects(bank) > files

    bank.transactions.roll_back(transaction.id)

    assert balances(bank) == [100, 100]
    assert bank.catalog.snapshot().version == start
    assert objects(bank) == files
    with pytest.raises(NotFound, match="begin another"):
        bank.transactions.get(transaction.id)


def test_a_transaction_reads_what_was_there_when_it_began_to_read(bank: Lakehouse) -> None:
    transaction = begun(bank)
    assert balances(bank, transaction) == [100, 100]

    run(bank, "UPDATE accounts SET balance = 0")
    run(bank, "INSERT INTO accounts VALUES (3, 1)")

    assert balances(bank, transaction) == [100, 100]
    assert balances(bank) == [0, 0, 1]
    assert bank.transactions.commit(transaction.id) == 0


def test_the_first_to_commit_the_same_row_wins(bank: Lakehouse) -> None:
    first, second = begun(bank), begun(bank)
    transfer(bank, first, 10)
    transfer(bank, second, 20)
    files = objects(bank)

    bank.transactions.commit(first.id)
    with pytest.raises(CommitConflict, match="retry is safe"):
        bank.transactions.commit(second.id)

    assert balances(bank) == [90, 110]
    assert rows(bank, "SELECT sum(amount) FROM journal") == [(10,)]
    assert objects(bank) < files


def test_transactions_over_different_rows_of_a_table_both_commit(bank: Lakehouse) -> None:
    first, second = begun(bank), begun(bank)
    run(bank, "UPDATE accounts SET balance = 1 WHERE id = 1", transaction=first)
    run(bank, "UPDATE accounts SET balance = 2 WHERE id = 2", transaction=second)

    bank.transactions.commit(first.id)
    bank.transactions.commit(second.id)

    assert balances(bank) == [1, 2]


def test_a_row_can_change_many_times_in_one_transaction(bank: Lakehouse) -> None:
    transaction = begun(bank)
    run(bank, "INSERT INTO accounts VALUES (3, 0)", transaction=transaction)
    for _ in range(5):
        assert count(bank, "UPDATE accounts SET balance = balance + 1", transaction=transaction) == 3
    assert count(bank, "DELETE FROM accounts WHERE id = 1", transaction=transaction) == 1

    bank.transactions.commit(transaction.id)

    assert rows(bank, "SELECT id, balance FROM accounts ORDER BY id") == [(2, 105), (3, 5)]
    assert rows(bank, "SELECT rows FROM system.datasets WHERE name = 'accounts'") == [(2,)]


def test_definitions_are_part_of_a_transaction(bank: Lakehouse) -> None:
    transaction = begun(bank)
    run(bank, "CREATE TABLE fresh (a INT)", transaction=transaction)
    run(bank, "ALTER TABLE fresh ADD COLUMN b INT", transaction=transaction)
    run(bank, "INSERT INTO fresh VALUES (1, 2)", transaction=transaction)
    run(bank, "UPDATE fresh SET b = 3", transaction=transaction)
    run(bank, "CREATE VIEW seen AS SELECT b FROM fresh", transaction=transaction)
    run(bank, "DROP TABLE journal", transaction=transaction)
    assert rows(bank, "SELECT b FROM seen", transaction=transaction) == [(3,)]
    with pytest.raises(NotFound):
        run(bank, "SELECT * FROM fresh")
    assert rows(bank, "SELECT count(*) FROM journal") == [(0,)]

    bank.transactions.commit(transaction.id)

    assert rows(bank, "SELECT a, b FROM fresh") == [(1, 3)]
    assert rows(bank, "SELECT b FROM seen") == [(3,)]
    with pytest.raises(NotFound):
        run(bank, "SELECT * FROM journal")


def test_a_statement_that_fails_changes_nothing_and_the_transaction_goes_on(bank: Lakehouse) -> None:
    transaction = begun(bank)
    transfer(bank, transaction, 10)
    with pytest.raises(NotFound):
        run(bank, "UPDATE nothing SET a = 1", transaction=transaction)
    transfer(bank, transaction, 10)

    bank.transactions.commit(transaction.id)

    assert balances(bank) == [80, 120]


def test_a_changed_definition_refuses_what_was_written_for_the_old_one(bank: Lakehouse) -> None:
    transaction = begun(bank)
    run(bank, "INSERT INTO journal VALUES (1, 2, 3)", transaction=transaction)
    run(bank, "ALTER TABLE journal DROP COLUMN amount")

    with pytest.raises(CommitConflict, match="schema"):
        bank.transactions.commit(transaction.id)
    assert rows(bank, "SELECT count(*) FROM journal") == [(0,)]


def test_an_idle_transaction_is_rolled_back_and_one_that_only_read_begins_anew(bank: Lakehouse) -> None:
    now = [0.0]
    transactions = Transactions(bank.catalog, bank.tables, idle_seconds=60, clock=lambda: now[0])
    writer = transactions.get(transactions.begin("ada"))
    reader = transactions.get(transactions.begin("bob"))
    files = objects(bank)
    transfer(bank, writer, 10)
    assert balances(bank, reader) == [100, 100]
    run(bank, "UPDATE accounts SET balance = 7")

    now[0] = 61.0
    transactions.begin("cid")

    with pytest.raises(NotFound, match="rolled back"):
        transactions.get(writer.id)
    with pytest.raises(NotFound, match="60 seconds"):
        balances(bank, writer)
    assert balances(bank, transactions.get(reader.id)) == [7, 7]
    assert {key for key in objects(bank) - files if "/journal/" in key} == set()
    transactions.close()


def test_a_transaction_whose_client_has_gone_is_rolled_back_though_nobody_begins_another(bank: Lakehouse) -> None:
    transactions = Transactions(bank.catalog, bank.tables, idle_seconds=0.2)
    writer = transactions.get(transactions.begin("ada"))
    files = objects(bank)
    run(bank, "INSERT INTO journal VALUES (1, 2, 3)", transaction=writer)

    deadline = time.monotonic() + 30
    while len(transactions) and time.monotonic() < deadline:
        time.sleep(0.01)

    with pytest.raises(NotFound, match="without a statement: begin another"):
        writer.staged()
    assert objects(bank) == files
    transactions.close()


def test_a_transaction_whose_statement_runs_is_not_idle(bank: Lakehouse) -> None:
    now = [0.0]
    transactions = Transactions(bank.catalog, bank.tables, idle_seconds=60, clock=lambda: now[0])
    writer = transactions.get(transactions.begin("ada"))
    transfer(bank, writer, 10)
    now[0] = 61.0
    sweep = threading.Thread(target=transactions.expire)

    with writer.lock:  # as a statement holds it while it runs
        sweep.start()
        sweep.join(30)
    assert transactions.commit(writer.id) == 3
    assert balances(bank) == [90, 110]
    transactions.close()


def test_a_key_that_another_adds_meanwhile_is_not_added_twice(bank: Lakehouse) -> None:
    run(bank, "CREATE TABLE people (id BIGINT, name TEXT, PRIMARY KEY (id))")
    transaction = begun(bank)
    run(bank, "INSERT INTO people VALUES (1, 'Ada')", transaction=transaction)
    run(bank, "INSERT INTO people VALUES (2, 'Bob') ON CONFLICT DO NOTHING", transaction=transaction)
    run(bank, "INSERT INTO people VALUES (2, 'Ben')")

    with pytest.raises(CommitConflict, match="adds rows"):
        bank.transactions.commit(transaction.id)
    assert rows(bank, "SELECT * FROM people") == [(2, "Ben")]


def test_a_key_is_set_only_if_nobody_adds_rows_meanwhile(bank: Lakehouse) -> None:
    transaction = begun(bank)
    run(bank, "INSERT INTO accounts VALUES (3, 0)", transaction=transaction)
    run(bank, "ALTER TABLE accounts ADD PRIMARY KEY (id)", transaction=transaction)
    run(bank, "INSERT INTO accounts VALUES (1, 0)")

    with pytest.raises(CommitConflict):
        bank.transactions.commit(transaction.id)


def test_a_transaction_survives_compaction(bank: Lakehouse) -> None:
    run(bank, "UPDATE accounts SET balance = balance + 1 WHERE id = 1")
    transaction = begun(bank)
    transfer(bank, transaction, 10)
    job = Operation(new_ulid(), "compact")
    for _ in bank.compactor.compact(DatasetKey("primary", "accounts"), job, Wanted(2**20, 2**20)):
        pass

    bank.transactions.commit(transaction.id)

    assert balances(bank) == [91, 110]
