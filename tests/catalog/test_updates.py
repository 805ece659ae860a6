"""What each update changes and each requirement demands."""

from __future__ import annotations

import msgspec
import pytest
from catalog.making import NOON, append, create, dataset, lineage, segment, transaction

from flightserver.catalog.catalog import Catalog
from flightserver.catalog.entities import PRIMARY, Bucket, Dataset, DatasetKey
from flightserver.catalog.requirements import (
    BucketAbsent,
    BucketEmpty,
    ContentAbsent,
    DatasetAbsent,
    DatasetAt,
    DatasetUnchangedSchema,
    NothingAppended,
    Requirement,
    SegmentsUnchanged,
)
from flightserver.catalog.updates import (
    AppendSegments,
    CreateDataset,
    DropBucket,
    DropDataset,
    PutBucket,
    ReplaceSegments,
    Update,
)
from flightserver.errors import AlreadyExists, CommitConflict, InvalidRequest, NotFound
from flightserver.storage.memory import MemoryObjects


@pytest.fixture
def catalog() -> Catalog:
    """A new catalog in memory: version 1, with bucket `primary` alone."""
    return Catalog.open(MemoryObjects(), clock=lambda: NOON)


def people(catalog: Catalog) -> Dataset:
    return catalog.snapshot().dataset("people")


def layout(dataset: Dataset) -> list[tuple[int, int]]:
    return [(each.first_row_id, each.rows) for each in dataset.segments]


def test_a_created_dataset_gets_its_totals_from_its_segments_whatever_it_says(catalog: Catalog) -> None:
    lying = msgspec.structs.replace(dataset("people", 3, 4), version=99, rows=99, bytes=99, next_row_id=99)

    catalog.commit(transaction(CreateDataset(lying)))

    found = people(catalog)
    assert (found.version, found.rows, found.bytes, found.next_row_id) == (2, 7, 70, 7)
    assert layout(found) == [(0, 3), (3, 4)]


def test_appended_segments_are_numbered_on_in_order(catalog: Catalog) -> None:
    catalog.commit(transaction(create("people", 3)))

    catalog.commit(transaction(AppendSegments(PRIMARY, "people", (segment(2), segment(0), segment(5)), lineage(7))))

    found = people(catalog)
    assert layout(found) == [(0, 3), (3, 2), (5, 0), (5, 5)]
    assert (found.version, found.rows, found.bytes, found.next_row_id) == (3, 10, 100, 10)
    assert found.lineage == (lineage(7),)
    assert (found.schema, found.schema_fingerprint) == (b"schema 1", "f1")


def test_an_append_with_a_schema_evolves_the_dataset(catalog: Catalog) -> None:
    catalog.commit(transaction(create("people", 3)))

    catalog.commit(
        transaction(AppendSegments(PRIMARY, "people", (segment(2),), schema=b"schema 2", schema_fingerprint="f2"))
    )

    assert (people(catalog).schema, people(catalog).schema_fingerprint) == (b"schema 2", "f2")
    assert people(catalog).rows == 5


def test_a_schema_without_its_fingerprint_is_refused(catalog: Catalog) -> None:
    catalog.commit(transaction(create("people", 3)))

    with pytest.raises(InvalidRequest, match=r'append to "primary".people that evolves its schema needs'):
        catalog.commit(transaction(AppendSegments(PRIMARY, "people", (), schema=b"schema 2")))


def test_replaced_contents_keep_the_dataset_and_never_use_a_row_id_again(catalog: Catalog) -> None:
    catalog.commit(transaction(create("people", 3)))
    before = people(catalog)

    catalog.commit(transaction(ReplaceSegments(PRIMARY, "people", (segment(2),), b"schema 2", "f2", lineage(2, "c"))))

    after = people(catalog)
    assert (after.id, after.created) == (before.id, before.created)
    assert layout(after) == [(3, 2)]
    assert (after.rows, after.bytes, after.next_row_id, after.version) == (2, 20, 5, 3)
    assert (after.schema, after.schema_fingerprint, after.lineage) == (b"schema 2", "f2", (lineage(2, "c"),))


def test_a_dropped_dataset_is_gone_and_its_name_free(catalog: Catalog) -> None:
    catalog.commit(transaction(create("people", 3)))

    catalog.commit(transaction(DropDataset(PRIMARY, "people")))

    assert not catalog.snapshot().datasets
    catalog.commit(transaction(create("people")))
    assert people(catalog).rows == 0


def test_a_dropped_bucket_takes_its_datasets_along(catalog: Catalog) -> None:
    catalog.commit(transaction(PutBucket(Bucket("archive", "local", "/archive"))))
    catalog.commit(transaction(create("people", 1, bucket="archive"), create("people", 2)))

    catalog.commit(transaction(DropBucket("archive")))

    assert list(catalog.snapshot().buckets) == [PRIMARY]
    assert list(catalog.snapshot().datasets) == [DatasetKey(PRIMARY, "people")]


def test_a_new_bucket_is_created_at_the_time_of_its_commit(catalog: Catalog) -> None:
    catalog.commit(transaction(PutBucket(Bucket("archive", "local"))))

    assert catalog.snapshot().buckets["archive"] == Bucket("archive", "local", created=NOON)


