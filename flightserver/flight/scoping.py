"""What names mean to a call that is no statement."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from flightserver.catalog.entities import DatasetKey
from flightserver.errors import NotFound
from flightserver.query.request import Request

if TYPE_CHECKING:
    from datetime import datetime

    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.indexes import VectorIndex
    from flightserver.flight.middleware import CallContext
    from flightserver.query.namespace import Scope
    from flightserver.query.service import Queries


class OfIndex(Protocol):
    """A request that names a vector index, and may name its bucket."""

    @property
    def bucket(self) -> str | None:
        """Its bucket, or None."""

    @property
    def index(self) -> str:
        """Its name."""


class OfDataset(Protocol):
    """A request that names a dataset, and may name its bucket."""

    @property
    def bucket(self) -> str | None:
        """Its bucket, or None."""

    @property
    def dataset(self) -> str:
        """Its name."""


def scope_of(
    queries: Queries, call: CallContext, bucket: str | None = None, as_of: int | datetime | None = None
) -> Scope:
    """What names mean to a call.

    Args:
        queries: Knows it.
        call: With its session, header and rights.
        bucket: Wins over those of session and header.
        as_of: A version or time; None for now.

    Raises:
        NotFound: The bucket, schema or version doesn't exist for the caller.
    """
    asked = Request(sql="", bucket=bucket or call.bucket, schema=call.schema, as_of=as_of, rights=call.rights)
    return queries.scope(asked)


def dataset_of(queries: Queries, call: CallContext, request: OfDataset) -> Dataset:
    """The dataset that a request names.

    Raises:
        NotFound: There is none for the caller.
        InvalidRequest: It is a view, or in several buckets.
    """
    return scope_of(queries, call, request.bucket).dataset(request.dataset, request.bucket)


def renewed(queries: Queries, call: CallContext) -> CallContext:
    """A call with the rights that its caller has now, whatever other servers have changed until this moment."""
    rights = call.rights.at(queries.newest().access)
    return call if rights is call.rights else replace(call, rights=rights)


def index_of(queries: Queries, call: CallContext, request: OfIndex) -> tuple[VectorIndex, Dataset]:
    """As `index_in`, of what the newest version means to a call."""
    return index_in(scope_of(queries, call, request.bucket), call, request)


def index_in(scope: Scope, call: CallContext, request: OfIndex) -> tuple[VectorIndex, Dataset]:
    """The vector index that a request names, and the dataset that it is about.

    A bare name is looked up as that of a dataset: in the session's schema, in the bucket of session or header, in
    `primary`, and then in all buckets.

    Raises:
        NotFound: There is none for the caller, who sees no index of a dataset that is hidden.
        InvalidRequest: It is in several buckets.
    """
    snapshot = scope.snapshot
    looked_in = (call.schema, call.bucket) if request.bucket is None else ()
    bucket = next((one for one in looked_in if one and DatasetKey(one, request.index) in snapshot.indexes), None)
    found = snapshot.index(request.index, bucket if request.bucket is None else request.bucket)
    dataset = snapshot.dataset_of(found)
    if dataset is None:
        raise NotFound(f"the dataset of vector index {found.key} was dropped, and the index with it")
    return found, dataset
