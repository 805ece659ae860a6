"""What names mean to a call that is no statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flightserver.query.request import Request

if TYPE_CHECKING:
    from datetime import datetime

    from flightserver.catalog.entities import Dataset
    from flightserver.flight.middleware import CallContext
    from flightserver.query.namespace import Scope
    from flightserver.query.service import Queries


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
