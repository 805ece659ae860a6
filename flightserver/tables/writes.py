"""Creating, filling, replacing and dropping datasets.

Theory of operation: a write looks at the newest snapshot to learn what the dataset needs (its target, see
`flightserver.tables.plan`), writes one segment for that target, and commits updates together with what made the
target true. When the commit is refused, the target is looked at again: if the segment that is written already fits
the new one, it is committed there; if not, its files are deleted and the refusal is raised. So two appends never
conflict with each other, and rows are never written twice.

Invariants:

- Files are deleted only when the catalog has said that they are not part of a commit. After any other failure of a
  commit nobody knows, and they stay for garbage collection to judge.
- An operation happens once: one that the catalog remembers returns its outcome and reads no rows.
- Bytes with a known identity (`content`) are appended once to a dataset, whoever sends them and however often.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec.structs import replace

from flightserver.catalog.entities import DatasetKey, check_dataset_name
from flightserver.catalog.requirements import DatasetAbsent, DatasetAt, SameBucket, SameDataset
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import (
    AppendSegments,
    CreateDataset,
    DropDataset,
    RemoveRows,
    ReplaceSegments,
    RewriteSegments,
)
from flightserver.errors import (
    Cancelled,
    CommitConflict,
    FlightserverError,
    Forbidden,
    InvalidRequest,
    NotFound,
    RequestError,
    SchemaDrift,
)
from flightserver.storage.discarding import discard
from flightserver.tables.changes import RowChange
from flightserver.tables.deltas import DeadRows
from flightserver.tables.homes import written_to
from flightserver.tables.plan import (
    find_target,
    new_dataset,
    new_lineage,
    refuse_external,
    refuse_moved,
    taken,
    transaction,
    with_key,
)
from flightserver.tables.rebase import Rebaser
from flightserver.tables.requests import CreateRequest, Mode, OnExisting, WriteRequest, WriteResult
from flightserver.tables.schema import canonical, conform, fingerprint
from flightserver.tables.segments import SegmentWriter, delete_segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flightserver.catalog.draft import Outcome
    from flightserver.catalog.entities import Dataset, Segment
    from flightserver.catalog.log import Operation
    from flightserver.catalog.requirements import Requirement
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.staging import StagedTransaction
    from flightserver.catalog.transaction import Commits
    from flightserver.catalog.updates import Update
    from flightserver.storage.buckets import Buckets, OpenBucket
    from flightserver.tables.plan import Target
    from flightserver.tables.segments import Layout

__all__ = ["CreateRequest", "Mode", "OnExisting", "Tables", "WriteRequest", "WriteResult"]

_ATTEMPTS = 5
"""Commits of one write. Each refusal is a change of the dataset's schema or existence, which is rare."""


