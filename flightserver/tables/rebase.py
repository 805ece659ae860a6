"""Commits of removed rows that survive what others have committed meanwhile.

Theory of operation: a change names the rows that it removes by segment and place, as they were in its snapshot. When
its commit is refused because somebody removed rows of the same segments, or compaction rewrote them, the change is
still right as long as its rows are alive, wherever they are now. So the places are looked up in the deltas that have
come since (where they meet, it is a conflict that only the statement itself can resolve), and followed through
compactions by what those left beside their segments (`_origin.parquet`). Then the commit is tried again. So compaction
never costs a writer its work, and two writers conflict only where they remove the same row.

Invariant: nothing is deleted here but delta files that the catalog refused, or that another has replaced in the commit.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.requirement_base import what_became_of
from flightserver.catalog.requirements import SegmentsUnchanged
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import RemoveRows
from flightserver.errors import (
    Cancelled,
    CommitConflict,
    FlightserverError,
    Forbidden,
    LimitExceeded,
    NotFound,
    RequestError,
)
from flightserver.storage.discarding import discard
from flightserver.tables.deltas import split_places, write_delta
from flightserver.tables.segments import ORIGIN, manifest_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from flightserver.catalog.draft import Outcome
    from flightserver.catalog.entities import Dataset, Delta, Segment
    from flightserver.catalog.log import Operation
    from flightserver.catalog.requirements import Requirement
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.transaction import Commits
    from flightserver.catalog.updates import Update
    from flightserver.storage.buckets import Buckets
    from flightserver.tables.deltas import DeadRows, Places
    from flightserver.tables.segments import Origin

REFUSED = (Cancelled, CommitConflict, Forbidden, LimitExceeded, RequestError)
"""What a commit raises that has changed nothing. After anything else nobody knows, and files it names must stay."""

_ATTEMPTS = 100
"""Commits of one change. Each refusal is another's commit to the same segments."""


