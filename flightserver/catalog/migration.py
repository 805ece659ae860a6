"""Old references to `primary`, and the commit that mends them.

Theory of operation: before buckets had names, the only one was written as nothing, as `data` or as `local`
(`OLD_PRIMARY`). Datasets, views, segments and deltas may still say so, and the catalog may have a bucket of such a name
that is a local one without a directory of its own: the files of all of these lie in `primary`. A bucket that was given
one of these names and a directory of its own, or that is on S3, is a bucket like any other.

A migration is planned on a snapshot and committed with the requirement that its plan is still the same
(`flightserver.catalog.requirements.MigrationIs`), so that nothing that is written meanwhile is left out. Where
two entries get the same name, that with the newest version stays and the others are dropped; of equal ones that of
`primary` stays. Vector indexes in a bucket that is forgotten come along in the same way. What the text of a view says
isn't changed.

Invariant: after a migration the plan is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.entities import LOCAL, OLD_PRIMARY, PRIMARY, Bucket, Dataset, DatasetKey, View
from flightserver.catalog.index_updates import drop_indexes_of
from flightserver.catalog.update_base import BaseUpdate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flightserver.catalog.draft import Draft, State
    from flightserver.catalog.indexes import VectorIndex


class MigrateBuckets(BaseUpdate, frozen=True, tag="migrate_buckets"):
    """Make references of old kinds say `primary`. Objects aren't touched: they lie there already.

    Attributes:
        moved: Datasets and views, as they were called, that refer to `primary` by an old name.
        dropped: Those whose name a newer one has.
        buckets: Buckets that are another name of `primary`, and are forgotten.
        names: The old names that mean `primary`.
    """

    moved: tuple[DatasetKey, ...] = ()
    dropped: tuple[DatasetKey, ...] = ()
    buckets: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def apply(self, draft: Draft, version: int, time: datetime) -> None:  # noqa: ARG002  # not needed here
        """Drop what is dropped, then move what is moved; what isn't there is passed over."""
        old = frozenset(self.names)
        drop_indexes_of(draft, [draft.datasets[key].id for key in self.dropped if key in draft.datasets])
        for key in self.dropped:
            draft.drop_dataset(key)
            draft.drop_view(key)
        for key in self.moved:
            dataset, view = draft.datasets.get(key), draft.views.get(key)
            if dataset is not None:
                draft.drop_dataset(key)
                draft.put_dataset(_mended_dataset(dataset, old, version))
            if view is not None:
                draft.drop_view(key)
                draft.put_view(_mended_view(view, old, version))
        for index in sorted(draft.indexes.values(), key=_age):
            if index.bucket in old:
                draft.drop_index(index.key)
                mended = _mended_index(index, old, version)
                other = draft.indexes.get(mended.key)
                if other is None or _age(index) < _age(other):
                    draft.put_index(mended)
        for name in self.buckets:
            draft.drop_bucket(name)

    def touches(self, key: DatasetKey) -> bool:
        """Whether it is a dataset before or after, or one that is dropped."""
        return key in self.dropped or key in self.moved or self.key_before(key) != key

    def key_before(self, key: DatasetKey) -> DatasetKey:
        """What the dataset that is called `key` afterwards was called before."""
        if key.bucket != PRIMARY:
            return key
        return next((each for each in self.moved if each.name == key.name), key)

    def key_after(self, key: DatasetKey) -> DatasetKey:
        """What the dataset that was called `key` is called afterwards."""
        return DatasetKey(PRIMARY, key.name) if key in self.moved else key


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A name that several entries would have.

    Attributes:
        kept: The newest.
        dropped: The others.
    """

    kept: DatasetKey
    dropped: tuple[DatasetKey, ...]


@dataclass(frozen=True, slots=True)
class Migration:
    """What a migration would do.

    Attributes:
        update: The change.
        duplicates: Names that several entries would have.
        unchanged: How many datasets and views refer to `primary` as they should.
    """

    update: MigrateBuckets
    duplicates: tuple[Duplicate, ...]
    unchanged: int

    @property
    def needed(self) -> bool:
        """Whether it would change anything."""
        return bool(self.update.moved or self.update.dropped or self.update.buckets)


def home(buckets: Mapping[str, Bucket], name: str) -> str:
    """The bucket where what refers to `name` lies: itself, the one that had the name before, or `primary`."""
    found = buckets.get(name)
    if found is not None and not _is_other_name(found):
        return name
    if found is None:
        renamed = next((one.name for one in buckets.values() if name in one.former), None)
        if renamed is not None:
            return renamed
    return PRIMARY if name in OLD_PRIMARY else name


def plan_migration(state: State) -> Migration:
    """What is to be mended in a state of the catalog."""
    aliases = {name for name in OLD_PRIMARY if home(state.buckets, name) == PRIMARY}
    named: dict[str, list[Dataset | View]] = {}
    entries: Iterable[Dataset | View] = (*state.datasets.values(), *state.views.values())
    for one in entries:
        if one.bucket == PRIMARY or one.bucket in aliases:
            named.setdefault(one.name, []).append(one)
    moved: list[DatasetKey] = []
    dropped: list[DatasetKey] = []
    duplicates: list[Duplicate] = []
    unchanged = 0
    for _, same in sorted(named.items()):
        kept, *others = sorted(same, key=_age)
        if others:
            duplicates.append(Duplicate(kept.key, tuple(one.key for one in others)))
            dropped += [one.key for one in others]
        if kept.bucket in aliases or _refers(kept, aliases):
            moved.append(kept.key)
        else:
            unchanged += 1
    forgotten = tuple(sorted(aliases & state.buckets.keys()))
    update = MigrateBuckets(tuple(sorted(moved)), tuple(dropped), forgotten, tuple(sorted(aliases)))
    return Migration(update, tuple(duplicates), unchanged)


def _is_other_name(bucket: Bucket) -> bool:
    """Whether a bucket that the catalog has is another name of `primary`."""
    return bucket.name in OLD_PRIMARY and bucket.backend == LOCAL and not bucket.root and bucket.s3 is None


def _refers(one: Dataset | View, aliases: set[str]) -> bool:
    """Whether something inside an entry refers to `primary` by an old name."""
    if isinstance(one, View):
        named = {one.default_bucket, one.default_schema, *(str(each.means.bucket) for each in one.meanings)}
        return not aliases.isdisjoint(named)
    places = {segment.bucket for segment in one.segments} | {delta.bucket for delta in one.deltas}
    return not places.isdisjoint(aliases)


def _age(one: Dataset | View | VectorIndex) -> tuple[int, bool, str]:
    return -one.version, one.bucket != PRIMARY, one.bucket


def _mended_dataset(dataset: Dataset, old: frozenset[str], version: int) -> Dataset:
    segments = tuple(replace(each, bucket=_mended(each.bucket, old)) for each in dataset.segments)
    deltas = tuple(replace(each, bucket=_mended(each.bucket, old)) for each in dataset.deltas)
    return replace(dataset, bucket=_mended(dataset.bucket, old), segments=segments, deltas=deltas, version=version)


def _mended_view(view: View, old: frozenset[str], version: int) -> View:
    bucket = None if view.default_bucket is None else _mended(view.default_bucket, old)
    schema = _mended(view.default_schema, old)
    meanings = tuple(
        replace(one, means=DatasetKey(_mended(one.means.bucket, old), one.means.name)) for one in view.meanings
    )
    return replace(
        view,
        bucket=_mended(view.bucket, old),
        default_bucket=bucket,
        default_schema=schema,
        version=version,
        meanings=meanings,
    )


def _mended_index(index: VectorIndex, old: frozenset[str], version: int) -> VectorIndex:
    generation = replace(index.generation, bucket=_mended(index.generation.bucket, old))
    return replace(index, bucket=_mended(index.bucket, old), generation=generation, version=version)


def _mended(bucket: str, old: frozenset[str]) -> str:
    return PRIMARY if bucket in old else bucket
