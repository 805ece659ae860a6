"""Transactions of several statements by ADBC: `autocommit=False`, which is the default of its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import RunningServer

pytestmark = pytest.mark.client("ADBC")


@pytest.fixture
def other(server: RunningServer) -> Iterator[Any]:
    """A cursor that commits each statement."""
    with flightsql.connect(server.uri, autocommit=True) as connection, connection.cursor() as opened:
        opened.execute("CREATE TABLE accounts AS SELECT * FROM (VALUES (1, 100), (2, 100)) AS t(id, balance)")
        opened.execute("CREATE TABLE journal (amount BIGINT)")
        yield opened


@pytest.fixture
def session(server: RunningServer, other: Any) -> Iterator[Any]:  # noqa: ARG001  # the tables are there first
    """A connection as `connect` gives it."""
    with flightsql.connect(server.uri) as connection:
        yield connection


def balances(cursor: Any) -> list[int]:
    return [row[0] for row in cursor.execute("SELECT balance FROM accounts ORDER BY id").fetchall()]


@pytest.mark.feature("transactions")
def test_a_commit_makes_all_changes_visible_and_a_rollback_none(session: Any, other: Any) -> None:
    with session.cursor() as cursor:
        cursor.execute("UPDATE accounts SET balance = balance - 30 WHERE id = 1")
        assert cursor.rowcount == 1
        cursor.execute("UPDATE accounts SET balance = balance + 30 WHERE id = 2")
        cursor.executemany("INSERT INTO journal VALUES (?)", [(30,), (31,)])
        assert cursor.rowcount == 2
        assert balances(cursor) == [70, 130]
        assert balances(other) == [100, 100]
        session.commit()
        assert balances(other) == [70, 130]
        cursor.execute("DELETE FROM accounts")
        assert cursor.rowcount == 2
        session.rollback()
        assert balances(cursor) == [70, 130]
    assert other.execute("SELECT sum(amount) FROM journal").fetchall() == [(61,)]


@pytest.mark.feature("transactions")
def test_a_transaction_reads_one_version_until_it_ends(session: Any, other: Any) -> None:
    with session.cursor() as cursor:
        assert balances(cursor) == [100, 100]
        other.execute("UPDATE accounts SET balance = 0")
        assert balances(cursor) == [100, 100]
        session.commit()
        assert balances(cursor) == [0, 0]


@pytest.mark.feature("transactions")
def test_of_two_that_change_the_same_row_the_second_is_told_to_try_again(
    server: RunningServer, session: Any, other: Any
) -> None:
    with flightsql.connect(server.uri) as second, session.cursor() as mine, second.cursor() as theirs:
        mine.execute("UPDATE accounts SET balance = 1 WHERE id = 1")
        theirs.execute("UPDATE accounts SET balance = 2 WHERE id = 1")
        session.commit()
        with pytest.raises(flightsql.Error, match="retry is safe"):
            second.commit()
    assert balances(other) == [1, 100]


def test_a_table_that_a_transaction_creates_is_seen_by_it_alone(session: Any, other: Any) -> None:
    with session.cursor() as cursor:
        cursor.execute("CREATE TABLE fresh AS SELECT 7 AS n")
        assert cursor.execute("SELECT n FROM fresh").fetchall() == [(7,)]
        with pytest.raises(flightsql.Error, match="fresh"):
            other.execute("SELECT n FROM fresh")
        session.commit()
    assert other.execute("SELECT n FROM fresh").fetchall() == [(7,)]


def test_bulk_ingestion_commits_by_itself(session: Any, other: Any) -> None:
    # adbc-driver-flightsql 1.13 sends an ingestion without the transaction; docs/clients.md says so.
    with session.cursor() as cursor:
        cursor.execute("SELECT 1").fetchall()
        cursor.adbc_ingest("journal", pa.table({"amount": [5]}), mode="append")
    assert other.execute("SELECT sum(amount) FROM journal").fetchall() == [(5,)]


def test_changes_by_every_statement_are_counted_exactly(other: Any) -> None:
    other.execute("CREATE TABLE items (id BIGINT, n BIGINT, PRIMARY KEY (id))")
    other.execute("INSERT INTO items VALUES (1, 1), (2, 2) ON CONFLICT (id) DO NOTHING")
    assert other.rowcount == 2
    other.execute("INSERT INTO items VALUES (2, 20), (3, 30) ON CONFLICT (id) DO UPDATE SET n = excluded.n")
    assert other.rowcount == 2
    other.executemany("UPDATE items SET n = ? WHERE id = ?", [(5, 1), (6, 9)])
    assert other.rowcount == 1
    other.execute(
        "MERGE INTO items AS i USING (VALUES (1), (4)) AS s(id) ON i.id = s.id "
        "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, n) VALUES (s.id, 0)"
    )
    assert other.rowcount == 2
    other.execute("DELETE FROM items WHERE n = 0")
    assert other.rowcount == 1
    assert other.execute("SELECT * FROM items ORDER BY id").fetchall() == [(2, 20), (3, 30)]
