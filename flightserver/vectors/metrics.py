"""Distances, approximate by one multiplication of matrices and exact for the few rows that it leaves.

Theory of operation: `scores` are cheap, in float32, and order rows as their distances do but for rounding. Who wants
the k nearest takes all rows whose score is within `slack` of the k-th best one, and computes `distances` of these in
float64. So what is found is what comparing all in float64 would find, and equal vectors have equal distances.

`slack` is a bound and no estimate: an inner product of n numbers, summed up in any order, is off by at most n + 2
roundings of the product of both lengths (N. Higham, "Accuracy and Stability of Numerical Algorithms", 3.1). That holds
while no product is beyond float32 or vanishes in it; where lengths are so that one might, scores are the distances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flightserver.catalog.indexes import COSINE, L2
from flightserver.errors import DimensionMismatch, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from flightserver.catalog.indexes import VectorIndex

_ROUNDING = 2.0**-24
"""Of one operation in float32, relative to its result."""
_ROUNDING_EXACT = 2.0**-53
"""The same in float64."""
_ROUNDINGS_MORE = 8
"""Roundings in scores and slack beside those of the inner product."""

_MOST_PRODUCT = 1e30
"""Of the lengths of two vectors: float32 goes from 1e-38, or 1e-45 with few digits, to 3e38."""
_LEAST_PRODUCT = 1e-30

_LONGEST = float(np.finfo(np.float32).max)
"""Vectors that are longer are said to be so long; only `distances` are computed of them."""

_BLOCK_NUMBERS = 12 * 2**20
"""Numbers at a time: 16,384 vectors of 768, 48 MB as float32."""


@dataclass(frozen=True, slots=True)
class Query:
    """A vector that is searched for.

    Attributes:
        metric: One of `flightserver.catalog.indexes.METRICS`.
        vector: As it was given.
        length: Its Euclidean length.
    """

    metric: str
    vector: NDArray[np.float32]
    length: float

    def scores(
        self, matrix: NDArray[np.floating], lengths: NDArray[np.float32], rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.floating]:
        """What the distances to the rows of a matrix go by: less is nearer.

        Args:
            matrix: A vector in each row.
            lengths: Euclidean lengths of the vectors that are compared.
            rows: Which rows these are; None for all of them.
        """
        if not self._has_scores(lengths):
            return self.distances(matrix, rows)
        found = np.empty(len(lengths), np.float32)
        for block, vectors in _blocks(matrix, rows):
            inner = vectors.astype(np.float32, copy=False) @ self.vector
            if self.metric == COSINE:
                found[block] = -inner / lengths[block]
            elif self.metric == L2:
                found[block] = lengths[block] ** 2 - 2 * inner
            else:
                found[block] = -inner
        return found

    def slack(self, lengths: NDArray[np.float32]) -> float:
        """How much two scores may differ though the order of the distances is the other one."""
        if not self._has_scores(lengths):
            return 0.0
        most = float(lengths.max(initial=0.0))
        scale = {COSINE: self.length, L2: most**2 + 2 * most * self.length}.get(self.metric, most * self.length)
        # Distances of short vectors from a long one are rounded too, and more than their scores.
        exact = (most + self.length) ** 2 if self.metric == L2 else 0.0
        return 2 * (len(self.vector) + _ROUNDINGS_MORE) * (_ROUNDING * scale + _ROUNDING_EXACT * exact)

    def _has_scores(self, lengths: NDArray[np.float32]) -> bool:
        """Whether float32 has all the products of these vectors."""
        most = float(lengths.max(initial=0.0))
        # The score of a short vector counts as much as that of a long one when it is divided by its length.
        least = float(lengths.min(initial=most)) if self.metric == COSINE else most
        return (
            least * self.length >= _LEAST_PRODUCT
            and most * self.length <= _MOST_PRODUCT
            and (self.metric != L2 or max(most, self.length) ** 2 <= _MOST_PRODUCT)
        )

    def distances(self, matrix: NDArray[np.floating], rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """The distances to the rows of a matrix, or to these of them."""
        found = np.empty(len(matrix) if rows is None else len(rows), np.float64)
        query = self.vector.astype(np.float64)
        for block, vectors in _blocks(matrix, rows):
            found[block] = self._distances(vectors.astype(np.float64), query)
        return found

    def _distances(self, block: NDArray[np.float64], query: NDArray[np.float64]) -> NDArray[np.float64]:
        # Row by row and not by a multiplication, whose rounding depends on where in the matrix a row stands.
        if self.metric == L2:
            difference = block - query
            squares: NDArray[np.float64] = np.sqrt((difference * difference).sum(axis=1))
            return squares
        inner: NDArray[np.float64] = (block * query).sum(axis=1)
        if self.metric != COSINE:
            return 0.0 - inner  # there is no negative zero then
        lengths = np.sqrt((block * block).sum(axis=1)) * np.sqrt((query * query).sum())
        cosines: NDArray[np.float64] = np.clip(1.0 - inner / lengths, 0.0, 2.0)
        return cosines


def query_of(index: VectorIndex, vector: NDArray[np.float32]) -> Query:
    """A vector as it is searched for in an index.

    Raises:
        DimensionMismatch: It has another length than the vectors of the index.
        InvalidRequest: It has a number that isn't finite, or the metric needs a direction and it has none.
    """
    if len(vector) != index.dimension:
        raise DimensionMismatch(
            f"the query vector has {len(vector):,} numbers, and those of index {index.key} have {index.dimension:,}"
        )
    if not np.isfinite(vector).all():
        raise InvalidRequest("the query vector has a number that is not finite as float32")
    length = float(np.sqrt((vector.astype(np.float64) ** 2).sum()))
    if index.metric == COSINE and length == 0:
        raise InvalidRequest(f"the query vector is all zeros, which has no direction for the metric {COSINE!r}")
    return Query(index.metric, vector, length)


def lengths_of(matrix: NDArray[np.floating]) -> NDArray[np.float32]:
    """Euclidean lengths of the rows of a matrix; `_LONGEST` where they are beyond float32."""
    found = np.empty(len(matrix), np.float32)
    for block, vectors in _blocks(matrix):
        exact = vectors.astype(np.float64)
        found[block] = np.minimum(np.sqrt((exact * exact).sum(axis=1)), _LONGEST)
    return found


def _blocks(
    matrix: NDArray[np.floating], rows: NDArray[np.int64] | None = None
) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """Vectors of a matrix, or of these rows of it, so many at a time that copies of them are small."""
    step = max(1, _BLOCK_NUMBERS // matrix.shape[1])
    for start in range(0, len(matrix) if rows is None else len(rows), step):
        block = slice(start, start + step)
        yield block, matrix[block] if rows is None else matrix[rows[block]]
