"""Clients that change rows of their own at random and know exactly what must be there, whatever happens to the server.

Theory of operation: each worker owns a range of ids in `items`, and its rows of `journal`. Before it asks for a change
it computes what its rows are then. So at any moment there are at most two states that its rows may be in: what was
acknowledged, and what it is asking for. Workers never touch each other's rows, but their changes and compactions meet
in the same datasets.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import flightclient
import pyarrow as pa
from faults.session import Session
from flightclient.errors import CommitConflict, FlightclientError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

IDS = 32
"""Rows of a worker, at most."""

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("n", pa.int64()), ("note", pa.string())])


@dataclass(frozen=True)
class Rows:
    """All rows of one worker: of `items` by id, and of `journal` by number."""

    items: dict[int, tuple[int, str]] = field(default_factory=dict)
    journal: dict[int, int] = field(default_factory=dict)


def everything(session: Session, workers: int) -> list[Rows]:
    """What the server has, by worker; there must be nothing that is no worker's."""
    found = [Rows() for _ in range(workers)]
    items = session.rows("SELECT id, n, note FROM items")
    for identity, n, note in items:
        found[identity // IDS].items[identity] = (n, note)
    journal = session.rows("SELECT worker, number, amount FROM journal")
    for worker, number, amount in journal:
        found[worker].journal[number] = amount
    assert sum(len(rows.items) for rows in found) == len(items), "an id occurs twice"
    assert sum(len(rows.journal) for rows in found) == len(journal), "an entry of the journal occurs twice"
    return found


class Worker:
    """One client.

    Args:
        number: Which; it owns the ids from `number * IDS`.
        seed: Of what it does.

    Attributes:
        rows: What was acknowledged.
        asked: What is there if the change that it was killed in has happened; None when none is open.
        acknowledged: How many changes of each kind were.
    """

    def __init__(self, number: int, seed: int) -> None:
        self.number = number
        self.rows = Rows()
        self.asked: Rows | None = None
        self.acknowledged: dict[str, int] = {}
        self.failure: BaseException | None = None
        self._choose = random.Random(seed)  # noqa: S311  # what to change, not secrets
        self._count = 0

    def work(self, uri: str, killed: threading.Event) -> None:
        """Change rows until the server is gone."""
        try:
            with flightclient.connect(uri) as client, Session(uri) as session:
                self._work(client, session)
        except FlightclientError as error:
            if not killed.is_set():
                self.failure = error
        except BaseException as error:  # noqa: BLE001  # the test's own thread looks at it
            self.failure = error

    def settle(self, found: Rows) -> None:
        """Compare what the server has with what it may have, and go on from there."""
        allowed = [self.rows] if self.asked is None else [self.rows, self.asked]
        assert found in allowed, f"worker {self.number}"
        self.rows, self.asked = found, None

    def _work(self, client: flightclient.Client, session: Session) -> None:
        changes: dict[str, Callable[[], tuple[Rows, Callable[[], object]]]] = {
            "UPDATE": lambda: self._update(session),
            "DELETE": lambda: self._delete(session),
            "ON CONFLICT": lambda: self._on_conflict(session),
            "upsert": lambda: self._upsert(client),
            "transaction": lambda: self._transact(session),
        }
        while True:
            kind = self._choose.choice(list(changes))
            after, ask = changes[kind]()
            self.asked = after
            try:
                ask()
            except CommitConflict:
                self.asked = None
                continue
            self.rows, self.asked = after, None
            self.acknowledged[kind] = self.acknowledged.get(kind, 0) + 1

    def _some(self) -> list[int]:
        first = self.number * IDS
        return sorted(self._choose.sample(range(first, first + IDS), self._choose.randrange(1, IDS // 2)))

    def _added(self, ids: list[int], amount: int) -> dict[int, tuple[int, str]]:
        return {one: (n + amount if one in ids else n, note) for one, (n, note) in self.rows.items.items()}

    def _update(self, session: Session) -> tuple[Rows, Callable[[], object]]:
        ids, amount = self._some(), self._choose.randrange(100)
        sql = f"UPDATE items SET n = n + {amount} WHERE id IN ({_list(ids)})"
        return replace(self.rows, items=self._added(ids, amount)), lambda: session.update(sql)

    def _delete(self, session: Session) -> tuple[Rows, Callable[[], object]]:
        ids = self._some()[:4]
        left = {one: row for one, row in self.rows.items.items() if one not in ids}
        sql = f"DELETE FROM items WHERE id IN ({_list(ids)})"
        return replace(self.rows, items=left), lambda: session.update(sql)

    def _on_conflict(self, session: Session) -> tuple[Rows, Callable[[], object]]:
        ids, amount = self._some(), self._choose.randrange(100)
        new = dict.fromkeys(ids, (amount, "new"))
        kept = {one: (n, "met" if one in ids else note) for one, (n, note) in self.rows.items.items()}
        values = ", ".join(f"({one}, {amount}, 'new')" for one in ids)
        sql = f"INSERT INTO items VALUES {values} ON CONFLICT (id) DO UPDATE SET note = 'met'"
        return replace(self.rows, items=new | kept), lambda: session.update(sql)

    def _upsert(self, client: flightclient.Client) -> tuple[Rows, Callable[[], object]]:
        ids, amount = self._some(), self._choose.randrange(100)
        columns = {"id": ids, "n": [amount] * len(ids), "note": ["upsert"] * len(ids)}
        table = pa.table(columns, schema=SCHEMA)
        items = self.rows.items | dict.fromkeys(ids, (amount, "upsert"))
        return replace(self.rows, items=items), lambda: client.ingest(table, "items", mode="upsert")

    def _transact(self, session: Session) -> tuple[Rows, Callable[[], object]]:
        ids, amount = self._some(), self._choose.randrange(100)
        self._count += 1
        number = self._count
        oldest = sorted(self.rows.journal)[:1] if len(self.rows.journal) >= IDS else []
        journal = {one: sum_ for one, sum_ in self.rows.journal.items() if one not in oldest} | {number: amount}

        def ask() -> None:
            transaction = session.begin()
            try:
                session.update(f"UPDATE items SET n = n + {amount} WHERE id IN ({_list(ids)})", transaction)
                session.update(f"INSERT INTO journal VALUES ({self.number}, {number}, {amount})", transaction)
                for one in oldest:
                    gone = f"DELETE FROM journal WHERE worker = {self.number} AND number = {one}"
                    session.update(gone, transaction)
            except FlightclientError:
                session.roll_back(transaction)
                raise
            session.commit(transaction)

        return Rows(self._added(ids, amount), journal), ask


def _list(ids: list[int]) -> str:
    return ", ".join(str(one) for one in ids)