@pytest.mark.parametrize(
    ("update", "error", "message"),
    [
        (append("nobody", 1), NotFound, 'there is no dataset "primary".nobody'),
        (DropDataset(PRIMARY, "nobody"), NotFound, 'there is no dataset "primary".nobody'),
        (ReplaceSegments(PRIMARY, "nobody", (), b"", ""), NotFound, 'there is no dataset "primary".nobody'),
        (create("people"), AlreadyExists, 'dataset "primary".people exists already'),
        (create("x", bucket="lost"), NotFound, "there is no bucket 'lost'; there are: b, primary"),
        (create("a/b"), InvalidRequest, "'a/b' can't name a dataset: it has a slash"),
        (DropBucket("lost"), NotFound, "there is no bucket 'lost'; there are: b, primary"),
        (DropBucket(PRIMARY), InvalidRequest, "bucket 'primary' can't be dropped: it holds the catalog"),
        (PutBucket(Bucket("A", "local")), InvalidRequest, "'A' can't name a bucket"),
    ],
)
def test_an_update_that_does_not_fit_is_refused_with_its_whole_transaction(
    catalog: Catalog, update: Update, error: type[Exception], message: str
) -> None:
    catalog.commit(transaction(create("people", 3)))
    before = catalog.snapshot()

    with pytest.raises(error, match=message):
        catalog.commit(transaction(create("other"), append("people", 5), PutBucket(Bucket("b", "local")), update))

    assert catalog.snapshot() == before


REQUIREMENTS: list[tuple[Requirement, str]] = [
    (DatasetAbsent(PRIMARY, "people"), 'there is no dataset "primary".people, but there is one, at version 2'),
    (DatasetAt(PRIMARY, "people", 1), 'dataset "primary".people is at version 1, but it is at version 2'),
    (
        DatasetAt(PRIMARY, "nobody", 1),
        'dataset "primary".nobody is at version 1, but it was dropped, renamed or moved;',
    ),
    (DatasetUnchangedSchema(PRIMARY, "people", "other", "f1"), "but it was dropped and created again;"),
    (DatasetUnchangedSchema(PRIMARY, "people", "p", "f0"), "but version 2 changed it"),
    (DatasetUnchangedSchema(PRIMARY, "nobody", "other", "f1"), "but it was dropped;"),
    (DatasetUnchangedSchema(PRIMARY, "nobody", "p", "f1"), 'but it was renamed and is "primary".people now;'),
    (DatasetUnchangedSchema("old", "people", "p", "f1"), 'but it was moved and is "primary".people now;'),
    (SegmentsUnchanged("old", "people", "p", (), ()), 'but it was moved and is "primary".people now;'),
    (NothingAppended("old", "people", "p", 1), 'but it was moved and is "primary".people now;'),
    (ContentAbsent(PRIMARY, "people", "c1"), "doesn't have the same bytes already, but it has at version 2"),
    (BucketAbsent(PRIMARY), "there is no bucket 'primary', but there is one"),
    (BucketEmpty(PRIMARY), "bucket 'primary' has no dataset, but it has 6: a, b, c, d, e, ..."),
    (BucketEmpty("lost"), "bucket 'lost' has no dataset, but there is no such bucket"),
]


def with_people(catalog: Catalog) -> None:
    found = msgspec.structs.replace(dataset("people", 3, identity="p"), lineage=(lineage(3, "c0"), lineage(3, "c1")))
    catalog.commit(transaction(CreateDataset(found), *(create(name) for name in "abcde")))


@pytest.mark.parametrize(("requirement", "message"), REQUIREMENTS)
def test_a_requirement_that_does_not_hold_is_a_conflict_that_says_what_was_found(
    catalog: Catalog, requirement: Requirement, message: str
) -> None:
    with_people(catalog)
    before = catalog.snapshot()

    with pytest.raises(CommitConflict, match="nothing was changed and a retry is safe") as caught:
        catalog.commit(transaction(create("new"), requires=(requirement,)))

    assert message in str(caught.value)
    assert catalog.snapshot() == before


@pytest.mark.parametrize(("requirement", "message"), REQUIREMENTS)
def test_a_conflict_tells_which_kind_of_requirement_was_refused(
    catalog: Catalog, requirement: Requirement, message: str
) -> None:
    with_people(catalog)

    with pytest.raises(CommitConflict, match=r".") as caught:
        catalog.commit(transaction(requires=(requirement,)))

    assert message
    assert [kind for kind in Requirement.__args__ if kind.refused(caught.value)] == [type(requirement)]


@pytest.mark.parametrize(
    "requirement",
    [
        DatasetAbsent(PRIMARY, "nobody"),
        DatasetAt(PRIMARY, "people", 2),
        DatasetUnchangedSchema(PRIMARY, "people", "p", "f1"),
        ContentAbsent(PRIMARY, "people", "c2"),
        ContentAbsent(PRIMARY, "nobody", "c1"),
        BucketAbsent("lost"),
        BucketEmpty("archive"),
    ],
)
def test_a_requirement_that_holds_lets_the_commit_pass(catalog: Catalog, requirement: Requirement) -> None:
    with_people(catalog)
    catalog.commit(transaction(PutBucket(Bucket("archive", "local"))))

    catalog.commit(transaction(create("new"), requires=(requirement,)))

    assert catalog.snapshot().dataset("new").version == 4
