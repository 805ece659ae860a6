"""What a search is about: the index that a statement names, its dataset in the snapshot, and the columns it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from flightserver.errors import Forbidden, InvalidRequest, NotFound
from flightserver.query.language.reader import Reader
from flightserver.query.language.tokens import tokenize
from flightserver.query.protection import protection
from flightserver.tables.schema import ROW_ID, decode, stored_name, visible

if TYPE_CHECKING:
    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.indexes import VectorIndex
    from flightserver.query.namespace import Scope
    from flightserver.query.protection import Protection

DISTANCE = "_distance"
"""The last column of a search's answer."""

_QUALIFIED = 2


@dataclass(frozen=True, slots=True)
class SearchTarget:
    """What is searched.

    Attributes:
        index: By which index.
        dataset: At the version of the statement.
        hidden: What stands in the place of the dataset for who asks, with row ids passed through; None when it is read
            as it is.
    """

    index: VectorIndex
    dataset: Dataset
    hidden: Protection | None

    @property
    def columns(self) -> pa.Schema:
        """Those of the dataset as the answer has them."""
        shown = visible(decode(self.dataset.schema))
        if self.hidden is None:
            return shown
        return pa.schema([field.with_nullable(True) for field in shown])  # noqa: FBT003  # pyarrow's signature

    @property
    def schema(self) -> pa.Schema:
        """Of the answer."""
        return self.columns.append(pa.field(DISTANCE, pa.float64(), nullable=False))


def search_target(scope: Scope, name: str) -> SearchTarget:
    """What a search by an index of this name is about.

    Args:
        scope: What names mean.
        name: The index, with or without its bucket.

    Raises:
        NotFound: There is no such index, or whoever asks may not see its dataset.
        InvalidRequest: Several buckets have one; its column was dropped; or the dataset has a column `_distance`.
        Forbidden: Policies hide the vectors from who asks, or can't be applied.
    """
    index = _index(scope, name)
    dataset = scope.snapshot.dataset_of(index)
    if dataset is None:
        raise NotFound(f"the dataset of vector index {index.key} doesn't exist in version {scope.snapshot.version}")
    schema = decode(dataset.schema)
    column = next((field.name for field in schema if stored_name(field) == index.column), None)
    if column is None:
        raise InvalidRequest(f"vector index {index.key} is about a column of {dataset.key} that was dropped")
    if DISTANCE in schema.names:
        raise InvalidRequest(
            f"a search answers a column {DISTANCE}, and {dataset.key} has one of that name: rename it by ALTER TABLE"
        )
    hidden = protection(dataset, scope.rights, scope.newest, passed=(ROW_ID,))
    if hidden is not None and column in hidden.masked:
        raise Forbidden(
            f"policies mask column {column!r} of {dataset.key} for user {scope.rights.user!r}: it can't be searched, "
            "because distances would tell its values"
        )
    return SearchTarget(index, dataset, hidden)


def _index(scope: Scope, name: str) -> VectorIndex:
    """The index that a text names: by a bare name where the whole text is one, else by bucket and name."""
    snapshot = scope.snapshot
    if any(key.name == name for key in snapshot.indexes):
        buckets = (scope.schema, scope.bucket)
        home = next((one for one in buckets if one and (one, name) in snapshot.indexes), None)
        return snapshot.index(name, home)
    parts = _parts(name)
    if len(parts) == _QUALIFIED:
        return snapshot.index(parts[1], scope.bucket_of(parts[0]) or parts[0])
    return snapshot.index(name)


def _parts(name: str) -> list[str]:
    """The parts of a name as SQL writes it; none where it is no such name."""
    try:
        reader = Reader(name, tokenize(name))
        parts = reader.qualified()
        reader.end()
    except InvalidRequest:
        return []
    return parts
