"""The life of a vector index: created, refreshed, moved, dropped.

Theory of operation: a generation is written, durably and under a key of its own, before the commit that names it. A
kill in between leaves an object that nothing names, which `bucket.collect` deletes. Readers see the generation before
or the one after. That of before stays until no version within retention names it.

To move an index, its object is copied to the same key in the other bucket, and one commit gives the index its new home.
A copy that is there already is used again under the same conditions as files of datasets
(`flightserver.tables.moving`). When others commit to the index meanwhile, the work is done again on what they have made
of it.

An index is derived from its dataset: nothing here ever changes rows, and an index that is lost is built anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec.structs import replace

from flightserver.catalog.entities import DatasetKey, check_dataset_name
from flightserver.catalog.indexes import METRICS, PRECISIONS, Generation, VectorIndex
from flightserver.catalog.requirements import IndexAt, SameBucket
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import CreateIndex, DropIndex, MoveIndex, PutGeneration
from flightserver.errors import (
    AlreadyExists,
    BackendUnavailable,
    CommitConflict,
    DimensionMismatch,
    InvalidRequest,
    NotFound,
)
from flightserver.storage.limits import check_size
from flightserver.tables.homes import written_to
from flightserver.tables.moving import Copies, Step, parts_of_index
from flightserver.tables.plan import refuse_external
from flightserver.tables.reading import read_segment
from flightserver.tables.schema import stored_name
from flightserver.vectors.building import Builder
from flightserver.vectors.columns import MOST_DIMENSIONS, fixed_dimension, indexed_column, vector_column

if TYPE_CHECKING:
    from collections.abc import Generator

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.draft import Outcome
    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.log import Operation
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.storage.buckets import Buckets
    from flightserver.tables.collecting import Collector
    from flightserver.vectors.frame import Frame
    from flightserver.vectors.frames import Frames

_ATTEMPTS = 20
"""Commits of one move or refresh. Each refusal is another's commit to the same index, or a collection."""


@dataclass(frozen=True, slots=True)
class MovedIndex:
    """What a move has done.

    Attributes:
        index: In its new home.
        source: The bucket that was its home.
        objects: How many objects were copied.
        bytes: Their size.
        already: How many more were in the new home already.
    """

    index: VectorIndex
    source: str
    objects: int
    bytes: int
    already: int


