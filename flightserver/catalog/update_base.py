"""What all updates have in common, and how segments are added to a dataset."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from flightserver.catalog.entities import Dataset, DatasetKey, Segment
from flightserver.catalog.missing import no_bucket, no_dataset
from flightserver.errors import AlreadyExists

if TYPE_CHECKING:
    from flightserver.catalog.draft import Draft


class BaseUpdate(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """Base of all updates."""

    def apply(self, draft: Draft, version: int, time: datetime) -> None:
        """Change the draft; raise a RequestError when it doesn't fit."""
        raise NotImplementedError

    def touches(self, key: DatasetKey) -> bool:  # noqa: ARG002  # most updates of buckets touch no dataset
        """Whether the update changes the dataset of this name."""
        return False

    def key_after(self, key: DatasetKey) -> DatasetKey:
        """What a dataset of this name is called after the update."""
        return key

    def key_before(self, key: DatasetKey) -> DatasetKey:
        """What a dataset that is called so after the update was called before it."""
        return key


class DatasetUpdate(BaseUpdate, frozen=True):
    """Base of the updates that name one dataset."""

    bucket: str
    name: str

    def touches(self, key: DatasetKey) -> bool:
        """Whether the update changes the dataset of this name."""
        return key == (self.bucket, self.name)

    def find(self, draft: Draft) -> Dataset:
        """Return the dataset that the update names."""
        found = draft.datasets.get(DatasetKey(self.bucket, self.name))
        if found is None:
            key = DatasetKey(self.bucket, self.name)
            raise no_dataset(key, f"there is no dataset {key}: it was dropped, renamed or moved, or never created")
        return found


def with_segments(dataset: Dataset, segments: tuple[Segment, ...]) -> Dataset:
    """Add segments, whose row ids go on where those of the dataset end."""
    numbered = list(dataset.segments)
    next_row_id = dataset.next_row_id
    for segment in segments:
        numbered.append(replace(segment, first_row_id=next_row_id))
        next_row_id += segment.rows
    return replace(
        dataset,
        segments=tuple(numbered),
        rows=dataset.rows + sum(segment.rows for segment in segments),
        bytes=dataset.bytes + sum(segment.bytes for segment in segments),
        next_row_id=next_row_id,
    )


def check_free(draft: Draft, key: DatasetKey) -> None:
    """Return when neither a dataset nor a view has the name, and its bucket exists.

    Raises:
        NotFound: There is no such bucket.
        AlreadyExists: The name is taken.
    """
    if key.bucket not in draft.buckets:
        raise no_bucket(key.bucket, draft.buckets)
    if key in draft.datasets:
        msg = f"dataset {key} exists already"
        raise AlreadyExists(msg)
    if key in draft.views:
        msg = f"there is a view {key}, and views and datasets share their names"
        raise AlreadyExists(msg)
