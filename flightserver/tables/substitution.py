"""Putting rewritten segments in the place of the old ones, though others have written meanwhile.

Theory of operation: the commit requires that of the old segments the same rows are alive as when they were read. When
it is refused, the commits since then say why. If rows were removed, and nothing else happened to the old segments, the
places of those rows are looked up among the new segments, a delta that removes them there is written, and the commit is
tried again. An old segment that isn't there any more has lost its last row. If anything else happened (another
compaction, a replacement, a restored version, a new schema), what was rewritten is of no use.

Invariant: nothing is deleted but new segments and deltas of this module that the catalog has refused, or was never
asked to take.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from msgspec.structs import replace

from flightserver.catalog.requirements import DatasetUnchangedSchema
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import AppendSegments, MirrorDataset, RemoveRows, RewriteSegments, TagVersion
from flightserver.errors import CommitConflict, FlightserverError, LimitExceeded, RequestError
from flightserver.storage.discarding import discard
from flightserver.tables.deltas import write_delta
from flightserver.tables.origins import places_now
from flightserver.tables.rebase import unchanged

if TYPE_CHECKING:
    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.draft import Outcome
    from flightserver.catalog.entities import Dataset, Delta, Segment
    from flightserver.catalog.log import Operation
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.updates import Update
    from flightserver.storage.buckets import Buckets
    from flightserver.tables.deltas import DeadRows, Places
    from flightserver.tables.rewriting import Rewriter
    from flightserver.tables.selection import Run

_ATTEMPTS = 100
"""Commits of what one compaction has written. Each refusal is a commit that removed rows meanwhile."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A run and the segments that hold its rows now."""

    run: Run
    segments: tuple[Segment, ...]


class Substitution:
    """Commits what was rewritten. As a context manager it discards what wasn't committed.

    Args:
        catalog: Where to.
        buckets: Where files lie.
        dead: Knows the dead rows of datasets.
        rewriter: Has written the segments.
        snapshot: In which it has read the old ones.
        dataset: As it is there.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        buckets: Buckets,
        dead: DeadRows,
        rewriter: Rewriter,
        snapshot: Snapshot,
        dataset: Dataset,
    ) -> None:
        self._catalog = catalog
        self._buckets = buckets
        self._dead = dead
        self._rewriter = rewriter
        self._snapshot = snapshot
        self._dataset = dataset
        self._delta: Delta | None = None
        self._settled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._settled:
            self._rewriter.discard()
            self._discard_delta()

    def commit(self, operation: Operation, rewritten: tuple[Rewritten, ...]) -> Outcome | None:
        """Put the new segments in the place of the old ones; None when what was rewritten is of no use.

        Raises:
            CommitConflict: Rows of the old segments are removed all the time.
            BackendUnavailable: Storage failed.
        """
        old = {segment.id for one in rewritten for segment in one.run}
        now = self._dataset
        for _ in range(_ATTEMPTS):
            transaction = self._transaction(operation, rewritten, old, now)
            if not transaction.updates:
                return None
            try:
                outcome = self._catalog.commit(transaction)
            except CommitConflict:
                found = self._catalog.snapshot().datasets.get(now.key)
            except (LimitExceeded, RequestError):  # what refuses a commit that has changed nothing
                raise
            except BaseException:
                self._settled = True  # nobody knows whether it is committed: the files stay
                raise
            else:
                self._settled = True
                return outcome
            if found is None or not self._only_lost_rows(found, old):
                return None
            now = found
        raise CommitConflict(
            f"rows of dataset {now.key} were removed {_ATTEMPTS} times while it was to be compacted; nothing was "
            "changed and a retry is safe"
        )

    def _only_lost_rows(self, found: Dataset, old: set[str]) -> bool:
        """Whether nothing but the removal of rows happened to the old segments since they were read."""
        base = self._dataset
        if (found.id, found.schema_fingerprint) != (base.id, base.schema_fingerprint):
            return False
        updates = (
            update
            for commit in self._catalog.commits(after=self._snapshot.version)
            for recorded in commit.transactions
            for update in recorded.updates
            if update.touches(base.key)
        )
        return all(_leaves_segments(update, old) for update in updates)

    def _transaction(
        self, operation: Operation, rewritten: tuple[Rewritten, ...], old: set[str], now: Dataset
    ) -> Transaction:
        """The commit for the dataset as it is now; without updates when none of the old segments is left."""
        left = old.intersection(segment.id for segment in now.segments)
        removed = self._removed_since(old, left, now)
        kept = [one for one in rewritten if any(segment.id in left for segment in one.run)]
        self._discard_delta()
        if removed and kept:
            places = {
                segment.id: places_now(self._buckets.get(segment.bucket), segment, removed)
                for one in kept
                for segment in one.segments
            }
            self._delta = write_delta(self._buckets.get(now.bucket), now.name, places)
        counts = {} if self._delta is None else self._delta.removed
        updates = []
        for one in kept:
            gone = tuple(segment.id for segment in one.run if segment.id in left)
            segments = tuple(replace(segment, dead=counts.get(segment.id, 0)) for segment in one.segments)
            updates.append(RewriteSegments(now.bucket, now.name, gone, segments))
        if self._delta is not None:
            # Segments of all updates before the last one count their dead rows already, and are named by it as well.
            updates[-1] = replace(updates[-1], deltas=(self._delta,))
        same = DatasetUnchangedSchema(now.bucket, now.name, now.id, now.schema_fingerprint)
        return Transaction(operation, tuple(updates), (same, unchanged(now, left)))

    def _removed_since(self, old: set[str], left: set[str], now: Dataset) -> Places:
        """Places of old segments that were alive when they were rewritten, and are not now."""
        before = self._dead.of(self._dataset, old)
        after = self._dead.of(now, left)
        for segment in self._dataset.segments:
            if segment.id in old - left:
                after[segment.id] = np.arange(segment.rows)
        removed = {}
        for name, places in after.items():
            fresh = np.setdiff1d(places, before[name], assume_unique=True) if name in before else places
            if len(fresh):
                removed[name] = fresh
        return removed

    def _discard_delta(self) -> None:
        if self._delta is not None:
            with contextlib.suppress(FlightserverError):
                discard(self._buckets.get(self._delta.bucket), [self._delta.key])
            self._delta = None


def _leaves_segments(update: Update, segments: set[str]) -> bool:
    """Whether an update neither replaces nor revives rows of these segments."""
    if isinstance(update, RewriteSegments):
        return segments.isdisjoint(update.removed)
    return isinstance(update, AppendSegments | MirrorDataset | RemoveRows | TagVersion)
