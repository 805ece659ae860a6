"""Buckets through the typed client: local ones and such on a real S3 server."""

from __future__ import annotations

import urllib.request
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import flightclient
import pyarrow as pa
import pytest
from flightclient import LifecycleRule, Progress, S3Place, indexes, places
from flightclient.errors import InvalidRequest, NotFound, ProtocolError
from flightclient.indexes import Index, RefreshedIndex
from flightclient.places import (
    Bucket,
    BucketCheck,
    BucketList,
    BucketUsage,
    Collected,
    DroppedBucket,
    KindUsage,
    Lifecycle,
    Migrated,
    Mirrored,
    MovedDataset,
    MovedIndex,
    PresignedUrl,
    PutLimits,
)
from flightclient.results import decode_result
from s3server import CREDENTIALS

from flightserver.flight.service import Service

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from conftest import RunningServer
    from flightclient import Client
    from s3server import S3Server

    from flightserver.lakehouse import Lakehouse

PETS = pa.table({"id": [1, 2, 3], "name": ["cat", "ostrich", "ant"]})


def test_a_local_bucket_from_its_creation_to_its_end(client: Client) -> None:
    assert client.buckets.create("testing", root="deep/down") == Bucket("testing", "local", "lakehouse-testing://data/")
    assert client.buckets.set_limits("testing", put_bytes=2**29) == PutLimits("testing", 2**29, 2**32)
    assert client.buckets.rename("testing", "tested").name == "tested"
    client.query("CREATE TABLE tested.pets AS SELECT 1 AS id")

    assert [(each.name, each.datasets) for each in client.buckets.list()] == [("primary", 0), ("tested", 1)]
    with pytest.raises(InvalidRequest, match="bucket 'tested' isn't empty, it has pets"):
        client.buckets.drop("tested")
    seen: list[Progress] = []
    dropped = client.buckets.drop("tested", "delete", progress=seen.append)

    assert dropped == DroppedBucket("tested", datasets=1, indexes=0, objects=dropped.objects)
    assert dropped.objects > 0
    assert {each.stage for each in seen} == {"delete"}
    with pytest.raises(NotFound, match="there are: primary"):
        client.buckets.check("tested")


def test_a_bucket_on_s3_is_made_and_tried(client: Client, s3_server: S3Server) -> None:
    place = S3Place("made-by-client", endpoint=s3_server.endpoint, prefix="a", credentials=CREDENTIALS, create=True)

    made = client.buckets.create_on_s3("cloud", place)
    checked = client.buckets.check("cloud")

    assert made == Bucket("cloud", "s3", "lakehouse-cloud://data/a/")
    latency = checked.latency_ms
    assert latency > 0
    assert checked == BucketCheck("cloud", True, True, True, True, latency, None)  # noqa: FBT003  # each field of it
    client.query("CREATE TABLE cloud.pets AS SELECT 1 AS id")
    assert any((s3_server.directory / "made-by-client" / "a" / "datasets" / "pets").iterdir())


def test_a_url_reads_one_object_for_who_has_no_credentials(client: Client, s3_server: S3Server, s3_bucket: str) -> None:
    client.buckets.create_on_s3("cloud", S3Place(s3_bucket, endpoint=s3_server.endpoint, credentials=CREDENTIALS))

    put = client.buckets.presign("cloud", "_staging/uploads/x.csv", "PUT", expires_seconds=60)
    request = urllib.request.Request(put.url, b"id\n7\n", method="PUT")  # noqa: S310  # our own server
    urllib.request.urlopen(request).close()  # noqa: S310  # our own server
    got = client.buckets.presign("cloud", "_staging/uploads/x.csv")

    with urllib.request.urlopen(got.url) as answer:  # noqa: S310  # our own server
        assert answer.read() == b"id\n7\n"
    assert timedelta(seconds=30) < put.expires_at - datetime.now(UTC) <= timedelta(seconds=60)
    assert timedelta(minutes=59) < got.expires_at - datetime.now(UTC) <= timedelta(hours=1)


