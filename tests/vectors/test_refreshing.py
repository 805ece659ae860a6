"""Which indexes are refreshed by the server, and what becomes of those that can't be."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace
from query.asking import run
from tables.moving import before_each_commit, operation
from vectors.counting import counted
from vectors.indexed import create, objects, refresh
from vectors.searched import add, compact, index_of, make_points, points

from flightserver.catalog.entities import DatasetKey
from flightserver.settings import VectorSettings
from flightserver.telemetry import Events
from flightserver.vectors import refreshing
from flightserver.vectors.refreshing import FAILED, REFRESHED, AutoRefresh
from flightserver.vectors.service import Indexes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.catalog.indexes import VectorIndex
    from flightserver.lakehouse import Lakehouse

SMALL = 4
"""Rows that a search compares without noticing, here."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshing, "EXACT", SMALL)


@pytest.fixture
def indexed(lakehouse: Lakehouse) -> Lakehouse:
    """Ten rows, and an index that has all of them."""
    make_points(lakehouse)
    add(lakehouse, 0, [[1, 0]] * 10)
    create(lakehouse, dataset="points")
    return lakehouse


def auto_refresh(lakehouse: Lakehouse, *, indexes: Indexes | None = None, **settings: Any) -> AutoRefresh:
    """One that looks only when the test says so."""
    return AutoRefresh(indexes or lakehouse.indexes, lakehouse.catalog, VectorSettings(**settings), Events())


def told(auto: AutoRefresh) -> list[tuple[str, str, dict[str, Any]]]:
    """Kinds, buckets and details of the events."""
    return [(event.kind, event.bucket, json.loads(event.detail)) for event in auto._events.entries()]


def missing(lakehouse: Lakehouse, name: str = "directions") -> int:
    """Rows that an index lacks."""
    return index_of(lakehouse, name).missing_rows(points(lakehouse))


REFRESHED_ONE = (REFRESHED, "primary", {"index": "directions"})


def test_an_index_that_lacks_nothing_is_left_alone(indexed: Lakehouse) -> None:
    before = index_of(indexed)
    run(indexed, "DELETE FROM points WHERE id < 9")
    auto = auto_refresh(indexed, refresh_ratio=0.01)

    auto.look()

    assert (index_of(indexed), missing(indexed), told(auto)) == (before, 0, [])


def test_an_index_is_refreshed_when_it_lacks_more_than_the_ratio(indexed: Lakehouse) -> None:
    before = index_of(indexed)
    auto = auto_refresh(indexed, refresh_ratio=0.5)
    add(indexed, 10, [[0, 1]] * 10)

    auto.look()  # a half, and not more

    assert (index_of(indexed), told(auto)) == (before, [])
    add(indexed, 20, [[0, 1]])
    assert missing(indexed) == 11
    auto.look()
    assert (missing(indexed), index_of(indexed).generation.vectors) == (0, 21)
    auto.look()
    assert told(auto) == [REFRESHED_ONE]


def test_an_index_that_lacks_few_rows_is_left_alone_however_few_there_are(indexed: Lakehouse) -> None:
    run(indexed, "DELETE FROM points WHERE id < 9")
    add(indexed, 10, [[0, 1]] * SMALL)
    auto = auto_refresh(indexed, refresh_ratio=0.1)

    auto.look()

    assert (missing(indexed), told(auto)) == (SMALL, [])
    add(indexed, 20, [[0, 1]])
    auto.look()
    assert (missing(indexed), told(auto)) == (0, [REFRESHED_ONE])


def test_rows_that_are_dead_already_are_not_missing(indexed: Lakehouse) -> None:
    add(indexed, 10, [[0, 1]] * 10)
    run(indexed, "DELETE FROM points WHERE id BETWEEN 10 AND 16")

    assert missing(indexed) == 3


def test_compaction_makes_all_rows_missing(indexed: Lakehouse) -> None:
    add(indexed, 10, [[0, 1]])
    compact(indexed)
    auto = auto_refresh(indexed)
    assert missing(indexed) == 11

    auto.look()

    assert (missing(indexed), told(auto)) == (0, [REFRESHED_ONE])


def test_each_index_is_looked_at_for_itself(indexed: Lakehouse) -> None:
    add(indexed, 10, [[0, 1]] * 10)
    create(indexed, "newer", dataset="points")
    newer = index_of(indexed, "newer")
    auto = auto_refresh(indexed)

    auto.look()

    assert (missing(indexed), index_of(indexed, "newer"), told(auto)) == (0, newer, [REFRESHED_ONE])


def limited(lakehouse: Lakehouse, vector_put_bytes: int) -> Indexes:
    """What refreshes indexes where only small ones may be put."""
    buckets, _ = counted(lakehouse, vector_put_bytes=vector_put_bytes)
    return Indexes(lakehouse.catalog, buckets, lakehouse.collector, lakehouse.indexes._frames)


