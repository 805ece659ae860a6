"""What can be asked of `Tables`, and what it answers."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from flightserver.catalog.entities import DatasetKey

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from flightserver.catalog.entities import ForeignKey
    from flightserver.catalog.log import Operation
    from flightserver.catalog.transaction import Commits


class Mode(enum.Enum):
    """What a write does when its dataset is there already, or isn't."""

    CREATE = "create"
    """Create it; refuse when it is there."""
    APPEND = "append"
    """Add to it; refuse when it isn't there."""
    REPLACE = "replace"
    """Put the rows and schema in the place of what it has; create it when it isn't there."""
    CREATE_APPEND = "create_append"
    """Add to it; create it when it isn't there."""
    UPSERT = "upsert"
    """Add to it, in the place of rows that have the same primary key; create it when it isn't there."""


class OnExisting(enum.Enum):
    """What `Tables.create` does when the name is taken."""

    REFUSE = "refuse"
    """`CREATE TABLE`."""
    KEEP = "keep"
    """`CREATE TABLE IF NOT EXISTS`."""
    REPLACE = "replace"
    """`CREATE OR REPLACE TABLE`: drop the dataset and create another of the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRequest:
    """One write: where the rows go, what they look like, and where they come from.

    Attributes:
        name: Of the dataset.
        bucket: Its bucket.
        mode: What to do when the dataset is there already, or isn't.
        schema: Of the rows as they come, a `pyarrow.Schema` of any types.
        operation: Who does what. Its `rows` is set by the write.
        lineage_system: See `flightserver.catalog.entities.Lineage`.
        lineage_source: As above: redacted.
        content: Identity of the bytes, or None where it means nothing (rows of a statement).
        evolve: Whether an append may add columns to the dataset and widen types.
        primary_key: Columns that identify a row when the dataset is created. They become not null; that they are
            unique is not checked. Appending to a dataset: empty, or what it has. Replacing one: its new key; empty
            keeps the key it has if its columns are still there.
        fill_missing: Whether an append may lack columns that can be null, as INSERT with a list of columns may.
        validate: Whether the batches come from outside and must be checked for offsets and indices out of bounds.
        primary_key_name: Of the primary key as a constraint; empty for the usual one.
        foreign_keys: Of the dataset when it is created. Replacing one: its new ones; empty keeps those whose columns
            are still there. An append has none.
    """

    name: str
    bucket: str
    mode: Mode
    schema: pa.Schema
    operation: Operation
    lineage_system: str
    lineage_source: str
    content: str | None = None
    evolve: bool = False
    primary_key: tuple[str, ...] = ()
    fill_missing: bool = False
    validate: bool = False
    primary_key_name: str = ""
    foreign_keys: tuple[ForeignKey, ...] = ()

    @property
    def key(self) -> DatasetKey:
        """Bucket and name."""
        return DatasetKey(self.bucket, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """One empty dataset to create.

    Attributes:
        name: Of the dataset.
        bucket: Its bucket.
        schema: A `pyarrow.Schema` of any types; comments of fields are kept.
        operation: Who does what.
        primary_key: As in `WriteRequest`.
        comment: On the dataset.
        on_existing: What to do when the name is taken.
        primary_key_name: As in `WriteRequest`.
        foreign_keys: Of the dataset.
    """

    name: str
    bucket: str
    schema: pa.Schema
    operation: Operation
    primary_key: tuple[str, ...] = ()
    comment: str = ""
    on_existing: OnExisting = OnExisting.REFUSE
    primary_key_name: str = ""
    foreign_keys: tuple[ForeignKey, ...] = ()

    @property
    def key(self) -> DatasetKey:
        """Bucket and name."""
        return DatasetKey(self.bucket, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """What a write did.

    Attributes:
        dataset: Its name.
        bucket: Its bucket.
        version: Of the dataset afterwards.
        rows: Written by this operation; bytes and files likewise.
        bytes: Size of the files.
        files: How many.
        unchanged: Whether nothing had to be done: the bytes or the dataset were there, there were no rows to append, or
            the operation is one that was committed before.
    """

    dataset: str
    bucket: str
    version: int
    rows: int = 0
    bytes: int = 0
    files: int = 0
    unchanged: bool = False


class Writes(Protocol):
    """What carries out writes of every mode."""

    def write(self, request: WriteRequest, batches: Iterable[pa.RecordBatch]) -> WriteResult:
        """Write rows in one commit, see `flightserver.tables.writes.Tables.write`."""

    def within(self, transaction: Commits) -> Self:
        """The same, but reading from and committing to a transaction of several statements."""
