"""Paged results: a FlightInfo with one endpoint per page, and the page that a ticket names.

Pages live where they were computed, so their tickets name the server. The ticket of a page may also be written by hand,
see `tickets.py`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.flight as fl

from flightserver.errors import NotFound
from flightserver.flight.tickets import PageTicket
from flightserver.query.wire import sliced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from flightserver.access.rights import Rights
    from flightserver.flight.tickets import Signer
    from flightserver.query.results import ResultStore, StoredResult

MAX_PAGES = 20_000
"""Endpoints of one FlightInfo: about 200 bytes each, and clients refuse messages beyond 4 to 16 MiB."""


def facts(stored: StoredResult) -> dict[str, Any]:
    """What a client is told of a stored result, as `app_metadata` and by the action `result.create`."""
    return {
        "query_id": stored.query_id,
        "rows": stored.rows,
        "pages": stored.pages,
        "page_rows": stored.page_rows,
        "expires_at": stored.expires_at,
    }


class Paging:
    """Describes and reads pages.

    Args:
        results: The store.
        signer: Signs the tickets of pages.
        server: Name of this server, for readers that ask another one.
        ticket_seconds: How long tickets are good for; the store decides how long results are.
    """

    def __init__(self, results: ResultStore, signer: Signer, server: str, ticket_seconds: int) -> None:
        self._results = results
        self._signer = signer
        self._server = server
        self._ticket_seconds = ticket_seconds

    def info(self, stored: StoredResult, descriptor: Any) -> fl.FlightInfo:
        """The FlightInfo of a stored result: one endpoint per page, in order."""
        expires_at = int(time.time()) + self._ticket_seconds
        kept_until = pa.scalar(stored.expires_at, pa.timestamp("us", tz="UTC"))
        endpoints = [
            fl.FlightEndpoint(fl.Ticket(self._ticket(stored, page, expires_at)), [], kept_until)
            for page in range(stored.pages)
        ]
        return fl.FlightInfo(
            stored.schema,
            descriptor,
            endpoints,
            stored.rows,
            stored.bytes,
            ordered=True,
            app_metadata=msgspec.json.encode(facts(stored)),
        )

    def _ticket(self, stored: StoredResult, page: int, expires_at: int) -> bytes:
        return self._signer.sign(PageTicket(stored.query_id, page, stored.page_rows, self._server, expires_at))

    def read(self, ticket: PageTicket, rights: Rights) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The rows of one page, straight from the mapped file.

        Raises:
            NotFound: The result is not kept any more, has fewer pages, or lives on another server; says which.
        """
        if ticket.server and ticket.server != self._server:
            raise NotFound(
                f"this page lives on server {ticket.server!r}, where it was computed, and this is {self._server!r}: "
                "ask there, or run the statement again here"
            )
        self._results.check_reader(ticket.query_id, rights)
        schema, batches = self._results.page(ticket.query_id, ticket.page, ticket.page_rows)
        return schema, (piece for batch in batches for piece in sliced(batch))

    def renew(self, ticket: PageTicket, rights: Rights) -> datetime:
        """Keep the page's result for longer; returns until when.

        Raises:
            NotFound: The result is not kept any more.
        """
        self._results.check_reader(ticket.query_id, rights)
        return self._results.renew(ticket.query_id)

    def close(self, ticket: PageTicket, rights: Rights) -> None:
        """Forget the page's result.

        Raises:
            NotFound: The result is not kept any more.
        """
        self._results.check_reader(ticket.query_id, rights)
        self._results.close(ticket.query_id)
