"""Vector indexes on an S3 server behind a network that fails: every search answers, and answers right.

The dataset is in a local bucket. So a search never depends on the server that fails: where the object of an index can't
be read, vectors are read from the dataset.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from catalog.making import transaction
from faults.faulty_proxy import Proxy, at_random, never
from faults.test_s3_faults import FAILING, NO_CACHE, PATIENT
from msgspec.structs import replace as changed
from query.asking import run
from vectors.indexed import create, expected, make_docs, move, nearest, refresh

from flightserver.catalog.updates import PutBucket
from flightserver.errors import FlightserverError
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from s3server import S3Server

OPERATIONS = 200 if os.environ.get("FLIGHTSERVER_TEST_THOROUGH") == "1" else 60
INDEXES = ("first", "second")
EAST = expected(0, 0, 1, 359)


class Owner:
    """Refreshes one index and moves it to and fro, as far as the network lets it.

    Args:
        name: The index.
        lakehouse: Where it is.

    Attributes:
        outcomes: How often each kind of operation ended how.
    """

    def __init__(self, name: str, lakehouse: Lakehouse) -> None:
        self.outcomes: Counter[str] = Counter()
        self._name = name
        self._lakehouse = lakehouse
        self._choose = random.Random(name)  # noqa: S311  # what to do, not secrets

    def work(self) -> None:
        """Do something, and search after each step."""
        kinds: dict[str, Callable[[], object]] = {"move": self._move, "refresh": self._refresh}
        for _ in range(OPERATIONS // len(INDEXES)):
            kind = self._choose.choice(list(kinds))
            try:
                kinds[kind]()
                self.outcomes[f"{kind} acknowledged"] += 1
            except FlightserverError as error:
                self.outcomes[f"{kind} {type(error).__name__}"] += 1
            for name in INDEXES:  # one is open at a time, so that each search may have to fetch the other
                assert nearest(self._lakehouse, 0, name=name) == EAST

    def _home(self) -> str:
        return self._lakehouse.catalog.snapshot().index(self._name).bucket

    def _move(self) -> None:
        home = self._home()
        other = {"primary": "far", "far": "primary"}[home]
        assert move(self._lakehouse, other, self._name, source=home).index.bucket == other
        assert self._home() == other

    def _refresh(self) -> None:
        run(self._lakehouse, f"INSERT INTO docs VALUES ({self._choose.randint(1000, 10**9)}, [-1.0, 0.0])")
        refresh(self._lakehouse, self._name, bucket=self._home())


@pytest.mark.timeout(1200)
def test_no_search_fails_and_no_answer_is_wrong_while_indexes_are_moved_over_a_network_that_fails(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    settings = load_settings(
        None,
        {"server": {"data": tmp_path}, "buckets": PATIENT, "cache": NO_CACHE, "vectors": {"open_bytes": 1}},
    )
    with Proxy(s3_server.endpoint) as proxy, Lakehouse.open(settings) as lakehouse:
        bucket = changed(s3_server.bucket("far", s3_bucket), s3=s3_server.place(s3_bucket, endpoint=proxy.endpoint))
        lakehouse.catalog.commit(transaction(PutBucket(bucket)))
        make_docs(lakehouse)
        for name in INDEXES:
            create(lakehouse, name)
        owners = [Owner(name, lakehouse) for name in INDEXES]
        proxy.decide = at_random(seed=7, rate=FAILING)

        with ThreadPoolExecutor(len(owners)) as pool:
            list(pool.map(Owner.work, owners))

        outcomes = sum((owner.outcomes for owner in owners), Counter[str]())
        faults = Counter(asked.fault.value for asked in proxy.asked)
        proxy.decide = never
        for name in INDEXES:
            home = lakehouse.catalog.snapshot().index(name).bucket
            refresh(lakehouse, name, bucket=home)
            assert nearest(lakehouse, 0, name=name) == EAST
    record_testsuite_property(
        "s3 faults, indexes", f"operations {dict(sorted(outcomes.items()))}, requests {dict(sorted(faults.items()))}"
    )
    assert outcomes.total() == OPERATIONS
    assert outcomes["move acknowledged"]
