"""What lies in a bucket is counted once, as what it is."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from bucketing import add_bucket
from flightclient import connect
from flightclient.errors import FlightclientError
from query.asking import run

from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import BackendUnavailable
from flightserver.federation.usage import KINDS, Usage, measure
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings
from flightserver.storage.buckets import OpenBucket
from flightserver.storage.limits import VECTORS
from flightserver.storage.memory import MemoryObjects
from flightserver.storage.objects import ObjectMeta
from flightserver.tables.collecting import Collected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import RunningServer
    from s3server import S3Server

    from flightserver.storage.objects import Objects

MIB = 2**20


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Lakehouse]:
    """A lakehouse that keeps nothing for longer than a moment."""
    catalog = {"retention_hours": 0, "collect_grace_hours": 0}
    with Lakehouse.open(load_settings(None, {"server": {"data": tmp_path}, "catalog": catalog})) as opened:
        yield opened


def usage(lakehouse: Lakehouse, bucket: str) -> Usage:
    *_, last = measure(lakehouse.buckets.get(bucket), lakehouse.catalog.snapshot(), lakehouse.collector)
    assert isinstance(last, Usage)
    return last


def kinds(found: Usage) -> dict[str, tuple[int, int]]:
    """Objects and bytes of the kinds that there are."""
    return {kind: (amount.objects, amount.bytes) for kind, amount in found.kinds.items() if amount.objects}


def datasets(found: Usage) -> dict[str, tuple[int, int]]:
    """Objects of the newest version, and of earlier ones."""
    return {name: (one.newest.objects, one.past.objects) for (_, name), one in found.datasets.items()}


def below(objects: Objects, prefix: str) -> tuple[int, int]:
    """Objects and bytes under a prefix, counted by hand."""
    sizes = [meta.size for meta in objects.list(prefix)]
    return len(sizes), sum(sizes)


def unnamed(name: str = "people") -> str:
    return f"datasets/{name}/{new_ulid()}/part-00000.parquet"


def test_every_object_is_counted_once_as_what_it_is(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE people AS SELECT value AS id FROM generate_series(1, 100)")
    run(lakehouse, "DELETE FROM people WHERE id = 3")
    objects = lakehouse.buckets.get("primary").objects
    (delta,) = objects.list("datasets/people/deltas/")
    named = below(objects, "datasets/")
    objects.put(unnamed(), b"12345")
    objects.put(f"{VECTORS}people/1.idx", b"1234")
    objects.put("_staging/uploads/x", b"123")
    objects.put("datasets/people/notes.txt", b"12")
    objects.put("readme", b"1")

    found = usage(lakehouse, "primary")

    assert kinds(found) == {
        "datasets": (named[0] - 1, named[1] - delta.size),
        "deltas": (1, delta.size),
        "pending": (1, 5),
        "vectors": (1, 4),
        "staging": (1, 3),
        "catalog": below(objects, "_catalog/"),
        "other": (2, 3),
    }
    assert (found.total.objects, found.total.bytes) == below(objects, "")
    assert datasets(found) == {"people": (named[0], 0)}


def test_garbage_is_what_a_collection_would_delete(hasty: Lakehouse) -> None:
    run(hasty, "CREATE TABLE people AS SELECT 1 AS id")
    run(hasty, "CREATE TABLE animals AS SELECT 1 AS id")
    run(hasty, "DROP TABLE people")
    hasty.buckets.get("primary").objects.put(unnamed("animals"), b"12345")

    found = usage(hasty, "primary")

    operation = Operation(id=new_ulid(), kind="collect")
    *_, collected = hasty.collector.collect("primary", operation, dry_run=True)
    assert isinstance(collected, Collected)
    assert collected.objects > 1
    assert (found.kinds["garbage"].objects, found.kinds["garbage"].bytes) == (collected.objects, collected.bytes)
    assert found.kinds["datasets"].objects == collected.kept
    assert list(datasets(found)) == ["animals"]


def test_what_only_earlier_versions_name_is_the_past_of_its_dataset(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE people AS SELECT 1 AS id")
    run(lakehouse, "CREATE TABLE animals AS SELECT 1 AS id")
    run(lakehouse, "TRUNCATE TABLE people")
    run(lakehouse, "INSERT INTO people VALUES (2)")
    run(lakehouse, "DROP TABLE animals")

    objects = lakehouse.buckets.get("primary").objects
    assert datasets(usage(lakehouse, "primary")) == {
        "people": (below(objects, "datasets/people/")[0] // 2, below(objects, "datasets/people/")[0] // 2),
        "animals": (0, below(objects, "datasets/animals/")[0]),
    }


def test_files_belong_to_the_dataset_that_names_them_whatever_their_directory_is_called(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE people AS SELECT 1 AS id")
    run(lakehouse, "ALTER TABLE people RENAME TO persons")

    assert list(datasets(usage(lakehouse, "primary"))) == ["persons"]


def test_names_that_are_quoted_in_keys_read_as_they_are(lakehouse: Lakehouse) -> None:
    run(lakehouse, 'CREATE TABLE "größe 100%" AS SELECT 1 AS id')
    run(lakehouse, 'DROP TABLE "größe 100%"')

    assert list(datasets(usage(lakehouse, "primary"))) == ["größe 100%"]


def test_each_bucket_has_its_own_and_the_usage_of_one_on_s3_is_the_same_as_of_a_local_one(
    lakehouse: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    add_bucket(lakehouse, "near")
    add_bucket(lakehouse, s3_server.bucket("far", s3_bucket, "some/prefix"))
    s3_server.client().put_object(Bucket=s3_bucket, Key="of/others", Body=b"1")
    for bucket in ("near", "far"):
        run(lakehouse, "CREATE TABLE people AS SELECT 1 AS id", bucket=bucket)
        lakehouse.buckets.get(bucket).objects.put("_staging/uploads/x", b"123")

    near, far = usage(lakehouse, "near"), usage(lakehouse, "far")

    assert far.kinds["datasets"].objects == 2
    assert far.kinds["staging"].bytes == 3
    assert far.total.objects == 3
    assert {kind: amount.objects for kind, amount in near.kinds.items()} == {
        kind: amount.objects for kind, amount in far.kinds.items()
    }
    assert list(far.datasets) == [("far", "people")]
    assert usage(lakehouse, "primary").datasets == {}


def test_copies_in_the_rescue_bucket_belong_to_the_datasets_that_they_are_of(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE people AS SELECT 1 AS id")
    home = lakehouse.buckets.get("primary").objects
    rescue = add_bucket(lakehouse, "rescue").objects
    for meta in home.list("datasets/"):
        rescue.put(meta.key, home.get(meta.key))

    found = usage(lakehouse, "rescue")

    assert kinds(found) == {"datasets": below(home, "datasets/")}
    assert list(found.datasets) == [("primary", "people")]


def test_a_bucket_whose_directory_is_gone_is_not_taken_for_an_empty_one(lakehouse: Lakehouse) -> None:
    near = add_bucket(lakehouse, "near")
    assert near.local_root is not None
    near.local_root.rename(near.local_root.with_name("elsewhere"))

    with pytest.raises(BackendUnavailable, match="the directory of bucket 'near' isn't there"):
        usage(lakehouse, "near")


class Endless(MemoryObjects):
    """As many objects as asked for, each of which exists only while it is looked at."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        assert (prefix, after) == ("", "")
        for number in range(self._number):
            yield ObjectMeta(
                f"datasets/people/{number:026}/part-00000.parquet", 10, "", datetime(2020, 1, 1, tzinfo=UTC)
            )


