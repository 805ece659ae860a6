"""Short ways to say what a catalog test commits."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING

from flightserver.catalog.entities import PRIMARY, Dataset, Lineage, Segment
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


def transaction(
    *updates: Update, requires: tuple[Requirement, ...] = (), operation: str | None = None, rows: int = 0
) -> Transaction:
    """A transaction, of a new operation unless its id is given."""
    return Transaction(Operation(operation or f"op{next(_numbers)}", "test", rows=rows), updates, requires)
