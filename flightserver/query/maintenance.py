"""The automatic compaction: when it is worth it, how much of it, and the thread that does it.

Theory of operation: `decide` looks at one dataset as the catalog describes it, at the settings and at the budget, and
says whether it is to be compacted, why, and what that costs; it reads no file and has no memory. One thread per process
looks at all datasets from time to time, and compacts those in need, the neediest first. Every decision is an
event with its numbers (`system.events`), and so is how it ended.

The budget is a token bucket: an hour's bytes at most, refilled evenly. A compaction may start as long as something is
left, and what it costs beyond that has to be refilled before the next one; so one that is larger than the whole budget
happens too, and the rate holds in the long run.

Several servers may do this on the same data. Their looks are spread by chance, and where two compact the same
dataset, one commit is refused (`flightserver.tables.compaction`): it costs the loser its work and nothing else.

Only the thread touches `_budget`.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import CommitConflict, FlightserverError
from flightserver.periodic import STOP_SECONDS, Periodic
from flightserver.tables.compaction import CompactResult
from flightserver.tables.selection import Wanted, choose, live_bytes
from flightserver.telemetry import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Dataset, DatasetKey
    from flightserver.settings import CompactionSettings
    from flightserver.tables.compaction import Compactor
    from flightserver.telemetry import Events

COMPACTED = "compacted"
"""Kind of the event of a compaction that the catalog has."""
POSTPONED = "compaction postponed"
"""Kind of the event of a compaction that the budget doesn't allow yet."""
LOST = "compaction lost"
"""Kind of the event of a compaction that others made needless or impossible while it ran."""
FAILED = Trouble("compaction failed")
"""Kind of the event of a compaction that met an error."""

_HOUR = 3600.0
_SPREAD = 0.25
"""Share of the interval by which looks are earlier or later, so that several servers seldom look at once."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes that may be written.

    Attributes:
        per_hour: What is refilled in an hour, and the most that is saved.
        left: What there was at `since`; below zero after a large compaction.
        since: In seconds of any steady clock.
    """

    per_hour: int
    left: float
    since: float

    def at(self, now: float) -> float:
        """What is left now."""
        return min(self.per_hour, self.left + (now - self.since) * self.per_hour / _HOUR)

    def spent(self, size: int, now: float) -> Budget:
        """The budget without so many bytes."""
        return Budget(self.per_hour, self.at(now) - size, now)


@dataclass(frozen=True, slots=True)
class Measures:
    """What is known of a dataset's files.

    Attributes:
        rows: Rows in segments, dead ones too.
        dead: Of them, those that deltas have removed.
        deltas: Deltas.
        segments: Segments.
        small: Segments smaller than `compaction.small_bytes`.
    """

    rows: int
    dead: int
    deltas: int
    segments: int
    small: int


@dataclass(frozen=True, slots=True)
class Decision:
    """To compact a dataset.

    Attributes:
        key: The dataset.
        reason: The setting that is exceeded: delta_ratio, max_deltas, max_segments or small_files.
        urgency: How many times what is allowed there is.
        measures: Of the dataset.
        wanted: How to compact it.
        bytes: About what that writes.
        allowed: Whether the budget allows it now.
    """

    key: DatasetKey
    reason: str
    urgency: float
    measures: Measures
    wanted: Wanted
    bytes: int
    allowed: bool


def measure(dataset: Dataset, settings: CompactionSettings) -> Measures:
    """What the catalog knows of a dataset's files."""
    return Measures(
        rows=sum(segment.rows for segment in dataset.segments),
        dead=sum(segment.dead for segment in dataset.segments),
        deltas=len(dataset.deltas),
        segments=len(dataset.segments),
        small=sum(segment.bytes < settings.small_bytes for segment in dataset.segments),
    )


