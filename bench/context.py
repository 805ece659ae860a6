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
    """

    name: str
    scale: float
    repeats: int
    seconds: float
    datasets: int
    rows: int


FULL = Effort("full", scale=1.0, repeats=5, seconds=4.0, datasets=10_000, rows=1_000_000)
QUICK = Effort("quick", scale=0.1, repeats=3, seconds=1.0, datasets=1_000, rows=100_000)


@dataclass(frozen=True, slots=True)
class Context:
    """One run: its directory for data, the directory for its pages, and its effort."""

    work: Path
    results: Path
    effort: Effort
