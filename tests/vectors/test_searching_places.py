"""Where a search has its vectors from: the index, memory, or the files of the dataset."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from msgspec.structs import replace
from vectors.counting import counted
from vectors.indexed import create, refresh
from vectors.searched import (
    EAST,
    NEAREST_EAST,
    add,
    answer,
    append,
    clustered,
    found_by,
    index_of,
    make_points,
    placed,
    points,
    searcher,
    unreadable,
    wanted,
)

from flightserver.errors import BackendUnavailable
from flightserver.vectors import searching
from flightserver.vectors.frames import Frames

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flightserver.lakehouse import Lakehouse

DIMENSION = 48


# Indexes that can't be read


def lose(data: bytes) -> bytes | None:  # noqa: ARG001  # nothing is left of it
    return None


def flip(data: bytes) -> bytes:
    return data[:70] + bytes([data[70] ^ 1]) + data[71:]


def cut(data: bytes) -> bytes:
    return data[:-1]


def lengthen(data: bytes) -> bytes:
    return data[:-100] + data


def empty(data: bytes) -> bytes:
    return data[:0]


def spoil(lakehouse: Lakehouse, spoiled: Callable[[bytes], bytes | None]) -> str:
    """Put something else where the generation is; its key."""
    key = index_of(lakehouse).generation.key
    objects = lakehouse.buckets.get("primary").objects
    data = spoiled(objects.get(key))
    objects.delete(key)
    if data is not None:
        objects.put(key, data)
    return key


@pytest.mark.parametrize("spoiled", [lose, flip, cut, lengthen, empty], ids=lambda spoiled: spoiled.__name__)
def test_an_index_that_can_not_be_read_changes_no_answer_and_is_told_once(
    few: Lakehouse, spoiled: Callable[[bytes], bytes | None]
) -> None:
    key = spoil(few, spoiled)
    one, index = searcher(few), index_of(few)

    answers = [found_by(one, few, index, EAST, 3) for _ in range(3)]

    assert answers == [NEAREST_EAST] * 3
    [told] = unreadable(few)
    assert '"index": "directions"' in told
    assert key in told


def test_an_index_that_stays_unreadable_is_tried_and_told_again_after_a_while(
    few: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "_AVOIDED_SECONDS", 0.0)
    spoil(few, lose)
    one = searcher(few)

    for _ in range(2):
        found_by(one, few, index_of(few), EAST, 3)

    assert len(unreadable(few)) == 2


def test_an_index_that_could_not_be_read_is_left_alone_for_a_while(
    few: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its bucket doesn't answer, each try would take as long as the retries."""
    key = spoil(few, cut)
    buckets, objects = counted(few)
    one = searching.Searcher(Frames(buckets, tmp_path, 2**30), few.buckets, few.tables.dead, few.events)

    answers = [found_by(one, few, index_of(few), EAST, 3) for _ in range(3)]
    tries = objects.opened[key]
    monkeypatch.setattr(searching, "_AVOIDED_SECONDS", 0.0)
    answers.append(found_by(one, few, index_of(few), EAST, 3))

    assert answers == [NEAREST_EAST] * 4
    assert (tries, objects.opened[key]) == (1, 2)


def test_an_index_that_is_refreshed_is_read_again(few: Lakehouse) -> None:
    spoil(few, flip)
    one = searcher(few)
    found_by(one, few, index_of(few), EAST, 3)

    refresh(few)

    ids = placed(few, points(few))
    remove_files(few)
    answers = [answer(each.nearest(index_of(few), points(few), EAST, 3), ids) for each in (one, searcher(few))]
    assert answers == [NEAREST_EAST] * 2
    assert len(unreadable(few)) == 1


def remove_files(lakehouse: Lakehouse, *, segment: int | None = None) -> None:
    """Lose what a dataset's vectors could be read from: all of its files, or those of one segment."""
    segments = points(lakehouse).segments
    for one in segments if segment is None else segments[segment : segment + 1]:
        for key in one.object_keys():
            lakehouse.buckets.get(one.bucket).objects.delete(key)


def test_an_index_is_read_and_not_the_dataset(few: Lakehouse) -> None:
    ids = placed(few, points(few))
    remove_files(few)

    found = answer(searcher(few).nearest(index_of(few), points(few), EAST, 3), ids)

    assert found == NEAREST_EAST


