"""How much is measured, and where it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Attributes:
        name: "full" or "quick".
        scale: TPC-H scale factor; at 1, `lineitem` has 6 million rows and about 1 GB as Arrow.
        repeats: Rounds of which the median is taken.
        seconds: How long one round of a latency measurement lasts.
        datasets: Size of the large catalog.
        rows: Of the table of orders that is changed, cached and compacted.
        vectors: How many are searched.
        dimension: Numbers of each.
        searches: How many vectors are searched for in a round.
    """

    name: str
    scale: float
    repeats: int
    seconds: float
    datasets: int
    rows: int
    vectors: int
    dimension: int
    searches: int


FULL = Effort(
    "full",
    scale=1.0,
    repeats=5,
    seconds=4.0,
    datasets=10_000,
    rows=1_000_000,
    vectors=100_000,
    dimension=768,
    searches=50,
)
QUICK = Effort(
    "quick",
    scale=0.1,
    repeats=3,
    seconds=1.0,
    datasets=1_000,
    rows=100_000,
    vectors=30_000,  # fewer than 20,000 would be compared without the codes of the index
    dimension=128,
    searches=20,
)


@dataclass(frozen=True, slots=True)
class Context:
    """One run: its directory for data, the directory for its pages, and its effort."""

    work: Path
    results: Path
    effort: Effort
