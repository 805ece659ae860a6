"""Searches that are timed: all contestants answer the same questions, in turn, and are compared with the truth."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.measure import median, percentile
from bench.vector_sets import ALL, K

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Ids = Sequence[int] | NDArray[np.int64]
    Ask = Callable[[NDArray[np.float32], int], Ids]
    """A vector, and the percentage of rows that a predicate leaves -> ids of the nearest."""


@dataclass(frozen=True, slots=True)
class Run:
    """All questions of one kind, asked once: seconds of each, and the ids that were found."""

    seconds: list[float]
    ids: list[Ids]


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who answers.

    Attributes:
        name: As the page has it.
        run: Asks all queries, with a predicate that leaves so many percent.
        filters: Whether it takes predicates.
        build_seconds: What its index took; None where there is none.
        bytes: Size of that.
    """

    name: str
    run: Callable[[NDArray[np.float32], int], Run]
    filters: bool = True
    build_seconds: float | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of it: medians over rounds of the 50th and the 95th percentile, and the share of the truth found."""

    recall: float
    p50: float
    p95: float


def one_by_one(ask: Ask) -> Callable[[NDArray[np.float32], int], Run]:
    """A run that asks one question after the other."""

    def run(queries: NDArray[np.float32], percent: int) -> Run:
        done = Run([], [])
        for query in queries:
            begin = time.perf_counter()
            ids = ask(query, percent)
            done.seconds.append(time.perf_counter() - begin)
            done.ids.append(ids)
        return done

    return run


def answered(
    contestants: Sequence[Contestant],
    queries: NDArray[np.float32],
    truth: NDArray[np.int64],
    repeats: int,
    percent: int = ALL,
) -> dict[str, Answered]:
    """What each took and found.

    Args:
        contestants: Who is asked; with a predicate, those that take one.
        queries: What is searched for.
        truth: Ids of the nearest, for each.
        repeats: Rounds, in each of which all take their turn; one more comes first and isn't counted.
        percent: Of the rows, which a predicate leaves.
    """
    asked = [one for one in contestants if one.filters or percent == ALL]
    runs: dict[str, list[Run]] = {one.name: [] for one in asked}
    for _ in range(repeats + 1):
        for one in asked:
            runs[one.name].append(one.run(queries, percent))
    return {name: _summary(done[1:], truth) for name, done in runs.items()}


def _summary(runs: list[Run], truth: NDArray[np.int64]) -> Answered:
    hits = [len(np.intersect1d(found, right)) for run in runs for found, right in zip(run.ids, truth, strict=True)]
    return Answered(
        sum(hits) / (K * len(hits)),
        median([percentile(run.seconds, 50) for run in runs]),
        median([percentile(run.seconds, 95) for run in runs]),
    )
