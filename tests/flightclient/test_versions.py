"""Versions through a client: going back, naming, comparing, and giving up what is old."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from flightclient.errors import AlreadyExists, InvalidRequest, NotFound
from tables.moving import before_each_commit, move

from flightserver.settings import Settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunningServer
    from flightclient import Client


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Files may be collected as soon as they are written."""
    return load_settings(None, {"server": {"data": tmp_path / "data"}, "catalog": {"collect_grace_hours": 0}})


@pytest.fixture
def numbers(client: Client) -> int:
    """A table `t` of 1, 2 and 3, from which 1 is deleted in the next version; its first version with rows."""
    client.query("CREATE TABLE t (n BIGINT PRIMARY KEY, name VARCHAR)")
    client.query("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    (newest, *_) = client.call("dataset.history", {"dataset": "t"})["versions"]
    client.query("DELETE FROM t WHERE n = 1")
    return int(newest["version"])


def rows(client: Client, sql: str = "SELECT n FROM t ORDER BY n") -> list[Any]:
    return list(client.query(sql).column(0).to_pylist())


def test_a_dataset_is_restored_and_its_history_goes_on(client: Client, numbers: int) -> None:
    answer = client.call("dataset.restore", {"dataset": "t", "version": numbers})

    assert answer == {"dataset": "t", "bucket": "primary", "version": numbers + 2}
    assert rows(client) == [1, 2, 3]
    assert rows(client, f"SELECT n FROM t FOR VERSION AS OF {numbers + 1} ORDER BY n") == [2, 3]
    kinds = [one["kind"] for one in client.call("dataset.history", {"dataset": "t"})["versions"]]
    assert kinds == ["restore", "delete", "insert", "create table"]


def test_a_version_may_be_a_number_as_text_a_tag_or_a_time(client: Client, numbers: int) -> None:
    client.call("dataset.tag", {"dataset": "t", "tag": "full", "version": numbers})
    entry = next(
        one for one in client.call("dataset.history", {"dataset": "t"})["versions"] if one["version"] == numbers
    )

    for version in (str(numbers), "full", entry["time"]):
        client.call("dataset.restore", {"dataset": "t", "version": version})
        assert rows(client) == [1, 2, 3]
        client.query("DELETE FROM t")


def test_a_tag_is_in_the_history_and_in_sql(client: Client, numbers: int) -> None:
    named = client.call("dataset.tag", {"dataset": "t", "tag": "full", "version": numbers})

    assert named["version"] == numbers
    assert rows(client, "SELECT n FROM t FOR VERSION AS OF 'full' ORDER BY n") == [1, 2, 3]
    tags = {one["version"]: one["tags"] for one in client.call("dataset.history", {"dataset": "t"})["versions"]}
    assert tags == {numbers + 2: [], numbers + 1: [], numbers: ["full"], numbers - 1: []}
    with pytest.raises(AlreadyExists, match="tag 'full' of dataset"):
        client.call("dataset.tag", {"dataset": "t", "tag": "full"})


def test_a_tag_can_be_deleted(client: Client, numbers: int) -> None:
    client.call("dataset.tag", {"dataset": "t", "tag": "full", "version": numbers})

    with pytest.raises(InvalidRequest, match="deletes a tag by its name: leave `version` out"):
        client.call("dataset.tag", {"dataset": "t", "tag": "full", "version": numbers, "delete": True})
    assert client.call("dataset.tag", {"dataset": "t", "tag": "full", "delete": True})["version"] == numbers
    with pytest.raises(NotFound, match="has no tag 'full': it has none"):
        rows(client, "SELECT n FROM t FOR VERSION AS OF 'full'")


@pytest.mark.parametrize("kind", ["tag", "restore"])
def test_what_a_move_overtakes_is_done_to_the_dataset_where_it_is_now(
    client: Client, server: RunningServer, numbers: int, kind: str
) -> None:
    client.buckets.create("archive")
    left = ["archive"]

    def move_once() -> None:
        while left:
            move(server.lakehouse, "t", left.pop())

    body: dict[str, Any] = {"version": numbers, **({"tag": "full"} if kind == "tag" else {})}
    with before_each_commit(server.lakehouse, kind, move_once):
        answer = client.call(f"dataset.{kind}", {"dataset": "t", **body})

    assert answer["bucket"] == "archive"
    assert rows(client, f"SELECT n FROM t FOR VERSION AS OF {answer['version']} ORDER BY n") == [1, 2, 3]
    assert rows(client, "SELECT tag FROM system.tags") == ["full"] * (kind == "tag")


def test_a_diff_counts_rows_and_columns(client: Client, numbers: int) -> None:
    client.query("UPDATE t SET name = 'B' WHERE n = 2")
    client.query("ALTER TABLE t ADD COLUMN x INTEGER")
    client.query("INSERT INTO t VALUES (4, 'd', 4)")

    answer = client.call("dataset.diff", {"dataset": "t", "from": numbers})

    assert answer == {
        "dataset": "t",
        "bucket": "primary",
        "from": numbers,
        "to": numbers + 4,
        "rows_added": 1,
        "rows_removed": 1,
        "rows_changed": 1,
        "columns_added": ["x"],
        "columns_removed": [],
        "columns_changed": [],
        "segments_shared": 0,
        "segments_added": 3,
        "segments_removed": 1,
    }
    backwards = client.call("dataset.diff", {"dataset": "t", "from": numbers + 1, "to": numbers})
    assert (backwards["rows_added"], backwards["rows_removed"], backwards["rows_changed"]) == (1, 0, 0)


def test_a_diff_is_a_statement_that_can_be_seen(client: Client, numbers: int) -> None:
    client.call("dataset.diff", {"dataset": "t", "from": numbers})

    (text,) = rows(client, "SELECT sql FROM system.queries WHERE sql LIKE 'dataset.diff%'")
    assert text == f'dataset.diff of "primary".t from version {numbers} to {numbers + 1}'


def test_a_diff_without_a_change_runs_nothing(client: Client, numbers: int) -> None:
    answer = client.call("dataset.diff", {"dataset": "t", "from": numbers, "to": numbers})

    assert (answer["rows_added"], answer["rows_removed"], answer["rows_changed"]) == (0, 0, 0)
    assert (answer["segments_shared"], answer["segments_added"], answer["segments_removed"]) == (1, 0, 0)
    assert rows(client, "SELECT sql FROM system.queries WHERE sql LIKE 'dataset.diff%'") == []


def test_collecting_gives_up_old_versions_and_keeps_what_is_named(
    client: Client, server: RunningServer, numbers: int
) -> None:
    client.call("dataset.tag", {"dataset": "t", "tag": "full", "version": numbers})
    client.ingest(pa.table({"n": [9]}), "other")
    client.query("DROP TABLE other")

    told = client.call("bucket.collect", {"older_than_hours": 0, "dry_run": True})
    answer = client.call("bucket.collect", {"older_than_hours": 0})

    assert answer == told
    assert (answer["bucket"], answer["objects"], answer["kept"]) == ("primary", 2, 3)
    assert [key.split("/")[1] for key in answer["examples"]] == ["other", "other"]
    assert answer["horizon"] == server.lakehouse.catalog.snapshot().horizon == numbers + 4
    assert rows(client) == [2, 3]
    assert rows(client, "SELECT n FROM t FOR VERSION AS OF 'full' ORDER BY n") == [1, 2, 3]
    with pytest.raises(NotFound, match="older than files are kept"):
        rows(client, f"SELECT n FROM t FOR VERSION AS OF {numbers - 1}")
    assert client.call("bucket.collect", {"older_than_hours": 0})["objects"] == 0


@pytest.mark.parametrize("hours", [-1, 1e9, "many"])
def test_a_retention_that_is_none_is_refused(client: Client, hours: object) -> None:
    with pytest.raises(InvalidRequest, match="older_than_hours"):
        client.call("bucket.collect", {"older_than_hours": hours})


def test_a_bucket_that_does_not_exist_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound, match="there is no bucket 'nowhere'"):
        client.call("bucket.collect", {"bucket": "nowhere"})


@pytest.mark.parametrize(
    ("action", "body"),
    [("dataset.restore", {"version": 1}), ("dataset.tag", {"tag": "a"}), ("dataset.diff", {"from": 1})],
)
def test_a_dataset_that_does_not_exist_is_not_found(client: Client, action: str, body: dict[str, Any]) -> None:
    with pytest.raises(NotFound, match="there is no dataset 'nothing'"):
        client.call(action, {"dataset": "nothing", **body})
