"""Transfers between accounts in several datasets, by two servers at once: no snapshot ever shows money made or lost."""

from __future__ import annotations

import os
import random
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import flightclient
import pytest
from faults.ledger import opened
from faults.serving import ServerProcess
from faults.session import Session
from flightclient.errors import CommitConflict
from query.asking import rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TRANSFERS = 200 if os.environ.get("FLIGHTSERVER_TEST_THOROUGH") == "1" else 25
"""Of each writer."""
SERVERS, WRITERS = 2, 4
BRANCHES = ("north", "south", "west")
ACCOUNTS = 40
OPENING = 1000
MONEY = len(BRANCHES) * ACCOUNTS * OPENING

ALL_MONEY = " + ".join(f"(SELECT sum(balance) FROM {branch})" for branch in BRANCHES)
ALL_MONEY = f"SELECT {ALL_MONEY}, " + " + ".join(f"(SELECT count(*) FROM {branch})" for branch in BRANCHES)


@dataclass
class Outcomes:
    """What the clients were told. Its lists are only appended to, which needs no lock."""

    acknowledged: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    seen: list[tuple[int, int]] = field(default_factory=list)
    compactions: list[int] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)


def moved(session: Session, source: tuple[str, int], target: tuple[str, int], amount: int, name: str) -> bool:
    """Move money in one transaction, which notes its name in the journal; False when others were faster."""
    transaction = session.begin()
    for (branch, account), change in ((source, -amount), (target, amount)):
        sql = f"UPDATE {branch} SET balance = balance + {change} WHERE id = {account}"
        assert session.update(sql, transaction) == 1
    session.update(f"INSERT INTO journal VALUES ('{name}', {amount})", transaction)
    try:
        session.commit(transaction)
    except CommitConflict:
        return False
    return True


def write(uri: str, writer: int, outcomes: Outcomes) -> None:
    """Make transfers between accounts of different branches, each again until it is acknowledged."""
    choose = random.Random(writer)  # noqa: S311  # accounts, not secrets
    with Session(uri) as session:
        for number in range(TRANSFERS):
            here, there = choose.sample(BRANCHES, 2)
            source, target = (here, choose.randrange(ACCOUNTS)), (there, choose.randrange(ACCOUNTS))
            amount, name = choose.randrange(1, 50), f"{writer}-{number}"
            while not moved(session, source, target, amount, name):
                outcomes.conflicts.append(name)
            outcomes.acknowledged.append(name)


def read(uri: str, done: threading.Event, outcomes: Outcomes) -> None:
    """Look at all the money, over and over."""
    with Session(uri) as session:
        while not done.wait(0.05):
            [found] = session.rows(ALL_MONEY)
            outcomes.seen.append(found)


def maintain(uri: str, done: threading.Event, outcomes: Outcomes) -> None:
    """Compact a branch now and then."""
    with flightclient.connect(uri) as client:
        number = 0
        while not done.wait(1.0):
            answer = client.call("dataset.compact", {"dataset": BRANCHES[number % len(BRANCHES)]})
            outcomes.compactions.append(answer["deltas_folded"])
            number += 1


def keeping(outcomes: Outcomes, work: Callable[..., None], *arguments: object) -> threading.Thread:
    """A thread that works, and keeps what that raises for the test's own thread."""

    def run() -> None:
        try:
            work(*arguments, outcomes)
        except BaseException as error:  # noqa: BLE001  # the test raises it
            outcomes.failures.append(error)

    return threading.Thread(target=run)


def found_bank(uri: str) -> None:
    """Make the branches, every account with the same balance, and an empty journal."""
    with Session(uri) as session:
        for branch in BRANCHES:
            accounts = f"SELECT value AS id, {OPENING} AS balance FROM generate_series(0, {ACCOUNTS - 1})"
            session.update(f"CREATE TABLE {branch} AS {accounts}")
        session.update("CREATE TABLE journal (name TEXT, amount BIGINT)")


@pytest.mark.timeout(1800)
def test_money_is_neither_made_nor_lost_by_any_transaction_that_any_server_ever_showed(
    tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    outcomes, done = Outcomes(), threading.Event()
    with ExitStack() as stack:
        uris = [stack.enter_context(ServerProcess(tmp_path)).uri for _ in range(SERVERS)]
        found_bank(uris[0])
        writers = [keeping(outcomes, write, uris[number % SERVERS], number) for number in range(SERVERS * WRITERS)]
        others = [*(keeping(outcomes, read, uri, done) for uri in uris), keeping(outcomes, maintain, uris[1], done)]
        for thread in [*writers, *others]:
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        for thread in others:
            thread.join()

    assert outcomes.failures == []
    names = [f"{writer}-{number}" for writer in range(SERVERS * WRITERS) for number in range(TRANSFERS)]
    assert sorted(outcomes.acknowledged) == sorted(names)
    assert outcomes.seen
    assert set(outcomes.seen) == {(MONEY, len(BRANCHES) * ACCOUNTS)}
    with opened(tmp_path) as lakehouse:
        logged = [one.operation for commit in lakehouse.catalog.commits() for one in commit.transactions]
        assert sum(operation.kind == "transaction" for operation in logged) == len(names)
        assert sorted(name for (name,) in rows(lakehouse, "SELECT name FROM journal")) == sorted(names)
        newest = lakehouse.catalog.snapshot().version
        for version in range(len(BRANCHES) + 2, newest + 1):
            assert rows(lakehouse, ALL_MONEY, as_of=version) == [(MONEY, len(BRANCHES) * ACCOUNTS)], version
    record_testsuite_property("conflicts", len(outcomes.conflicts))
    record_testsuite_property("compactions", len(outcomes.compactions))
    record_testsuite_property("versions", newest)