def test_a_dataset_whose_files_are_needed_and_gone_is_an_error(few: Lakehouse) -> None:
    add(few, 5, [[1, 0]])
    remove_files(few, segment=2)

    with pytest.raises(BackendUnavailable, match="can't be read: restore it from a backup"):
        searcher(few).nearest(index_of(few), points(few), EAST, 3)


# What is kept in memory


@pytest.fixture
def unindexed(lakehouse: Lakehouse) -> Lakehouse:
    """An index of nothing, and two segments of one vector each, which take 16 bytes."""
    make_points(lakehouse)
    create(lakehouse, dataset="points", metric="l2", dimension=2)
    add(lakehouse, 0, [[1, 0]])
    add(lakehouse, 1, [[0, 1]])
    return lakehouse


def is_kept(lakehouse: Lakehouse, one: searching.Searcher, segment: int) -> bool:
    """Whether a search of one segment needs no file."""
    dataset = points(lakehouse)
    alone = replace(dataset, segments=dataset.segments[segment : segment + 1])
    key = alone.segments[0].object_keys()[0]
    objects = lakehouse.buckets.get("primary").objects
    data = objects.get(key)
    objects.delete(key)
    try:
        return len(one.nearest(index_of(lakehouse), alone, EAST, 1).row_ids) == 1
    except BackendUnavailable:
        return False
    finally:
        objects.put(key, data)


def test_segments_that_the_index_lacks_are_read_once(unindexed: Lakehouse) -> None:
    one = searcher(unindexed)
    assert [is_kept(unindexed, one, segment) for segment in (0, 1)] == [False, False]

    found = found_by(one, unindexed, index_of(unindexed), EAST, 2)

    assert found == [(0, 0.0), (1, np.sqrt(2.0))]
    assert [is_kept(unindexed, one, segment) for segment in (0, 1)] == [True, True]
    assert unreadable(unindexed) == []


def test_segments_that_are_too_large_are_read_each_time(unindexed: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    add(unindexed, 2, [[1, 1], [1, 2]])
    monkeypatch.setattr(searching, "_KEPT_SEGMENT_BYTES", 31)
    one = searcher(unindexed)

    answers = [found_by(one, unindexed, index_of(unindexed), EAST, 3) for _ in range(2)]

    assert answers == [[(0, 0.0), (2, 1.0), (1, np.sqrt(2.0))]] * 2
    assert [is_kept(unindexed, one, segment) for segment in (0, 1, 2)] == [True, True, False]


def test_the_segments_that_were_searched_last_are_kept(unindexed: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "_KEPT_BYTES", 47)
    one, index = searcher(unindexed), index_of(unindexed)
    found_by(one, unindexed, index, EAST, 2)
    assert is_kept(unindexed, one, 0)
    add(unindexed, 2, [[1, 1]])
    dataset = points(unindexed)

    one.nearest(index, replace(dataset, segments=dataset.segments[2:]), EAST, 1)

    assert [is_kept(unindexed, one, segment) for segment in (0, 1, 2)] == [True, False, True]


def test_indexes_of_another_precision_do_not_share_what_is_kept(unindexed: Lakehouse) -> None:
    add(unindexed, 2, [[0.1, 0]])
    other = create(unindexed, "short", dataset="points", metric="l2", dimension=2, precision="float16")
    other = replace(other, generation=replace(other.generation, segments=()))
    one = searcher(unindexed)

    far = np.array([1e-3, 0], np.float32)
    answers = [found_by(one, unindexed, index, far, 1) for index in (index_of(unindexed), other) * 2]

    assert answers == [wanted(unindexed, index, far, 1) for index in (index_of(unindexed), other)] * 2
    assert answers[0] != answers[1]


def test_many_threads_search_at_once(lakehouse: Lakehouse) -> None:
    make_points(lakehouse)
    append(lakehouse, 0, clustered(1000, DIMENSION, seed=1))
    index = create(lakehouse, dataset="points")
    append(lakehouse, 1000, clustered(1000, DIMENSION, seed=2))
    one, dataset = searcher(lakehouse), points(lakehouse)
    vectors = clustered(16, DIMENSION, seed=9)
    ready = threading.Barrier(4)

    def search(part: int) -> list[list[int]]:
        ready.wait(30)
        return [one.nearest(index, dataset, vector, 5).row_ids.tolist() for vector in vectors[part::4]]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(search, range(4)))

    alone = searcher(lakehouse)
    assert found == [
        [alone.nearest(index, dataset, vector, 5).row_ids.tolist() for vector in vectors[part::4]] for part in range(4)
    ]
