"""What a commit can change: one small class each.

Theory of operation: an update carries facts, and `apply` puts them into a draft with nothing but the draft, the
commit's version and its time, so that replaying the log gives the same state everywhere. What must hold for it is a
requirement, see `flightserver.catalog.requirements`. Updates of rows and of definitions stand in modules of their own.

Format rule: the tag and fields of a released update are never renamed, reordered or removed; new fields come last and
have a default; what `apply` does with released fields never changes. A new kind of change is a new class at the
end of `Update`; a server that doesn't know it refuses the log and says so.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.bucket_updates import RenameBucket
from flightserver.catalog.definition_updates import (
    AlterDataset,
    DropView,
    PutView,
    RenameDataset,
    SetHorizon,
    TagVersion,
)
from flightserver.catalog.entities import (
    PRIMARY,
    Bucket,
    Dataset,
    DatasetKey,
    ForeignKey,
    Lineage,
    Segment,
    check_bucket_name,
    check_dataset_name,
)
from flightserver.catalog.identity_updates import (
    DropPolicy,
    DropRole,
    DropUser,
    PutPolicy,
    PutRole,
    PutUser,
    TagColumns,
)
from flightserver.catalog.index_updates import CreateIndex, DropIndex, MoveIndex, PutGeneration, drop_indexes_of
from flightserver.catalog.migration import MigrateBuckets
from flightserver.catalog.missing import no_bucket
from flightserver.catalog.move_updates import MirrorDataset, MoveDataset
from flightserver.catalog.row_updates import RemoveRows, RestoreDataset, RewriteSegments
from flightserver.catalog.update_base import BaseUpdate, DatasetUpdate, check_free, with_segments
from flightserver.catalog.view_names import forget
from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from flightserver.catalog.draft import Draft

__all__ = [
    "AlterDataset",
    "AppendSegments",
    "CreateDataset",
    "CreateIndex",
    "DropBucket",
    "DropDataset",
    "DropIndex",
    "DropPolicy",
    "DropRole",
    "DropUser",
    "DropView",
    "MigrateBuckets",
    "MirrorDataset",
    "MoveDataset",
    "MoveIndex",
    "PutBucket",
    "PutGeneration",
    "PutPolicy",
    "PutRole",
    "PutUser",
    "PutView",
    "RemoveRows",
    "RenameBucket",
    "RenameDataset",
    "ReplaceSegments",
    "RestoreDataset",
    "RewriteSegments",
    "SetHorizon",
    "TagColumns",
    "TagVersion",
    "Update",
]


class PutBucket(BaseUpdate, frozen=True, tag="put_bucket"):
    """Create a bucket, or change the description of one."""

    bucket: Bucket

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Add the bucket; its creation time is the commit's unless it has one."""
        check_bucket_name(self.bucket.name)
        draft.put_bucket(self.bucket if self.bucket.created else replace(self.bucket, created=time))


class DropBucket(BaseUpdate, frozen=True, tag="drop_bucket"):
    """Forget a bucket, and the datasets and indexes in it. Objects aren't touched. `views` is that of `DropDataset`."""

    name: str
    views: bool = False

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Remove the bucket and what is in it."""
        if self.name == PRIMARY:
            msg = f"bucket {PRIMARY!r} can't be dropped: it holds the catalog"
            raise InvalidRequest(msg)
        if self.name not in draft.buckets:
            raise no_bucket(self.name, draft.buckets)
        datasets = [dataset for key, dataset in draft.datasets.items() if key.bucket == self.name]
        drop_indexes_of(draft, [dataset.id for dataset in datasets])
        for dataset in datasets:
            draft.drop_dataset(dataset.key)
        for key in [key for key in draft.indexes if key.bucket == self.name]:
            draft.drop_index(key)
        draft.drop_bucket(self.name)
        if self.views:
            forget(draft, {dataset.key for dataset in datasets}, version)

    def touches(self, key: DatasetKey) -> bool:
        """Whether the dataset is in the bucket."""
        return key.bucket == self.name


class CreateDataset(BaseUpdate, frozen=True, tag="create_dataset"):
    """Create a dataset. Version, rows, bytes and row ids are set from its segments, whatever it says."""

    dataset: Dataset

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # `created` is the dataset's
        """Add the dataset."""
        dataset = self.dataset
        check_dataset_name(dataset.name)
        check_free(draft, dataset.key)
        empty = replace(dataset, version=version, segments=(), deltas=(), rows=0, bytes=0, next_row_id=0)
        draft.put_dataset(with_segments(empty, dataset.segments))

    def touches(self, key: DatasetKey) -> bool:
        """Whether it is this dataset."""
        return key == self.dataset.key


class DropDataset(DatasetUpdate, frozen=True, tag="drop_dataset"):
    """Forget a dataset and its indexes. Objects aren't touched.

    With `views`, names in views that followed it mean again what the catalog has by them; commits of before there was
    that don't say so, nor does one that makes it again.
    """

    views: bool = False

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Remove the dataset."""
        dataset = self.find(draft)
        drop_indexes_of(draft, [dataset.id])
        draft.drop_dataset(dataset.key)
        if self.views:
            forget(draft, {dataset.key}, version)


