"""Calls of Arrow Flight with our errors, headers and types; everything else in the package goes through it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl

from flightclient.errors import InvalidRequest
from flightclient.streams import Stream
from flightclient.translation import translated

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUCKET_HEADER = b"x-lakehouse-bucket"


class Connection:
    """One gRPC channel. Methods may be called from any thread.

    Args:
        uri: Address of the server, such as `grpc://127.0.0.1:31337`.
        token: Sent as bearer token with each call.
        bucket: Sent with each call: where writes go, and where unqualified names are looked up first.

    Raises:
        InvalidRequest: The address can't be read. Whether a server answers there shows in the first call.
    """

    def __init__(self, uri: str, token: str | None, bucket: str | None) -> None:
        headers = []
        if token:
            headers.append((b"authorization", b"Bearer " + token.encode()))
        if bucket:
            headers.append((_BUCKET_HEADER, bucket.encode()))
        self._options = fl.FlightCallOptions(headers=headers)
        try:
            self._client = fl.connect(uri)
        except pa.ArrowException:
            raise InvalidRequest(f"{uri!r} is not an address such as 'grpc://127.0.0.1:31337'") from None

    def close(self) -> None:
        """Close the channel; may be repeated."""
        with translated():
            self._client.close()

    def info(self, command: bytes) -> Any:
        """The `pyarrow.flight.FlightInfo` of a command."""
        with translated():
            return self._client.get_flight_info(fl.FlightDescriptor.for_command(command), self._options)

    def flights(self) -> Iterator[Any]:
        """The `pyarrow.flight.FlightInfo` of every table."""
        with translated():
            yield from self._client.list_flights(options=self._options)

    def read(self, tickets: list[Any], schema: pa.Schema) -> Stream:
        """The rows of one or more tickets, one after the other."""
        return Stream(schema, (partial(self._get, ticket) for ticket in tickets))

    def read_ticket(self, ticket: bytes) -> Stream:
        """The rows of one ticket whose schema is not known before."""
        with translated():
            reader = self._get(fl.Ticket(ticket))
            return Stream(reader.schema, [lambda: reader])

    def put(self, command: bytes, schema: pa.Schema) -> tuple[Any, Any]:
        """Begins a DoPut: its `FlightStreamWriter` and `FlightMetadataReader`, whose errors the caller translates."""
        return self._client.do_put(fl.FlightDescriptor.for_command(command), schema, self._options)  # type: ignore[no-any-return]  # pyarrow has no types

    def action(self, kind: str, body: bytes) -> Iterator[bytes]:
        """The answers of an action, as they come."""
        with translated():
            for result in self._client.do_action(fl.Action(kind, body), self._options):
                yield result.body.to_pybytes()

    def _get(self, ticket: Any) -> Any:
        return self._client.do_get(ticket, self._options)
