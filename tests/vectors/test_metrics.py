"""Distances against the definitions, and scores against distances: none of the nearest is left out."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import pytest
from catalog import making
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from flightserver.catalog.indexes import METRICS
from flightserver.errors import DimensionMismatch, InvalidRequest
from flightserver.vectors import metrics as module
from flightserver.vectors.metrics import lengths_of, query_of
from flightserver.vectors.searching import _nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flightserver.vectors.metrics import Query

LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)

metrics = st.sampled_from(METRICS)
seeds = st.integers(0, 2**32)


def query(metric: str, vector: NDArray[np.floating]) -> Query:
    index = replace(making.index("i", "d"), dimension=len(vector), metric=metric)
    return query_of(index, vector.astype(np.float32))


def plain(metric: str, matrix: NDArray[np.floating], vector: NDArray[np.floating]) -> NDArray[np.float64]:
    """The definitions, in float64."""
    rows, other = matrix.astype(np.float64), vector.astype(np.float64)
    if metric == "l2":
        return np.asarray(np.linalg.norm(rows - other, axis=1))
    inner = rows @ other
    return -inner if metric == "dot" else 1 - inner / (np.linalg.norm(rows, axis=1) * np.linalg.norm(other))


@given(metrics, st.integers(1, 300), st.integers(0, 40), seeds, st.sampled_from(["float32", "float16"]))
def test_distances_are_those_of_the_definitions(
    metric: str, dimension: int, count: int, seed: int, precision: str
) -> None:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(count, dimension)).astype(precision)
    vector = random.normal(size=dimension).astype(np.float32)

    found = query(metric, vector).distances(matrix)

    assert found.dtype == np.float64
    np.testing.assert_allclose(found, plain(metric, matrix, vector), rtol=1e-12, atol=1e-12)


@given(metrics, st.integers(1, 300), st.integers(1, 9), st.integers(1, 40), seeds)
def test_equal_vectors_are_equally_far_away_wherever_they_stand(
    metric: str, dimension: int, different: int, count: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    some = random.normal(size=(different, dimension)).astype(np.float32)
    which = random.integers(different, size=count)
    asked = query(metric, random.normal(size=dimension))

    together = asked.distances(some[which])
    alone = [float(asked.distances(some[one : one + 1])[0]) for one in which]

    assert together.tolist() == alone


@given(st.integers(1, 300), seeds, st.floats(-15, 15))
def test_a_vector_is_its_own_neighbour(dimension: int, seed: int, exponent: float) -> None:
    vector = (np.random.default_rng(seed).normal(size=dimension) * 10**exponent).astype(np.float32)
    matrix = np.stack([vector, 2 * vector])

    assert query("l2", vector).distances(matrix)[0] == 0
    cosines = query("cosine", vector).distances(matrix)
    assert ((cosines >= 0) & (cosines <= 1e-12)).all()


def test_opposite_and_square_vectors_have_the_distances_of_the_book() -> None:
    matrix = np.array([[3, 4], [-3, -4], [4, -3], [0, 0]], np.float32)
    vector = np.array([6, 8], np.float32)

    assert query("l2", vector).distances(matrix).tolist() == [5, 15, np.sqrt(125), 10]
    inner = query("dot", vector).distances(matrix)
    assert (inner.tolist(), np.signbit(inner).tolist()) == ([-50, 50, 0, 0], [True, False, False, False])
    assert query("cosine", vector).distances(matrix[:3]).tolist() == [0, 2, 1]


@given(metrics, st.integers(1, 40), seeds)
def test_distances_of_many_rows_are_those_of_each(metric: str, dimension: int, seed: int) -> None:
    """More than are computed at a time."""
    random = np.random.default_rng(seed)
    few = random.normal(size=(5, dimension)).astype(np.float32)
    asked = query(metric, few[0])

    np.testing.assert_array_equal(asked.distances(np.tile(few, (4000, 1))), np.tile(asked.distances(few), 4000))
    np.testing.assert_array_equal(lengths_of(np.tile(few, (4000, 1))), np.tile(lengths_of(few), 4000))


# Of all rows, those that are chosen


def left_out(asked: Query, matrix: NDArray[np.floating], k: int) -> list[int]:
    """Rows that belong to the answer and were not chosen for it: the k nearest, and all as near as the last of them."""
    chosen = _nearest(asked, matrix, lengths_of(matrix), k)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    distances = asked.distances(matrix)
    last = np.sort(distances)[min(k, len(matrix)) - 1]
    belonging = np.flatnonzero(distances < last) if len(matrix) > k else np.arange(len(matrix))
    ties = np.flatnonzero(distances == last)
    return sorted({*belonging.tolist(), *ties.tolist()} - set(chosen.tolist()))


@pytest.mark.parametrize("metric", METRICS)
def test_rows_that_are_compared_are_copied_a_few_at_a_time(metric: str) -> None:
    random = np.random.default_rng(1)
    matrix = random.normal(size=(20_000, 64)).astype(np.float32)
    rows = np.delete(np.arange(20_000), [0, 7, 19_999])
    lengths, asked = lengths_of(matrix)[rows], query(metric, matrix[7])
    expected = _nearest(asked, matrix[rows], lengths, 10).tolist()

    tracemalloc.start()
    with patch.object(module, "_BLOCK_NUMBERS", 64 * 512):
        found = _nearest(asked, matrix, lengths, 10, rows)
        distances = asked.distances(matrix, rows)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found.tolist() == expected
    np.testing.assert_array_equal(distances, asked.distances(matrix[rows]))
    assert most < matrix.nbytes / 2


@given(
    metrics,
    st.integers(1, 400),
    st.integers(1, 12),
    seeds,
    st.floats(-7, 0),
    st.floats(0, 3),
    st.sampled_from(["float32", "float16"]),
)
def test_none_of_the_nearest_is_left_out_of_vectors_that_are_almost_equal(
    metric: str, dimension: int, k: int, seed: int, noise: float, offset: float, precision: str
) -> None:
    """They lie so far from the origin that float32 can hardly tell them apart, or can't."""
    random = np.random.default_rng(seed)
    center = random.normal(size=dimension) * 10**offset
    matrix = (center + random.normal(size=(200, dimension)) * 10**noise).astype(precision)
    matrix = matrix[matrix.any(axis=1)]
    vector = center + random.normal(size=dimension) * 10**noise

    assert left_out(query(metric, vector), matrix, k) == []


