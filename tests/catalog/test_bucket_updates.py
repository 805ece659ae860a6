"""What the renaming of a bucket changes, and what commits of buckets require."""

from __future__ import annotations

import msgspec
import pytest
from catalog.making import NOON, append, create, dataset, transaction

from flightserver.catalog.bucket_rules import bucket_url, check_beside, local_root
from flightserver.catalog.bucket_updates import RenameBucket
from flightserver.catalog.catalog import Catalog
from flightserver.catalog.entities import LOCAL, S3, Bucket, DatasetKey, S3Place, View
from flightserver.catalog.requirements import BucketFits, BucketHolds, Requirement
from flightserver.catalog.updates import CreateDataset, PutBucket, PutView
from flightserver.errors import AlreadyExists, CommitConflict, InvalidRequest, NotFound
from flightserver.storage.memory import MemoryObjects


@pytest.fixture
def catalog() -> Catalog:
    """Buckets `primary`, `one` and `cloud`, with a dataset in `one` and views that depend on it."""
    catalog = Catalog.open(MemoryObjects(), clock=lambda: NOON)
    cloud = Bucket("cloud", S3, s3=S3Place("lake", prefix="a"))
    made = msgspec.structs.replace(dataset("pets"), bucket="one")
    views = [
        View("one", "few", "SELECT 1", b"", NOON),
        View("primary", "elsewhere", "SELECT 1", b"", NOON, default_bucket="one", default_schema="one"),
        View("primary", "apart", "SELECT 1", b"", NOON),
    ]
    catalog.commit(transaction(PutBucket(Bucket("one", LOCAL)), PutBucket(cloud), create("people")))
    catalog.commit(transaction(CreateDataset(made), *map(PutView, views)))
    return catalog


def test_a_renamed_bucket_takes_along_what_is_in_it_and_what_looks_there(catalog: Catalog) -> None:
    catalog.commit(transaction(RenameBucket("one", "two", "buckets/one")))

    after = catalog.snapshot()
    assert after.buckets["two"] == Bucket("two", LOCAL, "buckets/one", NOON, former=("one",))
    assert set(after.buckets) == {"primary", "two", "cloud"}
    assert set(after.datasets) == {DatasetKey("two", "pets"), DatasetKey("primary", "people")}
    assert after.datasets[DatasetKey("two", "pets")].version == after.version
    assert after.datasets[DatasetKey("primary", "people")].version == 2
    assert {(view.key, view.default_bucket, view.default_schema) for view in after.views.values()} == {
        (DatasetKey("two", "few"), None, "public"),
        (DatasetKey("primary", "elsewhere"), "two", "two"),
        (DatasetKey("primary", "apart"), None, "public"),
    }


def test_segments_follow_a_bucket_through_all_of_its_names(catalog: Catalog) -> None:
    update = append("pets", 5)
    segments = tuple(msgspec.structs.replace(each, bucket="one") for each in update.segments)
    catalog.commit(transaction(msgspec.structs.replace(update, bucket="one", segments=segments)))
    catalog.commit(transaction(RenameBucket("one", "two", "buckets/one")))
    brought_back = msgspec.structs.replace(update, bucket="two", segments=segments)
    catalog.commit(transaction(brought_back))

    catalog.commit(transaction(RenameBucket("two", "three", "buckets/two")))

    after = catalog.snapshot()
    assert [each.bucket for each in after.datasets[DatasetKey("three", "pets")].segments] == ["three", "three"]
    assert after.buckets["three"].former == ("one", "two")
    assert after.buckets["three"].root == "buckets/one"


def test_a_reopened_catalog_reads_a_renaming(catalog: Catalog) -> None:
    catalog.commit(transaction(RenameBucket("cloud", "sky")))

    commit = msgspec.json.decode(msgspec.json.encode(RenameBucket("cloud", "sky")))
    assert commit == {"type": "rename_bucket", "name": "cloud", "new_name": "sky"}
    assert catalog.snapshot().buckets["sky"] == Bucket(
        "sky", S3, created=NOON, s3=S3Place("lake", prefix="a"), former=("cloud",)
    )


