"""Rows change without SQL: upserts and keys as streams, and the actions that do the same with uploads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from flightclient import connect
from flightclient.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import RunningServer
    from flightclient import Client


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with connect(server.uri) as opened:
        rows = pa.table({"id": [1, 2, 3], "name": ["Ada", "Bob", "Cid"]})
        opened.ingest(rows, "people", "create", primary_key=["id"])
        yield opened


def people(client: Client) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = client.query("SELECT * FROM people ORDER BY id").to_pylist()
    return rows


def test_an_upsert_replaces_rows_of_the_same_key_and_adds_the_others(client: Client) -> None:
    result = client.ingest(pa.table({"id": [2, 4], "name": ["Ben", "Dee"]}), "people", "upsert")

    assert (result.rows, result.unchanged) == (2, False)
    assert [row["name"] for row in people(client)] == ["Ada", "Ben", "Cid", "Dee"]


def test_of_rows_with_the_same_key_the_last_one_stays(client: Client) -> None:
    batches = [pa.record_batch({"id": [5, 1, 5], "name": ["a", "b", "c"]}), pa.record_batch({"id": [5], "name": ["d"]})]

    result = client.ingest(pa.Table.from_batches(batches), "people", "upsert")

    assert result.rows == 2
    assert [tuple(row.values()) for row in people(client)] == [(1, "b"), (2, "Bob"), (3, "Cid"), (5, "d")]


def test_an_upsert_creates_a_dataset_that_has_a_key(client: Client) -> None:
    rows = pa.table({"id": [1, 1], "n": [1, 2]})

    with pytest.raises(InvalidRequest, match="primary_key"):
        client.ingest(rows, "fresh", "upsert")
    client.ingest(rows, "fresh", "upsert", primary_key=["id"])

    assert client.query("SELECT * FROM fresh").to_pylist() == [{"id": 1, "n": 2}]
    client.ingest(pa.table({"n": [1]}), "keyless", "create")
    with pytest.raises(InvalidRequest, match="no primary key"):
        client.ingest(pa.table({"n": [1]}), "keyless", "upsert")


def test_many_rows_are_upserted_and_counted_exactly(client: Client) -> None:
    ids = list(range(200_000))
    client.ingest(pa.table({"id": ids, "v": [0] * len(ids)}), "big", "create", primary_key=["id"])

    result = client.ingest(pa.table({"id": [*ids[::2], 200_001], "v": [1] * 100_001}), "big", "upsert")

    assert result.rows == 100_001
    assert client.query("SELECT v, count(*) AS n FROM big GROUP BY v ORDER BY v").to_pylist() == [
        {"v": 0, "n": 100_000},
        {"v": 1, "n": 100_001},
    ]


def test_rows_are_deleted_by_their_keys(client: Client) -> None:
    assert client.delete(pa.table({"id": [1, 3, 77]}), "people") == 2
    assert [row["id"] for row in people(client)] == [2]
    with pytest.raises(InvalidRequest, match="id"):
        client.delete(pa.table({"name": ["Bob"]}), "people")
    with pytest.raises(NotFound, match="nobody"):
        client.delete(pa.table({"id": [1]}), "nobody")


def test_the_actions_take_uploads_and_inline_keys(client: Client, tmp_path: Path) -> None:
    changed, keys = tmp_path / "changed.csv", tmp_path / "keys.csv"
    changed.write_text("id,name\n1,Ann\n9,Ida\n")
    keys.write_text("id\n9\n")

    result = client.call("dataset.upsert", {"dataset": "people", "source": client.upload(changed)})
    assert result["rows"] == 2
    assert client.call("dataset.delete", {"dataset": "people", "keys": [{"id": 2}, {"id": 8}]})["rows"] == 1
    assert client.call("dataset.delete", {"dataset": "people", "source": client.upload(keys)})["rows"] == 1
    assert [tuple(row.values()) for row in people(client)] == [(1, "Ann"), (3, "Cid")]
    assert client.call("dataset.truncate", {"dataset": "people"})["rows"] == 2
    assert people(client) == []
    with pytest.raises(InvalidRequest, match="either"):
        client.call("dataset.delete", {"dataset": "people"})


def test_a_definition_changes_in_one_action(client: Client) -> None:
    result = client.call(
        "dataset.alter",
        {
            "dataset": "people",
            "add": [{"name": "age", "type": "INT"}],
            "rename": {"name": "full name"},
            "comment": "who's who",
            "comments": {"full name": "as printed"},
            "new_name": "persons",
        },
    )

    assert (result["dataset"], result["columns"]) == ("persons", ["id", "full name", "age"])
    assert client.call("dataset.describe", {"dataset": "persons"})["comment"] == "who's who"
    with pytest.raises(NotFound):
        client.call("dataset.alter", {"dataset": "persons", "comment": "x", "drop": ["nothing"]})
    assert client.call("dataset.describe", {"dataset": "persons"})["comment"] == "who's who"
