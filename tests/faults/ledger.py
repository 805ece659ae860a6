"""A small lakehouse of two datasets, and changes of it whose results are known to the last row.

Before each change `accounts` has two segments and a delta, as a table has that was in use, so that a change meets base
files, rows that are dead already, and a compaction has something to fold.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from faults.power import PowerCut
from query.asking import rows, run

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.log import Operation
from flightserver.errors import FlightserverError
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings
from flightserver.tables.compaction import Compactor
from flightserver.tables.requests import Mode, WriteRequest
from flightserver.tables.segments import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import pytest
    from faults.power import Disk

Contents = dict[str, list[tuple[Any, ...]]]
"""Dataset -> its rows, sorted."""

ACCOUNTS: list[tuple[Any, ...]] = [(1, "Ada", 100), (2, "Bob", 200), (4, "Dee", 400)]
JOURNAL: list[tuple[Any, ...]] = [(1, 2, 5)]
BEFORE: Contents = {"accounts": ACCOUNTS, "journal": JOURNAL}

OPERATION = "01CHANGE"
"""The id that a client sends with a change, and again when it wasn't told what became of it."""


@contextmanager
def opened(data: Path, **sections: Mapping[str, object]) -> Iterator[Lakehouse]:
    """The lakehouse in a directory, as a server that starts there finds it."""
    with Lakehouse.open(load_settings(None, {"server": {"data": data}, **sections})) as lakehouse:
        yield lakehouse


def prepare(data: Path) -> None:
    """Make the lakehouse that every change begins with: `BEFORE`."""
    with opened(data) as lakehouse:
        run(lakehouse, "CREATE TABLE accounts (id BIGINT NOT NULL, owner TEXT, balance BIGINT, PRIMARY KEY (id))")
        run(lakehouse, "CREATE TABLE journal (source BIGINT, target BIGINT, amount BIGINT)")
        run(lakehouse, "INSERT INTO accounts VALUES (1, 'Ada', 100), (2, 'Bob', 200), (3, 'Cid', 300)")
        run(lakehouse, "INSERT INTO accounts VALUES (4, 'Dee', 400)")
        run(lakehouse, "DELETE FROM accounts WHERE id = 3")
        run(lakehouse, "INSERT INTO journal VALUES (1, 2, 5)")


def contents(lakehouse: Lakehouse) -> Contents:
    """All rows of all datasets."""
    names = sorted(key.name for key in lakehouse.catalog.snapshot().datasets)
    return {name: rows(lakehouse, f"SELECT * FROM {name} ORDER BY 1, 2, 3") for name in names}


