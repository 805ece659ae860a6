"""Vector indexes and searches through the typed client."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from flightclient.errors import DimensionMismatch, InvalidRequest, NotFound
from flightclient.indexes import Index, IndexState
from flightclient.places import MovedIndex

if TYPE_CHECKING:
    from flightclient import Client

NAME = "what's near"
FOUND = [
    {"id": 2, "title": "north", "embedding": [0.0, 1.0], "_distance": 0.0},
    {"id": 1, "title": "east", "embedding": [1.0, 0.0], "_distance": 1.0},
]


@pytest.fixture
def version(client: Client) -> int:
    """The version of the catalog with the table `docs`, which has an index of a name that needs quoting."""
    docs = pa.table(
        {
            "id": [1, 2, 3],
            "title": ["east", "north", "south"],
            "embedding": pa.array([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], pa.list_(pa.float32())),
        }
    )
    client.ingest(docs, "docs", primary_key=["id"])
    return client.indexes.create(NAME, "docs", "embedding").version


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize(
    "vector",
    [
        [0, 1],
        (0.0, 1.0),
        np.array([0, 1], np.float32),
        np.array([0, 1], np.float16),
        pa.array([0.0, 1.0]).to_numpy(),
        (number for number in (0, 1)),
    ],
    ids=["list", "tuple", "float32", "float16", "arrow", "generator"],
)
def test_the_nearest_rows_come_with_their_distances(client: Client, vector: Any) -> None:
    assert client.search(NAME, vector, k=2).to_pylist() == FOUND


@pytest.mark.usefixtures("version")
def test_ten_rows_are_asked_for_if_nothing_is_said(client: Client) -> None:
    client.query("INSERT INTO docs SELECT value, 'more', [1.0, 0.0] FROM generate_series(10, 30)")

    found = client.search(NAME, [0, 1])

    assert found["id"].to_pylist()[0] == 2
    assert (found.num_rows, set(found["_distance"].to_pylist())) == (10, {0.0, 1.0})


@pytest.mark.usefixtures("version")
def test_a_filter_is_applied_before_the_search(client: Client) -> None:
    found = client.search(NAME, [0, 1], 1, "title <> 'north' AND id < 3")

    assert found.to_pylist() == FOUND[1:]


def test_a_search_may_be_about_an_earlier_version(client: Client, version: int) -> None:
    client.query("DELETE FROM docs WHERE id = 2")

    assert client.search(NAME, [0, 1], 1)["id"].to_pylist() == [1]
    assert client.search(NAME, [0, 1], 2, as_of=version).to_pylist() == FOUND


@pytest.mark.usefixtures("version")
def test_a_name_may_say_its_bucket(client: Client) -> None:
    assert client.search(f'primary."{NAME}"', [0, 1], 2).to_pylist() == FOUND


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([], "a sequence of finite numbers, one at least"),
        ([0.0, float("nan")], "a sequence of finite numbers"),
        (np.array([np.inf, 1.0]), "a sequence of finite numbers"),
        ("12", "a sequence of finite numbers, one at least; given was '12'"),
        ([[0, 1]], "a vector is a sequence of numbers: "),
        (["north", "south"], "a vector is a sequence of numbers: "),
        (7, "a vector is a sequence of numbers: "),
    ],
)
def test_what_is_no_vector_of_the_index_is_refused(client: Client, vector: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        client.search(NAME, vector)


@pytest.mark.usefixtures("version")
def test_a_vector_of_another_length_is_refused(client: Client) -> None:
    with pytest.raises(DimensionMismatch, match=r"the query vector has 3 numbers, and those of index .* have 2"):
        client.search(NAME, [1.0, 2.0, 3.0])


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize("k", [0, -1, 10_001])
def test_so_few_or_so_many_rows_are_refused(client: Client, k: int) -> None:
    with pytest.raises(InvalidRequest, match="10,000"):
        client.search(NAME, [0, 1], k)


def test_an_index_that_does_not_exist_is_not_found(client: Client, version: int) -> None:
    assert version
    with pytest.raises(NotFound, match="there is no vector index 'nothing'"):
        client.search("nothing", [0, 1])


def test_indexes_are_listed_in_the_order_of_buckets_and_names(client: Client, version: int) -> None:
    client.buckets.create("archive")
    client.indexes.create("b", "docs", "embedding", "dot", to="archive")
    client.query("INSERT INTO docs VALUES (4, 'west', [-1.0, 0.0])")

    listed = client.indexes.list()

    assert [(one.bucket, one.index, one.metric) for one in listed] == [
        ("archive", "b", "dot"),
        ("primary", NAME, "cosine"),
    ]
    assert {(one.dataset, one.dataset_bucket, one.column, one.vectors, one.unindexed_rows) for one in listed} == {
        ("docs", "primary", "embedding", 3, 1)
    }
    assert listed[1].version == version


def test_an_index_from_its_creation_to_its_end(client: Client) -> None:
    before = datetime.now(UTC)
    client.buckets.create("archive")
    client.query("CREATE TABLE docs AS SELECT 1 AS id, [1.0, 0.0] AS embedding")

    made = client.indexes.create(NAME, "docs", "embedding", "l2", dimension=2, precision="float16", bucket="primary")
    assert made == Index(
        index=NAME,
        bucket="primary",
        dataset="docs",
        dataset_bucket="primary",
        column="embedding",
        metric="l2",
        dimension=2,
        precision="float16",
        vectors=1,
        skipped=0,
        bytes=made.bytes,
        version=made.version,
    )

    client.query("INSERT INTO docs VALUES (2, [0.0, 1.0])")
    refreshed = client.indexes.refresh(NAME)
    assert (refreshed.vectors, refreshed.rebuilt) == (2, True)
    assert not client.indexes.refresh(NAME).rebuilt

    moved = client.indexes.move(NAME, "archive")
    assert moved == MovedIndex(
        index=NAME,
        bucket="archive",
        moved_from="primary",
        version=moved.version,
        objects=1,
        bytes=refreshed.bytes,
        already=0,
    )
    assert client.search(f'archive."{NAME}"', [0, 1], 1)["id"].to_pylist() == [2]

    [state] = client.indexes.list()
    now = {**asdict(made), "bucket": "archive", "vectors": 2, "bytes": refreshed.bytes, "version": moved.version}
    assert state == IndexState(**now, unindexed_rows=0, created=state.created)
    assert before <= state.created <= datetime.now(UTC)

    client.indexes.drop(NAME, bucket="archive")
    assert client.indexes.list() == ()
    with pytest.raises(NotFound, match="there is no vector index"):
        client.search(NAME, [0, 1])
