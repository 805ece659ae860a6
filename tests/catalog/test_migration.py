"""Old references to `primary` are found and mended: what the commit says, and what a catalog is after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from catalog.making import NOON, append, create, dataset, segment, transaction

from flightserver.catalog.catalog import Catalog
from flightserver.catalog.entities import LOCAL, PRIMARY, S3, Bucket, DatasetKey, Delta, S3Place, View
from flightserver.catalog.migration import Duplicate, home, plan_migration
from flightserver.catalog.requirements import MigrationIs
from flightserver.catalog.updates import AppendSegments, CreateDataset, MigrateBuckets, PutBucket, PutView, RemoveRows
from flightserver.errors import CommitConflict
from flightserver.storage.memory import MemoryObjects

if TYPE_CHECKING:
    from flightserver.catalog.entities import Dataset


@pytest.fixture
def catalog() -> Catalog:
    """A catalog whose bucket `data` is an old name of primary."""
    opened = Catalog.open(MemoryObjects(), clock=lambda: NOON)
    opened.commit(transaction(PutBucket(Bucket("data", LOCAL))))
    return opened


def old(name: str, *rows: int, bucket: str = "data") -> Dataset:
    """A dataset that refers to primary by an old name, everywhere."""
    made = dataset(name, *rows, bucket=bucket)
    return msgspec.structs.replace(
        made, segments=tuple(msgspec.structs.replace(each, bucket=bucket) for each in made.segments)
    )


def migrate(catalog: Catalog) -> MigrateBuckets:
    update = plan_migration(catalog.snapshot()).update
    catalog.commit(transaction(update, requires=(MigrationIs(update),)))
    return update


def test_references_become_those_of_primary_and_nothing_else_of_a_dataset_changes(catalog: Catalog) -> None:
    catalog.commit(transaction(CreateDataset(old("people", 3, 4))))
    before = catalog.snapshot().dataset("people", "data")
    delta = Delta("d1", "data", "datasets/people/deltas/d1.parquet", 1, 10, {before.segments[0].id: 1})
    catalog.commit(transaction(RemoveRows("data", "people", delta)))
    before = catalog.snapshot().dataset("people", "data")

    migrate(catalog)

    found = catalog.snapshot().dataset("people", PRIMARY)
    assert list(catalog.snapshot().datasets) == [DatasetKey(PRIMARY, "people")]
    assert [segment.bucket for segment in found.segments] == [PRIMARY, PRIMARY]
    assert [delta.bucket for delta in found.deltas] == [PRIMARY]
    back = msgspec.structs.replace
    assert before == back(
        found,
        bucket="data",
        version=before.version,
        segments=tuple(back(each, bucket="data") for each in found.segments),
        deltas=tuple(back(each, bucket="data") for each in found.deltas),
    )


def test_the_old_bucket_is_forgotten_and_a_second_migration_has_nothing_to_do(catalog: Catalog) -> None:
    for number in range(12):
        catalog.commit(transaction(CreateDataset(old(f"old{number}", 1))))
    catalog.commit(transaction(create("new0", 1), create("new1", 1)))
    first = plan_migration(catalog.snapshot())

    migrate(catalog)

    again = plan_migration(catalog.snapshot())
    assert (len(first.update.moved), first.unchanged, first.needed) == (12, 2, True)
    assert (again.update.moved, again.unchanged, again.needed) == ((), 14, False)
    assert list(catalog.snapshot().buckets) == [PRIMARY]
    assert {key.bucket for key in catalog.snapshot().datasets} == {PRIMARY}


@pytest.mark.parametrize("name", ["", "data", "local"])
def test_segments_alone_may_refer_to_primary_by_any_old_name(name: str) -> None:
    catalog = Catalog.open(MemoryObjects(), clock=lambda: NOON)
    catalog.commit(transaction(create("people", 3)))
    added = msgspec.structs.replace(segment(2), bucket=name)
    catalog.commit(transaction(AppendSegments(PRIMARY, "people", (added,))))

    assert migrate(catalog).moved == (DatasetKey(PRIMARY, "people"),)

    found = catalog.snapshot().dataset("people")
    assert [(each.bucket, each.rows) for each in found.segments] == [(PRIMARY, 3), (PRIMARY, 2)]


def test_of_two_entries_with_one_name_the_newest_stays(catalog: Catalog) -> None:
    catalog.commit(transaction(create("older_there", 1)))
    catalog.commit(transaction(CreateDataset(old("older_there", 2)), CreateDataset(old("newer_there", 3))))
    catalog.commit(transaction(create("newer_there", 4)))
    catalog.commit(transaction(CreateDataset(old("same_time", 5)), create("same_time", 6)))

    plan = plan_migration(catalog.snapshot())
    migrate(catalog)

    assert plan.duplicates == (
        Duplicate(DatasetKey(PRIMARY, "newer_there"), (DatasetKey("data", "newer_there"),)),
        Duplicate(DatasetKey("data", "older_there"), (DatasetKey(PRIMARY, "older_there"),)),
        Duplicate(DatasetKey(PRIMARY, "same_time"), (DatasetKey("data", "same_time"),)),
    )
    assert {key: found.rows for key, found in catalog.snapshot().datasets.items()} == {
        DatasetKey(PRIMARY, "older_there"): 2,
        DatasetKey(PRIMARY, "newer_there"): 4,
        DatasetKey(PRIMARY, "same_time"): 6,
    }


def test_views_move_with_the_bucket_that_their_names_are_looked_up_in(catalog: Catalog) -> None:
    view = View("data", "adults", "SELECT * FROM people", b"schema", NOON, default_bucket="data", default_schema="data")
    catalog.commit(transaction(PutView(view)))

    migrate(catalog)

    found = catalog.snapshot().views
    expected = msgspec.structs.replace(
        view, bucket=PRIMARY, default_bucket=PRIMARY, default_schema=PRIMARY, version=catalog.snapshot().version
    )
    assert dict(found) == {DatasetKey(PRIMARY, "adults"): expected}


@pytest.mark.parametrize(
    "bucket", [Bucket("data", LOCAL, root="elsewhere"), Bucket("data", S3, s3=S3Place("data"))], ids=["root", "s3"]
)
def test_a_bucket_that_has_a_place_of_its_own_is_left_alone_whatever_its_name(bucket: Bucket) -> None:
    catalog = Catalog.open(MemoryObjects(), clock=lambda: NOON)
    catalog.commit(transaction(PutBucket(bucket), CreateDataset(old("people", 3)), create("animals", 1)))

    plan = plan_migration(catalog.snapshot())

    assert (plan.needed, plan.unchanged) == (False, 1)
    assert home(catalog.snapshot().buckets, "data") == "data"


def test_where_a_reference_leads_to(catalog: Catalog) -> None:
    catalog.commit(transaction(PutBucket(Bucket("archive", LOCAL, former=("attic",)))))
    buckets = catalog.snapshot().buckets

    found = {name: home(buckets, name) for name in ("", "data", "local", PRIMARY, "archive", "attic", "unknown")}

    assert found == {
        "": PRIMARY,
        "data": PRIMARY,
        "local": PRIMARY,
        PRIMARY: PRIMARY,
        "archive": "archive",
        "attic": "archive",
        "unknown": "unknown",
    }


def test_a_plan_that_leaves_out_what_was_written_meanwhile_is_refused(catalog: Catalog) -> None:
    catalog.commit(transaction(CreateDataset(old("people", 3))))
    plan = plan_migration(catalog.snapshot()).update
    catalog.commit(transaction(CreateDataset(old("late", 1))))

    with pytest.raises(CommitConflict, match="others were written or mended"):
        catalog.commit(transaction(plan, requires=(MigrationIs(plan),)))

    assert DatasetKey("data", "people") in catalog.snapshot().datasets


def test_an_append_meanwhile_does_not_disturb(catalog: Catalog) -> None:
    catalog.commit(transaction(CreateDataset(old("people", 3)), create("animals", 1)))
    plan = plan_migration(catalog.snapshot()).update
    catalog.commit(transaction(AppendSegments("data", "people", (segment(2),)), append("animals", 4)))

    catalog.commit(transaction(plan, requires=(MigrationIs(plan),)))

    assert catalog.snapshot().dataset("people", PRIMARY).rows == 5


def test_the_history_of_a_dataset_goes_on_across_the_migration_and_replaying_the_log_gives_the_same() -> None:
    objects = MemoryObjects()
    catalog = Catalog.open(objects, clock=lambda: NOON)
    catalog.commit(transaction(PutBucket(Bucket("data", LOCAL))))
    catalog.commit(transaction(create("people", 1)))
    catalog.commit(transaction(CreateDataset(old("people", 3))))
    catalog.commit(transaction(AppendSegments("data", "people", (segment(2),))))
    migrate(catalog)
    catalog.commit(transaction(append("people", 10)))

    found = catalog.history(catalog.snapshot().dataset("people"))

    assert [(each.version, each.rows) for each in found] == [(7, 15), (6, 5), (5, 5), (4, 3)]
    assert Catalog.open(objects, clock=lambda: NOON).snapshot() == catalog.snapshot()
    assert catalog.snapshot_at(5).dataset("people", "data").rows == 5
