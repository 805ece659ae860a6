"""What a commit can change, and what it can require: one small class each.

Theory of operation: an update carries facts, and `apply` puts them into a draft with nothing but the draft, the
commit's version and its time, so that replaying the log gives the same state everywhere. A requirement is checked
against the newest state at the moment of the commit and isn't written to the log: that a commit exists says that
its requirements held.

Format rule: the tag and fields of a released update are never renamed, reordered or removed; new fields come last and
have a default; what `apply` does with released fields never changes. A new kind of change is a new class at the
end of `Update`; a server that doesn't know it refuses the log and says so.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING, NoReturn

import msgspec
from msgspec.structs import replace

from flightserver.catalog.entities import (
    PRIMARY,
    Bucket,
    Dataset,
    DatasetKey,
    Lineage,
    Segment,
    check_bucket_name,
    check_dataset_name,
)
from flightserver.errors import AlreadyExists, CommitConflict, InvalidRequest, NotFound

if TYPE_CHECKING:
    from flightserver.catalog.draft import Draft, State


class _Update(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """Base of all updates."""

    def apply(self, draft: Draft, version: int, time: datetime) -> None:
        """Change the draft; raise a RequestError when it doesn't fit."""
        raise NotImplementedError

    def touches(self, key: DatasetKey) -> bool:  # noqa: ARG002  # most updates of buckets touch no dataset
        """Whether the update changes the dataset of this name."""
        return False


class _DatasetUpdate(_Update, frozen=True):
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
            msg = f"there is no dataset {DatasetKey(self.bucket, self.name)}: it was dropped or never created"
            raise NotFound(msg)
        return found


class PutBucket(_Update, frozen=True, tag="put_bucket"):
    """Create a bucket, or change the description of one."""

    bucket: Bucket

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Add the bucket; its creation time is the commit's unless it has one."""
        check_bucket_name(self.bucket.name)
        draft.put_bucket(self.bucket if self.bucket.created else replace(self.bucket, created=time))


class DropBucket(_Update, frozen=True, tag="drop_bucket"):
    """Forget a bucket and the datasets in it. Objects aren't touched."""

    name: str

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Remove the bucket and its datasets."""
        if self.name == PRIMARY:
            msg = f"bucket {PRIMARY!r} can't be dropped: it holds the catalog"
            raise InvalidRequest(msg)
        if self.name not in draft.buckets:
            msg = f"there is no bucket {self.name!r}; there are: {', '.join(sorted(draft.buckets))}"
            raise NotFound(msg)
        for key in [key for key in draft.datasets if key.bucket == self.name]:
            draft.drop_dataset(key)
        draft.drop_bucket(self.name)

    def touches(self, key: DatasetKey) -> bool:
        """Whether the dataset is in the bucket."""
        return key.bucket == self.name


class CreateDataset(_Update, frozen=True, tag="create_dataset"):
    """Create a dataset. Version, rows, bytes and row ids are set from its segments, whatever it says."""

    dataset: Dataset

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # `created` is the dataset's
        """Add the dataset."""
        dataset = self.dataset
        check_dataset_name(dataset.name)
        if dataset.bucket not in draft.buckets:
            msg = f"there is no bucket {dataset.bucket!r}; there are: {', '.join(sorted(draft.buckets))}"
            raise NotFound(msg)
        if dataset.key in draft.datasets:
            msg = f"dataset {dataset.key} exists already"
            raise AlreadyExists(msg)
        empty = replace(dataset, version=version, segments=(), rows=0, bytes=0, next_row_id=0)
        draft.put_dataset(_with_segments(empty, dataset.segments))

    def touches(self, key: DatasetKey) -> bool:
        """Whether it is this dataset."""
        return key == self.dataset.key


class DropDataset(_DatasetUpdate, frozen=True, tag="drop_dataset"):
    """Forget a dataset. Objects aren't touched."""

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Remove the dataset."""
        draft.drop_dataset(self.find(draft).key)


class AppendSegments(_DatasetUpdate, frozen=True, tag="append_segments"):
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
        draft.put_dataset(_with_segments(changed, self.segments))


class ReplaceSegments(_DatasetUpdate, frozen=True, tag="replace_segments"):
    """Replace the contents and schema of a dataset; its id and comment stay, and row ids go on.

    `primary_key` is what it has afterwards; None keeps it.
    """

    segments: tuple[Segment, ...]
    schema: bytes
    schema_fingerprint: str
    lineage: Lineage | None = None
    primary_key: tuple[str, ...] | None = None

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # time is in the lineage
        """Put these segments in the place of all others."""
        found = self.find(draft)
        emptied = replace(
            found,
            version=version,
            primary_key=found.primary_key if self.primary_key is None else self.primary_key,
            schema=self.schema,
            schema_fingerprint=self.schema_fingerprint,
            rows=0,
            bytes=0,
            segments=(),
            lineage=() if self.lineage is None else (self.lineage,),
        )
        draft.put_dataset(_with_segments(emptied, self.segments))


Update = PutBucket | DropBucket | CreateDataset | DropDataset | AppendSegments | ReplaceSegments
"""Everything that a commit can say."""


class _Requirement(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of all requirements."""

    def check(self, state: State) -> None:
        """Return when it holds in this state.

        Raises:
            CommitConflict: It doesn't hold; the message says what was required and what was found.
        """
        raise NotImplementedError

    @classmethod
    def refused(cls, error: CommitConflict) -> bool:
        """Whether the conflict is that a requirement of this class didn't hold."""
        return error.details.get("requirement") == cls.__struct_config__.tag

    def conflict(self, required: str, found: str) -> NoReturn:
        """Raise the conflict."""
        msg = f"the commit requires that {required}, but {found}; nothing was changed and a retry is safe"
        raise CommitConflict(msg, details={"requirement": str(self.__struct_config__.tag)})


