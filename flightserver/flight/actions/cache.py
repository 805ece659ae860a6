"""Actions `cache.*`: datasets in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from flightserver.flight.actions.registry import Action, ActionRequest, ActionResponse, Progress, ServerRequest
from flightserver.flight.permissions import ADMIN
from flightserver.flight.scoping import dataset_of, scope_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.flight.middleware import CallContext
    from flightserver.lakehouse import Lakehouse
    from flightserver.query.holdings import CachedDataset


class PinRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `cache.pin`."""

    dataset: str


class EvictRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `cache.evict`: one dataset, or all when it is left out."""

    dataset: str | None = None


class StatsRequest(ServerRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `cache.stats`."""


class Held(msgspec.Struct, frozen=True):
    """One dataset in memory, and the version that its rows there are of."""

    dataset: str
    bucket: str
    version: int
    bytes: int
    hits: int
    pinned: bool


class CacheResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `cache.*`: bytes held, what holds them, and the limit."""

    bytes: int
    entries: list[Held]
    limit: int


class CacheActions:
    """Handlers that look at or change what is held in memory."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self._lakehouse = lakehouse
        self._cache = lakehouse.cache

    def actions(self) -> list[Action]:
        """The family."""
        return [
            Action(
                "cache.pin",
                "Hold a dataset in memory, and its later versions.",
                PinRequest,
                CacheResponse,
                ADMIN,
                self._pin,
            ),
            Action("cache.evict", "Let go of one or all.", EvictRequest, CacheResponse, ADMIN, self._evict),
            Action("cache.stats", "What is held in memory.", StatsRequest, CacheResponse, ADMIN, self._stats),
        ]

    def _pin(self, call: CallContext, request: PinRequest) -> Iterator[Progress | ActionResponse]:
        self._cache.pin(dataset_of(self._lakehouse.queries, call, request))
        yield self._response()

    def _evict(self, call: CallContext, request: EvictRequest) -> Iterator[Progress | ActionResponse]:
        if request.dataset is None:
            self._cache.evict_all()
        else:
            scope = scope_of(self._lakehouse.queries, call, request.bucket)
            self._cache.evict(scope.dataset(request.dataset, request.bucket))
        yield self._response()

    def _stats(self, _call: CallContext, _request: StatsRequest) -> Iterator[Progress | ActionResponse]:
        yield self._response()

    def _response(self) -> CacheResponse:
        entries = [_held(one) for one in self._cache.entries()]
        return CacheResponse(bytes=sum(one.bytes for one in entries), entries=entries, limit=self._cache.max_bytes)


def _held(one: CachedDataset) -> Held:
    return Held(one.key.name, one.key.bucket, one.rows.dataset.version, one.bytes, one.hits, one.pinned)
