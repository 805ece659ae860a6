"""What a transaction requires of the state that it is committed on.

A requirement is checked against the newest state at the moment of the commit and isn't written to the log: that a
commit exists says that its requirements held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.catalog.bucket_rules import check_beside, identity
from flightserver.catalog.entities import Bucket, DatasetKey, View
from flightserver.catalog.migration import MigrateBuckets, plan_migration
from flightserver.catalog.quoting import identifier
from flightserver.catalog.requirement_base import BaseRequirement, NamedRequirement, what_became_of
from flightserver.catalog.view_names import natural
from flightserver.errors import AlreadyExists

if TYPE_CHECKING:
    from flightserver.catalog.draft import State


class DatasetAbsent(NamedRequirement, frozen=True, tag="dataset_absent"):
    """No dataset has the name."""

    def check(self, state: State) -> None:
        """Return when no dataset has the name."""
        found = state.datasets.get(self.key)
        if found is not None:
            self.conflict(f"there is no dataset {self.key}", f"there is one, at version {found.version}")


class DatasetAt(NamedRequirement, frozen=True, tag="dataset_at"):
    """The dataset was last changed by this version."""

    version: int

    def check(self, state: State) -> None:
        """Return when the dataset is at the version."""
        found = state.datasets.get(self.key)
        if found is None:
            self.conflict(f"dataset {self.key} is at version {self.version}", "it was dropped, renamed or moved")
        if found.version != self.version:
            self.conflict(f"dataset {self.key} is at version {self.version}", f"it is at version {found.version}")


class DatasetUnchangedSchema(NamedRequirement, frozen=True, tag="dataset_unchanged_schema"):
    """The dataset is still the one of this id, with this schema."""

    id: str
    schema_fingerprint: str

    def check(self, state: State) -> None:
        """Return when id and schema are the same."""
        found = state.datasets.get(self.key)
        required = f"dataset {self.key} still has the schema that the new rows were written with"
        if found is None or found.id != self.id:
            self.conflict(required, what_became_of(self.id, self.key, state))
        if found.schema_fingerprint != self.schema_fingerprint:
            self.conflict(required, f"version {found.version} changed it")


class SameDataset(NamedRequirement, frozen=True, tag="same_dataset"):
    """The name still means the dataset of this id, whatever has changed in it."""

    id: str

    def check(self, state: State) -> None:
        """Return when it does."""
        found = state.datasets.get(self.key)
        if found is None or found.id != self.id:
            required = f"dataset {self.key} is the one that this was about"
            self.conflict(required, what_became_of(self.id, self.key, state))


class ContentAbsent(NamedRequirement, frozen=True, tag="content_absent"):
    """The dataset doesn't hold these bytes yet. When it is refused, there is nothing left to do."""

    content: str

    def check(self, state: State) -> None:
        """Return when no lineage of the dataset has the content."""
        found = state.datasets.get(self.key)
        if found is not None and any(lineage.content == self.content for lineage in found.lineage):
            required = f"dataset {self.key} doesn't have the same bytes already"
            self.conflict(required, f"it has at version {found.version}")


class BucketAbsent(BaseRequirement, frozen=True, tag="bucket_absent"):
    """No bucket has the name."""

    name: str

    def check(self, state: State) -> None:
        """Return when no bucket has the name."""
        if self.name in state.buckets:
            self.conflict(f"there is no bucket {self.name!r}", "there is one")


class BucketEmpty(BaseRequirement, frozen=True, tag="bucket_empty"):
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


class BucketUnchanged(BaseRequirement, frozen=True, tag="bucket_unchanged"):
    """The bucket is described as it was when the change of its description was prepared."""

    bucket: Bucket

    def check(self, state: State) -> None:
        """Return when the description is the same."""
        name = self.bucket.name
        found = state.buckets.get(name)
        if found != self.bucket:
            self.conflict(
                f"nobody else changes bucket {name!r}", "it was dropped" if found is None else "somebody has changed it"
            )


class SameBucket(BaseRequirement, frozen=True, tag="same_bucket"):
    """The bucket is still the one to which files were written, and not another that was given its name.

    Attributes:
        name: Its name.
        identity: See `flightserver.catalog.bucket_rules.identity`.
    """

    name: str
    identity: str

    def check(self, state: State) -> None:
        """Return when it is the same."""
        found = state.buckets.get(self.name)
        if found is None or identity(found) != self.identity:
            self.conflict(
                f"bucket {self.name!r} is the one that files were written to",
                "it was dropped or renamed" if found is None else "another bucket has its name now",
            )


class BucketFits(BaseRequirement, frozen=True, tag="bucket_fits"):
    """The bucket, which is new or gets a new name, can be beside the others.

    Attributes:
        bucket: As it is going to be.
        instead_of: The name that it has until then, if any.
    """

    bucket: Bucket
    instead_of: str | None = None

    def check(self, state: State) -> None:
        """Return when name, URL scheme and place are free."""
        try:
            check_beside(self.bucket, [each for each in state.buckets.values() if each.name != self.instead_of])
        except AlreadyExists as error:
            self.conflict(f"bucket {self.bucket.name!r} can be beside the others", error.message)


class BucketHolds(BaseRequirement, frozen=True, tag="bucket_holds"):
    """Exactly these datasets, views and vector indexes are in the bucket; names in order."""

    name: str
    relations: tuple[str, ...]

    def check(self, state: State) -> None:
        """Return when none was made, dropped or renamed."""
        every = (*state.datasets, *state.views, *state.indexes)
        found = tuple(sorted(key.name for key in every if key.bucket == self.name))
        if found != self.relations:
            self.conflict(
                f"bucket {self.name!r} has the {len(self.relations)} datasets, views and vector indexes that it had",
                f"it has {len(found)}, or others",
            )


