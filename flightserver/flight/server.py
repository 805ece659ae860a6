"""The seven RPCs. Each gets the call's context, asks the part that knows, and lets `status.py` translate what fails."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.flight as fl

from flightserver.errors import BackendUnavailable, InvalidRequest
from flightserver.flight.calls import Answers, SentStream
from flightserver.flight.middleware import (
    MIDDLEWARE,
    CallMiddlewareFactory,
    OpenHandshake,
    call_context,
    call_in_flight,
)
from flightserver.flight.permissions import PROTOCOL_ACTIONS, RPCS
from flightserver.flight.sql.decoding import ACTION_DESCRIPTIONS, decode_action
from flightserver.flight.status import translated, translated_batches
from flightserver.flight.streams import held_batches, sent_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flightserver.errors import Sees
    from flightserver.flight.certificates import Certificates
    from flightserver.flight.middleware import CallContext
    from flightserver.flight.service import Service
    from flightserver.flight.status import Sight

_T = TypeVar("_T")

_LONGEST_NAME = 200
"""Characters of an action's name that are noted."""


def _answering(rpc: str) -> Callable[[Callable[..., _T]], Callable[..., _T]]:
    """A handler of this RPC: what it raises becomes what gRPC sends, and tells who calls no more than they may see."""

    def decorate(handler: Callable[..., _T]) -> Callable[..., _T]:
        @wraps(handler)
        def answer(server: FlightServer, context: Any, *asked: Any) -> _T:
            with translated(rpc, lambda: server.sees(context)):
                return handler(server, context, *asked)

        return answer

    return decorate