class Indexes:
    """Changes vector indexes. All methods may be called from any thread, and by several servers at once.

    Args:
        catalog: Where indexes and datasets are known.
        buckets: Where their objects and files lie.
        collector: Knows which objects nobody deletes.
        frames: Opens generations.
    """

    def __init__(self, catalog: Catalog, buckets: Buckets, collector: Collector, frames: Frames) -> None:
        self._catalog = catalog
        self._buckets = buckets
        self._collector = collector
        self._frames = frames
        self._builder = Builder(buckets)

    def close(self) -> None:
        """Stop opening the objects of indexes."""
        self._frames.close()

    def create(
        self,
        key: DatasetKey,
        dataset: Dataset,
        column: str,
        operation: Operation,
        *,
        metric: str = METRICS[0],
        dimension: int | None = None,
        precision: str = PRECISIONS[0],
    ) -> Generator[Step | VectorIndex]:
        """Create an index; whoever stops iterating stops it, and nothing is created.

        Args:
            key: Home bucket and name of the index.
            dataset: What it is about.
            column: Name of a column of vectors.
            operation: Who does it.
            metric: One of `METRICS`.
            dimension: How many numbers a vector has; None where the column's type or its first vector says so.
            precision: One of `PRECISIONS`.

        Yields:
            Steps and, last, the index.

        Raises:
            NotFound: There is no such bucket or column.
            InvalidRequest: Name, metric, precision or dimension can't be; the column holds no vectors; the dataset is
                attached, so that its files are others'.
            DimensionMismatch: The column's vectors have another length.
            AlreadyExists: The bucket has an index of the name.
            LimitExceeded: The index would be larger than a put below `_vectors/` may be.
            BackendUnavailable: A file can't be read or written.
        """
        snapshot = self._catalog.snapshot()
        key = _new_key(snapshot, key)
        refuse_external(dataset)
        field = vector_column(dataset, column)
        for what, value, known in (("metric", metric, METRICS), ("precision", precision, PRECISIONS)):
            if value not in known:
                raise InvalidRequest(f"{what} {value!r} is not known: expected one of {', '.join(known)}")
        index = VectorIndex(
            id=new_ulid(),
            bucket=key.bucket,
            name=key.name,
            dataset_id=dataset.id,
            column=stored_name(field),
            metric=metric,
            dimension=self._dimension(dataset, field, dimension),
            created=datetime.now(UTC),
            generation=Generation("", key.bucket, "", 0, 0),
            precision=precision,
        )
        home = self._buckets.get(key.bucket)
        generation = yield from self._builder.build(index, dataset, None)
        index = replace(index, generation=generation)
        outcome = self._catalog.commit(Transaction(operation, (CreateIndex(index),), written_to(home)))
        yield replace(index, version=outcome.version)

    def refresh(self, key: DatasetKey, operation: Operation) -> Generator[Step | VectorIndex]:
        """Bring all of a dataset's segments into its index, and leave out those that it no longer has.

        Yields:
            Steps and, last, the index; unchanged when its generation is whole and has just these segments.

        Raises:
            NotFound: There is no such index.
            InvalidRequest: Its column was dropped.
            LimitExceeded: It would be larger than a put below `_vectors/` may be.
            CommitConflict: Others changed the index again and again meanwhile.
            BackendUnavailable: A file can't be read or written.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            index, dataset = self._find(self._catalog.snapshot(), key)
            indexed_column(dataset, index)
            frame = self._frame(index)
            if frame is not None and set(index.generation.segments) == {segment.id for segment in dataset.segments}:
                yield index
                return
            generation = yield from self._builder.build(index, dataset, frame)
            update = PutGeneration(index.bucket, index.name, generation)
            required = IndexAt(index.bucket, index.name, index.version)
            outcome = self._committed(Transaction(operation, (update,), (required,)), attempt)
            if outcome is not None:
                yield replace(index, generation=generation, version=outcome.version)
                return

    def move(self, key: DatasetKey, to: str, operation: Operation) -> Generator[Step | MovedIndex]:
        """Give an index another home; whoever stops iterating stops it, and the index stays where it is.

        Args:
            key: The index.
            to: Name of the other bucket.
            operation: Who does it.

        Yields:
            Steps and, last, the result.

        Raises:
            NotFound: There is no such index or bucket.
            InvalidRequest: It is there already.
            AlreadyExists: The bucket has an index of its name, or an object that is to be collected first.
            LimitExceeded: It is larger than a put below `_vectors/` may be there.
            CommitConflict: Others changed the index again and again meanwhile.
            BackendUnavailable: An object can't be read or written.
        """
        copies = Copies(self._buckets, self._collector, to)
        for attempt in range(1, _ATTEMPTS + 1):
            snapshot = self._catalog.snapshot()
            index, _ = self._find(snapshot, key)
            there = _target(snapshot, index, to)
            part = parts_of_index(index)
            check_size(self._buckets.get(there.bucket).objects, part.place, part.bytes)
            yield from copies.add((part,), snapshot.horizon)
            generation = replace(index.generation, bucket=there.bucket)
            unchanged = IndexAt(index.bucket, index.name, index.version, snapshot.horizon)
            update = MoveIndex(index.bucket, index.name, there.bucket, generation)
            transaction = Transaction(operation, (update,), (unchanged, *written_to(copies.target)))
            outcome = self._committed(transaction, attempt)
            if outcome is not None:
                moved = replace(index, bucket=there.bucket, generation=generation, version=outcome.version)
                copied = copies.total
                yield MovedIndex(moved, index.bucket, copied.objects, copied.bytes, copied.already)
                return

    def drop(self, key: DatasetKey, operation: Operation) -> None:
        """Forget an index; `bucket.collect` deletes its object when no version within retention names it.

        Raises:
            NotFound: There is no such index.
        """
        index = self._catalog.snapshot().index(key.name, key.bucket)
        self._catalog.commit(Transaction(operation, (DropIndex(index.bucket, index.name),)))

    def _committed(self, transaction: Transaction, attempt: int) -> Outcome | None:
        """Commit; None when others have changed the index meanwhile, and it is worth another attempt."""
        try:
            return self._catalog.commit(transaction)
        except CommitConflict as error:
            if attempt == _ATTEMPTS or SameBucket.refused(error):
                raise
            return None

    def _find(self, snapshot: Snapshot, key: DatasetKey) -> tuple[VectorIndex, Dataset]:
        index = snapshot.index(key.name, key.bucket)
        dataset = snapshot.dataset_of(index)
        if dataset is None:
            raise NotFound(f"the dataset of vector index {index.key} was dropped: drop the index")
        return index, dataset

    def _frame(self, index: VectorIndex) -> Frame | None:
        """The generation, from which vectors are taken again; None when it can't be read and all are read anew."""
        try:
            return self._frames.get(index.generation)
        except (NotFound, BackendUnavailable):
            return None

    def _dimension(self, dataset: Dataset, field: pa.Field, wanted: int | None) -> int:
        by_type = fixed_dimension(field)
        if by_type is not None and wanted is not None and wanted != by_type:
            raise DimensionMismatch(
                f"column {field.name!r} has vectors of {by_type} numbers, and dimension is {wanted}"
            )
        found = by_type if wanted is None else wanted
        found = self._first_length(dataset, field) if found is None else found
        if not 1 <= found <= MOST_DIMENSIONS:
            raise InvalidRequest(f"dimension is {found:,}: expected 1 to {MOST_DIMENSIONS:,}")
        return found

    def _first_length(self, dataset: Dataset, field: pa.Field) -> int:
        """Length of the first list of the column that isn't null."""
        for segment in dataset.segments:
            bucket = self._buckets.get(segment.bucket)
            for batch, _ in read_segment(bucket, segment, pa.schema([field])):
                kept = batch.column(0).drop_null()
                if len(kept):
                    return len(kept[0])
        raise InvalidRequest(
            f"column {field.name!r} of {dataset.key} has no vectors yet, and its type doesn't say how long they are: "
            "give `dimension`"
        )


def _new_key(snapshot: Snapshot, key: DatasetKey) -> DatasetKey:
    """The key of an index that is to be.

    Raises:
        NotFound: There is no such bucket.
        AlreadyExists: There is an index of the name.
    """
    check_dataset_name(key.name, "a vector index")
    snapshot.bucket(key.bucket)
    if key in snapshot.indexes:
        raise AlreadyExists(f"vector index {key} exists already: drop it, or give another name")
    return key


def _target(snapshot: Snapshot, index: VectorIndex, to: str) -> DatasetKey:
    """What an index is called in another bucket.

    Raises:
        NotFound: There is no such bucket.
        InvalidRequest: It is there.
        AlreadyExists: There is an index of the name.
    """
    snapshot.bucket(to)
    key = DatasetKey(to, index.name)
    if key.bucket == index.bucket:
        raise InvalidRequest(
            f"vector index {index.key} can't be moved to bucket {to!r}: it is there; name another bucket"
        )
    if key in snapshot.indexes:
        raise AlreadyExists(
            f"vector index {index.key} can't be moved to bucket {to!r}, which has one of the name: drop one of them"
        )
    return key
