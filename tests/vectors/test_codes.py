"""Codes against the same, a bit at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightserver.vectors import codes
from flightserver.vectors.codes import encoded, hamming, words_of
from flightserver.vectors.columns import MOST_DIMENSIONS
from flightserver.vectors.metrics import lengths_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

dimensions = st.integers(1, 200) | st.sampled_from([1, 7, 8, 9, 63, 64, 65, 127, 128, 129, 1000])
seeds = st.integers(0, 2**32)


def bits_of(matrix: NDArray[np.floating], mean: NDArray[np.float32]) -> list[list[bool]]:
    """Whether each number, of a vector of length 1, is above the mean."""
    return [
        [bool(value > np.float32(length * middle)) for value, middle in zip(row, mean, strict=True)]
        for row, length in zip(matrix, lengths_of(matrix), strict=True)
    ]


def unpacked(found: NDArray[np.uint64], dimension: int) -> list[list[bool]]:
    """The bits of each vector's code; those behind its end are 0."""
    rows = [
        [bool(int(found[at // 64, one]) >> at % 64 & 1) for at in range(64 * len(found))]
        for one in range(found.shape[1])
    ]
    assert not any(any(row[dimension:]) for row in rows)
    return [row[:dimension] for row in rows]


@given(dimensions, st.integers(0, 5), seeds, st.sampled_from(["float32", "float16"]))
def test_a_bit_says_whether_a_number_is_above_the_mean(dimension: int, count: int, seed: int, precision: str) -> None:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(count, dimension)).astype(precision)
    mean = random.normal(scale=0.1, size=dimension).astype(np.float32)

    found = encoded(matrix, lengths_of(matrix), mean)

    assert (found.dtype.name, found.shape) == ("uint64", (-(-dimension // 64), count))
    assert found.flags.c_contiguous
    assert unpacked(found, dimension) == bits_of(matrix, mean)


@given(dimensions, st.integers(0, 20), st.integers(1, 7), seeds)
def test_the_distance_of_codes_is_the_number_of_bits_that_differ(
    dimension: int, count: int, block: int, seed: int
) -> None:
    """Also where the vectors are more than a block, or don't fill the last one."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(count + 1, dimension)).astype(np.float32)
    mean = np.zeros(dimension, np.float32)
    *bits, other = bits_of(matrix, mean)

    whole = encoded(matrix, lengths_of(matrix), mean)
    with patch.object(codes, "_BLOCK", block):
        found = hamming(whole[:, :count], whole[:, count])

    assert found.tolist() == [sum(one != two for one, two in zip(row, other, strict=True)) for row in bits]


@pytest.mark.parametrize("dimension", [255, 256, 257, 65_472, 65_535, MOST_DIMENSIONS])
def test_codes_that_differ_everywhere_are_as_far_away_as_there_are_numbers(dimension: int) -> None:
    """An integer that holds fewer would make the opposite of a vector its neighbour."""
    matrix = np.array([[1.0], [-1.0]], np.float32) * np.ones(dimension, np.float32)

    found = encoded(matrix, lengths_of(matrix), np.zeros(dimension, np.float32))

    assert hamming(found, found[:, 0]).tolist() == [0, dimension]


@pytest.mark.parametrize(("dimension", "words"), [(1, 1), (64, 1), (65, 2), (128, 2), (768, 12), (65_536, 1024)])
def test_a_code_has_as_many_words_as_it_needs(dimension: int, words: int) -> None:
    assert words_of(dimension) == words
