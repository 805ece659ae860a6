"""What a search finds when there is much to compare, and what may be found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace
from query.asking import run
from vectors.indexed import create
from vectors.searched import (
    EAST,
    NEAREST_EAST,
    answer,
    append,
    clustered,
    distance,
    found_by,
    frames,
    index_of,
    make_points,
    points,
    searcher,
    shown,
    unreadable,
    wanted,
    write,
)

from flightserver.errors import DimensionMismatch, InvalidRequest
from flightserver.vectors import searching
from flightserver.vectors.codes import encoded, hamming
from flightserver.vectors.metrics import lengths_of, query_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vectors.searched import Found

    from flightserver.lakehouse import Lakehouse

DIMENSION = 48


@pytest.fixture
def many(lakehouse: Lakehouse) -> Lakehouse:
    """3,000 clustered vectors in three segments, of which a tenth were removed."""
    make_points(lakehouse)
    for part in range(3):
        append(lakehouse, 1000 * part, clustered(1000, DIMENSION, seed=part + 1))
    run(lakehouse, "DELETE FROM points WHERE id % 10 = 3")
    return lakehouse


@pytest.fixture
def by_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many candidates are compared as of a hundred times as many vectors."""
    monkeypatch.setattr(searching, "EXACT", 100)
    monkeypatch.setattr(searching, "_CHOSEN", 200)


def recall(found: Found, best: Found) -> float:
    """Which part of the nearest was found."""
    return len({number for number, _ in found} & {number for number, _ in best}) / len(best)


# By codes


@pytest.mark.usefixtures("by_codes")
@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("share", [None, 2], ids=["all", "every other row"])
def test_codes_choose_among_what_may_be_found_and_distances_are_exact(
    many: Lakehouse, metric: str, precision: str, share: int | None
) -> None:
    """A precision of 16 bits makes lengths differ by less than says anything."""
    index = create(many, dataset="points", metric=metric, precision=precision)
    one, vectors = searcher(many), shown(many)
    allowed = None if share is None else {number for number in vectors if number % share == 0}
    recalls = []
    for vector in clustered(8, DIMENSION, seed=9):
        found = found_by(one, many, index, vector, 10, allowed)

        best = wanted(many, index, vector, 10, allowed)
        assert {number for number, _ in found} <= (vectors.keys() if allowed is None else allowed)
        for number, away in found:
            stored = np.array(vectors[number], precision).astype(np.float64)
            assert away == pytest.approx(distance(metric, stored, vector.astype(np.float64)), abs=1e-12)
        assert [away for _, away in found] == sorted(away for _, away in found)
        assert len(found) == 10
        recalls.append(recall(found, best))
    assert np.mean(recalls) >= 0.95


def test_codes_choose_those_that_differ_in_the_fewest_bits(many: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "EXACT", 100)
    monkeypatch.setattr(searching, "_CHOSEN", 50)
    index = create(many, dataset="points")
    frame = frames(many).get(index.generation)
    vector = clustered(1, DIMENSION, seed=9)
    code = encoded(vector, lengths_of(vector), frame.mean)[:, 0]
    bits = hamming(frame.codes, code).astype(np.int64)

    def chosen(positions: NDArray[np.int64] | None, k: int) -> list[int]:
        found = searching._chosen(frame, query_of(index, vector[0]), positions, k)
        assert found is not None
        return sorted(found.tolist())

    def fewest(positions: NDArray[np.int64], count: int) -> list[int]:
        return [int(one) for one in positions if bits[one] <= np.sort(bits[positions])[count - 1]]

    everything, even = np.arange(3000), np.arange(0, 3000, 2)
    assert chosen(None, 1) == fewest(everything, 50)
    assert chosen(None, 5) == fewest(everything, 100)
    assert chosen(even, 1) == fewest(even, 50)
    assert chosen(even[:50], 1) == even[:50].tolist()
    assert chosen(even, 75) == even.tolist()


