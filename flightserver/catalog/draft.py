"""A snapshot in the making: what updates change.

Theory of operation: a draft copies the maps of a snapshot once (10,000 datasets: some 100 us) and then changes them
in place, transaction by transaction. A transaction either happens whole or not at all: an update that can't be
applied raises, and what its transaction had changed before is put back from `_undo`.

Invariants: applying the same updates at the same version and time to the same state gives the same state, on every
server and for ever. Values in the maps are immutable. A draft belongs to one thread.
"""

from __future__ import annotations

from datetime import datetime, timedelta  # msgspec resolves Outcome's annotations when it decodes
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flightserver.catalog.entities import Bucket, Dataset, DatasetKey, View
    from flightserver.catalog.identities import AccessState
    from flightserver.catalog.indexes import VectorIndex

OPERATIONS_KEPT = 10_000
"""How many operations are remembered: a bound on memory, far above what a ticket's lifetime sees in practice."""

OPERATIONS_KEPT_FOR = timedelta(hours=24)
"""How long operations are remembered, in commit time: longer than any ticket lives."""


class Outcome(msgspec.Struct, frozen=True):
    """What a committed operation did.

    Attributes:
        version: The commit that holds it.
        rows: How many rows it affected.
        time: The commit's time, UTC.
    """

    version: int
    rows: int
    time: datetime


class State(Protocol):
    """What a requirement looks at: a snapshot, or a draft."""

    @property
    def version(self) -> int:
        """Number of the commit that made this state."""

    @property
    def buckets(self) -> Mapping[str, Bucket]:
        """Buckets by name."""

    @property
    def datasets(self) -> Mapping[DatasetKey, Dataset]:
        """Datasets by bucket and name."""

    @property
    def views(self) -> Mapping[DatasetKey, View]:
        """Views by bucket and name."""

    @property
    def indexes(self) -> Mapping[DatasetKey, VectorIndex]:
        """Vector indexes by bucket and name."""

    @property
    def horizon(self) -> int:
        """Oldest version whose files are kept."""

    @property
    def access(self) -> AccessState:
        """Who may do what."""


class Frozen(State, Protocol):
    """A snapshot: what a draft starts from."""

    @property
    def buckets(self) -> MappingProxyType[str, Bucket]:
        """Buckets by name."""

    @property
    def datasets(self) -> MappingProxyType[DatasetKey, Dataset]:
        """Datasets by bucket and name."""

    @property
    def views(self) -> MappingProxyType[DatasetKey, View]:
        """Views by bucket and name."""

    @property
    def indexes(self) -> MappingProxyType[DatasetKey, VectorIndex]:
        """Vector indexes by bucket and name."""

    @property
    def operations(self) -> MappingProxyType[str, Outcome]:
        """Operations, oldest first."""


class Change(Protocol):
    """One update of a transaction, see `flightserver.catalog.updates`."""

    def apply(self, draft: Draft, version: int, time: datetime) -> None:
        """Change the draft."""


class Draft:
    """The state that version `version` is going to be.

    Args:
        version: Number of the commit being made or replayed.
        time: Its time.
        before: The version before.
    """

    def __init__(self, version: int, time: datetime, before: Frozen) -> None:
        self.version = version
        self.time = time
        # `copy` clones the hash table; `dict(...)` of a proxy would hash each key again, 30 times slower.
        self._buckets = before.buckets.copy()
        self._datasets = before.datasets.copy()
        self._views = before.views.copy()
        self._indexes = before.indexes.copy()
        self._operations = before.operations.copy()
        self.horizon = before.horizon
        self.access = before.access
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []
        self.buckets = MappingProxyType(self._buckets)
        self.datasets = MappingProxyType(self._datasets)
        self.views = MappingProxyType(self._views)
        self.indexes = MappingProxyType(self._indexes)
        self.operations = MappingProxyType(self._operations)
        self._forget_operations()

    def run(self, operation: str, rows: int, updates: Iterable[Change]) -> Outcome:
        """Apply the updates of one transaction, all or none, and remember its operation.

        Raises:
            RequestError: An update doesn't fit this state; the draft is as it was before.
        """
        self._undo.clear()
        horizon, access = self.horizon, self.access
        whole = False
        try:
            for update in updates:
                update.apply(self, self.version, self.time)
            whole = True
        finally:
            if not whole:
                self._put_back()
                self.horizon, self.access = horizon, access
        outcome = Outcome(self.version, rows, self.time)
        self._operations[operation] = outcome
        if len(self._operations) > OPERATIONS_KEPT:
            del self._operations[next(iter(self._operations))]
        return outcome

    def put_bucket(self, bucket: Bucket) -> None:
        """Add a bucket or replace the one of its name."""
        self._set(self._buckets, bucket.name, bucket)

    def drop_bucket(self, name: str) -> None:
        """Remove a bucket, but not its datasets."""
        self._set(self._buckets, name, None)

    def put_dataset(self, dataset: Dataset) -> None:
        """Add a dataset or replace the one of its bucket and name."""
        self._set(self._datasets, dataset.key, dataset)

    def drop_dataset(self, key: DatasetKey) -> None:
        """Remove a dataset."""
        self._set(self._datasets, key, None)

    def put_view(self, view: View) -> None:
        """Add a view or replace the one of its bucket and name."""
        self._set(self._views, view.key, view)

    def drop_view(self, key: DatasetKey) -> None:
        """Remove a view."""
        self._set(self._views, key, None)

    def put_index(self, index: VectorIndex) -> None:
        """Add an index or replace the one of its bucket and name."""
        self._set(self._indexes, index.key, index)

    def drop_index(self, key: DatasetKey) -> None:
        """Remove an index."""
        self._set(self._indexes, key, None)

    def _set(self, table: dict[Any, Any], key: object, value: object) -> None:
        self._undo.append((table, key, table.get(key)))
        _assign(table, key, value)

    def _put_back(self) -> None:
        while self._undo:
            _assign(*self._undo.pop())

    def _forget_operations(self) -> None:
        """Forget the operations that are too old; they are in order of time, so that the first to stay ends it."""
        oldest = self.time - OPERATIONS_KEPT_FOR
        forgotten = []
        for operation, outcome in self._operations.items():
            if outcome.time >= oldest:
                break
            forgotten.append(operation)
        for operation in forgotten:
            del self._operations[operation]


def _assign(table: dict[Any, Any], key: object, value: object) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