class FlightServer(fl.FlightServerBase):
    """Serves a lakehouse; listens as soon as it is made.

    Args:
        service: What answers; it outlives the server.
        host: Address to listen on.
        port: Port, or 0 for a free one; see `port` afterwards.
        certificates: For TLS; None to listen without it. With authorities of clients, a Handshake is UNIMPLEMENTED:
            pyarrow tells whom a client's certificate names only where nobody else handles authentication.
    """

    def __init__(self, service: Service, host: str, port: int, certificates: Certificates | None = None) -> None:
        self._service = service
        scheme = "grpc" if certificates is None else "grpc+tls"
        options = {} if certificates is None else _tls_options(certificates)
        client_ca = None if certificates is None else certificates.client_ca
        try:
            super().__init__(
                f"{scheme}://{host}:{port}",
                auth_handler=OpenHandshake() if client_ca is None else None,
                middleware={MIDDLEWARE: _factory(service, has_certificates=client_ca is not None)},
                **options,
            )
        except (OSError, pa.ArrowException) as error:
            raise BackendUnavailable(f"can't listen on {host} port {port}: it is in use or not ours") from error
        self.uri = f"{scheme}://{host}:{self.port}"

    @_answering("ListFlights")
    def list_flights(self, context: Any, criteria: bytes) -> Iterator[fl.FlightInfo]:  # noqa: ARG002  # pyarrow's signature
        """Every dataset as a flight; criteria have no meaning here."""
        call = _allowed(context, "list_flights")
        flights = self._service.reading.flights(call)
        return translated_batches(map(self._service.advertising.located, flights), "ListFlights", self._sight(call))

    @_answering("GetFlightInfo")
    def get_flight_info(self, context: Any, descriptor: Any) -> fl.FlightInfo:
        """What a descriptor answers, and the tickets that fetch it."""
        call = replace(_allowed(context, "get_flight_info"), is_cancelled=context.is_cancelled)
        self._check_size(descriptor)
        return self._service.advertising.located(self._service.reading.info(call, descriptor))

    @_answering("GetSchema")
    def get_schema(self, context: Any, descriptor: Any) -> fl.SchemaResult:
        """The schema of what a descriptor answers."""
        call = _allowed(context, "get_schema")
        self._check_size(descriptor)
        return fl.SchemaResult(self._service.reading.schema(call, descriptor))

    @_answering("DoGet")
    def do_get(self, context: Any, ticket: Any) -> fl.FlightDataStream:
        """The stream that a ticket names."""
        call = _allowed(context, "do_get")
        in_flight = call_in_flight(context)
        schema, batches = self._service.reading.stream(call, ticket.ticket, context.is_cancelled)
        return fl.GeneratorStream(schema, in_flight.paced(translated_batches(batches, "DoGet", self._sight(call))))

    @_answering("DoPut")
    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Takes rows, bound values, uploads, or a statement that changes data."""
        call = _allowed(context, "do_put")
        self._check_size(descriptor)
        sent = SentStream(reader, call_in_flight(context), context.is_cancelled)
        self._service.writing.put(call, descriptor, sent, Answers(writer), context.is_cancelled)

    @_answering("DoExchange")
    def do_exchange(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Runs SQL against the rows sent, as table `input`, and sends the result back."""
        call = _allowed(context, "do_exchange")
        self._check_size(descriptor)
        self._service.reading.check_bucket(call)
        in_flight = call_in_flight(context)
        sent = SentStream(reader, in_flight, context.is_cancelled)
        given = (sent_schema(sent), held_batches(sent, self._service.input_bytes))
        schema, batches = self._service.reading.exchange(call, descriptor, given, context.is_cancelled)
        # A client that goes away must not leave the statement to the garbage collector.
        with closing(batches):
            answers = Answers(writer)
            answers.begin(schema)
            for batch in in_flight.paced(batches):
                answers.write_batch(batch)

    @_answering("DoAction")
    def do_action(self, context: Any, action: Any) -> Iterator[fl.Result]:
        """Runs an action of the protocol or of ours."""
        call = replace(_allowed(context, "do_action"), is_cancelled=context.is_cancelled)
        call.note.what = action.type[:_LONGEST_NAME]
        body = action.body.to_pybytes()
        if len(body) > self._service.limits.request_bytes:
            raise InvalidRequest(
                f"the body has {len(body):,} bytes; at most {self._service.limits.request_bytes:,} are read"
            )
        request = decode_action(action.type, body)
        if request is not None:
            PROTOCOL_ACTIONS[type(request)].check(call, action.type, request)
            answer = self._service.protocol.run(context, request)
            return iter([] if answer is None else [fl.Result(answer)])
        wanted = self._service.registry.get(action.type)
        call = self._service.renewed(call)
        if wanted.is_in_bucket:
            self._service.reading.check_bucket(call)
        results = (fl.Result(answer) for answer in wanted.run(call, body))
        return translated_batches(results, "DoAction", self._sight(call))

    @_answering("ListActions")
    def list_actions(self, context: Any) -> list[tuple[str, str]]:
        """Every action with its description and JSON schemas."""
        _allowed(context, "list_actions")
        ours = [(action.name, action.description()) for action in self._service.registry]
        return [*ACTION_DESCRIPTIONS.items(), *ours]

    def sees(self, context: Any) -> Sees:
        """What who calls may be told of.

        Raises:
            Unauthenticated: Nobody knows who it is.
        """
        return self._sight(call_context(context))()

    def _sight(self, call: CallContext) -> Sight:
        """Finds what a caller may be told of, by the rights of the moment when it is told."""
        return lambda: self._service.sees(call)

    def _check_size(self, descriptor: Any) -> None:
        size = len(descriptor.command or b"") + sum(len(part) for part in descriptor.path or [])
        if size > self._service.limits.request_bytes:
            raise InvalidRequest(
                f"the descriptor has {size:,} bytes; at most {self._service.limits.request_bytes:,} are read"
            )


def _factory(service: Service, *, has_certificates: bool) -> CallMiddlewareFactory:
    return CallMiddlewareFactory(
        service.sessions, service.completed, service.calls, service.callers, has_certificates=has_certificates
    )


def _allowed(context: Any, rpc: str) -> CallContext:
    """Who calls, if they may call this at all."""
    call = call_context(context)
    RPCS[rpc].check(call, rpc, None)
    return call


def _tls_options(certificates: Certificates) -> dict[str, Any]:
    return {
        "tls_certificates": [(certificates.certificate, certificates.key)],
        "verify_client": certificates.client_ca is not None,
        "root_certificates": certificates.client_ca,
    }