@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_codes_say_nothing_about_lengths_so_that_all_are_compared_where_these_differ(
    lakehouse: Lakehouse, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EXACT", "_CHOSEN", "_CHOSEN_PER_WANTED"):
        monkeypatch.setattr(searching, name, 1)
    make_points(lakehouse)
    lengths = np.linspace(0.1, 3, 500, dtype=np.float32)
    append(lakehouse, 0, clustered(500, DIMENSION, seed=1) * lengths[:, None])
    index = create(lakehouse, dataset="points", metric=metric)

    for vector in clustered(5, DIMENSION, seed=2):
        found = found_by(searcher(lakehouse), lakehouse, index, vector, 10)
        assert found == wanted(lakehouse, index, vector, 10)


@pytest.mark.usefixtures("by_codes")
@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
def test_equal_vectors_come_in_the_order_of_the_dataset_however_many(lakehouse: Lakehouse, metric: str) -> None:
    make_points(lakehouse)
    for part in range(2):
        append(lakehouse, 300 * part, np.tile(EAST, (300, 1)))
    create(lakehouse, dataset="points", metric=metric)
    append(lakehouse, 600, np.tile(EAST, (300, 1)))

    found = found_by(searcher(lakehouse), lakehouse, index_of(lakehouse), EAST, 700)

    assert [number for number, _ in found] == list(range(700))
    assert {away for _, away in found} == {-1.0 if metric == "dot" else 0.0}


@pytest.mark.usefixtures("by_codes")
def test_zeros_are_found_by_zeros(lakehouse: Lakehouse) -> None:
    make_points(lakehouse)
    append(lakehouse, 0, np.zeros((300, 2), np.float32))
    index = create(lakehouse, dataset="points", metric="l2")

    found = found_by(searcher(lakehouse), lakehouse, index, np.zeros(2, np.float32), 2)

    assert found == [(0, 0.0), (1, 0.0)]


@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
@pytest.mark.parametrize("exact", [20_000, 10], ids=["compared", "by codes"])
def test_vectors_beyond_what_float32_says_of_lengths_are_found(
    lakehouse: Lakehouse, metric: str, exact: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "EXACT", exact)
    monkeypatch.setattr(searching, "_CHOSEN", 100)
    make_points(lakehouse)
    append(lakehouse, 0, np.full((200, 4), 3e38, np.float32))
    append(lakehouse, 200, np.full((200, 4), -3e38, np.float32))
    index = create(lakehouse, dataset="points", metric=metric)
    vector = np.full(4, -2e38, np.float32)

    found = found_by(searcher(lakehouse), lakehouse, index, vector, 3)

    assert (found, unreadable(lakehouse)) == (wanted(lakehouse, index, vector, 3), [])
    assert [number for number, _ in found] == [200, 201, 202]


# What may be found


def test_row_ids_that_meet_are_counted_through(few: Lakehouse) -> None:
    """As those of segments of before, which all begin at 0."""
    dataset = points(few)
    of_before = replace(dataset, segments=tuple(replace(segment, row_id_base=0) for segment in dataset.segments))

    all_rows = searcher(few).nearest(index_of(few), of_before, EAST, 9)
    some = searcher(few).nearest(index_of(few), of_before, EAST, 9, np.array([4, 3, 1]))

    assert all_rows.row_ids.tolist() == [0, 2, 3, 1, 4]
    assert some.row_ids.tolist() == [3, 1, 4]


def test_nothing_is_found_where_nothing_may_be(few: Lakehouse) -> None:
    one, index = searcher(few), index_of(few)
    empty = replace(points(few), segments=(), rows=0, deltas=())

    assert found_by(one, few, index, EAST, 3, allowed=set()) == []
    assert answer(one.nearest(index, empty, EAST, 3), {}) == []
    run(few, "DELETE FROM points")
    assert found_by(one, few, index, EAST, 3) == []


def test_what_can_not_be_searched_for_is_refused(few: Lakehouse) -> None:
    one, index = searcher(few), index_of(few)

    with pytest.raises(DimensionMismatch, match="the query vector has 3 numbers, and those of index "):
        one.nearest(index, points(few), np.zeros(3, np.float32), 1)
    with pytest.raises(InvalidRequest, match="a number that is not finite"):
        one.nearest(index, points(few), np.array([np.nan, 0], np.float32), 1)
    run(few, "ALTER TABLE points ADD COLUMN other FLOAT[]")
    run(few, "ALTER TABLE points DROP COLUMN other")
    assert found_by(one, few, index, EAST, 3) == NEAREST_EAST


def test_a_renamed_column_is_still_the_one_of_the_index(few: Lakehouse) -> None:
    run(few, "ALTER TABLE points RENAME COLUMN direction TO way")
    run(few, "INSERT INTO points VALUES (9, [1.0, 0.0])")

    assert found_by(searcher(few), few, index_of(few), EAST, 2) == [(0, 0.0), (9, 0.0)]


def test_columns_whose_type_says_how_long_vectors_are_are_searched_too(lakehouse: Lakehouse) -> None:
    """With rows that have none, in the index and beside it."""
    kind = pa.list_(pa.float16(), 2)
    halves = [None if row is None else [np.float16(value) for value in row] for row in ([1, 0], None, [0, 1])]
    for first in (0, 3):
        write(lakehouse, pa.table({"id": [first, first + 1, first + 2], "direction": pa.array(halves, kind)}))
        if first == 0:
            create(lakehouse, dataset="points")

    found = found_by(searcher(lakehouse), lakehouse, index_of(lakehouse), EAST, 9)

    assert found == [(0, 0.0), (3, 0.0), (2, 1.0), (5, 1.0)]
