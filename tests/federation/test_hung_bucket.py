"""Statements on a bucket whose server hangs, and those on others meanwhile."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from bucketing import add_bucket
from faults.faulty_proxy import Fault, Proxy, always_hang, never
from msgspec.structs import replace
from query.asking import rows, run

from flightserver.catalog.entities import RESCUE
from flightserver.errors import BackendUnavailable
from flightserver.lakehouse import Lakehouse
from flightserver.query.namespace import MAX_VIEW_DEPTH
from flightserver.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from s3server import S3Server

SECONDS = 60
"""For what takes no time."""
HUNG = 48
"""Statements that hang: more than any pool of threads that they could share with others."""
PATIENT = {"request_seconds": 600, "retry_seconds": 600, "retries": 0, "check_seconds": 600}
"""A request waits until the proxy is closed, and isn't repeated then."""
QUICK = {"request_seconds": 1.5, "connect_seconds": 0.5, "retry_seconds": 3.0, "retries": 10, "check_seconds": 600}


@contextmanager
def federated(
    data: Path, server: S3Server, bucket: str, proxy: Proxy, patience: Mapping[str, float]
) -> Iterator[Lakehouse]:
    """A lakehouse with a bucket `near` and, behind the proxy, a bucket `far`; in both a table `t` and a view `v`."""
    settings = load_settings(None, {"server": {"data": data}, "buckets": patience, "cache": {"max_bytes": 0}})
    with Lakehouse.open(settings) as lakehouse:
        add_bucket(lakehouse, "near")
        add_bucket(lakehouse, replace(server.bucket("far", bucket), s3=server.place(bucket, endpoint=proxy.endpoint)))
        for name in ("near", "far"):
            run(lakehouse, f'CREATE TABLE "{name}".t AS SELECT value AS id FROM range(10)')
            run(lakehouse, f'CREATE VIEW "{name}".v AS SELECT max(id) AS biggest FROM "{name}".t')
        yield lakehouse


def wait_for(proxy: Proxy, hanging: int) -> None:
    """Until so many requests hang."""
    deadline = time.monotonic() + SECONDS
    while sum(asked.fault is Fault.HANG for asked in proxy.asked) < hanging:
        assert time.monotonic() < deadline, "too few statements have come to ask the server"
        time.sleep(0.01)


