"""Plots of the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt  # the backend is chosen first: there is no screen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# A PNG says when and by what it was made unless told otherwise; without, the same figures make the same file.
_PLAIN = {"Software": None}


def bars(path: Path, title: str, unit: str, values: Mapping[str, float]) -> str:
    """Horizontal bars with their values; returns the Markdown that shows the file."""
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(values) + 1.2))
    drawn = axes.barh(list(values), list(values.values()), color="#4477aa")
    axes.bar_label(drawn, fmt="{:,.3g}", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    return _saved(figure, axes, path, title, unit)


def lines(
    path: Path, title: str, units: tuple[str, str], ticks: Sequence[int], values: Mapping[str, Sequence[float]]
) -> str:
    """One line for each name over the same ticks; returns the Markdown that shows the file."""
    figure, axes = plt.subplots(figsize=(8, 4))
    for name, line in values.items():
        axes.plot(range(len(ticks)), line, marker="o", label=name)
    axes.set_xticks(range(len(ticks)), [str(tick) for tick in ticks])
    axes.set_ylim(bottom=0)
    axes.set_ylabel(units[1])
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    return _saved(figure, axes, path, title, units[0])


def _saved(figure: plt.Figure, axes: plt.Axes, path: Path, title: str, unit: str) -> str:
    axes.set_title(title)
    axes.set_xlabel(unit)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata=_PLAIN)
    plt.close(figure)
    return f"![{title}]({path.name})"
