"""The actions on vector indexes, through a real server and client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flightclient
import pyarrow as pa
import pytest
from flightclient.errors import AlreadyExists, InvalidRequest, NotFound
from query.asking import rows, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import RunningServer
    from flightclient import Client, Progress

DOCS = pa.table(
    {
        "id": [1, 2, 3, 4],
        "title": ["east", "north", "nothing", "south"],
        "embedding": pa.array([[1.0, 0.0], [0.0, 2.0], None, [0.0, -4.0]], pa.list_(pa.float32())),
    }
)
EAST = "SELECT id, _distance FROM vector_search('docs_embedding', [1.0, 0.0], 2)"


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    """Connected to a server with the table `docs`."""
    with flightclient.connect(server.uri) as opened:
        opened.ingest(DOCS, "docs", primary_key=["id"])
        yield opened


@pytest.fixture
def archive(client: Client) -> str:
    """The name of another bucket."""
    client.call("bucket.create", {"name": "archive", "backend": "local"})
    return "archive"


def create(client: Client, name: str = "docs_embedding", **more: Any) -> dict[str, Any]:
    return client.call("index.create", {"index": name, "dataset": "docs", "column": "embedding", **more})


def objects(root: Path, bucket: str) -> list[int]:
    """Sizes of the objects of indexes in a local bucket."""
    below = root / "data" / ("primary" if bucket == "primary" else f"buckets/{bucket}") / "_vectors"
    return sorted(path.stat().st_size for path in below.rglob("*") if path.is_file())


def log(server: RunningServer) -> list[tuple[Any, ...]]:
    """Kind and detail of the commits that changed indexes, oldest first."""
    return rows(server.lakehouse, "SELECT kind, detail FROM system.commits WHERE kind LIKE '%index' ORDER BY version")


def test_what_was_created_is_described_and_finds_rows(client: Client, tmp_path: Path) -> None:
    created = create(client)

    [size] = objects(tmp_path, "primary")
    assert created == {
        "index": "docs_embedding",
        "bucket": "primary",
        "dataset": "docs",
        "dataset_bucket": "primary",
        "column": "embedding",
        "metric": "cosine",
        "dimension": 2,
        "precision": "float32",
        "vectors": 3,
        "skipped": 1,
        "bytes": size,
        "version": client.query("SELECT max(version) AS v FROM system.commits")["v"][0].as_py(),
    }
    assert client.query(EAST).to_pylist() == [{"id": 1, "_distance": 0.0}, {"id": 2, "_distance": 1.0}]


@pytest.mark.parametrize(
    ("metric", "distances"), [("cosine", [0.0, 1.0, 2.0]), ("l2", [1.0, 2**0.5, 5.0]), ("dot", [-2.0, 0.0, 4.0])]
)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_metric_and_precision_are_those_that_were_asked_for(
    client: Client, metric: str, distances: list[float], precision: str
) -> None:
    created = create(client, metric=metric, precision=precision)

    found = client.query("SELECT id, _distance FROM vector_search('docs_embedding', [0.0, 1.0], 3)")
    assert (created["metric"], created["precision"]) == (metric, precision)
    assert found["id"].to_pylist() == [2, 1, 4]
    assert found["_distance"].to_pylist() == pytest.approx(distances)


def test_a_dimension_says_which_vectors_are_taken(client: Client) -> None:
    created = create(client, dimension=3)

    assert (created["dimension"], created["vectors"], created["skipped"]) == (3, 0, 4)
    client.query("INSERT INTO docs VALUES (5, 'up', [0.0, 0.0, 1.0])")
    found = client.query("SELECT id FROM vector_search('docs_embedding', [0.0, 0.0, 1.0], 9)")
    assert found["id"].to_pylist() == [5]


def test_an_index_may_live_in_another_bucket_than_its_dataset(client: Client, archive: str, tmp_path: Path) -> None:
    created = create(client, to=archive)

    assert (created["bucket"], created["dataset_bucket"]) == ("archive", "primary")
    assert (objects(tmp_path, "primary"), objects(tmp_path, "archive")) == ([], [created["bytes"]])
    assert client.query(EAST)["id"].to_pylist() == [1, 2]


def test_it_lives_where_its_dataset_does_if_nothing_is_said(client: Client, archive: str) -> None:
    client.query("CREATE TABLE archive.docs AS SELECT * FROM docs")

    assert create(client, bucket=archive)["bucket"] == "archive"


def test_a_refresh_takes_in_what_came_since(client: Client) -> None:
    created = create(client)
    client.query("INSERT INTO docs VALUES (5, 'west', [-1.0, 0.0])")
    told: list[Progress] = []

    refreshed = client.call("index.refresh", {"index": "docs_embedding"}, told.append)
    again = client.call("index.refresh", {"index": "docs_embedding"})

    assert refreshed["version"] > created["version"]
    assert refreshed == {
        **created,
        "vectors": 4,
        "bytes": refreshed["bytes"],
        "version": refreshed["version"],
        "rebuilt": True,
    }
    assert again == {**refreshed, "rebuilt": False}
    assert told
    assert all(0 <= one.done <= one.total for one in told)


def test_an_index_goes_by_the_names_of_now(client: Client) -> None:
    create(client)
    client.query("ALTER TABLE docs RENAME COLUMN embedding TO meaning")
    client.query("ALTER TABLE docs RENAME TO texts")

    refreshed = client.call("index.refresh", {"index": "docs_embedding"})

    assert (refreshed["dataset"], refreshed["column"], refreshed["rebuilt"]) == ("texts", "meaning", False)
    assert client.query(EAST)["id"].to_pylist() == [1, 2]


def test_a_moved_index_is_found_in_its_new_home_only(client: Client, archive: str, tmp_path: Path) -> None:
    created = create(client)

    moved = client.call("index.move", {"index": "docs_embedding", "to": archive})

    assert moved == {
        "index": "docs_embedding",
        "bucket": "archive",
        "moved_from": "primary",
        "version": created["version"] + 1,
        "objects": 1,
        "bytes": created["bytes"],
        "already": 0,
    }
    assert objects(tmp_path, "archive") == [created["bytes"]]
    assert client.query(EAST)["id"].to_pylist() == [1, 2]
    assert client.query("SELECT bucket FROM system.datasets WHERE name = 'docs'")["bucket"].to_pylist() == ["primary"]
    with pytest.raises(NotFound, match="there is no vector index 'docs_embedding' in bucket 'primary'"):
        client.call("index.refresh", {"index": "docs_embedding", "bucket": "primary"})


@pytest.mark.parametrize(
    ("to", "error", "message"),
    [
        ("primary", InvalidRequest, "can't be moved to bucket 'primary': it is there; name another bucket"),
        ("nowhere", NotFound, "there is no bucket 'nowhere'; there are: archive, primary"),
        ("archive", AlreadyExists, "can't be moved to bucket 'archive', which has one of the name"),
    ],
)
def test_a_move_that_cannot_be_leaves_the_index_where_it_is(
    client: Client, archive: str, to: str, error: type[Exception], message: str
) -> None:
    create(client)
    create(client, to=archive)

    with pytest.raises(error, match=message):
        client.call("index.move", {"index": "docs_embedding", "bucket": "primary", "to": to})

    homes = client.query("SELECT bucket FROM system.indexes ORDER BY bucket")["bucket"].to_pylist()
    assert homes == ["archive", "primary"]


def test_a_dropped_index_is_gone_and_its_dataset_is_not(client: Client) -> None:
    create(client)

    assert client.call("index.drop", {"index": "docs_embedding"}) == {"index": "docs_embedding", "bucket": "primary"}

    with pytest.raises(NotFound, match="there is no vector index 'docs_embedding'"):
        client.query(EAST)
    assert client.query("SELECT count(*) AS n FROM docs")["n"].to_pylist() == [4]
    assert create(client)["vectors"] == 3


def test_an_index_goes_with_its_dataset(client: Client) -> None:
    create(client)

    client.call("dataset.drop", {"dataset": "docs"})

    with pytest.raises(NotFound, match="there is no vector index 'docs_embedding'; there are: none"):
        client.call("index.drop", {"index": "docs_embedding"})


def test_each_change_is_in_the_commit_log(client: Client, archive: str, server: RunningServer) -> None:
    create(client)
    client.query("INSERT INTO docs VALUES (5, 'west', [-1.0, 0.0])")
    client.call("index.refresh", {"index": "docs_embedding"})
    client.call("index.refresh", {"index": "docs_embedding"})
    client.call("index.move", {"index": "docs_embedding", "to": archive})
    client.call("index.drop", {"index": "docs_embedding"})

    assert log(server) == [
        ("create index", '"primary".docs_embedding on "primary".docs'),
        ("refresh index", '"primary".docs_embedding on "primary".docs'),
        ("move index", '"primary".docs_embedding to bucket archive'),
        ("drop index", '"archive".docs_embedding on "primary".docs'),
    ]


def test_a_name_in_several_buckets_means_that_of_the_call_and_else_primary(
    client: Client, server: RunningServer
) -> None:
    for bucket in ("one", "two"):
        client.call("bucket.create", {"name": bucket, "backend": "local"})
        create(client, to=bucket)

    with pytest.raises(InvalidRequest, match=r'in several buckets: say which of "one".docs_embedding, "two".docs_emb'):
        client.call("index.refresh", {"index": "docs_embedding"})
    assert client.call("index.refresh", {"index": "docs_embedding", "bucket": "two"})["bucket"] == "two"
    with flightclient.connect(server.uri, bucket="one") as there:
        assert there.call("index.refresh", {"index": "docs_embedding"})["bucket"] == "one"
        create(client, to="primary")
        assert there.call("index.drop", {"index": "docs_embedding"})["bucket"] == "one"
    assert client.call("index.drop", {"index": "docs_embedding"})["bucket"] == "primary"
    assert client.call("index.drop", {"index": "docs_embedding"})["bucket"] == "two"


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"metric": "hamming"}, InvalidRequest, r"not valid: .*`\$\.metric`; it must be one of cosine, l2, dot"),
        ({"precision": "int8"}, InvalidRequest, r"not valid: .*`\$\.precision`; it must be one of float32, float16"),
        ({"dimension": 0}, InvalidRequest, r"index.create is not valid: .*dimension"),
        ({"dimension": "2"}, InvalidRequest, r"index.create is not valid: .*dimension"),
        ({"lists": 100}, InvalidRequest, "unknown field `lists`"),
        ({"column": "title"}, InvalidRequest, "column 'title' of \"primary\".docs is of type string: a vector index"),
        ({"column": "none"}, InvalidRequest, "has no vectors yet, and its type doesn't say how long they are: give"),
        ({"column": "meaning"}, NotFound, "has no column 'meaning': its columns of vectors are embedding, none"),
        ({"dataset": "texts"}, NotFound, "there is no dataset 'texts'"),
        ({"dataset": "short"}, InvalidRequest, "short is a view"),
        ({"to": "nowhere"}, NotFound, "there is no bucket 'nowhere'; there are: primary"),
        ({"to": "data"}, NotFound, "there is no bucket 'data'; there are: primary"),
        ({"name": "taken"}, AlreadyExists, 'index "primary".taken exists already'),
        ({"name": ""}, InvalidRequest, "can't name a vector index: it is empty"),
    ],
)
def test_what_cannot_be_indexed_is_refused_and_leaves_nothing(
    client: Client, tmp_path: Path, more: dict[str, Any], error: type[Exception], message: str
) -> None:
    create(client, "taken")
    client.query("ALTER TABLE docs ADD COLUMN none FLOAT[]")
    client.query("CREATE VIEW short AS SELECT * FROM docs")
    before = objects(tmp_path, "primary")

    with pytest.raises(error, match=message):
        create(client, **more)

    assert client.query("SELECT name FROM system.indexes")["name"].to_pylist() == ["taken"]
    assert objects(tmp_path, "primary") == before


@pytest.mark.parametrize("action", ["refresh", "move", "drop"])
def test_an_index_that_does_not_exist_is_not_found_and_others_are_named(client: Client, action: str) -> None:
    create(client)
    body = {"index": "nothing"} | ({"to": "primary"} if action == "move" else {})

    with pytest.raises(NotFound, match=r"there is no vector index 'nothing'; there are: \"primary\".docs_embedding"):
        client.call(f"index.{action}", body)
    with pytest.raises(NotFound, match="there is no bucket 'nowhere'; there are: primary"):
        client.call(f"index.{action}", {**body, "bucket": "nowhere"})


def test_changes_to_the_dataset_show_without_a_refresh(client: Client, server: RunningServer) -> None:
    create(client)

    run(server.lakehouse, "DELETE FROM docs WHERE id = 1")
    run(server.lakehouse, "UPDATE docs SET embedding = [3.0, 0.0] WHERE id = 4")

    assert client.query(EAST).to_pylist() == [{"id": 4, "_distance": 0.0}, {"id": 2, "_distance": 1.0}]
