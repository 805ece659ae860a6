"""Vector indexes as the catalog knows them, and the updates that change them.

An index belongs to a column of a dataset and says nothing that the dataset doesn't: it can be dropped and built anew at
any time. It names its dataset by id and its column by the name that the column has in files, so that it follows both
through renames. Its contents are one object per generation (`flightserver.vectors.frame`), which holds vectors of whole
segments; which of their rows are alive is said by the version of the dataset that is searched. So a generation is never
wrong for any version: what it lacks is read from the dataset.

Names are unique per bucket, among indexes. An index goes with its dataset: when that is dropped, so is the index.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from flightserver.catalog.entities import DatasetKey, check_dataset_name
from flightserver.catalog.update_base import BaseUpdate
from flightserver.errors import AlreadyExists, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flightserver.catalog.draft import Draft
    from flightserver.catalog.entities import Dataset

COSINE = "cosine"
"""The metric that needs a direction."""
L2 = "l2"
METRICS = (COSINE, L2, "dot")
"""1 - cosine of the angle; Euclidean distance; negated inner product. The nearest have the least of it."""

PRECISIONS = ("float32", "float16")
"""Of the numbers that are kept of a vector."""


class Generation(msgspec.Struct, frozen=True, omit_defaults=True):
    """The contents of an index at one time: an immutable object.

    Attributes:
        id: A ULID.
        bucket: Where the object is.
        key: Of the object.
        bytes: Its size.
        vectors: How many are in it.
        skipped: How many rows of its segments have none: null, of another length, or with a number that isn't finite.
        segments: Ids of the segments of the dataset whose rows are in it.
    """

    id: str
    bucket: str
    key: str
    bytes: int
    vectors: int
    skipped: int = 0
    segments: tuple[str, ...] = ()


class VectorIndex(msgspec.Struct, frozen=True, omit_defaults=True):
    """An index over a column of vectors.

    Attributes:
        id: New with each creation.
        bucket: Its home.
        name: Its name.
        dataset_id: Of the dataset that it is about.
        column: What the column is called in files (`flightserver.tables.schema.stored_name`).
        metric: One of `METRICS`.
        dimension: Length of its vectors.
        created: When.
        precision: One of `PRECISIONS`.
        generation: Its contents.
        version: The commit that last changed it.
    """

    id: str
    bucket: str
    name: str
    dataset_id: str
    column: str
    metric: str
    dimension: int
    created: datetime
    generation: Generation
    precision: str = "float32"
    version: int = 0

    @property
    def key(self) -> DatasetKey:
        """Bucket and name."""
        return DatasetKey(self.bucket, self.name)

    def missing_rows(self, dataset: Dataset) -> int:
        """Live rows of a version of its dataset that are in segments which its generation lacks."""
        there = frozenset(self.generation.segments)
        return sum(segment.live for segment in dataset.segments if segment.id not in there)


class _IndexUpdate(BaseUpdate, frozen=True):
    """Base of the updates that name one index."""

    bucket: str
    name: str

    def find(self, draft: Draft) -> VectorIndex:
        """Return the index that the update names."""
        found = draft.indexes.get(DatasetKey(self.bucket, self.name))
        if found is None:
            msg = f"there is no index {DatasetKey(self.bucket, self.name)}: it was dropped or never created"
            raise NotFound(msg)
        return found


class CreateIndex(BaseUpdate, frozen=True, tag="create_index"):
    """Create an index. Its version is set, whatever it says."""

    index: VectorIndex

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # `created` is the index's
        """Add the index."""
        index = self.index
        check_dataset_name(index.name, "a vector index")
        if index.metric not in METRICS or index.precision not in PRECISIONS or index.dimension < 1:
            msg = (
                f"index {index.key} can't have metric {index.metric!r}, {index.precision!r}, {index.dimension} numbers"
            )
            raise InvalidRequest(msg)
        _check_free(draft, index.key)
        if all(dataset.id != index.dataset_id for dataset in draft.datasets.values()):
            msg = f"index {index.key} is about a dataset that was dropped"
            raise NotFound(msg)
        draft.put_index(replace(index, version=version))


class PutGeneration(_IndexUpdate, frozen=True, tag="put_generation"):
    """Give an index other contents. The object of those before isn't touched."""

    generation: Generation

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Change what the index names."""
        draft.put_index(replace(self.find(draft), generation=self.generation, version=version))


class MoveIndex(_IndexUpdate, frozen=True, tag="move_index"):
    """Make `to` the home bucket of an index, whose object has been copied there."""

    to: str
    generation: Generation

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Move the entry."""
        index = self.find(draft)
        moved = replace(index, bucket=self.to, generation=self.generation, version=version)
        _check_free(draft, moved.key)
        draft.drop_index(index.key)
        draft.put_index(moved)


class DropIndex(_IndexUpdate, frozen=True, tag="drop_index"):
    """Forget an index. Its object isn't touched."""

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Remove the index."""
        draft.drop_index(self.find(draft).key)


def drop_indexes_of(draft: Draft, datasets: Iterable[str]) -> None:
    """Forget the indexes of datasets that are dropped, which are given by id."""
    ids = frozenset(datasets)
    for key in [key for key, index in draft.indexes.items() if index.dataset_id in ids]:
        draft.drop_index(key)


def _check_free(draft: Draft, key: DatasetKey) -> None:
    if key.bucket not in draft.buckets:
        msg = f"there is no bucket {key.bucket!r}; there are: {', '.join(sorted(draft.buckets))}"
        raise NotFound(msg)
    if key in draft.indexes:
        msg = f"index {key} exists already"
        raise AlreadyExists(msg)