class SegmentsUnchanged(NamedRequirement, frozen=True, tag="segments_unchanged"):
    """The dataset still has these segments, and of their rows the same are alive.

    Attributes:
        id: Of the dataset.
        segments: Ids.
        deltas: Ids of the deltas that had removed rows of them, see `Dataset.deltas_of`.
    """

    id: str
    segments: tuple[str, ...]
    deltas: tuple[str, ...]

    def check(self, state: State) -> None:
        """Return when no row of the segments was removed or rewritten."""
        found = state.datasets.get(self.key)
        required = f"nobody removes or rewrites rows of dataset {self.key} that this change is about"
        if found is None or found.id != self.id:
            self.conflict(required, what_became_of(self.id, self.key, state))
        if not {segment.id for segment in found.segments}.issuperset(self.segments):
            self.conflict(required, f"version {found.version} or one before it rewrote some")
        if found.deltas_of(self.segments) != self.deltas:
            self.conflict(required, f"version {found.version} or one before it removed some")


class NothingAppended(NamedRequirement, frozen=True, tag="nothing_appended"):
    """The dataset has no rows that it hadn't when its next row id was this one; compaction adds none."""

    id: str
    next_row_id: int

    def check(self, state: State) -> None:
        """Return when no rows were added."""
        found = state.datasets.get(self.key)
        required = f"nobody adds rows to dataset {self.key}"
        if found is None or found.id != self.id:
            self.conflict(required, what_became_of(self.id, self.key, state))
        if found.next_row_id != self.next_row_id:
            self.conflict(required, f"{found.next_row_id - self.next_row_id} were added")


class Kept(DatasetAt, frozen=True, tag="kept"):
    """The dataset was last changed by this version, and since it was looked at nothing was given up for collection.

    Whatever makes old files part of a dataset again, or keeps them, requires it.
    """

    horizon: int

    def check(self, state: State) -> None:
        """Return when neither the dataset nor the horizon has moved."""
        super().check(state)
        if state.horizon != self.horizon:
            required = f"files of version {self.horizon} of the catalog and later ones are kept"
            self.conflict(required, f"bucket.collect has moved that to version {state.horizon}")


class ViewAt(NamedRequirement, frozen=True, tag="view_at"):
    """The view was last changed by this version; 0 means that there is none."""

    version: int

    def check(self, state: State) -> None:
        """Return when the view is at the version."""
        found = state.views.get(self.key)
        is_at = 0 if found is None else found.version
        if is_at != self.version:
            self.conflict(
                f"view {self.key} is at version {self.version}" if self.version else f"there is no view {self.key}",
                f"it is at version {is_at}" if is_at else "it was dropped",
            )


class NameMeans(BaseRequirement, frozen=True, tag="name_means"):
    """A name in the text of a view means what it meant when its query was planned.

    Attributes:
        view: Which is going to be made.
        schema: What stands before the dot; None for a bare name.
        name: What stands behind it.
        meant: What it means by what the catalog has: None for nothing, and where it is ambiguous.
    """

    view: View
    schema: str | None
    name: str
    meant: DatasetKey | None

    def check(self, state: State) -> None:
        """Return when it does."""
        if natural(state, self.view, self.schema, self.name) != self.meant:
            said = identifier(self.name) if self.schema is None else str(DatasetKey(self.schema, self.name))
            required = f"{said} in view {self.view.key} means what it meant when its query was planned"
            self.conflict(required, "it means something else, or nothing, since something was made, moved or renamed")


class IndexAt(NamedRequirement, frozen=True, tag="index_at"):
    """The vector index was last changed by this version; 0 means that there is none.

    With `horizon`, nothing was given up for collection since it was looked at: files of before are relied upon.
    """

    version: int
    horizon: int | None = None

    def check(self, state: State) -> None:
        """Return when the index is at the version, and the horizon where it was."""
        found = state.indexes.get(self.key)
        is_at = 0 if found is None else found.version
        if is_at != self.version:
            self.conflict(
                f"vector index {self.key} is at version {self.version}"
                if self.version
                else f"there is no vector index {self.key}",
                f"it is at version {is_at}" if is_at else "it was dropped or moved",
            )
        if self.horizon is not None and state.horizon != self.horizon:
            required = f"files of version {self.horizon} of the catalog and later ones are kept"
            self.conflict(required, f"bucket.collect has moved that to version {state.horizon}")


class MigrationIs(BaseRequirement, frozen=True, tag="migration_is"):
    """What is to be mended of old references is exactly this."""

    migration: MigrateBuckets

    def check(self, state: State) -> None:
        """Return when a migration that is planned now is the same."""
        if plan_migration(state).update != self.migration:
            self.conflict("old references are those that were found", "others were written or mended")


class AccessUnchanged(BaseRequirement, frozen=True, tag="access_unchanged"):
    """Users, roles and policies were last changed by this version."""

    version: int

    def check(self, state: State) -> None:
        """Return when nobody has changed them since."""
        if state.access.version != self.version:
            self.conflict(
                f"users, roles and policies are as of version {self.version}", f"they are of {state.access.version}"
            )


Requirement = (
    DatasetAbsent
    | DatasetAt
    | DatasetUnchangedSchema
    | SameDataset
    | ContentAbsent
    | BucketAbsent
    | BucketEmpty
    | BucketUnchanged
    | SameBucket
    | BucketFits
    | BucketHolds
    | SegmentsUnchanged
    | NothingAppended
    | Kept
    | ViewAt
    | NameMeans
    | IndexAt
    | MigrationIs
    | AccessUnchanged
)
"""Everything that a commit can require."""
