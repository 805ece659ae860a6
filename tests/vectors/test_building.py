"""What building an index reads and writes, and that it leaves nothing when it doesn't come to its end."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import pytest
from query.asking import run
from vectors.counting import counted
from vectors.indexed import create, objects
from vectors.searched import add, append, clustered, compact, frames, index_of, make_points, points

from flightserver.errors import BackendUnavailable, LimitExceeded
from flightserver.tables.moving import Step
from flightserver.vectors import building
from flightserver.vectors.building import Builder
from flightserver.vectors.codes import encoded
from flightserver.vectors.frame import size_of
from flightserver.vectors.metrics import lengths_of

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from flightserver.catalog.indexes import Generation
    from flightserver.lakehouse import Lakehouse
    from flightserver.vectors.frame import Frame


@pytest.fixture
def indexed(lakehouse: Lakehouse) -> Lakehouse:
    """Two segments with vectors and rows that have none, and an index of them."""
    make_points(lakehouse)
    add(lakehouse, 0, [[3, 4], None, [0, 2], [1]])
    add(lakehouse, 4, [None, [0, 0], [-1, 0]])
    create(lakehouse, dataset="points", metric="l2", dimension=2)
    return lakehouse


def to_the_end(steps: Generator[Step, None, Generation]) -> tuple[list[Step], Generation]:
    """What is told on the way, and what comes of it."""
    told = []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return told, end.value


def contents(frame: Frame) -> dict[str, object]:
    """What a generation holds."""
    return {
        "vectors": frame.vectors.tolist(),
        "lengths": frame.lengths.tolist(),
        "codes": frame.codes.tolist(),
        "places": frame.places.tolist(),
        "mean": frame.mean.tolist(),
        "segments": frame.footer.segments,
        "lengths between": (frame.footer.shortest, frame.footer.longest),
    }


def test_a_generation_holds_all_vectors_of_the_segments_with_their_places(indexed: Lakehouse) -> None:
    index = index_of(indexed)
    frame = frames(indexed).get(index.generation)
    first, second = (segment.id for segment in points(indexed).segments)
    # The directions (0.6, 0.8), (0, 1) and (-1, 0), and one that has none.
    mean = np.array([-0.1, 0.45], np.float32)
    matrix = np.array([[3, 4], [0, 2], [0, 0], [-1, 0]], np.float32)

    found = contents(frame)

    assert found.pop("mean") == pytest.approx(mean.tolist())
    assert found == {
        "vectors": matrix.tolist(),
        "lengths": [5, 2, 0, 1],
        "codes": encoded(matrix, lengths_of(matrix), mean).tolist(),
        "places": [0, 2, 1, 2],
        "segments": [(first, 2), (second, 2)],
        "lengths between": (0, 5),
    }
    footer, generation = frame.footer, index.generation
    assert (footer.index, footer.generation, footer.metric, footer.precision, footer.dimension) == (
        (index.id, generation.id, "l2", "float32", 2)
    )
    assert (generation.vectors, generation.skipped, generation.segments) == (4, 3, (first, second))


def test_rows_that_were_removed_are_in_it_because_earlier_versions_have_them(indexed: Lakehouse) -> None:
    run(indexed, "DELETE FROM points WHERE id IN (0, 6)")

    index = create(indexed, "again", dataset="points", metric="l2", dimension=2)

    before = contents(frames(indexed).get(index_of(indexed).generation))
    assert contents(frames(indexed).get(index.generation)) == before


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_vectors_of_the_generation_before_are_taken_from_it(lakehouse: Lakehouse, precision: str) -> None:
    make_points(lakehouse)
    for part in range(2):
        append(lakehouse, 100 * part, clustered(100, 20, seed=part + 1))
    index = create(lakehouse, dataset="points", precision=precision)
    before = frames(lakehouse).get(index.generation)
    append(lakehouse, 200, clustered(100, 20, seed=3))
    buckets, counting = counted(lakehouse)

    with patch.object(building, "_BATCH_ROWS", 30):
        told, generation = to_the_end(Builder(buckets).build(index, points(lakehouse), before))

    [new] = points(lakehouse).segments[2].object_keys()
    assert counting.opened == {new: 2}  # once to count, once to write
    _, anew = to_the_end(Builder(lakehouse.buckets).build(index, points(lakehouse), None))
    assert contents(frames(lakehouse).get(generation)) == contents(frames(lakehouse).get(anew))
    assert [step for step in told if step.stage == "write"][-1] == Step("write", 300, 300)


def test_longer_vectors_are_read_fewer_at_a_time(lakehouse: Lakehouse) -> None:
    make_points(lakehouse)
    append(lakehouse, 0, clustered(100, 20, seed=1))
    index = create(lakehouse, dataset="points")
    before = frames(lakehouse).get(index.generation)

    for taken_from in (None, before):
        with patch.object(building, "_BATCH_NUMBERS", 20 * 40):
            told, generation = to_the_end(Builder(lakehouse.buckets).build(index, points(lakehouse), taken_from))
        assert [step.done for step in told if step.stage == "write"] == [40, 80, 100]
        assert contents(frames(lakehouse).get(generation)) == contents(before)


def test_segments_that_the_dataset_no_longer_has_are_left_out(indexed: Lakehouse) -> None:
    index = index_of(indexed)
    before = frames(indexed).get(index.generation)
    compact(indexed)

    _, generation = to_the_end(Builder(indexed.buckets).build(index, points(indexed), before))

    assert generation.segments == tuple(segment.id for segment in points(indexed).segments)
    assert len(generation.segments) == 1
    found = contents(frames(indexed).get(generation))
    assert (found["vectors"], found["places"]) == ([[3, 4], [0, 2], [0, 0], [-1, 0]], [0, 2, 5, 6])


def test_progress_is_told_in_vectors(indexed: Lakehouse) -> None:
    told, _ = to_the_end(Builder(indexed.buckets).build(index_of(indexed), points(indexed), None))

    assert told == [Step("read", 2, 7), Step("read", 6, 7), Step("write", 2, 4), Step("write", 4, 4)]


def test_an_index_that_is_larger_than_a_put_may_be_is_refused_before_anything_is_written(indexed: Lakehouse) -> None:
    index = index_of(indexed)
    size = size_of(4, 2, "float32", 2)
    there = objects(indexed)
    buckets, counting = counted(indexed, vector_put_bytes=size - 1)

    with pytest.raises(LimitExceeded, match=f"^an object of {size:,} bytes can't be put under '_vectors/directions/"):
        to_the_end(Builder(buckets).build(index, points(indexed), None))

    assert (objects(indexed), counting.begun) == (there, {})
    buckets, _ = counted(indexed, vector_put_bytes=size)
    _, generation = to_the_end(Builder(buckets).build(index, points(indexed), None))
    assert objects(indexed).keys() - there.keys() == {generation.key}


def test_whoever_stops_at_any_step_leaves_nothing(indexed: Lakehouse) -> None:
    index, dataset = index_of(indexed), points(indexed)
    whole, _ = to_the_end(Builder(indexed.buckets).build(index, dataset, None))
    there = files(indexed)

    for stop in range(len(whole) + 1):
        with closing(Builder(indexed.buckets).build(index, dataset, None)) as steps:
            assert [next(steps) for _ in range(stop)] == whole[:stop]

    assert files(indexed) == there


def files(lakehouse: Lakehouse) -> set[Path]:
    """All of the primary bucket, unfinished ones too."""
    root = lakehouse.buckets.get("primary").local_root
    assert root is not None
    return {path for path in root.rglob("*") if path.is_file()}


def test_a_dataset_whose_files_are_gone_is_an_error_and_leaves_nothing(indexed: Lakehouse) -> None:
    there = objects(indexed)
    [key] = points(indexed).segments[1].object_keys()
    indexed.buckets.get("primary").objects.delete(key)

    with pytest.raises(BackendUnavailable, match=r"can't be read: restore it from a backup$"):
        to_the_end(Builder(indexed.buckets).build(index_of(indexed), points(indexed), None))

    assert objects(indexed) == there


def test_an_index_of_nothing_is_an_object_without_vectors(lakehouse: Lakehouse) -> None:
    make_points(lakehouse)

    generation = create(lakehouse, dataset="points", dimension=70).generation

    assert (generation.vectors, generation.skipped, generation.segments) == (0, 0, ())
    assert contents(frames(lakehouse).get(generation)) == {
        "vectors": [],
        "lengths": [],
        "codes": [[], []],
        "places": [],
        "mean": [0.0] * 70,
        "segments": [],
        "lengths between": (0, 0),
    }


@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_a_vector_longer_than_float32_can_say_makes_an_index_that_can_be_read(
    lakehouse: Lakehouse, metric: str
) -> None:
    make_points(lakehouse)
    append(lakehouse, 0, np.full((3, 9), 3e38, np.float32))

    generation = create(lakehouse, dataset="points", metric=metric).generation

    frame = frames(lakehouse).get(generation)
    assert (frame.footer.shortest, frame.footer.longest) == (float(np.finfo(np.float32).max),) * 2