def test_a_dataset_is_moved_mirrored_counted_and_collected(client: Client) -> None:
    for name in ("testing", "rescue"):
        client.buckets.create(name)
    written = client.ingest(PETS, "pets", primary_key=["id"])
    seen: list[Progress] = []

    moved = client.buckets.move("pets", "testing", bucket="primary", progress=seen.append)
    assert moved == MovedDataset(
        dataset="pets",
        bucket="testing",
        moved_from="primary",
        version=written.version + 1,
        objects=moved.objects,
        bytes=moved.bytes,
        already=0,
    )
    assert (seen[-1].stage, seen[-1].done) == ("copy", seen[-1].total)

    mirrored = client.buckets.mirror("testing", "pets")
    assert mirrored == Mirrored("testing", moved.objects, moved.bytes, 0, continuous=False)
    assert client.buckets.mirror("testing", continuous=True) == Mirrored("testing", 0, 0, moved.objects, True)  # noqa: FBT003  # as above
    assert client.buckets.mirror("testing", "pets", continuous=True).continuous
    assert not client.buckets.mirror("testing", continuous=False).continuous
    assert client.buckets.mirror("testing", "pets").continuous
    assert not client.buckets.mirror("testing", "pets", continuous=False).continuous

    usage = client.buckets.usage("testing")
    held = {"bucket": "testing", "objects": moved.objects, "bytes": moved.bytes}
    assert [asdict(one) for one in usage.datasets] == [{"dataset": "pets", **held, "past_objects": 0, "past_bytes": 0}]
    [owner] = [one for one in usage.kinds if one.kind == "catalog"]
    assert owner.objects == 1
    assert (usage.objects, usage.bytes, usage.indexes) == (moved.objects + 1, moved.bytes + owner.bytes, ())
    assert KindUsage("datasets", moved.objects, moved.bytes) in usage.kinds

    would = client.buckets.collect("primary", dry_run=True, older_than_hours=1)
    assert (would.bucket, would.objects) == ("primary", 0)
    assert client.buckets.collect("primary").kept == would.kept == moved.objects
    assert client.query("SELECT * FROM testing.pets ORDER BY id").to_pylist() == PETS.to_pylist()


def test_lifecycle_rules_are_set_and_shown(client: Client) -> None:
    rules = (LifecycleRule("_staging/uploads/", expire_days=7, abort_upload_days=2),)

    assert client.buckets.set_lifecycle("primary", rules) == Lifecycle("primary", rules, "server")
    assert client.buckets.lifecycle("primary") == Lifecycle("primary", rules, "server")
    assert client.buckets.set_lifecycle("primary", []).rules == ()
    with pytest.raises(InvalidRequest, match="_catalog/"):
        client.buckets.set_lifecycle("primary", [LifecycleRule("_catalog/", expire_days=7)])


