"""Short ways to say what a catalog test commits."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING

from flightserver.catalog.entities import PRIMARY, Dataset, Lineage, Segment
from flightserver.catalog.index_updates import CreateIndex
from flightserver.catalog.indexes import Generation, VectorIndex
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import AppendSegments, CreateDataset

if TYPE_CHECKING:
    from flightserver.catalog.requirements import Requirement
    from flightserver.catalog.updates import Update

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

_numbers = count(1)


def segment(rows: int, *, fingerprint: str = "f1") -> Segment:
    """A segment of its own id; ten bytes a row."""
    name = f"s{next(_numbers)}"
    return Segment(name, PRIMARY, f"datasets/{name}", 1, rows, 10 * rows, fingerprint)


def lineage(rows: int = 0, content: str | None = None) -> Lineage:
    """Rows from a file."""
    return Lineage("file", "people.csv", NOON, "job", rows, content)


def dataset(name: str, *rows: int, bucket: str = PRIMARY, identity: str | None = None) -> Dataset:
    """A dataset with one segment for each of `rows`."""
    segments = tuple(segment(each) for each in rows)
    identity = identity or f"id{next(_numbers)}"
    return Dataset(identity, bucket, name, b"schema 1", "f1", NOON, segments=segments)


def create(name: str, *rows: int, bucket: str = PRIMARY) -> CreateDataset:
    """Create a dataset with one segment for each of `rows`."""
    return CreateDataset(dataset(name, *rows, bucket=bucket))


def append(name: str, rows: int, *, content: str | None = None) -> AppendSegments:
    """Append one segment to a dataset of the primary bucket."""
    return AppendSegments(PRIMARY, name, (segment(rows),), lineage(rows, content))


def generation(bucket: str = PRIMARY) -> Generation:
    """Contents of an index, of their own id."""
    name = f"g{next(_numbers)}"
    return Generation(name, bucket, f"_vectors/i/{name}.idx", 100, vectors=7, skipped=2, segments=("s1", "s2"))


def index(name: str, dataset_id: str, contents: Generation | None = None, *, bucket: str = PRIMARY) -> VectorIndex:
    """An index of its own id, in the bucket of its contents."""
    contents = generation(bucket) if contents is None else contents
    return VectorIndex(f"x{next(_numbers)}", contents.bucket, name, dataset_id, "v", "cosine", 3, NOON, contents)


def create_index(name: str, dataset_id: str, *, bucket: str = PRIMARY) -> CreateIndex:
    """Create an index over a dataset, which is given by its id."""
    return CreateIndex(index(name, dataset_id, bucket=bucket))


def transaction(
    *updates: Update, requires: tuple[Requirement, ...] = (), operation: str | None = None, rows: int = 0
) -> Transaction:
    """A transaction, of a new operation unless its id is given."""
    return Transaction(Operation(operation or f"op{next(_numbers)}", "test", rows=rows), updates, requires)