def test_statements_on_a_hung_bucket_hold_up_no_others_however_many(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    proxy = Proxy(s3_server.endpoint)
    with (
        federated(tmp_path, s3_server, s3_bucket, proxy, PATIENT) as lakehouse,
        ThreadPoolExecutor(HUNG + 1) as threads,
    ):
        with proxy:
            names = ["near.v", *(f"near.v{depth}" for depth in range(2, MAX_VIEW_DEPTH + 1))]
            for outer, inner in zip(names[1:], names[:-1], strict=True):
                run(lakehouse, f"CREATE VIEW {outer} AS SELECT biggest FROM {inner}")
            proxy.decide = always_hang
            asked = ["SELECT max(id) FROM far.t", "SELECT biggest FROM far.v"] * (HUNG // 2)
            hung = [threads.submit(rows, lakehouse, sql) for sql in asked]
            wait_for(proxy, HUNG)

            for sql in ("SELECT max(id) FROM near.t", *(f"SELECT biggest FROM {name}" for name in names)):
                assert threads.submit(rows, lakehouse, sql).result(SECONDS) == [(9,)]
            inserted = threads.submit(rows, lakehouse, "INSERT INTO near.t SELECT id + 10 FROM near.t")
            assert inserted.result(SECONDS) == [(10,)]

            assert not any(one.done() for one in hung)
        assert [type(one.exception(SECONDS)) for one in hung] == [BackendUnavailable] * HUNG


def requests(proxy: Proxy) -> list[str]:
    """What was asked since this was called last."""
    found = [asked.method for asked in proxy.asked]
    proxy.asked.clear()
    return found


def test_a_bucket_that_was_waited_for_in_vain_is_not_waited_for_by_the_next_statement(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    with (
        Proxy(s3_server.endpoint) as proxy,
        federated(tmp_path, s3_server, s3_bucket, proxy, QUICK) as lakehouse,
    ):
        lakehouse.keeper.stop()  # its looks are requests too
        proxy.decide = always_hang
        requests(proxy)
        with pytest.raises(BackendUnavailable, match="the S3 server of this bucket doesn't answer: it hasn't "):
            rows(lakehouse, "SELECT max(id) FROM far.t")
        assert requests(proxy) == ["HEAD"] * 2
        with pytest.raises(BackendUnavailable, match="seconds ago it was waited for in vain"):
            rows(lakehouse, "SELECT max(id) FROM far.t")
        assert requests(proxy) == ["HEAD"]

        proxy.decide = never
        assert lakehouse.keeper.check("far").reachable
        assert rows(lakehouse, "SELECT max(id) FROM far.t") == [(9,)]
        assert rows(lakehouse, "INSERT INTO far.t VALUES (10)") == [(1,)]
        assert rows(lakehouse, "SELECT biggest FROM far.v") == [(10,)]


@pytest.mark.parametrize(
    ("sql", "asked"),
    [
        ('CREATE TABLE "far".c AS SELECT 1 AS id', ["PUT"] * 2),
        ('INSERT INTO "far".t VALUES (10)', ["HEAD"] * 2),
        ("DELETE FROM far.t WHERE id = 3", ["HEAD"] * 2),
        ("UPDATE far.t SET id = 13 WHERE id = 3", ["HEAD"] * 2),
    ],
)
def test_a_write_that_has_waited_in_vain_does_not_wait_again_to_clean_up(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, sql: str, asked: list[str]
) -> None:
    with (
        Proxy(s3_server.endpoint) as proxy,
        federated(tmp_path, s3_server, s3_bucket, proxy, QUICK) as lakehouse,
    ):
        lakehouse.keeper.stop()
        proxy.decide = always_hang
        requests(proxy)
        with pytest.raises(BackendUnavailable, match="doesn't answer"):
            run(lakehouse, sql)
        assert requests(proxy) == asked


def test_a_write_that_the_server_refuses_is_cleaned_up(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    """What was written before is deleted, by a server that answers."""
    with (
        Proxy(s3_server.endpoint) as proxy,
        federated(tmp_path, s3_server, s3_bucket, proxy, QUICK) as lakehouse,
    ):
        objects = lakehouse.buckets.get("far").objects
        before = [meta.key for meta in objects.list("datasets/")]
        proxy.decide = lambda method, path, *_: (
            Fault.BUSY if method == "PUT" and path.endswith("_segment.json") else Fault.NONE
        )
        with pytest.raises(BackendUnavailable, match="503"):
            run(lakehouse, "INSERT INTO far.t VALUES (10)")
        assert [meta.key for meta in objects.list("datasets/")] == before


def test_a_silent_bucket_is_read_from_rescue(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    with (
        Proxy(s3_server.endpoint) as proxy,
        federated(tmp_path, s3_server, s3_bucket, proxy, QUICK) as lakehouse,
    ):
        add_bucket(lakehouse, RESCUE)
        list(lakehouse.mirror.mirror("far"))
        proxy.decide = always_hang

        assert [rows(lakehouse, "SELECT max(id) FROM far.t") for _ in range(3)] == [[(9,)]] * 3


def test_a_look_that_waits_in_vain_tells_reads_as_well(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    with (
        Proxy(s3_server.endpoint) as proxy,
        federated(tmp_path, s3_server, s3_bucket, proxy, QUICK) as lakehouse,
    ):
        lakehouse.keeper.stop()
        requests(proxy)
        proxy.decide = always_hang
        assert not lakehouse.keeper.check("far").reachable
        assert requests(proxy) == ["GET"] * 2

        with pytest.raises(BackendUnavailable, match="seconds ago it was waited for in vain"):
            rows(lakehouse, "SELECT max(id) FROM far.t")

        assert requests(proxy) == ["HEAD"]
