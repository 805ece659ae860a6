"""An S3 server behind a network that fails: answers stay right, what was acknowledged stays, and errors are clean.

What a client knows of a change that failed is that it happened or not: where even the question was lost, the commit is
in doubt, and settled before a later one is acknowledged.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from catalog.making import transaction
from faults.faulty_proxy import STALL_SECONDS, Fault, Proxy, always_hang, at_random, never
from msgspec.structs import replace as changed
from query.asking import count, rows, run

from flightserver.catalog.updates import PutBucket
from flightserver.errors import BackendUnavailable, FlightserverError
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings
from flightserver.storage.s3 import S3Objects
from flightserver.storage.s3_access import S3Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from s3server import S3Server

OPERATIONS = 500 if os.environ.get("FLIGHTSERVER_TEST_THOROUGH") == "1" else 100
CLIENTS = 4
FAILING = 0.3
PATIENT = {"request_seconds": 1.5, "connect_seconds": 1.0, "retry_seconds": 20.0, "retries": 10, "check_seconds": 60}
IMPATIENT = {**PATIENT, "retry_seconds": 3.0, "retries": 1}
"""So that many operations fail."""
QUICK = {"request_seconds": 0.5, "connect_seconds": 0.5, "retry_seconds": 1.0, "retries": 2, "check_seconds": 60}
NO_CACHE = {"max_bytes": 0}
BIG_ROWS = 200_000


class Client:
    """Changes rows of its own, knows what each may be, and looks.

    Args:
        number: Which client.
        lakehouse: What it asks.
        table: Where its rows are.
        big: A table of `BIG_ROWS` rows, which nobody changes.

    Attributes:
        may_be: Row -> what it may be; None is no row.
        outcomes: How often each kind of operation ended how.
    """

    def __init__(self, number: int, lakehouse: Lakehouse, table: str, big: str) -> None:
        self.number = number
        self.may_be: dict[int, set[int | None]] = {}
        self.outcomes: Counter[str] = Counter()
        self._lakehouse = lakehouse
        self._table = table
        self._big = big
        self._choose = random.Random(number)  # noqa: S311  # what to do, not secrets

    def work(self, operations: int) -> None:
        """Do so many operations."""
        kinds: dict[str, Callable[[int], None]] = {
            "insert": self._insert,
            "update": self._update,
            "query": self.look,
            "scan": self._scan,
        }
        for turn in range(operations):
            name = self._choose.choice(list(kinds))
            try:
                kinds[name](turn)
                self.outcomes[f"{name} acknowledged"] += 1
            except FlightserverError as error:
                self.outcomes[f"{name} {type(error).__name__}"] += 1

    def look(self, _turn: int = 0) -> None:
        """Compare what is there with what may be."""
        found = rows(self._lakehouse, f"SELECT id, n FROM {self._table} WHERE client = {self.number}")
        there = dict(found)
        assert len(there) == len(found), "a row is there twice"
        assert there.keys() <= self.may_be.keys()
        for row, allowed in self.may_be.items():
            assert there.get(row) in allowed, f"row {row}"

    def _insert(self, turn: int) -> None:
        self.may_be[turn] = {None, turn}
        assert count(self._lakehouse, f"INSERT INTO {self._table} VALUES ({self.number}, {turn}, {turn})") == 1
        self.may_be[turn] = {turn}

    def _update(self, turn: int) -> None:
        certain = [row for row, allowed in self.may_be.items() if None not in allowed]
        if not certain:
            return
        row, value = self._choose.choice(certain), 1000 + turn
        self.may_be[row] = self.may_be[row] | {value}
        where = f"client = {self.number} AND id = {row}"
        assert count(self._lakehouse, f"UPDATE {self._table} SET n = {value} WHERE {where}") == 1
        self.may_be[row] = {value}

    def _scan(self, turn: int) -> None:
        [answer] = rows(self._lakehouse, f"SELECT count(*), sum(v % {turn + 2}) FROM {self._big} WHERE v > {turn}")
        assert answer == (BIG_ROWS - turn, sum(v % (turn + 2) for v in range(turn + 1, BIG_ROWS + 1)))


def make_tables(lakehouse: Lakehouse, table: str, big: str) -> None:
    run(lakehouse, f"CREATE TABLE {table} (client BIGINT, id BIGINT, n BIGINT)")
    run(lakehouse, f"CREATE TABLE {big} (v BIGINT)")
    assert count(lakehouse, f"INSERT INTO {big} SELECT value FROM generate_series(1, {BIG_ROWS})") == BIG_ROWS


def trouble(lakehouse: Lakehouse, proxy: Proxy, table: str, big: str) -> list[Client]:
    """Let clients work while requests fail, and then look at a network that doesn't."""
    clients = [Client(number, lakehouse, table, big) for number in range(CLIENTS)]
    proxy.decide = at_random(seed=4, rate=FAILING)
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda client: client.work(OPERATIONS // CLIENTS), clients))
    proxy.decide = never
    time.sleep(STALL_SECONDS)  # until nothing is on its way any more
    for client in clients:
        client.look()
    return clients


def told(record: Callable[[str, object], None], what: str, clients: list[Client], proxy: Proxy) -> Counter[str]:
    outcomes = sum((client.outcomes for client in clients), Counter[str]())
    faults = Counter(asked.fault.value for asked in proxy.asked)
    record(
        f"s3 faults, {what}", f"operations {dict(sorted(outcomes.items()))}, requests {dict(sorted(faults.items()))}"
    )
    return outcomes


@pytest.mark.timeout(1200)
def test_no_answer_is_wrong_and_no_row_is_lost_when_requests_to_a_bucket_fail(
    s3_server: S3Server,
    s3_bucket: str,
    tmp_path: Path,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    settings = load_settings(None, {"server": {"data": tmp_path}, "buckets": PATIENT, "cache": NO_CACHE})
    with Proxy(s3_server.endpoint) as proxy, Lakehouse.open(settings) as lakehouse:
        bucket = changed(s3_server.bucket("far", s3_bucket), s3=s3_server.place(s3_bucket, endpoint=proxy.endpoint))
        lakehouse.catalog.commit(transaction(PutBucket(bucket)))
        make_tables(lakehouse, '"far".items', '"far".big')

        clients = trouble(lakehouse, proxy, '"far".items', '"far".big')

        outcomes = told(record_testsuite_property, "bucket", clients, proxy)
    assert outcomes.total() == OPERATIONS
    assert outcomes["insert acknowledged"]
    assert outcomes["scan acknowledged"]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("patience", [PATIENT, IMPATIENT], ids=["patient", "impatient"])
def test_no_answer_is_wrong_and_no_row_is_lost_when_requests_to_the_catalog_fail(
    patience: dict[str, float],
    s3_server: S3Server,
    s3_bucket: str,
    tmp_path: Path,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    with Proxy(s3_server.endpoint) as proxy:
        settings = s3_server.settings(tmp_path / "a", s3_bucket, proxy.endpoint, buckets=patience, cache=NO_CACHE)
        with Lakehouse.open(settings) as lakehouse:
            make_tables(lakehouse, "items", "big")

            clients = trouble(lakehouse, proxy, "items", "big")

            outcomes = told(record_testsuite_property, f"catalog, {patience['retries']} retries", clients, proxy)
            left = rows(lakehouse, "SELECT client, id, n FROM items ORDER BY client, id")
            version = lakehouse.catalog.snapshot().version
    assert outcomes.total() == OPERATIONS
    assert outcomes["insert acknowledged"]
    with Lakehouse.open(s3_server.settings(tmp_path / "b", s3_bucket)) as elsewhere:
        assert elsewhere.catalog.snapshot().version == version
        assert rows(elsewhere, "SELECT client, id, n FROM items ORDER BY client, id") == left


def test_a_put_whose_answer_is_lost_is_recognised(s3_server: S3Server, s3_bucket: str) -> None:
    with Proxy(s3_server.endpoint) as proxy:
        objects = S3Objects(s3_server.access(s3_bucket, endpoint=proxy.endpoint))
        fates = {"PUT": [Fault.RESET_AFTER, Fault.NONE]}
        proxy.decide = lambda method, _target: fates[method].pop(0) if fates.get(method) else Fault.NONE

        put = objects.put("a", b"once")

        assert fates["PUT"] == []
        assert objects.head("a") == put
        assert objects.get("a") == b"once"


def test_a_large_object_whose_completion_is_lost_is_recognised(s3_server: S3Server, s3_bucket: str) -> None:
    with Proxy(s3_server.endpoint) as proxy:
        objects = S3Objects(s3_server.access(s3_bucket, timeouts=S3Timeouts(retries=0), endpoint=proxy.endpoint))
        fates = [Fault.RESET_AFTER]

        def lose_completion(method: str, target: str) -> Fault:
            return fates.pop() if fates and method == "POST" and "uploadId=" in target else Fault.NONE

        proxy.decide = lose_completion
        with objects.writer("large") as writer:
            for number in range(65):
                writer.write(bytes([number]) * 2**20)
            meta = writer.commit()

        assert fates == []
        assert objects.head("large") == meta
        assert objects.get("large") == b"".join(bytes([number]) * 2**20 for number in range(65))


def test_a_server_that_hangs_in_the_middle_of_a_query_costs_the_time_that_was_configured(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    # One request may take all the time that there is: the engine's tries, of which there are eleven, share it.
    seconds = 6.0
    buckets = {"request_seconds": seconds, "retry_seconds": seconds, "check_seconds": 60}
    settings = load_settings(None, {"server": {"data": tmp_path}, "buckets": buckets, "cache": NO_CACHE})
    with Proxy(s3_server.endpoint) as proxy, Lakehouse.open(settings) as lakehouse:
        bucket = changed(s3_server.bucket("far", s3_bucket), s3=s3_server.place(s3_bucket, endpoint=proxy.endpoint))
        lakehouse.catalog.commit(transaction(PutBucket(bucket)))
        make_tables(lakehouse, '"far".items', '"far".big')
        proxy.decide = lambda method, _: Fault.HANG if method == "GET" else Fault.NONE

        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="a file of the dataset can't be read from its bucket"):
            rows(lakehouse, 'SELECT sum(v), max(v) FROM "far".big WHERE v > 5')

        assert proxy.hanging.is_set()
        assert time.monotonic() - began < 3 * seconds


@pytest.fixture
def hung(s3_server: S3Server, s3_bucket: str) -> Iterator[Proxy]:
    """A proxy that answers nothing."""
    assert s3_bucket
    with Proxy(s3_server.endpoint, always_hang) as proxy:
        yield proxy


@pytest.mark.parametrize("request_seconds", [0.5, 60.0], ids=["several tries fit in", "one request may take longer"])
def test_a_server_that_never_answers_costs_the_time_that_was_configured(
    request_seconds: float, hung: Proxy, s3_server: S3Server, s3_bucket: str
) -> None:
    timeouts = S3Timeouts(connect_seconds=0.5, request_seconds=request_seconds, retry_seconds=1.0, retries=2)
    objects = S3Objects(s3_server.access(s3_bucket, timeouts=timeouts, endpoint=hung.endpoint))
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: objects.get("a"),
        "look at": lambda: objects.head("a"),
        "write": lambda: objects.put("a", b"1"),
        "list": lambda: list(objects.list("")),
        "delete": lambda: objects.delete("a"),
    }
    for action, call in calls.items():
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match=f"can't {action} .*: the S3 server of this bucket doesn't answer"):
            call()
        assert time.monotonic() - began < 4.5 * timeouts.retry_seconds


@pytest.mark.parametrize("hangs", ["every request", "reads of files"])
def test_queries_of_other_buckets_are_answered_while_one_hangs(
    hangs: str, s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    settings = load_settings(None, {"server": {"data": tmp_path}, "buckets": QUICK, "cache": NO_CACHE})
    with Proxy(s3_server.endpoint) as proxy, Lakehouse.open(settings) as lakehouse:
        bucket = changed(s3_server.bucket("far", s3_bucket), s3=s3_server.place(s3_bucket, endpoint=proxy.endpoint))
        lakehouse.catalog.commit(transaction(PutBucket(bucket)))
        make_tables(lakehouse, '"far".items', '"far".big')
        run(lakehouse, "CREATE TABLE near AS SELECT 1 AS one")
        proxy.decide = lambda method, _: Fault.HANG if hangs == "every request" or method == "GET" else Fault.NONE

        failures: list[BaseException] = []

        def ask() -> None:
            try:
                rows(lakehouse, 'SELECT sum(v), max(v) FROM "far".big WHERE v > 5')
            except FlightserverError as error:
                failures.append(error)

        asking = threading.Thread(target=ask)
        began = time.monotonic()
        asking.start()
        assert proxy.hanging.wait(30)
        for _ in range(10):
            assert rows(lakehouse, "SELECT one FROM near") == [(1,)]
        assert asking.is_alive()
        asking.join(120)
        assert time.monotonic() - began < 60
        [failure] = failures
        assert isinstance(failure, BackendUnavailable)
        assert proxy.endpoint not in str(failure)

        proxy.decide = never
        assert rows(lakehouse, 'SELECT count(*) FROM "far".big WHERE v > 5') == [(BIG_ROWS - 5,)]