@given(metrics, seeds, st.floats(-37, 37), st.floats(-37, 37), st.floats(0, 5))
def test_none_is_left_out_whatever_the_lengths(
    metric: str, seed: int, exponent: float, asked: float, spread: float
) -> None:
    """Squares and products of such numbers are beyond float32, or are nothing."""
    random = np.random.default_rng(seed)
    exponents = np.clip(exponent + random.uniform(-spread, spread, (100, 1)), -37, 37)
    matrix = (random.normal(size=(100, 8)) * 10**exponents).clip(-LARGEST, LARGEST).astype(np.float32)
    vector = (random.normal(size=8) * 10**asked).clip(-LARGEST, LARGEST)

    assert left_out(query(metric, vector), matrix, 5) == []


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("most", [LARGEST, 1e30, 1e-30, 100 * SMALLEST])
def test_none_is_left_out_at_the_ends_of_what_float32_can_say(metric: str, most: float) -> None:
    random = np.random.default_rng(1)
    matrix = (random.uniform(-1, 1, size=(100, 700)) * most).astype(np.float32)
    matrix[0] = most
    asked = query(metric, (random.uniform(-1, 1, size=700) * most))

    assert np.isfinite(lengths_of(matrix)).all()
    assert np.isfinite(asked.distances(matrix)).all()
    assert left_out(asked, matrix, 7) == []


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dimension", [4096, 65_536])
def test_none_is_left_out_when_rounding_adds_up_over_many_numbers(metric: str, dimension: int) -> None:
    """All products are nearly the same, so that sums are rounded into the same direction again and again."""
    random = np.random.default_rng(3)
    matrix = np.full((40, dimension), np.float32(0.1)) * (1 + random.integers(0, 4, (40, 1)) * 2.0**-22)
    matrix[:, ::2] += random.integers(0, 2, (40, 1)).astype(np.float32) * 2.0**-24
    asked = query(metric, np.full(dimension, 0.1))

    assert left_out(asked, matrix.astype(np.float32), 5) == []


@pytest.mark.parametrize("metric", METRICS)
def test_few_more_rows_are_chosen_than_are_asked_for(metric: str) -> None:
    """Else the scores would be for nothing."""
    random = np.random.default_rng(2)
    matrix = random.normal(size=(20_000, 768)).astype(np.float32)

    chosen = _nearest(query(metric, random.normal(size=768)), matrix, lengths_of(matrix), 10)

    assert 10 <= len(chosen) < 40


# What can't be searched for


def test_a_query_of_another_length_is_refused() -> None:
    index = replace(making.index("i", "d"), dimension=3)

    with pytest.raises(DimensionMismatch) as refused:
        query_of(index, np.zeros(1000, np.float32))

    assert refused.value.message == f"the query vector has 1,000 numbers, and those of index {index.key} have 3"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_query_with_a_number_that_is_not_finite_is_refused(metric: str, number: float) -> None:
    with pytest.raises(InvalidRequest, match=r"^the query vector has a number that is not finite as float32$"):
        query(metric, np.array([1, number]))


def test_only_the_cosine_refuses_a_query_without_a_direction() -> None:
    zeros = np.zeros(2)

    with pytest.raises(
        InvalidRequest, match=r"^the query vector is all zeros, which has no direction for the metric 'cosine'$"
    ):
        query("cosine", zeros)
    matrix = np.array([[3, 4]], np.float32)
    assert query("l2", zeros).distances(matrix).tolist() == [5]
    assert query("dot", zeros).distances(matrix).tolist() == [0]
    assert query("cosine", np.array([0, SMALLEST])).distances(matrix).round(12).tolist() == [0.2]
