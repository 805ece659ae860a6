"""The thread that refreshes vector indexes of which much is missing.

Theory of operation: searches compare with all rows that an index lacks, so an index is never wrong, only slow. Rows are
missing that were added since, or that compaction has written anew. From time to time the thread looks at all indexes,
and refreshes those that lack more rows than `refresh_ratio` of their dataset's, and more than a search compares without
noticing. What fails for a reason of its own, such as an index that is too large, isn't tried again before the dataset
changes. Several servers may do so on the same catalog: where two refresh the same index, one commit is refused, and its
server looks again and finds nothing left to do.

Only the thread touches `_hopeless`.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import FlightserverError, LimitExceeded, NotFound, RequestError
from flightserver.periodic import STOP_SECONDS, Periodic
from flightserver.telemetry import Trouble
from flightserver.vectors.searching import EXACT

if TYPE_CHECKING:
    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.indexes import VectorIndex
    from flightserver.settings import VectorSettings
    from flightserver.telemetry import Events
    from flightserver.vectors.service import Indexes

REFRESHED = "vector index refreshed"
"""Kind of the event of a refresh that the catalog has."""
FAILED = Trouble("vector index refresh failed")
"""Kind of the event of a refresh that met an error."""

_SPREAD = 0.25
"""Share of the interval by which looks are earlier or later, so that several servers seldom look at once."""


class AutoRefresh:
    """Refreshes indexes; `start` begins, `stop` ends it.

    Args:
        indexes: Does the work.
        catalog: Where indexes and datasets are known.
        settings: How often, and when.
        events: Told what the thread does.
    """

    def __init__(self, indexes: Indexes, catalog: Catalog, settings: VectorSettings, events: Events) -> None:
        self._indexes = indexes
        self._catalog = catalog
        self._settings = settings
        self._events = events
        self._hopeless: dict[str, int] = {}
        self._looks = Periodic("vector-refresh", self.look, settings.refresh_seconds, spread=_SPREAD)

    def start(self) -> None:
        """Start the thread, unless the settings say that there is none."""
        if self._settings.refresh_ratio > 0:
            self._looks.start()

    def stop(self) -> None:
        """End the thread; a refresh that runs is given up, and a bucket that hangs isn't waited for."""
        self._looks.stop(STOP_SECONDS)

    def look(self) -> None:
        """Refresh what is due, once."""
        snapshot = self._catalog.snapshot()
        datasets = {dataset.id: dataset for dataset in snapshot.datasets.values()}
        there = {index.id for index in snapshot.indexes.values()}
        self._hopeless = {index: version for index, version in self._hopeless.items() if index in there}
        for index in snapshot.indexes.values():
            dataset = datasets.get(index.dataset_id)
            if self._looks.stopped.is_set():
                return
            if dataset is not None and self._is_due(index, dataset):
                self._refresh(index, dataset)

    def _is_due(self, index: VectorIndex, dataset: Dataset) -> bool:
        if self._hopeless.get(index.id) == dataset.version:
            return False
        missing = index.missing_rows(dataset)
        return missing > EXACT and missing > self._settings.refresh_ratio * dataset.rows

    def _refresh(self, index: VectorIndex, dataset: Dataset) -> None:
        operation = Operation(new_ulid(), "refresh index", str(index.key))
        try:
            with closing(self._indexes.refresh(index.key, operation)) as steps:
                for _ in steps:
                    if self._looks.stopped.is_set():
                        return
        except NotFound:  # it was dropped meanwhile
            return
        except FlightserverError as error:
            if isinstance(error, RequestError | LimitExceeded):
                self._hopeless[index.id] = dataset.version
            self._events.record(FAILED, index.bucket, index=index.name, error=error.message, code=error.code)
            return
        self._events.record(REFRESHED, index.bucket, index=index.name)
