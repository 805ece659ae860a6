"""What has expired is deleted by the server where nobody else does it, and nothing else is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from bucketing import add_bucket
from msgspec.structs import replace
from query.asking import rows, run

from flightserver.catalog.entities import S3, Bucket, LifecycleRule, S3Place
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import PutBucket
from flightserver.errors import BackendUnavailable
from flightserver.federation.expiring import ABORTED, EXPIRED, FAILED, Expiry
from flightserver.federation.lifecycle import described, set_rules
from flightserver.lakehouse import Lakehouse
from flightserver.storage.buckets import Buckets, OpenBucket
from flightserver.storage.memory import MemoryObjects

if TYPE_CHECKING:
    from federation.conftest import Moto
    from s3server import S3Server

    from flightserver.settings import Settings
    from flightserver.storage.objects import Objects

PATIENCE = 60.0
WEEK = LifecycleRule("_staging/uploads/", expire_days=7)


def put_rules(lakehouse: Lakehouse, name: str, *rules: LifecycleRule) -> None:
    set_rules(lakehouse.catalog, lakehouse.buckets.get(name), rules, Operation(id=new_ulid(), kind="test"))


def look(lakehouse: Lakehouse, *, days: float) -> None:
    """Look at what has expired, so many days from now."""
    later = datetime.now(UTC) + timedelta(days=days)
    Expiry(lakehouse.catalog, lakehouse.buckets, lakehouse.events, 3600, clock=lambda: later).look()


def keys(objects: Objects, prefix: str = "") -> list[str]:
    return [meta.key for meta in objects.list(prefix)]


def told(lakehouse: Lakehouse, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Bucket and numbers of the events of a kind."""
    return [(event.bucket, json.loads(event.detail)) for event in lakehouse.events.entries() if event.kind == kind]


def test_objects_are_deleted_when_they_are_older_than_their_rule_says(lakehouse: Lakehouse) -> None:
    near = add_bucket(lakehouse, "near")
    put_rules(lakehouse, "near", WEEK, LifecycleRule("logs/", expire_days=1))
    for key in ("_staging/uploads/a", "_staging/uploads/b/c", "_staging/uploadsx/a", "logs/a", "readme"):
        near.objects.put(key, b"123")

    look(lakehouse, days=0.9)
    assert len(keys(near.objects)) == 5

    look(lakehouse, days=6.9)
    assert keys(near.objects) == ["_staging/uploads/a", "_staging/uploads/b/c", "_staging/uploadsx/a", "readme"]

    look(lakehouse, days=7.1)
    assert keys(near.objects) == ["_staging/uploadsx/a", "readme"]
    assert told(lakehouse, EXPIRED) == [
        ("near", {"prefix": "logs/", "days": 1, "objects": 1, "bytes": 3}),
        ("near", {"prefix": "_staging/uploads/", "days": 7, "objects": 2, "bytes": 6}),
    ]


def test_objects_of_different_age_are_told_apart(lakehouse: Lakehouse) -> None:
    class Aged(MemoryObjects):
        def list(self, prefix: str, *, after: str = "") -> Any:
            for number, meta in enumerate(super().list(prefix, after=after)):
                age = timedelta(days=number, hours=1)
                yield type(meta)(meta.key, meta.size, meta.etag, datetime.now(UTC) - age)

    add_bucket(lakehouse, "near")
    put_rules(lakehouse, "near", replace(WEEK, expire_days=2))
    objects = Aged()
    for number in range(5):
        objects.put(f"_staging/uploads/{number}", b"1")
    buckets = Buckets()
    buckets.add(OpenBucket("near", objects, "lakehouse-near"))

    Expiry(lakehouse.catalog, buckets, lakehouse.events, 3600).look()

    assert keys(objects) == ["_staging/uploads/0", "_staging/uploads/1"]


