"""Vectors to search, vectors that are searched for, and the true answers.

There are two sets. `clustered` is a mixture of 200 Gaussians of uneven weight around centres that are as far apart as
random directions are; it stands for embeddings, whose neighbours mean something. Weights differ because an index that
compares as many candidates as a cluster has vectors need only find the cluster: with even ones, that is all that would
be measured. In `uniform`, all directions are equally likely: the nearest of so many are hardly nearer than the others,
which is the worst for whatever leaves vectors out. What is searched for is drawn as the vectors are, and isn't among
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.context import Effort

K = 10
"""How many neighbours are asked for."""
ALL = 100
PERCENTS = (ALL, 10, 1)
"""Of the rows, which a predicate leaves."""
CLUSTERS = 200
MORE_PERCENT = 5
"""Of the rows, which come when the index is there."""

_SPREAD = 0.7
"""Deviation of a Gaussian in each coordinate, where that of the centres is 1."""
_DOUBTFUL = 100
"""Candidates by float32, of which float64 tells the nearest."""
_BLOCK = 50


@dataclass(frozen=True, slots=True)
class VectorSet:
    """What is searched.

    Attributes:
        name: "clustered" or "uniform".
        vectors: One in each row; its number is its id.
        parts: A number from 0 to 99 for each, each as often as the others: `part < 10` leaves 10 % of the rows.
        more: Vectors that come later, with the ids that follow.
        queries: What is searched for.
        truth: Percent of the rows that a predicate leaves -> ids of the nearest of these, for each query.
        truth_with_more: Ids of the nearest when all have come.
    """

    name: str
    vectors: NDArray[np.float32]
    parts: NDArray[np.int32]
    more: NDArray[np.float32]
    queries: NDArray[np.float32]
    truth: dict[int, NDArray[np.int64]]
    truth_with_more: NDArray[np.int64]

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        return self.vectors.shape[1]

    def rows(self) -> pa.Table:
        """The vectors as a table."""
        return _table(0, self.vectors, self.parts)

    def more_rows(self) -> pa.Table:
        """Those that come later."""
        return _table(len(self.vectors), self.more, np.zeros(len(self.more), np.int32))

    def among(self, percent: int) -> NDArray[np.int64]:
        """Ids of the rows that the predicate of this percentage leaves."""
        return np.flatnonzero(self.parts < percent)


def predicate(percent: int) -> str:
    """The predicate that leaves so many rows, as SQL."""
    return f"part < {percent}"


def clustered(effort: Effort) -> VectorSet:
    """A mixture of Gaussians; weights differ, so that some clusters have a handful of vectors and some thousands."""
    random = np.random.default_rng(768)
    centres = random.standard_normal((CLUSTERS, effort.dimension), np.float32)
    weights = random.dirichlet(np.ones(CLUSTERS))
    count = _counted(effort)
    drawn = random.standard_normal((count, effort.dimension), np.float32)
    drawn *= _SPREAD
    drawn += centres[random.choice(CLUSTERS, count, p=weights)]
    return _set("clustered", effort, drawn, PERCENTS)


def uniform(effort: Effort) -> VectorSet:
    """Directions, all equally likely, and without predicates."""
    drawn = np.random.default_rng(769).standard_normal((_counted(effort), effort.dimension), np.float32)
    return _set("uniform", effort, scaled(drawn), (ALL,))


def scaled(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors scaled to length 1."""
    found: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return found


def _more(effort: Effort) -> int:
    return effort.vectors * MORE_PERCENT // 100


def _counted(effort: Effort) -> int:
    return effort.vectors + _more(effort) + effort.searches


def _set(name: str, effort: Effort, drawn: NDArray[np.float32], percents: tuple[int, ...]) -> VectorSet:
    vectors, more, queries = np.split(drawn, [effort.vectors, effort.vectors + _more(effort)])
    parts = np.random.default_rng(770).permutation(effort.vectors).astype(np.int32) % 100
    everything = scaled(drawn[: -effort.searches])
    present = everything[: effort.vectors]
    return VectorSet(
        name,
        vectors,
        parts,
        more,
        queries,
        {percent: _nearest(present, np.flatnonzero(parts < percent), queries) for percent in percents},
        _nearest(everything, np.arange(len(everything)), queries),
    )


def _nearest(
    directions: NDArray[np.float32], ids: NDArray[np.int64], queries: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Of the vectors with these ids, the nearest by the cosine: float32 leaves some, and float64 orders them."""
    among = directions if len(ids) == len(directions) else directions[ids]
    wanted = scaled(queries)
    found = []
    for start in range(0, len(wanted), _BLOCK):
        scores = wanted[start : start + _BLOCK] @ among.T
        doubtful = np.argpartition(-scores, _DOUBTFUL, axis=1)[:, :_DOUBTFUL]
        for query, candidates in zip(wanted[start : start + _BLOCK], doubtful, strict=True):
            exact = among[candidates].astype(np.float64) @ query.astype(np.float64)
            found.append(ids[candidates[np.argsort(-exact)[:K]]])
    return np.array(found)


def _table(first: int, vectors: NDArray[np.float32], parts: NDArray[np.int32]) -> pa.Table:
    ids = range(first, first + len(vectors))
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "part": pa.array(parts),
            "title": pa.array(f"document {number}" for number in ids),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        }
    )