class Tables:
    """Creates, fills, replaces and drops datasets. All methods may be called from any thread.

    Args:
        catalog: Where datasets are known, or a transaction of several statements.
        buckets: Where their files lie.
        layout: How files are cut.
        dead: Knows the dead rows of datasets; None makes a new one.
    """

    def __init__(self, catalog: Commits, buckets: Buckets, layout: Layout, dead: DeadRows | None = None) -> None:
        self._catalog = catalog
        self._buckets = buckets
        self._layout = layout
        self.dead = DeadRows(buckets) if dead is None else dead
        self._rebaser = Rebaser(buckets, self.dead)

    def within(self, transaction: Commits) -> Tables:
        """The same, but reading from and committing to a transaction of several statements."""
        return Tables(transaction, self._buckets, self._layout, self.dead)

    def change(self, dataset: Dataset, base: Snapshot) -> RowChange:
        """Start to remove and add rows of a dataset, as it is in the snapshot `base`.

        Raises:
            InvalidRequest: It is attached, so that others write it.
        """
        refuse_external(dataset)
        bucket = self._buckets.get(dataset.bucket)
        return RowChange(self._catalog, self._rebaser, bucket, base, dataset, self._layout)

    def commit_staged(self, staged: StagedTransaction, operation: Operation) -> Outcome:
        """Commit what the statements of a transaction have staged, all or none.

        Raises:
            CommitConflict: Others changed the same; what was staged can be discarded.
        """
        return self._rebaser.commit(self._catalog, operation, staged.updates, staged.requirements, staged.base)

    def discard(self, updates: Sequence[Update]) -> None:
        """Delete the files that updates name which are never going to be committed."""
        for update in updates:
            for segment in added_segments(update):
                delete_segment(self._buckets.get(segment.bucket), segment)
            if isinstance(update, RemoveRows):
                with contextlib.suppress(FlightserverError):
                    discard(self._buckets.get(update.delta.bucket), [update.delta.key])

    def write(self, request: WriteRequest, batches: Iterable[pa.RecordBatch]) -> WriteResult:
        """Write rows in one commit: all of them or none.

        Args:
            request: What to write where.
            batches: Read once, and not at all when nothing is to be done. What reading them raises passes through.

        Raises:
            AlreadyExists: Mode create, and the dataset is there.
            NotFound: Mode append, and it isn't; or there is no such bucket.
            SchemaDrift: The rows don't fit the dataset; the message lists how.
            SchemaMismatch: No dataset can hold them, or a batch doesn't have the schema that it should have.
            InvalidRequest: A name or key is not allowed, or a batch is damaged.
            CommitConflict: The dataset changed its schema meanwhile.
        """
        snapshot = self._catalog.snapshot()
        bucket = self._buckets.get(snapshot.bucket(request.bucket).name)
        check_dataset_name(request.name)
        recorded = snapshot.operations.get(request.operation.id)
        if recorded is not None:
            return _unchanged(request.key, recorded.version, recorded.rows)
        target = find_target(request, snapshot)
        if target.dataset is not None and target.holds(request):
            return _unchanged(request.key, target.dataset.version)
        segment = self._write_segment(bucket, request, target, batches)
        try:
            return self._commit(bucket, request, target, segment)
        except (CommitConflict, Forbidden, RequestError, Cancelled):
            _discard(bucket, segment)
            raise

    def create(self, request: CreateRequest) -> WriteResult:
        """Create a dataset without rows.

        Raises:
            AlreadyExists: The name is taken and `on_existing` says to refuse.
            NotFound: There is no such bucket.
            SchemaMismatch: A column can't be kept.
            InvalidRequest: A name or key is not allowed.
            CommitConflict: Others create and drop the same name again and again.
        """
        self._buckets.get(self._catalog.snapshot().bucket(request.bucket).name)
        check_dataset_name(request.name)
        schema = with_key(canonical(request.schema), request.primary_key)
        lineage = new_lineage("sql", "create table", request.operation)
        dataset = replace(new_dataset(request, schema, lineage), comment=request.comment)
        for _ in range(_ATTEMPTS):
            try:
                return self._create_once(request, dataset)
            except (CommitConflict, NotFound) as error:  # somebody else created or dropped it in between
                refusal = error
        raise refusal

    def drop(self, name: str, bucket: str, operation: Operation, *, if_exists: bool = False) -> bool:
        """Drop a dataset. Its files stay while older versions may be read.

        Returns:
            False when there was none and `if_exists` is set.

        Raises:
            NotFound: There is none, and `if_exists` is not set.
            CommitConflict: Another was given the name since this was asked.
        """
        snapshot = self._catalog.snapshot()
        self._buckets.get(snapshot.bucket(bucket).name)
        if operation.id in snapshot.operations:
            return True
        if if_exists and DatasetKey(bucket, name) not in snapshot.datasets:
            return False
        dropped = snapshot.dataset(name, bucket)
        same = SameDataset(dropped.bucket, dropped.name, dropped.id)
        update = DropDataset(dropped.bucket, dropped.name, views=True)
        try:
            self._catalog.commit(Transaction(operation, (update,), (same,)))
        except CommitConflict as error:
            if not SameDataset.refused(error) or dropped.key in self._catalog.snapshot().datasets:
                raise  # of these another has the name: whoever asked didn't see that one
            if if_exists:
                return False
            msg = f"there is no dataset {dropped.key}: it was dropped, renamed or moved meanwhile"
            raise NotFound(msg) from None
        return True

    def clear(self, name: str, bucket: str, operation: Operation) -> int:
        """Remove all rows of a dataset; its schema and key stay. Returns how many there were.

        Raises:
            NotFound: There is no such dataset.
            CommitConflict: It was changed again and again meanwhile.
        """
        for attempt in range(_ATTEMPTS):
            snapshot = self._catalog.snapshot()
            recorded = snapshot.operations.get(operation.id)
            if recorded is not None:
                return recorded.rows
            found = snapshot.dataset(name, bucket)
            refuse_external(found)
            lineage = new_lineage("sql", operation.kind, operation)
            emptied = ReplaceSegments(bucket, name, (), found.schema, found.schema_fingerprint, lineage)
            unchanged = DatasetAt(bucket, name, found.version)
            try:
                return self._catalog.commit(
                    Transaction(replace(operation, rows=found.rows), (emptied,), (unchanged,))
                ).rows
            except CommitConflict:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError

    def _create_once(self, request: CreateRequest, dataset: Dataset) -> WriteResult:
        snapshot = self._catalog.snapshot()
        recorded = snapshot.operations.get(request.operation.id)
        if recorded is not None:
            return _unchanged(request.key, recorded.version)
        found = snapshot.datasets.get(request.key)
        if found is not None and request.on_existing is OnExisting.KEEP:
            return _unchanged(request.key, found.version)
        if found is not None and request.on_existing is OnExisting.REFUSE:
            raise taken(found)
        updates: tuple[Update, ...] = (CreateDataset(dataset),)
        requirements: tuple[Requirement, ...] = (DatasetAbsent(request.bucket, request.name),)
        if found is not None:
            updates, requirements = (DropDataset(request.bucket, request.name), *updates), ()
        outcome = self._catalog.commit(Transaction(request.operation, updates, requirements))
        return WriteResult(dataset=request.name, bucket=request.bucket, version=outcome.version)

    def _write_segment(
        self, bucket: OpenBucket, request: WriteRequest, target: Target, batches: Iterable[pa.RecordBatch]
    ) -> Segment | None:
        with SegmentWriter(bucket, request.name, target.schema, self._layout, primary_key=target.primary_key) as writer:
            for number, batch in enumerate(batches):
                if request.validate:
                    check_valid(batch, number)
                writer.write(conform(batch, target.schema))
            return writer.finish()

    def _commit(
        self, bucket: OpenBucket, request: WriteRequest, target: Target, segment: Segment | None
    ) -> WriteResult:
        written = fingerprint(target.schema)
        for _ in range(_ATTEMPTS):
            asked = transaction(request, target, segment)
            if segment is not None:
                asked = Transaction(asked.operation, asked.updates, (*asked.requirements, *written_to(bucket)))
            try:
                outcome = self._catalog.commit(asked)
            except (CommitConflict, RequestError) as error:
                refusal = error
            else:
                if target.dataset is not None and not asked.updates:
                    return _unchanged(request.key, target.dataset.version)
                return _result(request, segment, outcome.version)
            if isinstance(refusal, CommitConflict) and SameBucket.refused(refusal):
                break
            now = self._catalog.snapshot()
            refuse_moved(request, target.dataset, now)
            try:
                target = find_target(request, now)
            except SchemaDrift:
                break
            if target.dataset is not None and target.holds(request):
                _discard(bucket, segment)
                return _unchanged(request.key, target.dataset.version)
            if fingerprint(target.schema) != written:
                break
        raise refusal


