"""Compaction: segments of a dataset are written anew, without their dead rows, as files of a good size.

Theory of operation: of one version of a dataset, runs of neighbouring segments are chosen
(`flightserver.tables.selection`), or all segments when the rows are to be in another order. Their live rows are
streamed into new segments, each with a file that says where every row was before (`flightserver.tables.rewriting`,
`flightserver.tables.origins`). One commit then puts the new segments in the place of the old ones.

Others write meanwhile. Rows that they add are in segments that this is not about; of rows that they remove the commit
takes account (`flightserver.tables.substitution`). So a compaction's work is lost only when somebody else rewrote or
replaced the same segments, changed the schema or moved the dataset; then it begins again, a few times. Writers lose
nothing either way: who has found rows in the old segments follows them to the new ones by what was left beside those
(`flightserver.tables.rebase`).

Memory holds, for each segment that is being written, a row group in and one out, and six bytes a row.

Invariants: a compaction changes neither the rows of a dataset nor, unless asked to, their order. The files of the old
segments stay, for readers and for earlier versions. Nothing is deleted but what was written here and the catalog
has refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.entities import Dataset
from flightserver.catalog.snapshot import Snapshot
from flightserver.errors import CommitConflict, InvalidRequest
from flightserver.tables.plan import refuse_external
from flightserver.tables.rewriting import Rewriter, RowsWithIds, Step
from flightserver.tables.selection import MOST_WORKERS, Wanted, choose, parts_of
from flightserver.tables.spans import cut
from flightserver.tables.substitution import Rewritten, Substitution

if TYPE_CHECKING:
    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.draft import Outcome
    from flightserver.catalog.entities import DatasetKey
    from flightserver.catalog.log import Operation
    from flightserver.storage.buckets import Buckets
    from flightserver.tables.deltas import DeadRows
    from flightserver.tables.segments import Layout
    from flightserver.tables.selection import Run

__all__ = ["CompactResult", "Compactor", "Ordered", "Step", "Wanted"]

_STARTS = 5
"""Times that a compaction begins. Each one more is a compaction, a replacement or a new schema by somebody else."""

_LEAST_TARGET = 64 * 1024
"""Of bytes of a file: below it a file is mostly its footer."""

Ordered = Callable[[Dataset, Snapshot], RowsWithIds]
"""Supplies all live rows of a dataset, as it is in a snapshot, in another order."""


@dataclass(frozen=True, slots=True)
class CompactResult:
    """What a compaction did.

    Attributes:
        key: The dataset.
        version: The version that it made, or the dataset's when there was nothing to do.
        files_before: Data files of the dataset before.
        files_after: Data files after.
        deltas_folded: How many deltas ended.
        rows: Rows of the dataset.
        bytes: Size of the files that were written.
        unchanged: Whether there was nothing to do.
        starts: How often it began; more than once when others were faster.
    """

    key: DatasetKey
    version: int
    files_before: int
    files_after: int
    deltas_folded: int
    rows: int
    bytes: int = 0
    unchanged: bool = False
    starts: int = 1


class Compactor:
    """Compacts datasets. All methods may be called from any thread, and by several servers at once.

    Args:
        catalog: Where datasets are known.
        buckets: Where their files lie.
        layout: How files are cut, unless a compaction wants another size.
        dead: Knows the dead rows of datasets.
        workers: Segments that may be written at a time.
    """

    def __init__(self, catalog: Catalog, buckets: Buckets, layout: Layout, dead: DeadRows, *, workers: int = 1) -> None:
        self._catalog = catalog
        self._buckets = buckets
        self._layout = layout
        self._dead = dead
        self._workers = workers

    def wanted(self, target_bytes: int | None = None) -> Wanted:
        """What files should be like when somebody asks for a compaction: of the usual size unless another is given.

        Raises:
            InvalidRequest: The size is too small.
        """
        target = self._layout.file_bytes if target_bytes is None else target_bytes
        if target < _LEAST_TARGET:
            raise InvalidRequest(f"target_bytes is {target:,}: expected {_LEAST_TARGET:,} or more")
        return Wanted(target_bytes=target, small_bytes=target, workers=self._workers)

    def compact(
        self, key: DatasetKey, operation: Operation, wanted: Wanted, ordered: Ordered | None = None
    ) -> Generator[Step | CompactResult]:
        """Compact a dataset; whoever stops iterating stops it, and nothing is changed.

        Args:
            key: The dataset.
            operation: Who does it; `rows` is set here, to the rows that are rewritten.
            wanted: What files should be like.
            ordered: Supplies the rows in another order; then all are rewritten.

        Yields:
            Steps and, last, the result.

        Raises:
            NotFound: There is no such dataset.
            InvalidRequest: It is attached, so that others write it.
            CommitConflict: Others rewrote or replaced the same segments each time.
            BackendUnavailable: A file can't be read or written.
        """
        dataset: Dataset | None = None
        asked = key
        for start in range(1, _STARTS + 1):
            snapshot = self._catalog.snapshot()
            key = key if dataset is None else _key_now(dataset, snapshot)
            dataset = snapshot.dataset(key.name, key.bucket)
            refuse_external(dataset)
            runs = choose(dataset, wanted) if ordered is None else (dataset.segments,)
            if operation.id in snapshot.operations or not any(runs):
                yield _unchanged(dataset, start)
                return
            rewriter = Rewriter(
                self._buckets, dataset, dataclasses.replace(self._layout, file_bytes=wanted.target_bytes)
            )
            with Substitution(
                catalog=self._catalog,
                buckets=self._buckets,
                dead=self._dead,
                rewriter=rewriter,
                snapshot=snapshot,
                dataset=dataset,
            ) as substitution:
                supplied = None if ordered is None else ordered(dataset, snapshot)
                rewritten = yield from self._rewrite(rewriter, dataset, runs, wanted, supplied)
                outcome = substitution.commit(replace(operation, rows=_live(runs)), rewritten)
            if outcome is not None:
                yield _result(dataset, rewritten, outcome, start)
                return
        raise CommitConflict(
            f"others rewrote or replaced the segments of dataset {asked} {_STARTS} times while they were compacted; "
            "nothing was changed and a retry is safe"
        )

    def _rewrite(
        self,
        rewriter: Rewriter,
        dataset: Dataset,
        runs: tuple[Run, ...],
        wanted: Wanted,
        supplied: RowsWithIds | None,
    ) -> Generator[Step, None, tuple[Rewritten, ...]]:
        """Write new segments for the runs."""
        if supplied is None:
            dead = self._dead.of(dataset, [segment.id for run in runs for segment in run])
            pieces = [cut(run, parts_of(run, wanted)) for run in runs]
            sources = [[rewriter.copied(piece, dead) for piece in cuts] for cuts in pieces]
        else:
            sources = [[rewriter.located(supplied)]]
        workers = max(1, min(wanted.workers, MOST_WORKERS))
        written = yield from rewriter.write([each for one in sources for each in one], _live(runs), workers)
        left = iter(written)
        return tuple(
            Rewritten(run, tuple(segment for _ in parts for segment in next(left)))
            for run, parts in zip(runs, sources, strict=True)
        )


def _live(runs: tuple[Run, ...]) -> int:
    return sum(segment.live for run in runs for segment in run)


def _key_now(dataset: Dataset, snapshot: Snapshot) -> DatasetKey:
    """What a dataset is called that may have been moved or renamed meanwhile."""
    return next((one.key for one in snapshot.datasets.values() if one.id == dataset.id), dataset.key)


def _unchanged(dataset: Dataset, starts: int) -> CompactResult:
    files = sum(segment.files for segment in dataset.segments)
    return CompactResult(dataset.key, dataset.version, files, files, 0, dataset.rows, unchanged=True, starts=starts)


def _result(dataset: Dataset, rewritten: tuple[Rewritten, ...], outcome: Outcome, starts: int) -> CompactResult:
    old = {segment.id for one in rewritten for segment in one.run}
    new = [segment for one in rewritten for segment in one.segments]
    before = sum(segment.files for segment in dataset.segments)
    gone = sum(segment.files for segment in dataset.segments if segment.id in old)
    return CompactResult(
        key=dataset.key,
        version=outcome.version,
        files_before=before,
        files_after=before - gone + sum(segment.files for segment in new),
        deltas_folded=sum(old.issuperset(delta.removed) for delta in dataset.deltas),
        rows=dataset.rows,
        bytes=sum(segment.bytes for segment in new),
        starts=starts,
    )
