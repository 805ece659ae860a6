"""Updates of where files of a dataset are: in another home bucket, and as copies in `rescue`."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.entities import DatasetKey, Delta, Segment
from flightserver.catalog.update_base import DatasetUpdate, check_free
from flightserver.catalog.view_names import NamesInViews

if TYPE_CHECKING:
    from flightserver.catalog.draft import Draft
    from flightserver.catalog.entities import Dataset


def put_instead(draft: Draft, dataset: Dataset, changed: Dataset, *, views: bool) -> None:
    """Put a dataset with another key in its own place: who may use it may go on, and with `views` so may views.

    Raises:
        NotFound: There is no bucket of the new key.
        AlreadyExists: The new key is taken.
    """
    old, new, version = dataset.key, changed.key, changed.version
    check_free(draft, new)
    names = NamesInViews(draft, old, new) if views else None
    draft.drop_dataset(old)
    draft.put_dataset(changed)
    draft.access = draft.access.renamed(old, new, version)
    if names is not None:
        names.keep(draft, version)


class MoveDataset(DatasetUpdate, frozen=True, tag="move_dataset"):
    """Make `to` the home bucket of a dataset, whose files have been copied there; all else of it stays.

    `segments` and `deltas` are those that it has, where they are now: whoever looks for live files finds them here.
    With `views`, views go on reading it; commits of before there was that don't say so.
    """

    to: str
    segments: tuple[Segment, ...] = ()
    deltas: tuple[Delta, ...] = ()
    views: bool = False

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Move the entry."""
        dataset = self.find(draft)
        moved = replace(dataset, bucket=self.to, version=version, segments=self.segments, deltas=self.deltas)
        put_instead(draft, dataset, moved, views=self.views)

    def touches(self, key: DatasetKey) -> bool:
        """Whether it is the dataset before or after."""
        return key.name == self.name and key.bucket in {self.bucket, self.to}

    def key_after(self, key: DatasetKey) -> DatasetKey:
        """What the dataset is called after this."""
        return DatasetKey(self.to, self.name) if key == (self.bucket, self.name) else key

    def key_before(self, key: DatasetKey) -> DatasetKey:
        """What the dataset was called before this."""
        return DatasetKey(self.bucket, self.name) if key == (self.to, self.name) else key


class MirrorDataset(DatasetUpdate, frozen=True, tag="mirror_dataset"):
    """Say whether `rescue` keeps a copy of a dataset, whatever bucket it is in, now and later."""

    mirrored: bool

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Change what the dataset says."""
        draft.put_dataset(replace(self.find(draft), version=version, mirrored=self.mirrored))
