"""Medians, percentiles, memory and CPU of a process, and the page that shows them."""

from __future__ import annotations

import os
import platform
import statistics
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bench.servers import Server

MB = 1_000_000
_SAMPLE_SECONDS = 0.02
_PACKAGES = (
    "flightserver",
    "datafusion",
    "pyarrow",
    "adbc-driver-flightsql",
    "roapi",
    "tpchgen-cli",
    "duckdb",
    "polars",
    "deltalake",
)


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which `percent` of all lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


@dataclass(frozen=True, slots=True)
class Taken:
    """Medians of what something took in this process: seconds by the clock, and of all its threads on cores."""

    seconds: float
    cpu: float


def in_turn(ways: Mapping[str, Callable[[], object]], repeats: int, times: int = 1) -> dict[str, Taken]:
    """What each way takes.

    Args:
        ways: What is timed, by name.
        repeats: Rounds, in each of which all take their turn; one more comes first and isn't counted.
        times: How often each runs in one turn, for those that take little: its turn is then the mean of these.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            begin, begun = time.perf_counter(), time.process_time()
            for _ in range(times):
                way()
            seconds[name].append((time.perf_counter() - begin) / times)
            cpu[name].append((time.process_time() - begun) / times)
    return {name: Taken(median(seconds[name][1:]), median(cpu[name][1:])) for name in ways}


def machine() -> str:
    """The machine and the versions that the figures belong to, as one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    memory = psutil.virtual_memory().total // 2**30
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory} GiB"
    return f"{datetime.now(UTC):%Y-%m-%d}; {system}; Python {platform.python_version()}; {versions}"


class Watched:
    """Resident memory and CPU of a server while a block runs.

    Attributes:
        before: Resident bytes when the block began.
        peak: Most resident bytes that a sample saw, one every 20 ms.
        cpu_seconds: User and system time that the process took meanwhile.
    """

    def __init__(self, server: Server) -> None:
        self._process = psutil.Process(server.pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.before = self.peak = 0
        self.cpu_seconds = 0.0

    @property
    def growth(self) -> int:
        """Resident bytes at the peak beyond those at the beginning."""
        return self.peak - self.before

    def __enter__(self) -> Self:
        self.before = self.peak = self._rss()
        self.cpu_seconds = -self._cpu()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, self._rss())
        self.cpu_seconds += self._cpu()

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self.peak = max(self.peak, self._rss())

    def _rss(self) -> int:
        return int(self._process.memory_info().rss)

    def _cpu(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; all but the first column are numbers."""
    lines = [
        f"| {' | '.join(headers)} |",
        f"|---|{'---:|' * (len(headers) - 1)}",
        *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows),
    ]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Page:
    """What one measurement tells: a Markdown page.

    Attributes:
        name: File name without ending.
        title: Heading.
        parts: Paragraphs, tables and links to plots, in order.
    """

    name: str
    title: str
    parts: list[str] = field(default_factory=list)

    def add(self, *parts: str) -> None:
        """Append parts."""
        self.parts.extend(parts)

    def text(self) -> str:
        """The page as Markdown."""
        return "\n\n".join([f"# {self.title}", *self.parts]) + "\n"

    def write(self, results: Path, effort: str) -> None:
        """Write `<name>.md`, with the machine and the effort at its end."""
        self.add(f"Measured by `python -m bench {self.name}` ({effort}): {machine()}.")
        (results / f"{self.name}.md").write_text(self.text(), encoding="utf-8")
