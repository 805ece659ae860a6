"""A bucket that has gone isn't reachable because something answers in its place, nor are its files called missing."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import threading
from contextlib import contextmanager
from dataclasses import astuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from bucketing import add_bucket
from faults.faulty_proxy import Proxy
from federation.rescuing import lose, make_trips, mirrored, opened
from msgspec.structs import replace
from query.asking import rows, run
from tables.moving import dataset, move, operation

from flightserver.catalog.entities import LOCAL, PRIMARY, RESCUE, Bucket
from flightserver.errors import AlreadyExists, BackendUnavailable, InvalidRequest
from flightserver.federation.claims import CLAIM
from flightserver.federation.usage import measure
from flightserver.lakehouse import Lakehouse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3server import S3Server

TRIPS = "SELECT count(*), sum(id), sum(zone) FROM trips"
LOST = "bucket unreachable"
UNMOUNTED = "the directory of bucket 'far' isn't there: is its disk mounted?"
EMPTY = "nothing of it is there: is its disk mounted?"
EMPTY_S3 = "nothing of it is there: the S3 bucket is empty"
NO_BUCKET = "the S3 bucket isn't there"
NO_CLAIM = f"object '{CLAIM}' of bucket 'far' should say which lakehouse has its files there, and doesn't"


class Site(BaseHTTPRequestHandler):
    """A web server that knows nothing of S3: it answers all requests by the same page.

    Attributes:
        status: Of its answers.
    """

    status = 404

    def do_GET(self) -> None:
        page = b"<!DOCTYPE html><html><body>Welcome</body></html>"
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815  # names of the base class

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # name of the base class
        """Say nothing."""


class Welcoming(Site):
    """One whose page is never missing."""

    status = 200


@contextmanager
def site_instead_of(server: S3Server, kind: type[Site]) -> Iterator[None]:
    """Let a web server answer at the address of the S3 server."""
    server.stop()
    port = int(server.endpoint.rpartition(":")[2])
    try:
        with ThreadingHTTPServer(("127.0.0.1", port), kind) as site:
            thread = threading.Thread(target=site.serve_forever)
            thread.start()
            try:
                yield
            finally:
                site.shutdown()
                thread.join()
    finally:
        server.start()


@contextmanager
def gone(how: str, server: S3Server, s3_bucket: str) -> Iterator[None]:
    """Put the S3 bucket away in some way, and back."""
    away = server.directory.parent / f"{s3_bucket}-away"
    if how.startswith("site"):
        with site_instead_of(server, Welcoming if how == "site 200" else Site):
            yield
        return
    shutil.move(server.directory / s3_bucket, away)
    if how == "emptied":
        server.make(s3_bucket)
    try:
        yield
    finally:
        shutil.rmtree(server.directory / s3_bucket, ignore_errors=True)
        shutil.move(away, server.directory / s3_bucket)


def reason(how: str, *, claimed: bool) -> str:
    """What is said of a bucket that has gone in this way."""
    answers = {"deleted": NO_BUCKET, "emptied": EMPTY_S3, "site 404": "answers 404"}
    return answers.get(how, NO_CLAIM) if claimed or how != "site 200" else NO_CLAIM


def make_far(lakehouse: Lakehouse, bucket: Bucket, *, claimed: bool = True) -> None:
    """A bucket, which may be one of an earlier release, without a claim."""
    if claimed:
        lakehouse.bucket_service.create(bucket, operation("create bucket"))
    else:
        add_bucket(lakehouse, bucket)


def told(lakehouse: Lakehouse, kind: str, bucket: str = "far") -> list[str]:
    """Errors or reasons of events of a kind."""
    found = [json.loads(one.detail) for one in lakehouse.events.entries() if (one.kind, one.bucket) == (kind, bucket)]
    return [one.get("error", one.get("reason")) for one in found]


def assert_unreachable(lakehouse: Lakehouse, why: str) -> None:
    """All say that bucket `far` isn't there, and nobody that a file is missing, or that there are no files."""
    lost = f"bucket 'far' can't be reached: .*{re.escape(why)}"
    health = lakehouse.keeper.check("far")
    assert not health.reachable
    assert why in str(health.error)
    assert list(lakehouse.keeper.unreachable()) == ["far"]
    (event,) = told(lakehouse, LOST)
    assert why in event
    found = lakehouse.bucket_service.check("far")
    assert why in str(found.error)
    assert astuple(found)[:4] == (False,) * 4
    for sql in (TRIPS, "UPDATE trips SET zone = 1 WHERE id = 7", "SELECT zone FROM trips WHERE id = 100001"):
        with pytest.raises(BackendUnavailable) as caught:
            rows(lakehouse, sql)
        assert why in caught.value.message
        assert "backup" not in caught.value.message
        assert "primary" not in caught.value.message
    with pytest.raises(BackendUnavailable, match=lost):
        list(measure(lakehouse.buckets.get("far"), lakehouse.catalog.snapshot(), lakehouse.collector))
    with pytest.raises(BackendUnavailable, match=lost):
        list(lakehouse.collector.collect("far", operation("collect")))
    with pytest.raises(BackendUnavailable, match=re.escape(why)):
        move(lakehouse, "trips", PRIMARY, "far")
    with pytest.raises(BackendUnavailable, match=f"the objects of bucket 'far' can't be deleted: .*{re.escape(why)}"):
        list(lakehouse.bucket_service.drop("far", "delete", operation("drop bucket")))
    assert dataset(lakehouse, "trips", "far").bucket == "far"


