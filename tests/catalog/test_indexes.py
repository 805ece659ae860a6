"""Vector indexes in the catalog: what changes them, what they follow, and what they go with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from catalog.making import NOON, append, create, create_index, dataset, generation, index, transaction
from msgspec.structs import replace

from flightserver.catalog.catalog import Catalog
from flightserver.catalog.checkpoints import decode, encode
from flightserver.catalog.entities import LOCAL, PRIMARY, Bucket, DatasetKey
from flightserver.catalog.index_updates import CreateIndex, DropIndex, MoveIndex, PutGeneration
from flightserver.catalog.indexes import Generation
from flightserver.catalog.migration import plan_migration
from flightserver.catalog.requirements import BucketHolds, IndexAt, MigrationIs
from flightserver.catalog.updates import (
    CreateDataset,
    DropBucket,
    DropDataset,
    MoveDataset,
    PutBucket,
    RenameBucket,
    RenameDataset,
    SetHorizon,
)
from flightserver.errors import AlreadyExists, CommitConflict, FlightserverError, InvalidRequest, NotFound
from flightserver.storage.memory import MemoryObjects

if TYPE_CHECKING:
    from flightserver.catalog.indexes import VectorIndex
    from flightserver.catalog.updates import Update
    from flightserver.storage.objects import Objects

PEOPLE = DatasetKey(PRIMARY, "people")


@pytest.fixture
def objects() -> Objects:
    return MemoryObjects()


@pytest.fixture
def catalog(objects: Objects) -> Catalog:
    """Version 2 has datasets `people` (id 1) and `"far".pets` (id 2), version 3 an index over each, in each bucket."""
    catalog = Catalog.open(objects, clock=lambda: NOON)
    people, pets = dataset("people", 5, identity="1"), dataset("pets", identity="2", bucket="far")
    catalog.commit(transaction(PutBucket(Bucket("far", LOCAL)), CreateDataset(people), CreateDataset(pets)))
    catalog.commit(
        transaction(
            create_index("by_face", "1"),
            create_index("by_voice", "1", bucket="far"),
            create_index("by_fur", "2"),
            create_index("by_bark", "2", bucket="far"),
        )
    )
    return catalog


def indexes(catalog: Catalog) -> set[str]:
    return {str(key) for key in catalog.snapshot().indexes}


def found(catalog: Catalog, name: str, bucket: str = PRIMARY) -> VectorIndex:
    return catalog.snapshot().indexes[DatasetKey(bucket, name)]


# What changes an index


def test_an_index_is_created_as_it_is_described_and_knows_its_version(catalog: Catalog) -> None:
    made = index("by_name", "1")

    catalog.commit(transaction(CreateIndex(made)))

    assert found(catalog, "by_name") == replace(made, version=4)
    assert catalog.snapshot().dataset_of(found(catalog, "by_name")) == catalog.snapshot().datasets[PEOPLE]


def test_new_contents_take_the_place_of_the_old_ones_and_nothing_else_changes(catalog: Catalog) -> None:
    before, newer = found(catalog, "by_face"), generation()

    catalog.commit(transaction(PutGeneration(PRIMARY, "by_face", newer)))

    assert found(catalog, "by_face") == replace(before, generation=newer, version=4)
    assert catalog.snapshot_at(3).indexes[before.key] == before


def test_a_moved_index_has_another_home_and_the_same_identity(catalog: Catalog) -> None:
    before, there = found(catalog, "by_face"), generation("far")

    catalog.commit(transaction(MoveIndex(PRIMARY, "by_face", "far", there)))

    assert found(catalog, "by_face", "far") == replace(before, bucket="far", generation=there, version=4)
    assert indexes(catalog) == {'"far".by_face', '"far".by_voice', '"primary".by_fur', '"far".by_bark'}


def test_a_dropped_index_is_forgotten_and_its_name_is_free(catalog: Catalog) -> None:
    catalog.commit(transaction(DropIndex(PRIMARY, "by_face")))
    assert indexes(catalog) == {'"far".by_voice', '"primary".by_fur', '"far".by_bark'}

    catalog.commit(transaction(create_index("by_face", "2")))
    assert found(catalog, "by_face").dataset_id == "2"


def changed(**fields: Any) -> CreateIndex:
    return CreateIndex(replace(index("new", "1"), **fields))


@pytest.mark.parametrize(
    ("update", "error", "message"),
    [
        (changed(metric="hamming"), InvalidRequest, r"index \"primary\".new can't have metric 'hamming'"),
        (changed(precision="int8"), InvalidRequest, "can't have metric 'cosine', 'int8', 3 numbers"),
        (changed(dimension=0), InvalidRequest, "0 numbers"),
        (changed(name="a/b"), InvalidRequest, "'a/b' can't name"),
        (changed(name="by_face"), AlreadyExists, r"index \"primary\".by_face exists already"),
        (changed(bucket="near"), NotFound, "there is no bucket 'near'; there are: far, primary"),
        (changed(dataset_id="3"), NotFound, r"index \"primary\".new is about a dataset that was dropped"),
        (PutGeneration("far", "by_face", generation()), NotFound, r"there is no index \"far\".by_face: it was dropped"),
        (MoveIndex(PRIMARY, "by_bark", "far", generation()), NotFound, r"there is no index \"primary\".by_bark"),
        (MoveIndex(PRIMARY, "by_face", "near", generation()), NotFound, "there is no bucket 'near'"),
        (MoveIndex(PRIMARY, "by_face", PRIMARY, generation()), AlreadyExists, "by_face exists already"),
        (DropIndex(PRIMARY, "people"), NotFound, r"there is no index \"primary\".people"),
    ],
)
def test_a_change_that_cannot_be_changes_nothing(
    catalog: Catalog, update: Update, error: type[FlightserverError], message: str
) -> None:
    before = catalog.snapshot()

    with pytest.raises(error, match=message):
        catalog.commit(transaction(DropIndex("far", "by_voice"), create_index("other", "1"), update))

    assert catalog.snapshot() == before


def test_an_index_may_be_called_as_a_dataset_and_as_one_in_another_bucket(catalog: Catalog) -> None:
    catalog.commit(transaction(create_index("people", "1"), create_index("by_face", "1", bucket="far")))

    assert {'"primary".people', '"primary".by_face', '"far".by_face'} <= indexes(catalog)


# What an index follows, and what it goes with


def test_an_index_stays_with_its_dataset_under_any_name_and_in_any_bucket(catalog: Catalog) -> None:
    before = catalog.snapshot().indexes

    catalog.commit(transaction(RenameDataset(PRIMARY, "people", "staff"), append("staff", 5)))
    catalog.commit(transaction(MoveDataset(PRIMARY, "staff", "far")))

    after = catalog.snapshot()
    assert after.indexes == before
    assert [str(one.key) for one in map(after.dataset_of, after.indexes.values()) if one is not None] == [
        '"far".staff',
        '"far".staff',
        '"far".pets',
        '"far".pets',
    ]


def test_the_indexes_of_a_dropped_dataset_go_with_it_wherever_they_are(catalog: Catalog) -> None:
    catalog.commit(transaction(DropDataset(PRIMARY, "people"), create("people", 1)))

    assert indexes(catalog) == {'"primary".by_fur', '"far".by_bark'}


def test_with_a_dropped_bucket_go_the_indexes_in_it_and_those_of_its_datasets(catalog: Catalog) -> None:
    catalog.commit(transaction(DropBucket("far")))

    assert indexes(catalog) == {'"primary".by_face'}


def test_the_indexes_in_a_renamed_bucket_follow_it_and_so_do_their_contents(catalog: Catalog) -> None:
    before = catalog.snapshot().indexes

    catalog.commit(transaction(RenameBucket("far", "near", "buckets/far")))

    assert set(catalog.snapshot().indexes.values()) == {
        one if one.bucket == PRIMARY else replace(one, bucket="near", version=4, generation=in_near(one.generation))
        for one in before.values()
    }


def in_near(contents: Generation) -> Generation:
    return replace(contents, bucket="near")


def test_contents_that_a_later_commit_names_by_a_former_name_follow_the_next_renaming(catalog: Catalog) -> None:
    """A refresh that began before a bucket was renamed says the former name, if its requirement lets it."""
    late = generation("far")
    catalog.commit(transaction(RenameBucket("far", "near", "buckets/far")))
    catalog.commit(transaction(PutGeneration("near", "by_bark", late)))

    catalog.commit(transaction(RenameBucket("near", "next", "buckets/far")))

    assert found(catalog, "by_bark", "next").generation == replace(late, bucket="next")


def test_of_two_datasets_with_one_name_that_which_a_migration_drops_loses_its_indexes() -> None:
    catalog = Catalog.open(MemoryObjects(), clock=lambda: NOON)
    older, newer = dataset("people", identity="older", bucket="data"), dataset("people", identity="newer")
    catalog.commit(transaction(PutBucket(Bucket("data", LOCAL)), CreateDataset(older)))
    catalog.commit(transaction(CreateDataset(newer)))
    catalog.commit(transaction(create_index("of_older", "older"), create_index("of_newer", "newer")))
    plan = plan_migration(catalog.snapshot()).update

    catalog.commit(transaction(plan, requires=(MigrationIs(plan),)))

    assert [str(key) for key in plan.dropped] == ['"data".people']
    assert indexes(catalog) == {'"primary".of_newer'}


def test_indexes_in_a_bucket_that_is_an_old_name_of_primary_come_to_primary() -> None:
    """Of two with one name the newest stays."""
    catalog = Catalog.open(MemoryObjects(), clock=lambda: NOON)
    old_names = [PutBucket(Bucket(name, LOCAL)) for name in ("data", "local")]
    catalog.commit(transaction(*old_names, CreateDataset(dataset("people", identity="1", bucket="data"))))
    for number, bucket in enumerate(("data", PRIMARY, "local"), 1):
        catalog.commit(transaction(create_index(f"only_{number}", "1", bucket=bucket)))
        catalog.commit(transaction(create_index("newest_here", "1", bucket=bucket)))
    catalog.commit(transaction(PutGeneration(PRIMARY, "newest_here", generation())))
    catalog.commit(transaction(create_index("newest_there", "1")))
    catalog.commit(transaction(create_index("newest_there", "1", bucket="data")))
    before = {(one.bucket, one.name): one.id for one in catalog.snapshot().indexes.values()}
    plan = plan_migration(catalog.snapshot()).update

    catalog.commit(transaction(plan, requires=(MigrationIs(plan),)))

    after = catalog.snapshot()
    assert {key: one.id for key, one in after.indexes.items()} == {
        DatasetKey(PRIMARY, "only_1"): before["data", "only_1"],
        DatasetKey(PRIMARY, "only_2"): before[PRIMARY, "only_2"],
        DatasetKey(PRIMARY, "only_3"): before["local", "only_3"],
        DatasetKey(PRIMARY, "newest_here"): before[PRIMARY, "newest_here"],
        DatasetKey(PRIMARY, "newest_there"): before["data", "newest_there"],
    }
    assert {one.generation.bucket for one in after.indexes.values()} == {PRIMARY}
    assert not plan_migration(after).needed


# What a commit can require


def test_an_index_is_required_to_be_as_it_was(catalog: Catalog) -> None:
    at = IndexAt(PRIMARY, "by_face", 3)
    catalog.commit(transaction(PutGeneration(PRIMARY, "by_face", generation()), requires=(at,)))

    with pytest.raises(CommitConflict, match=r"vector index \"primary\".by_face is at version 3, but it is at version"):
        catalog.commit(transaction(PutGeneration(PRIMARY, "by_face", generation()), requires=(at,)))
    catalog.commit(transaction(DropIndex(PRIMARY, "by_face"), requires=(IndexAt(PRIMARY, "by_face", 4),)))
    with pytest.raises(CommitConflict, match="it was dropped") as caught:
        catalog.commit(transaction(create("new"), requires=(IndexAt(PRIMARY, "by_face", 4),)))

    assert IndexAt.refused(caught.value)


def test_an_index_is_required_not_to_be_there(catalog: Catalog) -> None:
    there_is_none = IndexAt(PRIMARY, "new", 0)
    catalog.commit(transaction(create_index("new", "1"), requires=(there_is_none,)))

    with pytest.raises(CommitConflict, match=r"there is no vector index \"primary\".new, but it is at version 4"):
        catalog.commit(transaction(create("other"), requires=(there_is_none,)))


def test_what_an_index_relies_on_is_required_not_to_be_given_up(catalog: Catalog) -> None:
    kept = IndexAt(PRIMARY, "by_face", 3, horizon=1)
    catalog.commit(transaction(create("before"), requires=(kept,)))
    catalog.commit(transaction(SetHorizon(3)))

    with pytest.raises(
        CommitConflict, match=r"files of version 1 of the catalog and later ones are kept, but bucket\."
    ):
        catalog.commit(transaction(create("after"), requires=(kept,)))
    catalog.commit(transaction(create("after"), requires=(IndexAt(PRIMARY, "by_face", 3),)))


def test_an_index_is_among_what_a_bucket_holds(catalog: Catalog) -> None:
    catalog.commit(transaction(create("new"), requires=(BucketHolds("far", ("by_bark", "by_voice", "pets")),)))

    with pytest.raises(CommitConflict, match="has the 1 datasets, views and vector indexes that it had, but it has 3"):
        catalog.commit(transaction(DropBucket("far"), requires=(BucketHolds("far", ("pets",)),)))


# How it is written down


def test_an_index_is_found_by_name_as_a_dataset_is(catalog: Catalog) -> None:
    catalog.commit(transaction(PutBucket(Bucket("near", LOCAL)), create_index("by_face", "1", bucket="far")))
    catalog.commit(transaction(create_index("by_bark", "1", bucket="near")))
    snapshot = catalog.snapshot()

    assert snapshot.index("by_face") == found(catalog, "by_face")
    assert snapshot.index("by_face", "far") == found(catalog, "by_face", "far")
    assert snapshot.index("by_voice") == found(catalog, "by_voice", "far")
    with pytest.raises(InvalidRequest, match=r"several buckets: say which of \"far\".by_bark, \"near\".by_bark$"):
        snapshot.index("by_bark")
    with pytest.raises(NotFound, match=r"no vector index 'by_fur' in bucket 'far'; there are: \"far\".by_bark, "):
        snapshot.index("by_fur", "far")
    with pytest.raises(NotFound, match="there is no bucket 'x'; there are: far, near, primary"):
        snapshot.index("by_fur", "x")


def test_indexes_of_one_name_are_told_to_who_sees_the_datasets_that_they_are_about(catalog: Catalog) -> None:
    """By whatever bucket and name the index has; to see a dataset of its name is to see nothing of it."""
    catalog.commit(transaction(PutBucket(Bucket("near", LOCAL)), create_index("by_bark", "1", bucket="near")))
    with pytest.raises(InvalidRequest) as caught:
        catalog.snapshot().index("by_bark")

    def told(*seen: DatasetKey) -> str:
        return caught.value.told_to(lambda bucket, name: (bucket, name) in seen).partition("say which of ")[2]

    assert told(DatasetKey("far", "pets"), PEOPLE) == '"far".by_bark, "near".by_bark'
    assert told(PEOPLE) == '"near".by_bark'
    assert told(DatasetKey("far", "by_bark"), DatasetKey("near", "by_bark")) == "them"


def test_a_catalog_that_is_opened_again_has_the_same_indexes(catalog: Catalog, objects: Objects) -> None:
    catalog.commit(transaction(PutGeneration(PRIMARY, "by_face", generation())))
    catalog.commit(transaction(MoveIndex(PRIMARY, "by_face", "far", generation("far"))))
    catalog.commit(transaction(DropIndex("far", "by_bark")))

    snapshot = catalog.snapshot()

    assert len(snapshot.indexes) == 3
    assert Catalog.open(objects).snapshot() == snapshot
    assert decode(snapshot.version, encode(snapshot)) == snapshot


def test_what_the_log_says_of_an_index_stays_readable() -> None:
    """Names and meanings of these fields are for ever: catalogs that have them are read by every later release."""
    contents = Generation("01G", PRIMARY, "_vectors/i/01G.idx", 10, 2, 1, ("s1",))
    updates: list[Update] = [
        CreateIndex(replace(index("i", "1", contents), id="x1")),
        PutGeneration(PRIMARY, "i", contents),
        MoveIndex(PRIMARY, "i", "far", contents),
        DropIndex("far", "i"),
    ]

    generation = {
        "id": "01G",
        "bucket": "primary",
        "key": "_vectors/i/01G.idx",
        "bytes": 10,
        "vectors": 2,
        "skipped": 1,
        "segments": ["s1"],
    }
    assert msgspec.json.decode(msgspec.json.encode(updates)) == [
        {
            "type": "create_index",
            "index": {
                "id": "x1",
                "bucket": "primary",
                "name": "i",
                "dataset_id": "1",
                "column": "v",
                "metric": "cosine",
                "dimension": 3,
                "created": "2026-01-01T12:00:00Z",
                "generation": generation,
            },
        },
        {"type": "put_generation", "bucket": "primary", "name": "i", "generation": generation},
        {"type": "move_index", "bucket": "primary", "name": "i", "to": "far", "generation": generation},
        {"type": "drop_index", "bucket": "far", "name": "i"},
    ]