class Rebaser:
    """Commits changes that remove rows.

    Args:
        buckets: Where deltas and segments lie.
        dead: Knows the dead rows of datasets.
    """

    def __init__(self, buckets: Buckets, dead: DeadRows) -> None:
        self._buckets = buckets
        self._dead = dead

    def commit(
        self,
        commits: Commits,
        operation: Operation,
        updates: Sequence[Update],
        requirements: Sequence[Requirement],
        base: Snapshot,
    ) -> Outcome:
        """Commit updates that were made for `base`, as far as they are still right.

        Raises:
            CommitConflict: A row to remove is gone, or another requirement doesn't hold.
            RequestError: An update doesn't fit the newest version.
            LimitExceeded: Storage is full.
        """
        given = [update.delta for update in updates if isinstance(update, RemoveRows)]
        updates, requirements = tuple(updates), tuple(requirements)
        written: list[Delta] = []
        committed = False
        refusal: CommitConflict | None = None
        try:
            for _ in range(_ATTEMPTS):
                try:
                    outcome = commits.commit(Transaction(operation, updates, requirements))
                except CommitConflict as error:
                    if not SegmentsUnchanged.refused(error):
                        raise
                    refusal = error
                else:
                    committed = True
                    self._discard([*given, *written], keep=updates)
                    return outcome
                now = commits.snapshot()
                updates, requirements = self._rebased(updates, requirements, base, now, written)
                base = now
            raise refusal or AssertionError
        except FlightserverError as error:
            if not committed and isinstance(error, REFUSED):
                self._discard(written)
            raise

    def _discard(self, written: list[Delta], keep: tuple[Update, ...] = ()) -> None:
        used = {update.delta.id for update in keep if isinstance(update, RemoveRows)}
        for delta in written:
            if delta.id not in used:
                with contextlib.suppress(FlightserverError):
                    discard(self._buckets.get(delta.bucket), [delta.key])

    def _rebased(
        self,
        updates: tuple[Update, ...],
        requirements: tuple[Requirement, ...],
        then: Snapshot,
        now: Snapshot,
        written: list[Delta],
    ) -> tuple[tuple[Update, ...], tuple[Requirement, ...]]:
        """The same change for the newest version."""
        concerned = {each.key for each in requirements if isinstance(each, SegmentsUnchanged)}
        moved: list[Update] = []
        touched: dict[DatasetKey, set[str]] = {key: set() for key in concerned}
        for update in updates:
            if not isinstance(update, RemoveRows) or (key := DatasetKey(update.bucket, update.name)) not in concerned:
                moved.append(update)
                continue
            delta, segments = self._moved(update.delta, then.datasets[key], _same_dataset(then, now, key))
            if delta is not update.delta:
                written.append(delta)
            touched[key] |= segments
            moved.append(replace(update, delta=delta))
        kept = tuple(each for each in requirements if not isinstance(each, SegmentsUnchanged))
        return tuple(moved), (*kept, *(unchanged(now.datasets[key], ids) for key, ids in touched.items()))

    def _moved(self, delta: Delta, then: Dataset, now: Dataset) -> tuple[Delta, set[str]]:
        """The delta for the dataset as it is now, and which of its segments that is about."""
        before = {segment.id for segment in then.segments}
        has = {segment.id for segment in now.segments}
        places = self._dead.in_delta(delta)
        about = places.keys() & before
        gone = about - has
        if gone:
            # Segments that the transaction itself has added are nobody else's business.
            own = {segment: found for segment, found in places.items() if segment not in before}
            stay = {segment: places[segment] for segment in about & has}
            followed = self._follow({segment: places[segment] for segment in gone}, then, now)
            delta = write_delta(self._buckets.get(delta.bucket), now.name, _joined(own, stay, followed))
            places = self._dead.in_delta(delta)
            about = places.keys() & has
        dead = self._dead.of(now, about)
        for segment in about:
            if segment in dead and np.isin(places[segment], dead[segment], assume_unique=True).any():
                raise _lost(now)
        return delta, set(about)

    def _follow(self, places: Places, then: Dataset, now: Dataset) -> Places:
        """Where the rows are that compaction has moved.

        Raises:
            CommitConflict: Not all of them are anywhere: they were removed meanwhile, or the dataset was replaced.
        """
        known = {segment.id for segment in then.segments}
        found: dict[str, list[NDArray[np.int64]]] = {}
        left = {segment: len(one) for segment, one in places.items()}
        for segment in now.segments:
            if segment.id in known or not left:
                continue
            for source, moved in self._moves(segment, set(places)):
                kept, targets = moved
                wanted = np.isin(kept, places[source], assume_unique=True)
                found.setdefault(segment.id, []).append(targets[wanted])
                left[source] -= int(wanted.sum())
        if any(left.values()):
            raise _lost(now)
        return {segment: np.sort(np.concatenate(parts)) for segment, parts in found.items()}

    def _moves(
        self, segment: Segment, wanted: set[str]
    ) -> list[tuple[str, tuple[NDArray[np.int64], NDArray[np.int64]]]]:
        """For each wanted segment whose rows are in this one: their places there and here."""
        return self._moves_into(segment.bucket, segment.directory, wanted)

    def _moves_into(
        self, bucket: str, directory: str, wanted: set[str]
    ) -> list[tuple[str, tuple[NDArray[np.int64], NDArray[np.int64]]]]:
        try:
            origins = manifest_in(self._buckets.get(bucket), directory).origins
        except NotFound:  # collected: older than any transaction can be
            return []
        if not origins:
            return []
        sources = self._origin_places(bucket, directory)
        moves = []
        for origin in origins:
            if origin.id not in sources:
                continue
            before, here = sources[origin.id]
            if origin.id in wanted:
                moves.append((origin.id, (before, here)))
            else:
                moves += self._through(origin, before, here, wanted)
        return moves

    def _through(
        self, origin: Origin, before: NDArray[np.int64], here: NDArray[np.int64], wanted: set[str]
    ) -> list[tuple[str, tuple[NDArray[np.int64], NDArray[np.int64]]]]:
        """As `_moves`, through a segment that was compacted and is itself rewritten by now."""
        moves = []
        for source, (first, middle) in self._moves_into(origin.bucket, origin.directory, wanted):
            order = np.argsort(before)
            at = np.searchsorted(before[order], middle)
            at = np.minimum(at, len(before) - 1)
            alive = before[order][at] == middle
            moves.append((source, (first[alive], here[order][at[alive]])))
        return moves

    def _origin_places(self, bucket: str, directory: str) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Source segment -> places there and places here of the rows of a compacted segment."""
        with self._buckets.get(bucket).reading.open(f"{directory}/{ORIGIN}") as file:
            table = pq.read_table(file, read_dictionary=["segment"])
        table = table.append_column("here", pa.arange(0, table.num_rows))
        here = split_places(table.select(["segment", "here"]).rename_columns(["segment", "place"]))
        return {segment: (before, here[segment]) for segment, before in split_places(table).items()}


def unchanged(dataset: Dataset, segments: set[str]) -> SegmentsUnchanged:
    """The requirement that these segments' rows stay as they are in this version."""
    ids = tuple(sorted(segments))
    return SegmentsUnchanged(dataset.bucket, dataset.name, dataset.id, ids, dataset.deltas_of(ids))


def _same_dataset(then: Snapshot, now: Snapshot, key: DatasetKey) -> Dataset:
    found, identity = now.datasets.get(key), then.datasets[key].id
    if found is None or found.id != identity:
        became = what_became_of(identity, key, now)
        raise CommitConflict(
            f"dataset {key} isn't there any more: ", became, "; nothing was changed and a retry is safe"
        )
    return found


def _joined(*parts: Places) -> Places:
    joined: Places = {}
    for places in parts:
        for segment, found in places.items():
            joined[segment] = np.sort(np.concatenate([joined[segment], found])) if segment in joined else found
    return joined


def _lost(dataset: Dataset) -> CommitConflict:
    msg = (
        f"rows of dataset {dataset.key} that this change removes or updates were removed or updated by another up to "
        f"version {dataset.version}; nothing was changed and a retry is safe"
    )
    return CommitConflict(msg, details={"requirement": "rows_alive"})
