"""A result that the server keeps, read by pages: any page, in any order, any number of times."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, overload

import pyarrow as pa
import pyarrow.flight as fl

from flightclient.commands import encode_object, page_ticket, renew_request
from flightclient.errors import NotFound, ProtocolError
from flightclient.results import PageFacts, decode_object, decode_result
from flightclient.translation import translated

if TYPE_CHECKING:
    from types import TracebackType

    from flightclient.connection import Connection


class PagedResult(Sequence["pa.Table"]):
    """A sequence of pages, each a `pyarrow.Table`; a context manager that frees the result.

    Methods may be called from any thread. The server keeps a result until `expires_at`, and forgets it earlier when
    many others are used; a page that is asked for then raises NotFound.

    Args:
        connection: Of the server that computed it.
        info: The FlightInfo of a command with `page_rows`.

    Raises:
        ProtocolError: The info describes no pages.

    Attributes:
        query_id: What the server calls it. Knowing it is the right to read the result.
        rows: How many there are.
        pages: How many there are; one empty page if there are no rows.
        page_rows: Rows of each page but the last.
        expires_at: Until when the server keeps it.
        schema: Of all pages.
    """

    def __init__(self, connection: Connection, info: Any) -> None:
        facts = decode_result(PageFacts, decode_object(info.app_metadata))
        if len(info.endpoints) != facts.pages:
            raise ProtocolError(f"expected {facts.pages} endpoints, one a page; the server sent {len(info.endpoints)}")
        self._connection = connection
        self._endpoints = info.endpoints
        self.schema: pa.Schema = info.schema
        self.query_id = facts.query_id
        self.rows = facts.rows
        self.pages = facts.pages
        self.page_rows = facts.page_rows
        self.expires_at = facts.expires_at

    def page(self, number: int, page_rows: int | None = None) -> pa.Table:
        """One page.

        Args:
            number: From 0.
            page_rows: Cut the result into pages of another size for this call.

        Raises:
            NotFound: The server has forgotten the result, or it has fewer pages.
        """
        if page_rows is not None:
            return self._connection.read_ticket(page_ticket(self.query_id, number, page_rows)).read_all()
        if not 0 <= number < self.pages:
            raise NotFound(f"page {number} was asked for; the result has {self.pages} pages, numbered from 0")
        return self._connection.read([self._endpoints[number].ticket], self.schema).read_all()

    @overload
    def __getitem__(self, index: int) -> pa.Table: ...
    @overload
    def __getitem__(self, index: slice) -> list[pa.Table]: ...
    def __getitem__(self, index: int | slice) -> pa.Table | list[pa.Table]:
        numbers = range(self.pages)[index]
        if isinstance(numbers, int):
            return self.page(numbers)
        return [self.page(number) for number in numbers]

    def __len__(self) -> int:
        return self.pages

    def renew(self) -> datetime:
        """Keep the result for longer; returns until when.

        Raises:
            NotFound: The server has forgotten it.
            ProtocolError: The answer is not an endpoint with a time.
        """
        body = renew_request(self._endpoints[0].serialize())
        for answer in self._connection.action("RenewFlightEndpoint", body):
            with translated():
                expires_at = fl.FlightEndpoint.deserialize(answer).expiration_time
            if expires_at is not None:
                self.expires_at = _as_datetime(expires_at)
                return self.expires_at
        raise ProtocolError("expected an endpoint that expires, the server answered none")

    def close(self) -> None:
        """Let the server forget the result; one that it has forgotten already is fine."""
        with suppress(NotFound):
            for _ in self._connection.action("result.close", encode_object({"query_id": self.query_id})):
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _as_datetime(time: pa.TimestampScalar) -> datetime:
    """Python's own UTC and microseconds: pyarrow's would want a database of time zones, and pandas for nanoseconds."""
    converted: datetime = time.cast(pa.timestamp("us"), safe=False).as_py()
    return converted.replace(tzinfo=UTC)