class _DatasetRequirement(_Requirement, frozen=True):
    """Base of the requirements that name one dataset."""

    bucket: str
    name: str

    @property
    def key(self) -> DatasetKey:
        """The dataset it is about."""
        return DatasetKey(self.bucket, self.name)


class DatasetAbsent(_DatasetRequirement, frozen=True, tag="dataset_absent"):
    """No dataset has the name."""

    def check(self, state: State) -> None:
        """Return when no dataset has the name."""
        found = state.datasets.get(self.key)
        if found is not None:
            self.conflict(f"there is no dataset {self.key}", f"there is one, at version {found.version}")


class DatasetAt(_DatasetRequirement, frozen=True, tag="dataset_at"):
    """The dataset was last changed by this version."""

    version: int

    def check(self, state: State) -> None:
        """Return when the dataset is at the version."""
        found = state.datasets.get(self.key)
        if found is None:
            self.conflict(f"dataset {self.key} is at version {self.version}", "it was dropped")
        if found.version != self.version:
            self.conflict(f"dataset {self.key} is at version {self.version}", f"it is at version {found.version}")


class DatasetUnchangedSchema(_DatasetRequirement, frozen=True, tag="dataset_unchanged_schema"):
    """The dataset is still the one of this id, with this schema."""

    id: str
    schema_fingerprint: str

    def check(self, state: State) -> None:
        """Return when id and schema are the same."""
        found = state.datasets.get(self.key)
        required = f"dataset {self.key} still has the schema that the new rows were written with"
        if found is None:
            self.conflict(required, "it was dropped")
        if found.id != self.id:
            self.conflict(required, "it was dropped and created again")
        if found.schema_fingerprint != self.schema_fingerprint:
            self.conflict(required, f"version {found.version} changed it")


class ContentAbsent(_DatasetRequirement, frozen=True, tag="content_absent"):
    """The dataset doesn't hold these bytes yet. When it is refused, there is nothing left to do."""

    content: str

    def check(self, state: State) -> None:
        """Return when no lineage of the dataset has the content."""
        found = state.datasets.get(self.key)
        if found is not None and any(lineage.content == self.content for lineage in found.lineage):
            required = f"dataset {self.key} doesn't have the same bytes already"
            self.conflict(required, f"it has at version {found.version}")


class BucketAbsent(_Requirement, frozen=True, tag="bucket_absent"):
    """No bucket has the name."""

    name: str

    def check(self, state: State) -> None:
        """Return when no bucket has the name."""
        if self.name in state.buckets:
            self.conflict(f"there is no bucket {self.name!r}", "there is one")


class BucketEmpty(_Requirement, frozen=True, tag="bucket_empty"):
    """The bucket exists and no dataset is in it."""

    name: str

    def check(self, state: State) -> None:
        """Return when the bucket has no dataset."""
        required = f"bucket {self.name!r} has no dataset"
        if self.name not in state.buckets:
            self.conflict(required, "there is no such bucket")
        names = sorted(key.name for key in state.datasets if key.bucket == self.name)
        if names:
            self.conflict(required, f"it has {len(names)}: {', '.join(names[:5])}{', ...' if names[5:] else ''}")


Requirement = DatasetAbsent | DatasetAt | DatasetUnchangedSchema | ContentAbsent | BucketAbsent | BucketEmpty
"""Everything that a commit can require."""


def _with_segments(dataset: Dataset, segments: tuple[Segment, ...]) -> Dataset:
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