def test_a_long_listing_tells_how_far_it_is_and_needs_no_memory(lakehouse: Lakehouse) -> None:
    bucket = OpenBucket("primary", Endless(20_000), "lakehouse-primary")

    tracemalloc.start()
    try:
        *steps, found = measure(bucket, lakehouse.catalog.snapshot(), lakehouse.collector)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert steps == list(range(1000, 20_001, 1000))
    assert isinstance(found, Usage)
    assert kinds(found) == {"garbage": (20_000, 200_000)}
    assert peak < MIB


def test_the_action_answers_kinds_and_datasets(server: RunningServer) -> None:
    lakehouse = server.lakehouse
    run(lakehouse, "CREATE TABLE people AS SELECT 1 AS id")
    objects = lakehouse.buckets.get("primary").objects
    files, size = below(objects, "datasets/")
    with connect(server.uri) as client:
        answer: dict[str, Any] = client.call("bucket.usage", {"name": "primary"})
        by_default = client.call("bucket.usage")

    assert answer == by_default
    assert [each["kind"] for each in answer["kinds"]] == list(KINDS)
    assert answer["kinds"][0] == {"kind": "datasets", "objects": files, "bytes": size}
    assert answer["datasets"] == [
        {
            "dataset": "people",
            "bucket": "primary",
            "objects": files,
            "bytes": size,
            "past_objects": 0,
            "past_bytes": 0,
        }
    ]
    assert (answer["objects"], answer["bytes"]) == below(objects, "")


def test_an_unknown_bucket_is_refused_with_those_that_there_are(server: RunningServer) -> None:
    with connect(server.uri) as client, pytest.raises(FlightclientError, match="there is no bucket 'x'; there are: p"):
        client.call("bucket.usage", {"name": "x"})
