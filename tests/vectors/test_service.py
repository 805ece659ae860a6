"""The life of a vector index, and who comes in between."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from bucketing import add_bucket
from msgspec.structs import replace
from query.asking import rows, run
from tables.moving import before_each_commit, operation
from vectors.indexed import DOCS, create, expected, make_docs, nearest, objects, refresh

from flightserver.catalog.entities import DatasetKey
from flightserver.errors import (
    AlreadyExists,
    CommitConflict,
    DimensionMismatch,
    InvalidRequest,
    LimitExceeded,
    NotFound,
)
from flightserver.storage import limits
from flightserver.vectors import frame

if TYPE_CHECKING:
    from flightserver.catalog.indexes import VectorIndex
    from flightserver.lakehouse import Lakehouse

KEY = DatasetKey("primary", "directions")


@pytest.fixture
def docs(lakehouse: Lakehouse) -> Lakehouse:
    """`docs` without an index."""
    make_docs(lakehouse)
    return lakehouse


# Creating


def test_an_index_is_one_object_and_one_entry_of_the_catalog(docs: Lakehouse) -> None:
    index = create(docs)

    snapshot = docs.catalog.snapshot()
    dataset = snapshot.dataset("docs")
    assert snapshot.index("directions") == index
    assert (index.metric, index.dimension, index.precision, index.dataset_id) == ("cosine", 2, "float32", dataset.id)
    generation = index.generation
    assert (generation.vectors, generation.skipped) == (DOCS, 0)
    assert generation.segments == tuple(segment.id for segment in dataset.segments)
    assert {key: len(data) for key, data in objects(docs).items()} == {generation.key: generation.bytes}
    assert re.fullmatch(rf"_vectors/directions/{generation.id}\.idx", generation.key)
    assert nearest(docs, 90) == expected(90, 90, 89, 91)


def test_the_store_of_indexes_and_the_put_limit_have_one_prefix(docs: Lakehouse) -> None:
    """The other half is in tests/storage/test_limits.py: no other module names the prefix."""
    key = create(docs).generation.key

    limited = docs.buckets.get("primary").objects
    assert isinstance(limited, limits.LimitedObjects)
    assert key.startswith(limits.VECTORS)
    assert limited.limit(key) == limits.VECTOR_PUT_BYTES


def test_rows_without_a_vector_are_counted_and_never_found(docs: Lakehouse) -> None:
    run(docs, "INSERT INTO docs VALUES (1000, NULL), (1001, [1.0]), (1002, [0.0, 0.0]), (1003, [1.0, NULL])")
    run(docs, "INSERT INTO docs VALUES (1004, ['NaN'::DOUBLE, 1.0])")

    index = create(docs)

    assert (index.generation.vectors, index.generation.skipped) == (DOCS, 5)
    assert {number for number, _ in nearest(docs, 0, DOCS + 5)} == set(range(DOCS))


def test_an_index_over_nothing_yet_serves_what_comes(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE docs (id BIGINT, direction DOUBLE[])")

    index = create(lakehouse, dimension=2)

    assert (index.generation.vectors, index.generation.segments) == (0, ())
    assert nearest(lakehouse, 0) == []
    run(lakehouse, "INSERT INTO docs VALUES (7, [1.0, 0.0])")
    assert nearest(lakehouse, 0) == [(7, 0.0)]


def test_what_can_not_be_indexed_is_said_before_anything_is_written(docs: Lakehouse) -> None:
    add_bucket(docs, "archive")
    create(docs, "taken")
    run(docs, "CREATE TABLE empty (id BIGINT, direction DOUBLE[])")
    before = docs.catalog.snapshot().version

    with pytest.raises(
        NotFound, match=r'dataset "primary"\.docs has no column \'vector\': its columns of vectors are di'
    ):
        create(docs, column="vector")
    with pytest.raises(InvalidRequest, match=r"column 'id' of .* is of type int64: a vector index needs lists of numb"):
        create(docs, column="id")
    with pytest.raises(InvalidRequest, match="metric 'angle' is not known: expected one of cosine, l2, dot"):
        create(docs, metric="angle")
    with pytest.raises(InvalidRequest, match="precision 'int8' is not known: expected one of float32, float16"):
        create(docs, precision="int8")
    with pytest.raises(InvalidRequest, match="dimension is 0: expected 1 to 65,536"):
        create(docs, dimension=0)
    with pytest.raises(InvalidRequest, match=r"has no vectors yet, and its type doesn't say how long they are: give"):
        create(docs, dataset="empty")
    with pytest.raises(AlreadyExists, match=r'vector index "primary"\.taken exists already'):
        create(docs, "taken")
    with pytest.raises(NotFound, match="there is no bucket 'nowhere'; there are: archive, primary"):
        create(docs, bucket="nowhere")
    with pytest.raises(InvalidRequest, match="'a/b' can't name a vector index: it has a slash"):
        create(docs, "a/b")

    assert docs.catalog.snapshot().version == before
    assert len(objects(docs)) == 1


def test_a_column_whose_type_says_how_long_its_vectors_are_has_no_others(lakehouse: Lakehouse) -> None:
    run(
        lakehouse,
        "CREATE TABLE docs AS SELECT 1 AS id, arrow_cast([1.0, 0.0], 'FixedSizeList(2, Float32)') AS direction",
    )

    with pytest.raises(DimensionMismatch, match="column 'direction' has vectors of 2 numbers, and dimension is 3"):
        create(lakehouse, dimension=3)

    assert create(lakehouse).dimension == 2


def test_an_index_that_is_too_large_is_refused_before_a_byte_is_written(
    docs: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame, "_MOST_FOOTER", limits.VECTOR_PUT_BYTES)

    with pytest.raises(LimitExceeded, match="a put below '_vectors/' may have 4,294,967,296; "):
        create(docs)

    assert objects(docs) == {}


def test_of_two_that_create_one_index_one_is_told_so(docs: Lakehouse) -> None:
    others = ["directions"]

    def be_faster() -> None:
        while others:
            create(docs, others.pop())

    with before_each_commit(docs, "create index", be_faster), pytest.raises(AlreadyExists, match="exists already"):
        create(docs)

    assert nearest(docs, 90) == expected(90, 90, 89, 91)


def test_an_index_over_a_dataset_that_is_dropped_meanwhile_is_not_created(docs: Lakehouse) -> None:
    def drop() -> None:
        run(docs, "DROP TABLE docs")

    with before_each_commit(docs, "create index", drop), pytest.raises(NotFound, match="a dataset that was dropped"):
        create(docs)

    assert dict(docs.catalog.snapshot().indexes) == {}


def test_whoever_stops_looking_at_the_progress_stops_it_and_nothing_is_left(docs: Lakehouse) -> None:
    dataset = docs.catalog.snapshot().dataset("docs")
    with closing(docs.indexes.create(KEY, dataset, "direction", operation())) as steps:
        stages = [next(steps), next(steps)]

    assert [(step.stage, step.total) for step in stages] == [("read", DOCS), ("write", DOCS)]  # type: ignore[union-attr]  # a step, or the test fails
    assert objects(docs) == {}
    assert dict(docs.catalog.snapshot().indexes) == {}


# Following the dataset


def test_an_index_follows_its_dataset_and_column_through_renames_and_moves(docs: Lakehouse) -> None:
    add_bucket(docs, "archive")
    create(docs)
    run(docs, "ALTER TABLE docs RENAME TO papers")
    run(docs, "ALTER TABLE papers RENAME COLUMN direction TO heading")
    list(docs.mover.move(DatasetKey("primary", "papers"), "archive", operation("move")))

    assert nearest(docs, 90) == expected(90, 90, 89, 91)
    refresh(docs)
    assert rows(docs, f"SELECT count(heading) FROM vector_search('directions', [1.0, 0.0], {DOCS})") == [(DOCS,)]


def test_an_index_goes_with_its_dataset_and_never_serves_another_of_the_name(docs: Lakehouse) -> None:
    create(docs)
    run(docs, "DROP TABLE docs")
    make_docs(docs)

    with pytest.raises(NotFound, match="there is no vector index 'directions'; there are: none"):
        nearest(docs, 90)


def test_an_index_over_a_column_that_was_dropped_says_so_and_can_be_dropped(docs: Lakehouse) -> None:
    create(docs)
    run(docs, "ALTER TABLE docs DROP COLUMN direction")
    run(docs, "ALTER TABLE docs ADD COLUMN direction DOUBLE[]")

    with pytest.raises(InvalidRequest, match=r'vector index .* is about a column of "primary"\.docs that was dropped'):
        nearest(docs, 90)
    with pytest.raises(InvalidRequest, match="was dropped or replaced: drop the index"):
        refresh(docs)
    docs.indexes.drop(KEY, operation("drop index"))

    assert dict(docs.catalog.snapshot().indexes) == {}


def test_a_restart_finds_the_indexes_that_there_were(docs: Lakehouse) -> None:
    index = create(docs)
    before = nearest(docs, 45)
    settings = docs.settings
    docs.close()

    with type(docs).open(settings) as again:
        assert again.catalog.snapshot().index("directions") == index
        assert nearest(again, 45) == before


# Refreshing


def test_an_index_is_never_stale_and_refreshing_changes_no_answer(docs: Lakehouse) -> None:
    create(docs)
    run(docs, "DELETE FROM docs WHERE id IN (90, 180)")
    run(docs, "UPDATE docs SET id = id + 1000 WHERE id = 91")
    run(docs, "INSERT INTO docs SELECT id + 2000, direction FROM docs WHERE id = 89")
    stale = nearest(docs, 90, 5)
    assert [number for number, _ in stale] == [89, 1091, 2089, 88, 92]

    list(docs.compactor.compact(DatasetKey("primary", "docs"), operation("compact"), docs.compactor.wanted()))
    assert sorted(nearest(docs, 90, 5)) == sorted(stale)
    index = refresh(docs)

    assert sorted(nearest(docs, 90, 5)) == sorted(stale)
    dataset = docs.catalog.snapshot().dataset("docs")
    assert index.generation.segments == tuple(segment.id for segment in dataset.segments)


def test_refreshing_what_is_whole_changes_nothing(docs: Lakehouse) -> None:
    index = create(docs)

    assert refresh(docs) == index
    assert list(objects(docs)) == [index.generation.key]


def test_an_index_whose_object_is_lost_is_built_anew(docs: Lakehouse) -> None:
    index = create(docs)
    docs.buckets.get("primary").objects.delete(index.generation.key)
    assert nearest(docs, 90) == expected(90, 90, 89, 91)

    again = refresh(docs)

    assert again.generation.id != index.generation.id
    assert list(objects(docs)) == [again.generation.key]
    assert replace(again, generation=index.generation, version=index.version) == index


def test_a_refresh_that_is_overtaken_by_another_has_nothing_left_to_do(docs: Lakehouse) -> None:
    create(docs)
    run(docs, "INSERT INTO docs VALUES (1000, [1.0, 1.0])")
    left = ["directions"]
    faster: list[VectorIndex] = []

    def be_faster() -> None:
        while left:
            faster.append(refresh(docs, left.pop()))

    with before_each_commit(docs, "refresh index", be_faster):
        index = refresh(docs)

    assert faster == [index]


def test_a_refresh_that_always_comes_too_late_gives_up(docs: Lakehouse) -> None:
    create(docs)
    run(docs, "INSERT INTO docs VALUES (1000, [1.0, 1.0])")
    buckets = ["primary", "archive"]
    add_bucket(docs, "archive")
    move = docs.indexes.move

    def move_away() -> None:
        buckets.reverse()
        list(move(DatasetKey(buckets[1], "directions"), buckets[0], operation("move index")))

    with before_each_commit(docs, "refresh index", move_away), pytest.raises((CommitConflict, NotFound)):
        refresh(docs)

    assert nearest(docs, 45, 2)[0][0] in {45, 1000}


def test_a_dropped_index_is_gone_and_its_object_is_garbage(docs: Lakehouse) -> None:
    create(docs)

    docs.indexes.drop(KEY, operation("drop index"))

    with pytest.raises(NotFound, match="there is no vector index 'directions'; there are: none"):
        nearest(docs, 90)
    with pytest.raises(NotFound, match="there is no vector index 'directions'"):
        docs.indexes.drop(KEY, operation("drop index"))
    assert len(objects(docs)) == 1  # until bucket.collect finds that no version within retention names it
