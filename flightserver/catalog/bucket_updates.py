"""Updates of what a bucket is called."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.entities import LOCAL, PRIMARY, RESCUE, DatasetKey, check_bucket_name
from flightserver.catalog.missing import no_bucket
from flightserver.catalog.update_base import BaseUpdate
from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Collection

    from flightserver.catalog.draft import Draft
    from flightserver.catalog.entities import Dataset, View
    from flightserver.catalog.indexes import VectorIndex


class RenameBucket(BaseUpdate, frozen=True, tag="rename_bucket"):
    """Call a bucket by another name. Its objects stay where they are, and earlier versions find it by the former name.

    `root` is the directory of a local bucket, which it has had by its name until now. That the new name is free is a
    requirement. What the text of a view says isn't changed.
    """

    name: str
    new_name: str
    root: str = ""

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Move the bucket, and what is in it."""
        check_bucket_name(self.new_name)
        if {self.name, self.new_name} & {PRIMARY, RESCUE}:
            msg = f"bucket {self.name!r} can't be renamed to {self.new_name!r}: {PRIMARY!r} and {RESCUE!r} are fixed"
            raise InvalidRequest(msg)
        bucket = draft.buckets.get(self.name)
        if bucket is None:
            raise no_bucket(self.name, draft.buckets)
        former = tuple(each for each in bucket.former if each != self.new_name)
        root = bucket.root or self.root if bucket.backend == LOCAL else ""
        draft.drop_bucket(self.name)
        draft.put_bucket(replace(bucket, name=self.new_name, root=root, former=(*former, self.name)))
        names = frozenset({self.name, *bucket.former})
        draft.access = draft.access.bucket_renamed(names, self.new_name, version)
        for dataset in list(draft.datasets.values()):
            changed = self._moved(dataset, names)
            if changed != dataset:
                draft.drop_dataset(dataset.key)
                draft.put_dataset(replace(changed, version=version))
        for view in list(draft.views.values()):
            moved = self._moved_view(view, names)
            if moved != view:
                draft.drop_view(view.key)
                draft.put_view(replace(moved, version=version))

        for index in list(draft.indexes.values()):
            there = self._moved_index(index, names)
            if there != index:
                draft.drop_index(index.key)
                draft.put_index(replace(there, version=version))

    def touches(self, key: DatasetKey) -> bool:
        """Whether the dataset is in the bucket, before or after."""
        return key.bucket in {self.name, self.new_name}

    def key_after(self, key: DatasetKey) -> DatasetKey:
        """What a dataset of this name is called after the update."""
        return DatasetKey(self.new_name, key.name) if key.bucket == self.name else key

    def key_before(self, key: DatasetKey) -> DatasetKey:
        """What a dataset that is called so after the update was called before it."""
        return DatasetKey(self.name, key.name) if key.bucket == self.new_name else key

    def _moved(self, dataset: Dataset, names: Collection[str]) -> Dataset:
        """The dataset, with the new name for any of these."""
        return replace(
            dataset,
            bucket=self.new_name if dataset.bucket in names else dataset.bucket,
            segments=tuple(
                replace(each, bucket=self.new_name) if each.bucket in names else each for each in dataset.segments
            ),
            deltas=tuple(
                replace(each, bucket=self.new_name) if each.bucket in names else each for each in dataset.deltas
            ),
        )

    def _moved_index(self, index: VectorIndex, names: Collection[str]) -> VectorIndex:
        """The index, with the new name for any of these."""
        generation = index.generation
        if generation.bucket in names:
            generation = replace(generation, bucket=self.new_name)
        return replace(index, bucket=self.new_name if index.bucket in names else index.bucket, generation=generation)

    def _moved_view(self, view: View, names: Collection[str]) -> View:
        """The view, with the new name for any of these."""
        return replace(
            view,
            bucket=self.new_name if view.bucket in names else view.bucket,
            default_bucket=self.new_name if view.default_bucket in names else view.default_bucket,
            default_schema=self.new_name if view.default_schema in names else view.default_schema,
            meanings=tuple(
                replace(one, means=DatasetKey(self.new_name, one.means.name)) if one.means.bucket in names else one
                for one in view.meanings
            ),
        )
