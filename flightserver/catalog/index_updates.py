"""The updates that change vector indexes."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.entities import DatasetKey, check_dataset_name
from flightserver.catalog.indexes import METRICS, PRECISIONS, Generation, VectorIndex
from flightserver.catalog.missing import no_bucket
from flightserver.catalog.update_base import BaseUpdate
from flightserver.errors import AlreadyExists, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flightserver.catalog.draft import Draft


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
        raise no_bucket(key.bucket, draft.buckets)
    if key in draft.indexes:
        msg = f"index {key} exists already"
        raise AlreadyExists(msg)