def test_lifecycle_rules_may_be_mappings(client: Client) -> None:
    rules: list[LifecycleRule | dict[str, Any]] = [
        {"prefix": "_staging/uploads/", "expire_days": 7},
        LifecycleRule("_staging/x/", expire_days=1),
    ]

    set_ = client.buckets.set_lifecycle("primary", rules)

    assert set_.rules == (
        LifecycleRule("_staging/uploads/", expire_days=7),
        LifecycleRule("_staging/x/", expire_days=1),
    )
    for wrong, message in (
        ({"prefix": "_staging/uploads/", "days": 7}, "unknown field `days`"),
        ({"expire_days": 7}, "missing required field `prefix`"),
        ({"prefix": "_staging/uploads/", "expire_days": timedelta(days=7)}, "can't be sent as JSON"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            client.buckets.set_lifecycle("primary", [wrong])
    assert client.buckets.lifecycle("primary") == set_


@pytest.mark.parametrize(
    "rules", [None, 7, "", "[]", b"", {}, {"prefix": "_staging/uploads/"}, LifecycleRule("x/"), [None], ["_staging/"]]
)
def test_what_are_no_lifecycle_rules_is_refused_and_changes_none(client: Client, rules: Any) -> None:
    before = client.buckets.set_lifecycle("primary", [LifecycleRule("_staging/uploads/", expire_days=7)])

    with pytest.raises(InvalidRequest, match=r"lifecycle rules are a list of LifecycleRule, .*; given was "):
        client.buckets.set_lifecycle("primary", rules)

    assert client.buckets.lifecycle("primary") == before


@pytest.mark.parametrize("place", [None, "lake", {"bucket": "lake"}])
def test_what_is_no_place_on_s3_is_refused(client: Client, place: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"a place on S3 is an S3Place, such as S3Place\('lake'\); given was "):
        client.buckets.create_on_s3("cloud", place)


def test_a_new_catalog_has_nothing_to_migrate(client: Client) -> None:
    client.ingest(PETS, "pets")

    assert client.buckets.migrate(dry_run=True) == client.buckets.migrate() == Migrated(0, 1, ())


def test_a_bucket_that_was_not_looked_at_has_no_state() -> None:
    fields = {"name": "a", "backend": "local", "url": "lakehouse-a://data/", "datasets": 0}
    answer = {"buckets": [fields | {"reachable": None, "error": None, "checked": None}]}

    [state] = decode_result(BucketList, answer).buckets

    assert (state.reachable, state.error, state.checked) == (None, None, None)


@pytest.mark.parametrize("value", [7, None, "tomorrow", ["2026-11-22"]])
def test_an_answer_that_is_no_time_is_another_product_speaking(value: object) -> None:
    with pytest.raises(ProtocolError, match=r"as 'expires_at', which should be"):
        decode_result(PresignedUrl, {"url": "http://x", "expires_at": value})


def test_the_list_has_what_was_found_of_each(client: Client, server: RunningServer) -> None:
    before = datetime.now(UTC)

    server.lakehouse.keeper.check("primary")

    [state] = client.buckets.list()
    assert (state.reachable, state.error) == (True, None)
    assert state.checked is not None
    assert before <= state.checked <= datetime.now(UTC)


def test_types_of_answers_are_names_of_the_package() -> None:
    answers = {
        name
        for module in (indexes, places)
        for name, one in vars(module).items()
        if is_dataclass(one) and one.__module__ == module.__name__
    }

    assert answers >= {"BucketUsage", "Index", "IndexState", "S3Place"}
    assert answers <= set(flightclient.__all__)
    assert all(getattr(flightclient, name) for name in flightclient.__all__)


ANSWERS = {
    "bucket.list": BucketList,
    "bucket.create": Bucket,
    "bucket.check": BucketCheck,
    "bucket.drop": DroppedBucket,
    "bucket.rename": Bucket,
    "bucket.set_limits": PutLimits,
    "bucket.usage": BucketUsage,
    "bucket.presign": PresignedUrl,
    "bucket.get_lifecycle": Lifecycle,
    "bucket.set_lifecycle": Lifecycle,
    "bucket.collect": Collected,
    "bucket.mirror": Mirrored,
    "dataset.move": MovedDataset,
    "catalog.migrate_buckets": Migrated,
    "index.create": Index,
    "index.refresh": RefreshedIndex,
    "index.move": MovedIndex,
}


@pytest.mark.parametrize(("action", "answer"), ANSWERS.items(), ids=ANSWERS)
def test_the_client_says_all_that_an_action_answers(
    lakehouse: Lakehouse, action: str, answer: type[DataclassInstance]
) -> None:
    """Older clients ignore what a server says more; this one is as new as the server."""
    registered = Service(lakehouse).registry.get(action)

    assert {field.name for field in fields(answer)} == set(registered.response.__struct_fields__)