@pytest.mark.parametrize(
    ("update", "error", "message"),
    [
        (RenameBucket("lost", "x"), NotFound, "there is no bucket 'lost'; there are: cloud, one, primary"),
        (RenameBucket("one", "One"), InvalidRequest, "'One' can't name a bucket"),
        (RenameBucket("primary", "x"), InvalidRequest, "'primary' and 'rescue' are fixed"),
        (RenameBucket("one", "rescue"), InvalidRequest, "'primary' and 'rescue' are fixed"),
    ],
)
def test_a_renaming_that_cannot_be_changes_nothing(
    catalog: Catalog, update: RenameBucket, error: type[Exception], message: str
) -> None:
    before = catalog.snapshot()

    with pytest.raises(error, match=message):
        catalog.commit(transaction(update))

    assert catalog.snapshot() == before


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        (BucketFits(Bucket("one", LOCAL)), "bucket 'one' exists already"),
        (BucketFits(Bucket("x", LOCAL, "buckets/one/x")), "the root of 'one' is the same, inside or above"),
        (BucketFits(Bucket("x", S3, s3=S3Place("lake"))), "the place on S3 of 'cloud' is the same, inside or above"),
        (BucketFits(Bucket("cloud", LOCAL), instead_of="one"), "bucket 'cloud' exists already"),
        (BucketHolds("one", ()), "has the 0 datasets, views and vector indexes that it had, but it has 2, or others"),
        (BucketHolds("one", ("few", "dogs")), "or others"),
    ],
)
def test_a_requirement_that_does_not_hold_refuses_the_commit(
    catalog: Catalog, requirement: Requirement, message: str
) -> None:
    with pytest.raises(CommitConflict, match=message) as caught:
        catalog.commit(transaction(create("new"), requires=(requirement,)))

    assert [kind for kind in Requirement.__args__ if kind.refused(caught.value)] == [type(requirement)]


@pytest.mark.parametrize(
    "requirement",
    [
        BucketFits(Bucket("two", LOCAL)),
        BucketFits(Bucket("two", LOCAL, "buckets/one"), instead_of="one"),
        BucketFits(Bucket("other", S3, s3=S3Place("lake", prefix="ab"))),
        BucketHolds("one", ("few", "pets")),
        BucketHolds("cloud", ()),
    ],
)
def test_a_requirement_that_holds_lets_the_commit_pass(catalog: Catalog, requirement: Requirement) -> None:
    catalog.commit(transaction(create("new"), requires=(requirement,)))

    assert DatasetKey("primary", "new") in catalog.snapshot().datasets


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        (Bucket("a", LOCAL), Bucket("b", LOCAL), True),
        (Bucket("a", LOCAL), Bucket("b", LOCAL, "buckets/a"), False),
        (Bucket("a", LOCAL), Bucket("b", LOCAL, "buckets/a/b"), False),
        (Bucket("a", LOCAL, "/mnt/a"), Bucket("b", LOCAL, "/mnt/ab"), True),
        (Bucket("a", LOCAL, "/mnt/a/x"), Bucket("b", LOCAL, "/mnt/a"), False),
        (Bucket("primary", LOCAL), Bucket("b", LOCAL, "primary/b"), False),
        (Bucket("a", S3, s3=S3Place("l")), Bucket("b", S3, s3=S3Place("m")), True),
        (Bucket("a", S3, s3=S3Place("l")), Bucket("b", S3, s3=S3Place("l", prefix="p")), False),
        (Bucket("a", S3, s3=S3Place("l", prefix="p")), Bucket("b", S3, s3=S3Place("l", prefix="pq")), True),
        (Bucket("a", S3, s3=S3Place("l", prefix="p")), Bucket("b", S3, s3=S3Place("l", prefix="p/q")), False),
        (Bucket("a", S3, s3=S3Place("l", endpoint="http://H")), Bucket("b", S3, s3=S3Place("l", "http://h/")), False),
        (Bucket("a", S3, s3=S3Place("l", endpoint="http://g")), Bucket("b", S3, s3=S3Place("l", "http://h")), True),
        (Bucket("a", S3, s3=S3Place("l", prefix="buckets/b")), Bucket("b", LOCAL), True),
    ],
)
def test_places_inside_of_each_other_are_not_apart(one: Bucket, other: Bucket, apart: bool) -> None:  # noqa: FBT001  # a column
    for first, second in ((one, other), (other, one)):
        if apart:
            check_beside(first, [second])
        else:
            with pytest.raises(AlreadyExists, match="the same, inside or above"):
                check_beside(first, [second])


def test_a_bucket_without_a_root_has_one_by_its_name() -> None:
    buckets = [Bucket("primary", LOCAL), Bucket("a:b", LOCAL), Bucket("c", LOCAL, "/mnt/c")]

    assert [local_root(bucket) for bucket in buckets] == ["primary", "buckets/a:b", "/mnt/c"]


def test_the_url_of_a_bucket_is_known_without_opening_it() -> None:
    assert bucket_url(Bucket("a:b", LOCAL)) == "lakehouse-a-b://data/"
    assert bucket_url(Bucket("c", S3, s3=S3Place("lake", prefix="my lake"))) == "lakehouse-c://data/my%20lake/"