def test_what_has_become_too_large_is_told_and_not_tried_again_before_the_dataset_changes(indexed: Lakehouse) -> None:
    before = index_of(indexed)
    auto = auto_refresh(indexed, indexes=limited(indexed, before.generation.bytes))
    add(indexed, 10, [[0, 1]] * 10)

    for _ in range(3):
        auto.look()

    [(kind, bucket, detail)] = told(auto)
    assert (kind, bucket, detail["index"], detail["code"]) == (FAILED, "primary", "directions", "FS-3003")
    assert "bucket.set_limits changes that" in detail["error"]
    assert index_of(indexed) == before
    add(indexed, 20, [[0, 1]])
    auto.look()
    assert [kind for kind, _, _ in told(auto)] == [FAILED, FAILED]


def test_what_fails_for_a_while_is_tried_again(indexed: Lakehouse) -> None:
    auto = auto_refresh(indexed)
    add(indexed, 10, [[0, 1]] * 10)
    [key] = points(indexed).segments[1].object_keys()
    stored = indexed.buckets.get("primary").objects
    data = stored.get(key)
    stored.delete(key)

    auto.look()
    stored.put(key, data)
    auto.look()

    (kind, _, detail), second = told(auto)
    assert (kind, detail["code"], second) == (FAILED, "FS-3004", REFRESHED_ONE)
    assert missing(indexed) == 0


def test_one_that_fails_does_not_keep_the_others_from_their_turn(indexed: Lakehouse) -> None:
    run(indexed, "CREATE TABLE others AS SELECT * FROM points")
    create(indexed, "of_others", dataset="others")
    for name in ("points", "others"):
        run(indexed, f"INSERT INTO {name} SELECT id + 100, direction FROM {name}")
    [key] = points(indexed).segments[1].object_keys()
    indexed.buckets.get("primary").objects.delete(key)
    auto = auto_refresh(indexed)

    auto.look()

    assert sorted((kind, detail["index"]) for kind, _, detail in told(auto)) == [
        (FAILED, "directions"),
        (REFRESHED, "of_others"),
    ]


def test_an_index_that_is_dropped_meanwhile_is_no_failure(indexed: Lakehouse) -> None:
    add(indexed, 10, [[0, 1]] * 10)
    auto = auto_refresh(indexed)

    def drop() -> None:
        key = DatasetKey("primary", "directions")
        if key in indexed.catalog.snapshot().indexes:
            indexed.indexes.drop(key, operation("drop"))

    with before_each_commit(indexed, "refresh index", drop):
        auto.look()

    assert told(auto) == []


def test_of_two_servers_one_refreshes_and_the_other_finds_nothing_left_to_do(indexed: Lakehouse) -> None:
    add(indexed, 10, [[0, 1]] * 10)
    auto = auto_refresh(indexed)
    others: list[VectorIndex] = []

    def refresh_first() -> None:
        if not others:
            others.append(index_of(indexed))
            refresh(indexed)

    with before_each_commit(indexed, "refresh index", refresh_first):
        auto.look()

    kinds = [one.operation.kind for commit in indexed.catalog.commits() for one in commit.transactions]
    assert (missing(indexed), kinds.count("refresh index"), told(auto)) == (0, 1, [REFRESHED_ONE])


def test_a_refresh_is_given_up_when_the_server_stops_and_leaves_nothing(indexed: Lakehouse) -> None:
    add(indexed, 10, [[0, 1]] * 10)
    before, there = index_of(indexed), objects(indexed)
    auto = auto_refresh(indexed)
    original = type(indexed.indexes).refresh

    def stopped(indexes: Indexes, *args: Any) -> Iterator[Any]:
        for step in original(indexes, *args):
            auto.stop()
            yield step

    with patch.object(type(indexed.indexes), "refresh", stopped):
        auto.look()
    auto.look()

    assert (index_of(indexed), objects(indexed), told(auto)) == (before, there, [])


def test_the_thread_looks_from_time_to_time_unless_the_ratio_is_zero(indexed: Lakehouse) -> None:
    add(indexed, 10, [[0, 1]] * 10)
    committed = threading.Event()
    never = auto_refresh(indexed, refresh_ratio=0.0, refresh_seconds=0.01)
    often = auto_refresh(indexed, refresh_seconds=0.01)

    never.start()
    assert "vector-refresh" not in {thread.name for thread in threading.enumerate() if thread is never._looks._thread}
    with patch.object(often._events, "record", lambda *_args, **_detail: committed.set()):
        often.start()
        assert committed.wait(30)
    often.stop()
    never.stop()

    assert missing(indexed) == 0


def test_a_dataset_without_its_index_and_an_index_without_rows_are_nothing_to_do(lakehouse: Lakehouse) -> None:
    make_points(lakehouse)
    auto = auto_refresh(lakehouse)
    auto.look()
    create(lakehouse, dataset="points", dimension=2)
    auto.look()

    assert told(auto) == []
    index = index_of(lakehouse)
    assert replace(index, generation=replace(index.generation, segments=("gone",))).missing_rows(points(lakehouse)) == 0