@pytest.mark.parametrize("claimed", [True, False])
@pytest.mark.parametrize("how", ["deleted", "emptied", "site 404", "site 200"])
def test_an_s3_bucket_that_has_gone_is_unreachable(
    how: str, *, claimed: bool, s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    with opened(tmp_path / "data", check_seconds=600) as lakehouse:
        make_far(lakehouse, s3_server.bucket("far", s3_bucket), claimed=claimed)
        make_trips(lakehouse, "far")
        lakehouse.keeper.stop()
        before = rows(lakehouse, TRIPS)
    with opened(tmp_path / "data", check_seconds=600) as lakehouse:
        lakehouse.keeper.stop()
        with gone(how, s3_server, s3_bucket):
            assert_unreachable(lakehouse, reason(how, claimed=claimed))

        assert lakehouse.keeper.check("far").reachable
        assert rows(lakehouse, TRIPS) == before
        assert lakehouse.bucket_service.check("far").readable


@pytest.mark.parametrize("how", ["deleted", "site 404", "site 200"])
def test_what_is_read_from_rescue_meanwhile_says_that_the_bucket_has_gone(
    how: str, s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    with opened(tmp_path / "data") as lakehouse:
        make_far(lakehouse, s3_server.bucket("far", s3_bucket))
        add_bucket(lakehouse, RESCUE)
        make_trips(lakehouse, "far")
        mirrored(lakehouse)
        before = rows(lakehouse, TRIPS)
    with opened(tmp_path / "data", check_seconds=600) as lakehouse:
        lakehouse.keeper.stop()
        with gone(how, s3_server, s3_bucket):
            assert not lakehouse.keeper.check("far").reachable
            assert rows(lakehouse, TRIPS) == before
            assert [reason(how, claimed=True) in one for one in told(lakehouse, LOST)] == [True]
            assert set(told(lakehouse, "read from rescue")) == {"the bucket didn't answer a moment ago"}
            move(lakehouse, "trips", PRIMARY, "far")
        assert rows(lakehouse, TRIPS) == before


def test_the_first_read_that_finds_a_bucket_gone_says_so(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    with opened(tmp_path / "data", check_seconds=600) as lakehouse:
        make_far(lakehouse, s3_server.bucket("far", s3_bucket))
        add_bucket(lakehouse, RESCUE)
        run(lakehouse, "CREATE TABLE far.trips AS SELECT value AS id, value % 7 AS zone FROM range(100000)")
        mirrored(lakehouse)
        before = rows(lakehouse, TRIPS)
        with gone("deleted", s3_server, s3_bucket):
            assert rows(lakehouse, TRIPS) == before
            (why,) = told(lakehouse, "read from rescue")
            assert why.startswith("bucket 'far' can't be reached: ")
            assert NO_BUCKET in why


def test_a_bucket_that_lacks_one_file_is_reachable(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    with opened(tmp_path / "data") as lakehouse:
        make_far(lakehouse, s3_server.bucket("far", s3_bucket), claimed=False)
        make_trips(lakehouse, "far")
        (key,) = dataset(lakehouse, "trips", "far").segments[0].object_keys()
        lose(lakehouse, key)

        assert lakehouse.keeper.check("far").reachable
        with pytest.raises(BackendUnavailable, match=f"file '{key}' of bucket 'far' is missing: restore"):
            rows(lakehouse, TRIPS)


def test_an_empty_bucket_in_which_nothing_should_be_is_reachable(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    with opened(tmp_path / "data") as lakehouse:
        make_far(lakehouse, s3_server.bucket("far", s3_bucket), claimed=False)
        make_far(lakehouse, Bucket("near", LOCAL), claimed=False)

        assert lakehouse.keeper.check("far").reachable
        assert lakehouse.keeper.check("near").reachable


def test_a_mirror_of_a_bucket_that_has_gone_is_not_of_nothing(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    with opened(tmp_path / "data") as lakehouse:
        make_far(lakehouse, s3_server.bucket("far", s3_bucket))
        add_bucket(lakehouse, RESCUE)
        with gone("deleted", s3_server, s3_bucket), pytest.raises(BackendUnavailable, match=NO_BUCKET):
            mirrored(lakehouse)
        assert mirrored(lakehouse).already == 0


def test_nothing_is_mirrored_to_a_disk_that_is_not_mounted(tmp_path: Path) -> None:
    root = tmp_path / "data" / "buckets" / RESCUE
    with opened(tmp_path / "data", check_seconds=600) as lakehouse:
        lakehouse.keeper.stop()
        lakehouse.bucket_service.create(Bucket(RESCUE, LOCAL), operation("create bucket"))
        add_bucket(lakehouse, "far")
        make_trips(lakehouse, "far")
        run(lakehouse, "CREATE TABLE rescue.kept AS SELECT 1 AS id")
        shutil.move(root, tmp_path / "away")
        root.mkdir()

        with pytest.raises(BackendUnavailable, match=f"bucket 'rescue' can't be reached: {EMPTY}"):
            mirrored(lakehouse)
        with pytest.raises(BackendUnavailable, match=f"bucket 'rescue' can't be reached: {EMPTY}"):
            rows(lakehouse, "SELECT id FROM rescue.kept")

        assert list(root.iterdir()) == []


@pytest.mark.parametrize(("with_files", "left"), [(True, False), (True, True), (False, False)])
def test_a_server_that_starts_without_a_disk_writes_nothing_in_its_place(
    tmp_path: Path, *, with_files: bool, left: bool
) -> None:
    """Earlier releases, or a look in the wrong moment, may have left the directory of temporary files there."""
    root = tmp_path / "data" / "buckets" / "far"
    with opened(tmp_path / "data") as lakehouse:
        lakehouse.bucket_service.create(Bucket("far", LOCAL), operation("create bucket"))
        if with_files:
            make_trips(lakehouse, "far")
    shutil.move(root, tmp_path / "away")
    root.mkdir()
    if left:
        (root / "_staging" / ".tmp").mkdir(parents=True)
    before = sorted(root.rglob("*"))

    with opened(tmp_path / "data") as lakehouse:
        assert lakehouse.keeper.check("far").error == EMPTY
        with pytest.raises(BackendUnavailable, match=EMPTY):
            run(lakehouse, "CREATE TABLE far.more AS SELECT 1 AS id")
        assert sorted(root.rglob("*")) == before

        shutil.rmtree(root)
        shutil.move(tmp_path / "away", root)
        lakehouse.keeper.refresh()
        run(lakehouse, "CREATE TABLE far.more AS SELECT 1 AS id")


def test_a_disk_that_fails_when_it_is_looked_at_stops_no_look_at_others(tmp_path: Path) -> None:
    """As a network file system does whose server forgot it: no system call on the directory works."""
    with opened(tmp_path / "data", check_seconds=600) as lakehouse:
        lakehouse.keeper.stop()
        for name in ("far", "near"):
            lakehouse.bucket_service.create(Bucket(name, LOCAL), operation("create bucket"))
        root = str(tmp_path / "data" / "buckets" / "far")
        asked = os.stat

        def stale(path: Any, *args: Any, **named: Any) -> os.stat_result:
            if isinstance(path, str | os.PathLike) and os.fspath(path) == root:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            return asked(path, *args, **named)

        with patch.object(os, "stat", stale):
            assert not lakehouse.keeper.check("far").reachable
            lakehouse.keeper.refresh()
            assert lakehouse.keeper.check("near").reachable


def test_a_look_at_a_bucket_costs_one_request(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    with Proxy(s3_server.endpoint) as proxy, opened(tmp_path / "data", check_seconds=600) as lakehouse:
        lakehouse.keeper.stop()
        far = s3_server.bucket("far", s3_bucket)
        make_far(lakehouse, replace(far, s3=s3_server.place(s3_bucket, endpoint=proxy.endpoint)))
        make_trips(lakehouse, "far")
        proxy.asked.clear()

        assert lakehouse.keeper.check("far").reachable

        assert [one.method for one in proxy.asked] == ["GET"]


def test_the_place_of_another_lakehouse_is_not_ours(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    client = s3_server.client()
    with opened(tmp_path / "other") as other:
        make_far(other, s3_server.bucket("others", s3_bucket))
    theirs = client.get_object(Bucket=s3_bucket, Key=CLAIM)["Body"].read()
    client.delete_object(Bucket=s3_bucket, Key=CLAIM)
    with opened(tmp_path / "data") as lakehouse:
        make_far(lakehouse, s3_server.bucket("far", s3_bucket))
        assert lakehouse.keeper.check("far").reachable
        client.put_object(Bucket=s3_bucket, Key=CLAIM, Body=theirs)

        health = lakehouse.keeper.check("far")
        found = lakehouse.bucket_service.check("far")

        anothers = "another lakehouse has its bucket 'others' in the place of bucket 'far'"
        assert str(health.error).startswith(anothers)
        assert str(found.error).startswith(anothers)
        with pytest.raises(AlreadyExists, match=anothers):
            lakehouse.bucket_service.check_own("far")


# Local buckets


@contextmanager
def put_away(root: Path, how: str) -> Iterator[None]:
    """Put a directory away in some way, and back."""
    away = root.parent / "away"
    shutil.move(root, away)
    if how == "emptied":
        root.mkdir()
    elif how == "a file":
        root.write_text("not a directory")
    try:
        yield
        if how == "emptied":
            assert list(root.iterdir()) == []
    finally:
        if how == "a file":
            root.unlink()
        elif how == "emptied":
            shutil.rmtree(root)
        shutil.move(away, root)


@pytest.mark.parametrize("claimed", [True, False])
@pytest.mark.parametrize("how", ["removed", "emptied", "a file"])
def test_a_directory_that_has_gone_is_unreachable(how: str, *, claimed: bool, tmp_path: Path) -> None:
    with opened(tmp_path / "data", check_seconds=600) as lakehouse:
        lakehouse.keeper.stop()
        make_far(lakehouse, Bucket("far", LOCAL), claimed=claimed)
        make_trips(lakehouse, "far")
    with opened(tmp_path / "data", check_seconds=600) as lakehouse:
        lakehouse.keeper.stop()
        lakehouse.keeper.refresh()
        with put_away(tmp_path / "data" / "buckets" / "far", how):
            assert_unreachable(lakehouse, EMPTY if how == "emptied" else UNMOUNTED)

        assert lakehouse.keeper.check("far").reachable
        assert rows(lakehouse, "SELECT count(*) FROM trips") == [(100002,)]


@pytest.mark.parametrize("how", ["removed", "emptied", "a file"])
def test_a_write_to_a_directory_that_has_gone_blames_the_directory(how: str, tmp_path: Path) -> None:
    with opened(tmp_path / "data", check_seconds=600) as lakehouse:
        lakehouse.keeper.stop()
        add_bucket(lakehouse, "far")
        with put_away(tmp_path / "data" / "buckets" / "far", how):
            with pytest.raises(BackendUnavailable, match="the directory of this bucket isn't there") as caught:
                rows(lakehouse, "CREATE TABLE far.t AS SELECT 1 AS id")
            assert str(tmp_path) not in caught.value.message


def test_a_key_below_an_object_is_still_the_fault_of_who_asks(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as lakehouse:
        objects = add_bucket(lakehouse, "far").objects
        objects.put("a", b"1")
        with pytest.raises(InvalidRequest, match="a part of the key is an object"):
            objects.put("a/b/c", b"2")


# The bucket of the catalog


@pytest.mark.parametrize("how", ["deleted", "site 404", "site 200"])
def test_the_bucket_of_the_catalog_that_has_gone_is_unreachable(
    how: str, s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    buckets = {"retries": 0, "retry_seconds": 0, "check_seconds": 600}
    with Lakehouse.open(s3_server.settings(tmp_path / "data", s3_bucket, buckets=buckets)) as lakehouse:
        lakehouse.keeper.stop()
        assert lakehouse.keeper.check(PRIMARY).reachable
        with gone(how, s3_server, s3_bucket):
            health = lakehouse.keeper.check(PRIMARY)
        assert not health.reachable
        assert {"deleted": NO_BUCKET, "site 404": "answers 404"}.get(how, "isn't what was written there") in str(
            health.error
        )
        assert lakehouse.keeper.check(PRIMARY).reachable


def test_the_catalog_of_another_lakehouse_in_the_place_of_ours_is_told(tmp_path: Path) -> None:
    with opened(tmp_path / "other"):
        pass
    with opened(tmp_path / "data", check_seconds=600) as lakehouse:
        lakehouse.keeper.stop()
        home, away = tmp_path / "data" / PRIMARY, tmp_path / "away"
        shutil.move(home, away)
        shutil.copytree(tmp_path / "other" / PRIMARY, home)

        assert lakehouse.keeper.check(PRIMARY).error == "another lakehouse has its catalog there"

        shutil.rmtree(home)
        home.mkdir()
        assert lakehouse.keeper.check(PRIMARY).error == EMPTY
        shutil.rmtree(home)
        shutil.move(away, home)
        assert lakehouse.keeper.check(PRIMARY).reachable
