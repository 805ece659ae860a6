"""The update that gives a dataset another home bucket."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.entities import DatasetKey, Delta, Segment
from flightserver.catalog.update_base import DatasetUpdate, check_free

if TYPE_CHECKING:
    from flightserver.catalog.draft import Draft


class MoveDataset(DatasetUpdate, frozen=True, tag="move_dataset"):
    """Make `to` the home bucket of a dataset, whose files have been copied there; all else of it stays.

    `segments` and `deltas` are those that it has, where they are now: whoever looks for live files finds them here.
    """

    to: str
    segments: tuple[Segment, ...] = ()
    deltas: tuple[Delta, ...] = ()

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Move the entry."""
        dataset = self.find(draft)
        check_free(draft, DatasetKey(self.to, self.name))
        draft.drop_dataset(dataset.key)
        draft.put_dataset(replace(dataset, bucket=self.to, version=version, segments=self.segments, deltas=self.deltas))
        draft.access = draft.access.renamed(dataset.key, DatasetKey(self.to, self.name), version)

    def touches(self, key: DatasetKey) -> bool:
        """Whether it is the dataset before or after."""
        return key.name == self.name and key.bucket in {self.bucket, self.to}

    def key_after(self, key: DatasetKey) -> DatasetKey:
        """What the dataset is called after this."""
        return DatasetKey(self.to, self.name) if key == (self.bucket, self.name) else key

    def key_before(self, key: DatasetKey) -> DatasetKey:
        """What the dataset was called before this."""
        return DatasetKey(self.bucket, self.name) if key == (self.to, self.name) else key
