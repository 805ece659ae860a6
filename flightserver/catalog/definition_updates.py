"""Updates of what a dataset is called, how it is described and what versions are named; views; the horizon."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from flightserver.catalog.entities import (
    DatasetKey,
    ForeignKey,
    View,
    check_dataset_name,
)
from flightserver.catalog.move_updates import put_instead
from flightserver.catalog.update_base import BaseUpdate, DatasetUpdate, check_free
from flightserver.catalog.view_names import forget
from flightserver.errors import AlreadyExists, InvalidRequest, NotFound

if TYPE_CHECKING:
    from flightserver.catalog.draft import Draft


class AlterDataset(DatasetUpdate, frozen=True, tag="alter_dataset"):
    """Change the schema, the keys or the comment of a dataset; None keeps what it has. No file changes.

    `renamed` says which columns are called otherwise from now on, so that their tags and foreign keys of other datasets
    that refer to them follow; keys of the dataset itself are in `foreign_keys` as they are afterwards.
    """

    schema: bytes | None = None
    schema_fingerprint: str | None = None
    primary_key: tuple[str, ...] | None = None
    comment: str | None = None
    foreign_keys: tuple[ForeignKey, ...] | None = None
    primary_key_name: str | None = None
    renamed: dict[str, str] = msgspec.field(default_factory=dict)

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Change what is given."""
        dataset = self.find(draft)
        if (self.schema is None) != (self.schema_fingerprint is None):
            msg = f"a change of the schema of {dataset.key} needs the schema and its fingerprint"
            raise InvalidRequest(msg)
        draft.put_dataset(
            replace(
                dataset,
                version=version,
                schema=dataset.schema if self.schema is None else self.schema,
                schema_fingerprint=self.schema_fingerprint or dataset.schema_fingerprint,
                primary_key=dataset.primary_key if self.primary_key is None else self.primary_key,
                comment=dataset.comment if self.comment is None else self.comment,
                foreign_keys=dataset.foreign_keys if self.foreign_keys is None else self.foreign_keys,
                primary_key_name=dataset.primary_key_name if self.primary_key_name is None else self.primary_key_name,
                column_tags=_follow_tags(dataset.column_tags, self.renamed),
            )
        )
        if self.renamed:
            _follow_columns(draft, dataset.id, self.renamed)


def _follow_tags(tags: dict[str, tuple[str, ...]], renamed: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Tags of columns that are called otherwise now; those of a column that had the name before stay with them."""
    followed: dict[str, tuple[str, ...]] = {}
    for name, each in tags.items():
        now = renamed.get(name, name)
        followed[now] = tuple(dict.fromkeys((*followed.get(now, ()), *each)))
    return followed


def _follow_columns(draft: Draft, referred_to: str, renamed: dict[str, str]) -> None:
    """Make foreign keys say what the columns are called that they refer to; no dataset gets a new version by that."""
    for dataset in tuple(draft.datasets.values()):
        if any(key.dataset_id == referred_to for key in dataset.foreign_keys):
            keys = tuple(
                replace(key, referenced=tuple(renamed.get(name, name) for name in key.referenced))
                if key.dataset_id == referred_to
                else key
                for key in dataset.foreign_keys
            )
            draft.put_dataset(replace(dataset, foreign_keys=keys))


class RenameDataset(DatasetUpdate, frozen=True, tag="rename_dataset"):
    """Call a dataset by another name in the same bucket. Its objects stay where they are.

    With `views`, views go on reading it; commits of before there was that don't say so.
    """

    new_name: str
    views: bool = False

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Move the entry."""
        dataset = self.find(draft)
        check_dataset_name(self.new_name)
        put_instead(draft, dataset, replace(dataset, name=self.new_name, version=version), views=self.views)

    def touches(self, key: DatasetKey) -> bool:
        """Whether it is the dataset before or after."""
        return key.bucket == self.bucket and key.name in {self.name, self.new_name}

    def key_after(self, key: DatasetKey) -> DatasetKey:
        """What the dataset is called after this."""
        return DatasetKey(self.bucket, self.new_name) if key == (self.bucket, self.name) else key

    def key_before(self, key: DatasetKey) -> DatasetKey:
        """What the dataset was called before this."""
        return DatasetKey(self.bucket, self.name) if key == (self.bucket, self.new_name) else key


class TagVersion(DatasetUpdate, frozen=True, tag="tag_version"):
    """Give a version of a dataset a name, by which it is found and kept; None takes the name away."""

    tag: str
    tagged: int | None

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Change the tags."""
        dataset = self.find(draft)
        tags = {tag: at for tag, at in dataset.tags.items() if tag != self.tag}
        if self.tagged is not None:
            tags[self.tag] = self.tagged
        elif self.tag not in dataset.tags:
            msg = f"dataset {dataset.key} has no tag {self.tag!r}; it has: {', '.join(sorted(tags)) or 'none'}"
            raise NotFound(msg)
        draft.put_dataset(replace(dataset, tags=tags, version=version))


class PutView(BaseUpdate, frozen=True, tag="put_view"):
    """Create a view, or with `replace` put it in the place of one. Its version is set, whatever it says."""

    view: View
    replace: bool = False

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # `created` is the view's
        """Add the view."""
        key = self.view.key
        check_dataset_name(key.name)
        if key in draft.views and not self.replace:
            msg = f"view {key} exists already"
            raise AlreadyExists(msg)
        if key not in draft.views:
            check_free(draft, key)
        draft.put_view(replace(self.view, version=version))

    def touches(self, key: DatasetKey) -> bool:
        """Whether it is this view."""
        return key == self.view.key


class DropView(BaseUpdate, frozen=True, tag="drop_view"):
    """Forget a view. With `views`, names in others that followed it mean again what the catalog has by them."""

    bucket: str
    name: str
    views: bool = False

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Remove the view."""
        key = DatasetKey(self.bucket, self.name)
        if key not in draft.views:
            msg = f"there is no view {key}: it was dropped or never created"
            raise NotFound(msg)
        draft.drop_view(key)
        if self.views:
            forget(draft, {key}, version)

    def touches(self, key: DatasetKey) -> bool:
        """Whether it is this view."""
        return key == (self.bucket, self.name)


class SetHorizon(BaseUpdate, frozen=True, tag="set_horizon"):
    """Say that versions before `horizon` can't be read any more, because their files may be collected."""

    horizon: int

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Move the horizon; it never goes back."""
        if self.horizon >= version:
            msg = f"the horizon can't be {self.horizon}: this is version {version}"
            raise InvalidRequest(msg)
        draft.horizon = max(draft.horizon, self.horizon)