def decide(dataset: Dataset, settings: CompactionSettings, budget: Budget, now: float) -> Decision | None:
    """Whether and how to compact a dataset; None when it is well as it is."""
    found = measure(dataset, settings)
    ratio = found.dead / max(1, found.rows)
    urgencies = {
        "delta_ratio": ratio / settings.delta_ratio,
        "max_deltas": found.deltas / settings.max_deltas,
        "max_segments": found.segments / settings.max_segments,
        "small_files": found.small / settings.small_files,
    }
    # A dataset is judged by what exceeds its limit most, of which a compaction would change something.
    for reason, urgency in sorted(urgencies.items(), key=lambda one: -one[1]):
        if urgency < 1:
            break
        wanted = Wanted(
            target_bytes=settings.target_bytes,
            small_bytes=min(settings.small_bytes, settings.target_bytes),
            dead_ratio=0.0 if reason == "max_deltas" else settings.delta_ratio,
        )
        runs = choose(dataset, wanted)
        if runs:
            size = sum(live_bytes(run) for run in runs)
            return Decision(dataset.key, reason, urgency, found, wanted, size, allowed=budget.at(now) > 0)
    return None


class AutoCompaction:
    """Compacts datasets in need, in a thread of its own.

    Args:
        compactor: Does it.
        catalog: Where datasets are known.
        settings: What need is.
        events: Where decisions are told.
        clock: Steady seconds.
    """

    def __init__(
        self,
        compactor: Compactor,
        catalog: Catalog,
        settings: CompactionSettings,
        events: Events,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._compactor = compactor
        self._catalog = catalog
        self._settings = settings
        self._events = events
        self._clock = clock
        self._budget = Budget(settings.bytes_per_hour, settings.bytes_per_hour, clock())
        self._looks = Periodic("auto-compaction", self.look, settings.interval_seconds, spread=_SPREAD)

    def start(self) -> None:
        """Start the thread, if the settings say so."""
        if self._settings.auto:
            self._looks.start()

    def stop(self) -> None:
        """End the thread; a compaction that runs is given up, and a bucket that hangs isn't waited for."""
        self._looks.stop(STOP_SECONDS)

    def look(self) -> None:
        """Compact all datasets in need that the budget allows, once."""
        try:
            datasets = self._catalog.snapshot().datasets.values()
        except FlightserverError as error:
            self._events.record(FAILED, error=error.message, code=error.code)
            return
        now = self._clock()
        found = [decide(dataset, self._settings, self._budget, now) for dataset in datasets]
        for decision in sorted((one for one in found if one is not None), key=lambda one: -one.urgency):
            if self._looks.stopped.is_set():
                return
            self._carry_out(decision)

    def _carry_out(self, decision: Decision) -> None:
        now = self._clock()
        facts: dict[str, object] = {"reason": decision.reason, **asdict(decision.measures)}
        # Those before it in the same look have spent something.
        if not self._budget.at(now) > 0:
            self._tell(POSTPONED, decision, facts, bytes=decision.bytes, budget=round(self._budget.at(now)))
            return
        self._budget = self._budget.spent(decision.bytes, now)
        try:
            result = self._compact(decision)
        except CommitConflict as error:
            self._tell(LOST, decision, facts, error=error.message)
        except FlightserverError as error:
            self._tell(FAILED, decision, facts, error=error.message, code=error.code)
        except (OSError, pa.ArrowException) as error:
            self._tell(FAILED, decision, facts, error=str(error))
        else:
            if result is not None:
                self._tell_end(decision, facts, result, self._clock() - now)

    def _compact(self, decision: Decision) -> CompactResult | None:
        """Run a compaction; None when it was given up because the thread ends."""
        operation = Operation(id=new_ulid(), kind="compact", detail=f"{decision.key}: {decision.reason}")
        with closing(self._compactor.compact(decision.key, operation, decision.wanted)) as running:
            for answer in running:
                if isinstance(answer, CompactResult):
                    return answer
                if self._looks.stopped.is_set():
                    break
        return None

    def _tell_end(self, decision: Decision, facts: dict[str, object], result: CompactResult, seconds: float) -> None:
        numbers = {
            name: value for name, value in asdict(result).items() if name not in {"key", "unchanged", "rows"}
        } | {"seconds": round(seconds, 3)}
        self._tell(LOST if result.unchanged else COMPACTED, decision, facts, **numbers)

    def _tell(self, kind: str, decision: Decision, facts: dict[str, object], **more: object) -> None:
        self._events.record(kind, decision.key.bucket, decision.key.name, **facts, **more)