def added_segments(update: Update) -> tuple[Segment, ...]:
    """Segments that an update makes part of a dataset."""
    if isinstance(update, CreateDataset):
        return update.dataset.segments
    return update.segments if isinstance(update, AppendSegments | ReplaceSegments | RewriteSegments) else ()


def check_valid(batch: pa.RecordBatch, number: int) -> None:
    """Return when a batch that a client sent is valid Arrow in every byte.

    Raises:
        InvalidRequest: It isn't; says which one it is.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowException as error:
        msg = f"record batch {number} is not valid Arrow ({error}): nothing was written; send it again, intact"
        raise InvalidRequest(msg) from None


def _discard(bucket: OpenBucket, segment: Segment | None) -> None:
    if segment is not None:
        delete_segment(bucket, segment)


def _result(request: WriteRequest, segment: Segment | None, version: int) -> WriteResult:
    if segment is None:
        return WriteResult(dataset=request.name, bucket=request.bucket, version=version)
    return WriteResult(
        dataset=request.name,
        bucket=request.bucket,
        version=version,
        rows=segment.rows,
        bytes=segment.bytes,
        files=segment.files,
    )


def _unchanged(key: DatasetKey, version: int, rows: int = 0) -> WriteResult:
    return WriteResult(dataset=key.name, bucket=key.bucket, version=version, rows=rows, unchanged=True)