def test_what_the_catalog_names_is_spared_whatever_a_rule_says(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE people AS SELECT 1 AS id")
    objects = lakehouse.buckets.get("primary").objects
    objects.put("_vectors/people/1.idx", b"1")
    objects.put("readme", b"1")
    wrong = replace(described(lakehouse.catalog, "primary"), lifecycle=(LifecycleRule("", expire_days=1),))
    lakehouse.catalog.commit(Transaction(Operation(id=new_ulid(), kind="test"), (PutBucket(wrong),)))
    before = keys(objects)

    look(lakehouse, days=400)

    assert keys(objects) == [key for key in before if key != "readme"]
    assert rows(lakehouse, "SELECT id FROM people") == [(1,)]


def test_where_the_s3_server_has_no_lifecycle_rules_objects_and_unfinished_uploads_are_deleted(
    lakehouse: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    far = add_bucket(lakehouse, s3_server.bucket("far", s3_bucket, "some/prefix"))
    put_rules(lakehouse, "far", replace(WEEK, abort_upload_days=2))
    far.objects.put("_staging/uploads/a", b"123")
    s3 = s3_server.client()
    for key in ("some/prefix/_staging/uploads/b", "some/prefix/_staging/uploads/c", "_staging/uploads/of-others"):
        s3.create_multipart_upload(Bucket=s3_bucket, Key=key)

    look(lakehouse, days=1.9)
    assert len(s3.list_multipart_uploads(Bucket=s3_bucket)["Uploads"]) == 3

    look(lakehouse, days=2.1)
    assert keys(far.objects) == ["_staging/uploads/a"]
    assert [upload["Key"] for upload in s3.list_multipart_uploads(Bucket=s3_bucket)["Uploads"]] == [
        "_staging/uploads/of-others"
    ]
    assert told(lakehouse, ABORTED) == [("far", {"prefix": "_staging/uploads/", "days": 2, "uploads": 2})]

    look(lakehouse, days=7.1)
    assert keys(far.objects) == []
    assert told(lakehouse, EXPIRED) == [("far", {"prefix": "_staging/uploads/", "days": 7, "objects": 1, "bytes": 3})]


def test_a_bucket_whose_s3_server_applies_its_rules_is_left_to_it(lakehouse: Lakehouse, moto: Moto) -> None:
    s3_bucket = moto.make()
    far = add_bucket(lakehouse, moto.bucket("far", s3_bucket))
    put_rules(lakehouse, "far", WEEK)
    far.objects.put("_staging/uploads/a", b"123")

    look(lakehouse, days=8)
    assert keys(far.objects) == ["_staging/uploads/a"]

    moto.client().delete_bucket_lifecycle(Bucket=s3_bucket)
    look(lakehouse, days=8)
    assert keys(far.objects) == []


def test_a_bucket_that_can_not_be_reached_keeps_no_other_from_its_turn(lakehouse: Lakehouse) -> None:
    place = S3Place("x", endpoint="http://127.0.0.1:1", credentials="environment:FLIGHTSERVER_TEST_ABSENT")
    add_bucket(lakehouse, Bucket("closed", S3, s3=place, lifecycle=(WEEK,)))
    near = add_bucket(lakehouse, "near")
    put_rules(lakehouse, "near", WEEK)
    near.objects.put("_staging/uploads/a", b"123")

    look(lakehouse, days=8)

    assert keys(near.objects) == []
    [(bucket, facts)] = told(lakehouse, FAILED)
    assert (bucket, facts["code"]) == ("closed", "FS-3004")


def test_what_was_deleted_before_a_failure_is_told(lakehouse: Lakehouse) -> None:
    class Failing(MemoryObjects):
        def delete(self, key: str) -> None:
            if key.endswith("b"):
                raise BackendUnavailable("the disk is gone")
            super().delete(key)

    add_bucket(lakehouse, "near")
    put_rules(lakehouse, "near", WEEK)
    objects = Failing()
    for name in "abc":
        objects.put(f"_staging/uploads/{name}", b"1")
    buckets = Buckets()
    buckets.add(OpenBucket("near", objects, "lakehouse-near"))
    later = datetime.now(UTC) + timedelta(days=8)

    Expiry(lakehouse.catalog, buckets, lakehouse.events, 3600, clock=lambda: later).look()

    assert [facts["objects"] for _, facts in told(lakehouse, EXPIRED)] == [1]
    assert [facts["error"] for _, facts in told(lakehouse, FAILED)] == ["the disk is gone"]


def test_two_servers_may_do_it_at_the_same_time(lakehouse: Lakehouse, settings: Settings) -> None:
    near = add_bucket(lakehouse, "near")
    put_rules(lakehouse, "near", WEEK)
    for number in range(100):
        near.objects.put(f"_staging/uploads/{number}", b"1")
    with Lakehouse.open(settings) as other:
        both = threading.Barrier(2)

        def begin(one: Lakehouse) -> None:
            both.wait()
            look(one, days=8)

        threads = [threading.Thread(target=begin, args=(one,)) for one in (lakehouse, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert told(lakehouse, FAILED) == told(other, FAILED) == []
    assert keys(near.objects) == []


def test_an_open_lakehouse_looks_by_itself_until_it_is_closed(settings: Settings) -> None:
    often = replace(settings, buckets=replace(settings.buckets, expire_seconds=0.01))
    with Lakehouse.open(often) as lakehouse:
        looked = threading.Semaphore(0)
        place = S3Place("x", endpoint="http://127.0.0.1:1", credentials="environment:FLIGHTSERVER_TEST_ABSENT")
        record = lakehouse.events.record

        def tell(kind: str, bucket: str = "", dataset: str = "", **detail: object) -> None:
            record(kind, bucket, dataset, **detail)
            if kind == FAILED:
                looked.release()

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(lakehouse.events, "record", tell)
            add_bucket(lakehouse, Bucket("closed", S3, s3=place, lifecycle=(WEEK,)))
            assert looked.acquire(timeout=PATIENCE)
            assert looked.acquire(timeout=PATIENCE)
    names = [thread.name for thread in threading.enumerate()]
    assert "bucket-expiry" not in names


WRITER = """
import sys, pathlib
from flightserver.storage.local import LocalObjects
writer = LocalObjects(pathlib.Path(sys.argv[1])).writer("datasets/t/part")
writer.write(b"x" * 1_000_000)
print("writing", flush=True)
sys.stdin.read()
"""


def test_temporary_files_of_a_server_that_was_killed_go_with_the_next_look(lakehouse: Lakehouse) -> None:
    near = add_bucket(lakehouse, "near")
    assert near.local_root is not None
    temporaries = near.local_root / "_staging" / ".tmp"
    other = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(near.local_root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    other.stdout.readline()
    for file in temporaries.iterdir():
        os.utime(file, (0, 0))
    look(lakehouse, days=0)
    assert len(list(temporaries.iterdir())) == 1

    other.kill()
    other.communicate()
    look(lakehouse, days=0)

    assert list(temporaries.iterdir()) == []
