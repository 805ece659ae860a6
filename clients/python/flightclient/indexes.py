"""Vector indexes: listed, made, refreshed, moved and dropped. `Client.search` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  # types of fields are looked up when the class is used
from typing import TYPE_CHECKING, Literal

from flightclient.actions import given, result
from flightclient.commands import query_command
from flightclient.places import MovedIndex
from flightclient.results import decode_result

if TYPE_CHECKING:
    from flightclient.actions import Tell
    from flightclient.connection import Connection

_LIST = """
    SELECT name AS "index", bucket, dataset, dataset_bucket, "column", metric, dimension, precision, vectors, skipped,
        bytes, unindexed_rows, version, created
    FROM system.indexes
    ORDER BY bucket, name
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedIndex:
    """What a vector index is about.

    Attributes:
        index: Its name.
        bucket: Its home.
        dataset: What it is about.
        dataset_bucket: The home of that.
        column: The column of vectors; None when it was dropped.
        metric: `cosine`, `l2` or `dot`.
        dimension: Numbers of a vector.
        precision: Of the numbers that are kept: `float32` or `float16`.
        version: The commit that last changed it.
    """

    index: str
    bucket: str
    dataset: str
    dataset_bucket: str
    column: str | None
    metric: str
    dimension: int
    precision: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Index(DescribedIndex):
    """A vector index as it was made.

    Attributes:
        vectors: How many are in the index.
        skipped: How many rows have none that fits.
        bytes: Size of the object that holds it.
    """

    vectors: int
    skipped: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshedIndex(Index):
    """A vector index; `rebuilt` says whether there was anything to do."""

    rebuilt: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexState(DescribedIndex):
    """A vector index, and how much of its dataset it has; None where that would tell of rows that policies hide.

    Attributes:
        vectors: As those of `Index`; `skipped` and `bytes` likewise.
        unindexed_rows: Rows that came, or were rewritten, since it was built.
        created: When it was made.
    """

    vectors: int | None
    skipped: int | None
    bytes: int | None
    unindexed_rows: int | None
    created: datetime


class Indexes:
    """`Client.indexes`. Methods may be called from any thread, and raise the errors of `flightclient.errors`.

    `bucket` is the home of the index, where its name alone isn't enough.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> tuple[IndexState, ...]:
        """The indexes of the datasets that may be read, in the order of their buckets and names."""
        with self._connection.rows(query_command(_LIST, None, None)) as stream:
            return tuple(IndexState(**row) for row in stream.read_all().to_pylist())

    def create(  # noqa: PLR0913  # what the action takes, with names and types
        self,
        index: str,
        dataset: str,
        column: str,
        metric: Literal["cosine", "l2", "dot"] | None = None,
        *,
        dimension: int | None = None,
        precision: Literal["float32", "float16"] | None = None,
        to: str | None = None,
        bucket: str | None = None,
        progress: Tell = None,
    ) -> Index:
        """Make an index over a column of vectors.

        Args:
            index: Its name.
            dataset: The dataset.
            column: Its column of vectors: lists of numbers.
            metric: What is near: 1 - cosine (the default), Euclidean distance, or negated inner product.
            dimension: Numbers of a vector; None for those of the first.
            precision: Of the numbers that are kept; None for float32.
            to: Home of the index; None for the bucket of the dataset.
            bucket: Bucket of the dataset, where its name alone isn't enough.
            progress: Is told how far it is.
        """
        body = given(
            index=index,
            dataset=dataset,
            column=column,
            metric=metric,
            dimension=dimension,
            precision=precision,
            to=to,
            bucket=bucket,
        )
        return decode_result(Index, result(self._connection, "index.create", body, progress))

    def refresh(self, index: str, bucket: str | None = None, progress: Tell = None) -> RefreshedIndex:
        """Take rows into an index that came since it was built, and leave out those that have gone."""
        body = given(index=index, bucket=bucket)
        return decode_result(RefreshedIndex, result(self._connection, "index.refresh", body, progress))

    def move(self, index: str, to: str, bucket: str | None = None, progress: Tell = None) -> MovedIndex:
        """Make the bucket `to` the home of an index."""
        body = given(index=index, to=to, bucket=bucket)
        return decode_result(MovedIndex, result(self._connection, "index.move", body, progress))

    def drop(self, index: str, bucket: str | None = None) -> None:
        """Drop an index; its dataset stays as it is."""
        result(self._connection, "index.drop", given(index=index, bucket=bucket))