def done_on(data: Path, disk: Disk, action: Callable[[Lakehouse], object], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Do something in a lakehouse on a disk that stops; returns whether it was acknowledged."""
    lakehouse = Lakehouse.open(load_settings(None, {"server": {"data": data}}))
    acknowledged = False
    try:
        # Its thread opens buckets, which are steps too, and isn't what the power is cut for.
        lakehouse.keeper.stop()
        lakehouse.keeper.refresh()
        with monkeypatch.context() as patched:
            disk.attach(patched)
            try:
                action(lakehouse)
                acknowledged = True
                disk.cut = min(disk.cut, len(disk.steps) - 1)  # a process that dies doesn't stop as a server does
                lakehouse.close()
            except PowerCut:
                pass
    finally:
        lakehouse.close()
    return acknowledged


@dataclass(frozen=True)
class Change:
    """Something that a client asks for, and all rows after it.

    Attributes:
        make: Asks; returns when it was acknowledged.
        after: What there is then.
        is_repeatable: Whether asking again for what has happened changes nothing.
    """

    make: Callable[[Lakehouse], object]
    after: Contents
    is_repeatable: bool = True


def _sql(statement: str) -> Callable[[Lakehouse], object]:
    return lambda lakehouse: run(lakehouse, statement, operation=OPERATION)


def upsert(lakehouse: Lakehouse) -> object:
    """Stream rows by key: one replaces another, one is new, and of one that comes twice the last wins."""
    news = pa.table({"id": [2, 7, 7], "owner": ["Bo", "Gil", "Gus"], "balance": [20, 70, 71]})
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("owner", pa.string()), ("balance", pa.int64())])
    request = WriteRequest(
        name="accounts",
        bucket="primary",
        mode=Mode.UPSERT,
        schema=schema,
        operation=Operation(OPERATION, "upsert"),
        lineage_system="arrow",
        lineage_source="test",
    )
    return lakehouse.streams.write(request, news.cast(schema).to_batches())


def delete_keys(lakehouse: Lakehouse) -> object:
    """Stream keys of rows to remove."""
    key = ("primary", "accounts")
    return lakehouse.streams.delete(key, pa.table({"id": [1, 4, 9]}), Operation(OPERATION, "delete"))


def transfer(lakehouse: Lakehouse) -> object:
    """Change rows of two datasets in one transaction of four statements."""
    transaction = lakehouse.transactions.get(lakehouse.transactions.begin("ada"))
    try:
        for statement in TRANSFER:
            run(lakehouse, statement, transaction=transaction)
    except FlightserverError:
        lakehouse.transactions.roll_back(transaction.id)
        raise
    return lakehouse.transactions.commit(transaction.id)


def compact(lakehouse: Lakehouse, name: str = "accounts") -> object:
    """Fold the deltas and segments of a dataset."""
    compactor = Compactor(lakehouse.catalog, lakehouse.buckets, Layout(), lakehouse.tables.dead)
    *_, result = compactor.compact(DatasetKey("primary", name), Operation(OPERATION, "compact"), compactor.wanted())
    return result


TRANSFER = (
    "UPDATE accounts SET balance = balance - 30 WHERE id = 1",
    "UPDATE accounts SET balance = balance + 30 WHERE id IN (2)",
    "DELETE FROM accounts WHERE id = 4",
    "INSERT INTO journal VALUES (1, 2, 30)",
)
MERGE = """
    MERGE INTO accounts AS a USING (VALUES (1, 11), (2, NULL), (8, 88)) AS n(id, balance) ON a.id = n.id
    WHEN MATCHED AND n.balance IS NULL THEN DELETE
    WHEN MATCHED THEN UPDATE SET balance = n.balance
    WHEN NOT MATCHED THEN INSERT (id, owner, balance) VALUES (n.id, 'new', n.balance)
    """
ON_CONFLICT = """
    INSERT INTO accounts VALUES (2, 'Bo', 20), (5, 'Eve', 500)
    ON CONFLICT (id) DO UPDATE SET owner = excluded.owner
    """

CHANGES: dict[str, Change] = {
    "UPDATE": Change(
        _sql("UPDATE accounts SET balance = balance + 1, owner = upper(owner) WHERE id < 4"),
        {"accounts": [(1, "ADA", 101), (2, "BOB", 201), (4, "Dee", 400)], "journal": JOURNAL},
    ),
    "DELETE": Change(
        _sql("DELETE FROM accounts WHERE balance IN (200, 400)"),
        {"accounts": [(1, "Ada", 100)], "journal": JOURNAL},
    ),
    "MERGE": Change(
        _sql(MERGE),
        {"accounts": [(1, "Ada", 11), (4, "Dee", 400), (8, "new", 88)], "journal": JOURNAL},
    ),
    "INSERT ON CONFLICT": Change(
        _sql(ON_CONFLICT),
        {"accounts": [(1, "Ada", 100), (2, "Bo", 200), (4, "Dee", 400), (5, "Eve", 500)], "journal": JOURNAL},
    ),
    "upsert": Change(
        upsert,
        {"accounts": [(1, "Ada", 100), (2, "Bo", 20), (4, "Dee", 400), (7, "Gus", 71)], "journal": JOURNAL},
    ),
    "deletion by keys": Change(delete_keys, {"accounts": [(2, "Bob", 200)], "journal": JOURNAL}),
    "transaction": Change(
        transfer,
        {"accounts": [(1, "Ada", 70), (2, "Bob", 230)], "journal": [(1, 2, 5), (1, 2, 30)]},
        is_repeatable=False,
    ),
    "compaction": Change(compact, BEFORE),
}
