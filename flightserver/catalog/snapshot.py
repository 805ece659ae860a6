"""The catalog at one version: immutable, shared by everybody who reads that version.

Invariants: nothing reachable from a snapshot ever changes, so that threads share it without locks. Applying the same
commits in order gives an equal snapshot on every server.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from flightserver.catalog.draft import Draft, Outcome
from flightserver.catalog.entities import PRIMARY, Bucket, Dataset, DatasetKey, View
from flightserver.catalog.identities import AccessState
from flightserver.catalog.missing import no_bucket, no_dataset
from flightserver.catalog.quoting import identifier
from flightserver.errors import InternalError, InvalidRequest, NotFound, RequestError, sees_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flightserver.catalog.indexes import VectorIndex
    from flightserver.catalog.log import Commit
    from flightserver.errors import Hint, Sees

__all__ = ["Outcome", "Snapshot"]

_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)

_SUGGESTIONS = 3
"""Near matches that a message names: what difflib and most compilers give."""

_LISTED = 10
"""Indexes that a message names."""

_COMPARED = 2_000
"""Names compared to find near matches; comparing one takes some 10 us."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The catalog at one version.

    Attributes:
        version: Number of the newest commit in it; 0 before the first.
        time: Time of that commit, UTC.
        buckets: By name.
        datasets: By bucket and name.
        operations: What became of the operations of the last 24 hours, oldest first, at most 10,000.
        views: By bucket and name.
        horizon: Oldest version that can be read; files that only older ones name may be gone.
        access: Who may do what.
        indexes: Vector indexes by bucket and name.
    """

    version: int = 0
    time: datetime = _BEFORE_ALL
    buckets: MappingProxyType[str, Bucket] = field(default_factory=lambda: MappingProxyType({}))
    datasets: MappingProxyType[DatasetKey, Dataset] = field(default_factory=lambda: MappingProxyType({}))
    operations: MappingProxyType[str, Outcome] = field(default_factory=lambda: MappingProxyType({}))
    views: MappingProxyType[DatasetKey, View] = field(default_factory=lambda: MappingProxyType({}))
    horizon: int = 1
    access: AccessState = field(default_factory=AccessState)
    indexes: MappingProxyType[DatasetKey, VectorIndex] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, draft: Draft) -> Self:
        """Freeze a draft, which must not be changed any more."""
        return cls(
            draft.version,
            draft.time,
            draft.buckets,
            draft.datasets,
            draft.operations,
            draft.views,
            draft.horizon,
            draft.access,
            draft.indexes,
        )

    def draft(self, time: datetime) -> Draft:
        """Start the next version."""
        return Draft(self.version + 1, time, self)

    def apply(self, commit: Commit) -> Snapshot:
        """Return the snapshot after the next commit.

        Raises:
            InternalError: The commit isn't the next one, or doesn't fit: the log is damaged.
        """
        if commit.version != self.version + 1:
            msg = f"commit {commit.version} can't follow version {self.version} of the catalog"
            raise InternalError(msg)
        draft = self.draft(commit.time)
        try:
            for transaction in commit.transactions:
                draft.run(transaction.operation.id, transaction.operation.rows, transaction.updates)
        except RequestError as error:
            msg = f"commit {commit.version} of the catalog doesn't fit the commits before it: {error}"
            raise InternalError(msg) from error
        return Snapshot.of(draft)

    def bucket(self, name: str) -> Bucket:
        """Find a bucket by the name that it has now.

        Raises:
            NotFound: There is none; the message lists those that there are.
        """
        found = self.buckets.get(name)
        if found is None:
            raise no_bucket(name, self.buckets)
        return found

    def dataset(self, name: str, bucket: str | None = None) -> Dataset:
        """Find a dataset by name.

        Args:
            name: Its name, exactly.
            bucket: Its bucket. None means `primary` if that has it, else the only bucket that does.

        Raises:
            NotFound: There is none; the message names similar ones.
            InvalidRequest: Several buckets other than `primary` have it; the message names them. Or it is a view.
        """
        found = self.relation(name, bucket)
        if isinstance(found, View):
            msg = f"{found.key} is a view, which has no rows of its own: change the tables that it reads"
            raise InvalidRequest(msg)
        return found

    def relation(self, name: str, bucket: str | None = None) -> Dataset | View:
        """As `dataset`, for datasets and views, which share their names."""
        if bucket is not None:
            found = self._named(DatasetKey(bucket, name))
            if found is None:
                raise self._not_found(name, bucket)
            return found
        found = self._named(DatasetKey(PRIMARY, name))
        if found is not None:
            return found
        candidates = [DatasetKey(each, name) for each in self.buckets]
        there = [one for one in map(self._named, candidates) if one is not None]
        if not there:
            raise self._not_found(name, None)
        if len(there) > 1:
            raise InvalidRequest(f"dataset {name!r} is in several buckets: say which of ", _candidates(there))
        return there[0]

    def index(self, name: str, bucket: str | None = None) -> VectorIndex:
        """Find a vector index by name; which bucket None means is as of `dataset`.

        Raises:
            NotFound: There is none; the message names those that there are.
            InvalidRequest: Several buckets other than `primary` have it; the message names them.
        """
        keys = [DatasetKey(PRIMARY, name), *(DatasetKey(each, name) for each in self.buckets)]
        found = [
            self.indexes[key] for key in dict.fromkeys(keys) if key in self.indexes and bucket in {None, key.bucket}
        ]
        if not found:
            if bucket is not None and bucket not in self.buckets:
                raise no_bucket(bucket, self.buckets)
            where = "" if bucket is None else f" in bucket {bucket!r}"
            raise NotFound(f"there is no vector index {name!r}{where}; there are: ", self._indexes_listed)
        if len(found) > 1 and found[0].bucket != PRIMARY:
            raise InvalidRequest(
                f"vector index {name!r} is in several buckets: say which of ", self._indexes_among(found)
            )
        return found[0]

    def dataset_of(self, index: VectorIndex) -> Dataset | None:
        """The dataset that an index is about; None when it isn't in this snapshot."""
        return next((one for one in self.datasets.values() if one.id == index.dataset_id), None)

    def _named(self, key: DatasetKey) -> Dataset | View | None:
        return self.datasets.get(key) or self.views.get(key)

    def _indexes_listed(self, sees: Sees) -> str:
        """Those of the datasets that somebody sees."""
        there = self._seen(self.indexes.values(), sees)
        more = f" and {len(there) - _LISTED} more" if there[_LISTED:] else ""
        return f"{', '.join(there[:_LISTED]) or 'none'}{more}"

    def _indexes_among(self, found: Sequence[VectorIndex]) -> Hint:
        """Where an index is that several buckets have."""
        return lambda sees: ", ".join(self._seen(found, sees)) or "them"

    def _seen(self, indexes: Iterable[VectorIndex], sees: Sees) -> list[str]:
        """Those of some indexes whose datasets somebody sees: an index may be seen by who sees what it is about."""
        seen = {one.id for key, one in self.datasets.items() if sees(*key)}
        return sorted(str(one.key) for one in indexes if one.dataset_id in seen)

    def _not_found(self, name: str, bucket: str | None) -> NotFound:
        if bucket is not None and bucket not in self.buckets:
            return no_bucket(bucket, self.buckets)

        def hint(sees: Sees) -> str:
            near = self.similar(name, bucket, sees)
            return f"; similar: {', '.join(near)}" if near else ""

        where = "" if bucket is None else f" in bucket {bucket!r}"
        missing = name if bucket is None else DatasetKey(bucket, name)
        return no_dataset(missing, f"there is no dataset {name!r}{where}", hint)

    def similar(self, name: str, bucket: str | None, sees: Sees = sees_all) -> list[str]:
        """Names a slip away, as SQL writes them: in another case, spelt almost so, or the same in another bucket.

        Args:
            name: What was asked for.
            bucket: Where; None for a bare name.
            sees: Of whoever is told.
        """
        folded: dict[str, list[str]] = {}
        for key in (*self.datasets, *self.views):
            if (bucket is None or key.bucket == bucket or key.name == name) and sees(*key):
                shown = identifier(key.name) if key.bucket == (bucket or PRIMARY) else str(key)
                folded.setdefault(key.name.casefold(), []).append(shown)
        wanted = name.casefold()
        same = folded.get(wanted, [])
        alike = [each for each in folded if abs(len(each) - len(wanted)) <= len(wanted) // 3 and each != wanted]
        near = difflib.get_close_matches(wanted, alike[:_COMPARED], n=_SUGGESTIONS)
        return [*same, *(shown for each in near for shown in folded[each])][:_SUGGESTIONS]


def _candidates(found: Sequence[Dataset | View]) -> Hint:
    """Where something is that several buckets have."""

    def listed(sees: Sees) -> str:
        return ", ".join(sorted(str(one.key) for one in found if sees(*one.key))) or "them"

    return listed