class AppendSegments(DatasetUpdate, frozen=True, tag="append_segments"):
    """Add segments behind those that a dataset has; with `schema` it evolves in the same step."""

    segments: tuple[Segment, ...]
    lineage: Lineage | None = None
    schema: bytes | None = None
    schema_fingerprint: str | None = None

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # time is in the lineage
        """Number the rows of the segments and add them."""
        dataset = self.find(draft)
        if (self.schema is None) != (self.schema_fingerprint is None):
            msg = f"an append to {dataset.key} that evolves its schema needs the schema and its fingerprint"
            raise InvalidRequest(msg)
        changed = replace(
            dataset,
            version=version,
            schema=dataset.schema if self.schema is None else self.schema,
            schema_fingerprint=self.schema_fingerprint or dataset.schema_fingerprint,
            lineage=dataset.lineage if self.lineage is None else (*dataset.lineage, self.lineage),
        )
        draft.put_dataset(with_segments(changed, self.segments))


class ReplaceSegments(DatasetUpdate, frozen=True, tag="replace_segments"):
    """Replace the contents and schema of a dataset; its id and comment stay, and row ids go on.

    `primary_key`, `foreign_keys` and `primary_key_name` are what it has afterwards; None keeps them.
    """

    segments: tuple[Segment, ...]
    schema: bytes
    schema_fingerprint: str
    lineage: Lineage | None = None
    primary_key: tuple[str, ...] | None = None
    foreign_keys: tuple[ForeignKey, ...] | None = None
    primary_key_name: str | None = None

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # time is in the lineage
        """Put these segments in the place of all others."""
        found = self.find(draft)
        emptied = replace(
            found,
            version=version,
            primary_key=found.primary_key if self.primary_key is None else self.primary_key,
            foreign_keys=found.foreign_keys if self.foreign_keys is None else self.foreign_keys,
            primary_key_name=found.primary_key_name if self.primary_key_name is None else self.primary_key_name,
            schema=self.schema,
            schema_fingerprint=self.schema_fingerprint,
            rows=0,
            bytes=0,
            segments=(),
            deltas=(),
            lineage=() if self.lineage is None else (self.lineage,),
        )
        draft.put_dataset(with_segments(emptied, self.segments))


Update = (
    PutBucket
    | DropBucket
    | CreateDataset
    | DropDataset
    | AppendSegments
    | ReplaceSegments
    | RemoveRows
    | RewriteSegments
    | RestoreDataset
    | AlterDataset
    | RenameDataset
    | TagVersion
    | PutView
    | DropView
    | SetHorizon
    | RenameBucket
    | MigrateBuckets
    | MoveDataset
    | PutUser
    | DropUser
    | PutRole
    | DropRole
    | PutPolicy
    | DropPolicy
    | TagColumns
    | CreateIndex
    | PutGeneration
    | MoveIndex
    | DropIndex
    | MirrorDataset
)
"""Everything that a commit can say."""
