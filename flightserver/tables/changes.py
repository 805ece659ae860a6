"""Changes of rows: some are removed, some are added, in one commit.

Theory of operation: whoever computes a change (a statement, a stream of upserts) hands over ids of rows that end and
batches of rows that begin. New rows go to a segment, ended ones to a delta; both are durable before the commit that
names them. Base files aren't touched. See `flightserver.tables.rebase` for commits that meet others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from flightserver.catalog.requirements import DatasetUnchangedSchema, NothingAppended
from flightserver.catalog.updates import AppendSegments, RemoveRows
from flightserver.storage.discarding import discard
from flightserver.tables.deltas import write_delta
from flightserver.tables.homes import written_to
from flightserver.tables.rebase import REFUSED, unchanged
from flightserver.tables.rowids import RowIds
from flightserver.tables.schema import conform, decode
from flightserver.tables.segments import SegmentWriter, delete_segment

if TYPE_CHECKING:
    from types import TracebackType

    import pyarrow as pa
    from numpy.typing import NDArray

    from flightserver.catalog.draft import Outcome
    from flightserver.catalog.entities import Dataset, Delta, Lineage, Segment
    from flightserver.catalog.log import Operation
    from flightserver.catalog.requirements import Requirement
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.transaction import Commits
    from flightserver.catalog.updates import Update
    from flightserver.storage.buckets import OpenBucket
    from flightserver.tables.deltas import Places
    from flightserver.tables.rebase import Rebaser
    from flightserver.tables.segments import Layout


class RowChange:
    """One change of a dataset's rows while it is computed. As a context manager it discards what wasn't committed.

    Args:
        commits: Where to.
        rebaser: Commits it.
        bucket: Where the dataset is.
        base: The snapshot in which the change is computed.
        dataset: As it is there.
        layout: How files are cut.
    """

    def __init__(
        self, commits: Commits, rebaser: Rebaser, bucket: OpenBucket, base: Snapshot, dataset: Dataset, layout: Layout
    ) -> None:
        self.dataset = dataset
        self._commits = commits
        self._rebaser = rebaser
        self._bucket = bucket
        self._base = base
        self._schema = decode(dataset.schema)
        self._ids = RowIds(dataset)
        self._removed: list[NDArray[np.int64]] = []
        self._own_removed: NDArray[np.int64] | None = None
        self._writer = SegmentWriter(bucket, dataset.name, self._schema, layout, primary_key=dataset.primary_key)
        self._segment: Segment | None = None
        self._delta: Delta | None = None
        self._settled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._settled:
            self._discard()

    def remove(self, ids: NDArray[np.int64]) -> None:
        """End rows, named by their ids in the dataset (`flightserver.tables.rowids`), each once over all calls."""
        if len(ids):
            self._removed.append(ids)

    def add(self, batch: pa.RecordBatch) -> None:
        """Begin rows.

        Raises:
            SchemaMismatch: They don't fit the dataset.
        """
        if batch.num_rows:
            self._writer.write(conform(batch, self._schema))

    def written(self) -> Segment | None:
        """Finish the rows that begin, and return their segment, to be looked at before the commit."""
        if self._segment is None:
            self._segment = self._writer.finish()
        return self._segment

    def remove_own(self, places: NDArray[np.int64]) -> None:
        """Of the rows that begin, end those at these places of their segment: others of their key came later."""
        self._own_removed = np.sort(places)

    def again(self, base: Snapshot, dataset: Dataset) -> None:
        """Forget which rows end, to find them anew in a newer snapshot; rows that begin stay written.

        Raises:
            CommitConflict: The dataset's schema has changed, so that they don't fit any more.
        """
        self._unchanged_schema().check(base)
        self._base = base
        self.dataset = dataset
        self._ids = RowIds(dataset)
        self._removed.clear()
        self._own_removed = None
        self._discard_delta()

    def commit(
        self, operation: Operation, *, lineage: Lineage | None = None, appended_nothing: bool = False
    ) -> Outcome:
        """Commit the change, durably when this returns.

        Args:
            operation: Who does what; `rows` is the count that is answered.
            lineage: Where new rows came from.
            appended_nothing: Whether the change is wrong if others have added rows: it depends on keys being absent.

        Raises:
            CommitConflict: Others changed the same rows, or the dataset's schema, first.
            LimitExceeded: Storage is full.
        """
        segment = self.written()
        removed = self._ids.locate(np.concatenate(self._removed)) if self._removed else {}
        updates: list[Update] = []
        requirements: list[Requirement] = [self._unchanged_schema()]
        if appended_nothing:
            requirements.append(self._nothing_appended())
        if segment is not None or lineage is not None:
            added = () if segment is None else (segment,)
            updates.append(AppendSegments(self.dataset.bucket, self.dataset.name, added, lineage=lineage))
        dying: Places = dict(removed)
        if segment is not None and self._own_removed is not None and len(self._own_removed):
            dying[segment.id] = self._own_removed
        if dying:
            self._delta = write_delta(self._bucket, self.dataset.name, dying)
            updates.append(RemoveRows(self.dataset.bucket, self.dataset.name, self._delta))
        # One for each segment: a transaction drops those about segments of its own.
        requirements += [unchanged(self.dataset, {one}) for one in removed]
        requirements += written_to(self._bucket) if updates else ()
        try:
            outcome = self._rebaser.commit(self._commits, operation, updates, requirements, self._base)
        except REFUSED:
            raise
        except BaseException:
            self._settled = True  # nobody knows whether it is committed: the files stay
            raise
        self._settled = True
        return outcome

    def _unchanged_schema(self) -> DatasetUnchangedSchema:
        one = self.dataset
        return DatasetUnchangedSchema(one.bucket, one.name, one.id, one.schema_fingerprint)

    def _nothing_appended(self) -> NothingAppended:
        return NothingAppended(self.dataset.bucket, self.dataset.name, self.dataset.id, self.dataset.next_row_id)

    def _discard(self) -> None:
        if self._segment is None:
            self._writer.abort()
        else:
            delete_segment(self._bucket, self._segment)
        self._discard_delta()

    def _discard_delta(self) -> None:
        if self._delta is not None:
            discard(self._bucket, [self._delta.key])
            self._delta = None
