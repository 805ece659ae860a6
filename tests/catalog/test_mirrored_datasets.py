"""That `rescue` keeps a copy of a dataset: how the catalog says so, and what that outlives."""

from __future__ import annotations

import json

import msgspec
import pytest
from catalog.making import NOON, append, create, dataset, segment, transaction

from flightserver.catalog.catalog import Catalog
from flightserver.catalog.checkpoints import decode, encode
from flightserver.catalog.entities import LOCAL, PRIMARY, Bucket, DatasetKey
from flightserver.catalog.log import commit_key
from flightserver.catalog.migration import plan_migration
from flightserver.catalog.updates import (
    CreateDataset,
    DropDataset,
    MirrorDataset,
    MoveDataset,
    PutBucket,
    RenameBucket,
    RenameDataset,
    ReplaceSegments,
    RestoreDataset,
    Update,
)
from flightserver.errors import NotFound
from flightserver.storage.memory import MemoryObjects


@pytest.fixture
def objects() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def catalog(objects: MemoryObjects) -> Catalog:
    """A catalog with buckets `primary` and `far`, and a dataset `people` in the former."""
    opened = Catalog.open(objects, clock=lambda: NOON)
    opened.commit(transaction(PutBucket(Bucket("far", LOCAL)), create("people", 3)))
    return opened


def mirrored(catalog: Catalog) -> dict[str, bool]:
    return {str(key): one.mirrored for key, one in catalog.snapshot().datasets.items()}


def test_a_dataset_is_mirrored_until_that_ends_and_nothing_else_of_it_changes(catalog: Catalog) -> None:
    before = catalog.snapshot().dataset("people")

    catalog.commit(transaction(MirrorDataset(PRIMARY, "people", mirrored=True)))
    during = catalog.snapshot().dataset("people")
    catalog.commit(transaction(MirrorDataset(PRIMARY, "people", mirrored=False)))

    assert during == msgspec.structs.replace(before, version=3, mirrored=True)
    assert catalog.snapshot().dataset("people") == msgspec.structs.replace(before, version=4)


def test_a_commit_says_so_by_an_update_of_its_own_and_other_datasets_do_not_mention_it(
    objects: MemoryObjects, catalog: Catalog
) -> None:
    catalog.commit(transaction(MirrorDataset(PRIMARY, "people", mirrored=True)))

    [recorded] = json.loads(objects.get(commit_key(3)))["transactions"]
    assert recorded["updates"] == [{"type": "mirror_dataset", "bucket": "primary", "name": "people", "mirrored": True}]
    assert b"mirrored" not in objects.get(commit_key(2))
    assert Catalog.open(objects).snapshot() == catalog.snapshot()


def test_a_checkpoint_has_it(catalog: Catalog) -> None:
    catalog.commit(transaction(MirrorDataset(PRIMARY, "people", mirrored=True)))
    snapshot = catalog.snapshot()

    assert decode(snapshot.version, encode(snapshot)) == snapshot
    assert mirrored(catalog) == {'"primary".people': True}


@pytest.mark.parametrize(
    ("update", "key"),
    [
        (append("people", 2), '"primary".people'),
        (ReplaceSegments(PRIMARY, "people", (segment(2),), b"schema 2", "f2"), '"primary".people'),
        (RestoreDataset(PRIMARY, "people", 2, (), (), b"schema 1", "f1"), '"primary".people'),
        (RenameDataset(PRIMARY, "people", "staff"), '"primary".staff'),
        (MoveDataset(PRIMARY, "people", "far"), '"far".people'),
    ],
)
def test_it_goes_with_the_dataset_whatever_becomes_of_that(catalog: Catalog, update: Update, key: str) -> None:
    catalog.commit(transaction(MirrorDataset(PRIMARY, "people", mirrored=True)))

    catalog.commit(transaction(update))

    assert mirrored(catalog) == {key: True}


def test_it_outlives_a_new_name_of_the_bucket_and_the_migration_of_old_references(catalog: Catalog) -> None:
    catalog.commit(transaction(create("trips", 1, bucket="far"), MirrorDataset("far", "trips", mirrored=True)))
    catalog.commit(transaction(PutBucket(Bucket("data", LOCAL)), CreateDataset(dataset("old", 1, bucket="data"))))
    catalog.commit(transaction(MirrorDataset("data", "old", mirrored=True)))

    catalog.commit(transaction(RenameBucket("far", "further")))
    catalog.commit(transaction(plan_migration(catalog.snapshot()).update))

    assert mirrored(catalog) == {'"primary".people': False, '"further".trips': True, '"primary".old': True}


def test_a_dataset_that_is_made_anew_under_the_name_is_another_and_not_mirrored(catalog: Catalog) -> None:
    catalog.commit(transaction(MirrorDataset(PRIMARY, "people", mirrored=True)))

    catalog.commit(transaction(DropDataset(PRIMARY, "people"), create("people", 1)))

    assert mirrored(catalog) == {'"primary".people': False}


def test_a_dataset_that_is_not_there_can_not_be_mirrored(catalog: Catalog) -> None:
    with pytest.raises(NotFound, match=r'there is no dataset "far"\.people: '):
        catalog.commit(transaction(MirrorDataset("far", "people", mirrored=True)))


def test_history_tells_when_it_began_and_ended(catalog: Catalog) -> None:
    for state in (True, False):
        catalog.commit(transaction(MirrorDataset(PRIMARY, "people", mirrored=state)))

    history = catalog.history(catalog.snapshot().datasets[DatasetKey(PRIMARY, "people")])

    assert [(entry.version, entry.rows) for entry in history] == [(4, 3), (3, 3), (2, 3)]
