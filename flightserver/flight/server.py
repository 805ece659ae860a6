"""The seven RPCs. Each gets the call's context, asks the part that knows, and lets `status.py` translate what fails."""

from __future__ import annotations

import re
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl

from flightserver.errors import BackendUnavailable, InvalidRequest
from flightserver.flight.actions.bucket_objects import BucketObjectActions
from flightserver.flight.actions.buckets import BucketActions
from flightserver.flight.actions.cache import CacheActions
from flightserver.flight.actions.catalog import catalog_actions
from flightserver.flight.actions.changes import ChangeActions
from flightserver.flight.actions.datasets import DatasetActions
from flightserver.flight.actions.ingest import ingest_actions
from flightserver.flight.actions.interop import InteropActions
from flightserver.flight.actions.maintenance import MaintenanceActions
from flightserver.flight.actions.moving import MovingActions
from flightserver.flight.actions.registry import Registry
from flightserver.flight.actions.results import result_actions
from flightserver.flight.actions.versions import VersionActions
from flightserver.flight.middleware import MIDDLEWARE, CallMiddlewareFactory, OpenHandshake, call_context
from flightserver.flight.paging import Paging
from flightserver.flight.reading import Reading
from flightserver.flight.sql.answers import Answers
from flightserver.flight.sql.commands import Commands
from flightserver.flight.sql.decoding import ACTION_DESCRIPTIONS, decode_action
from flightserver.flight.sql.prepared import PreparedStatements
from flightserver.flight.sql.protocol_actions import ProtocolActions
from flightserver.flight.sql.sessions import Sessions
from flightserver.flight.sql.statements import TICKET_SECONDS, Statements
from flightserver.flight.status import translated, translated_batches
from flightserver.flight.streams import held_batches, sent_schema
from flightserver.flight.tickets import Signer, load_or_create_key
from flightserver.flight.writing import Writing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.flight.middleware import CallContext
    from flightserver.lakehouse import Lakehouse


_CODE = re.compile(r"\[(FS-\d{4})\]")
"""The stable code in the message of an error that pyarrow has sent."""


class FlightServer(fl.FlightServerBase):
    """Serves a lakehouse; listens as soon as it is made.

    Args:
        lakehouse: What is served; the caller closes it after the server has stopped.
        host: Address to listen on.
        port: Port, or 0 for a free one; see `port` afterwards.
    """

    def __init__(self, lakehouse: Lakehouse, host: str, port: int) -> None:
        settings = lakehouse.settings
        self._limits = settings.server
        self._metrics = lakehouse.metrics
        self._input_bytes = settings.query.memory_bytes // 4
        sessions = Sessions(idle_seconds=settings.server.session_idle_seconds)
        signer = Signer(load_or_create_key(settings.server.data / "server" / "ticket.key"))
        paging = Paging(lakehouse.results, signer, lakehouse.server_name, TICKET_SECONDS)
        transactions = lakehouse.transactions
        statements = Statements(lakehouse.queries, signer, paging, transactions)
        prepared = PreparedStatements()
        commands = Commands(statements, prepared, Answers(lakehouse.queries, lakehouse.information_schema), signer)
        self._reading = Reading(lakehouse.queries, statements, commands, paging, signer, lakehouse.diffs)
        self._writing = Writing(
            statements,
            prepared,
            lakehouse.ingest,
            lakehouse.uploads,
            lakehouse.metrics,
            lakehouse.streams,
            transactions,
        )
        self._protocol = ProtocolActions(statements, prepared, sessions, paging, signer, transactions)
        self._registry = Registry(
            [
                *ingest_actions(lakehouse.ingest, lakehouse.metrics),
                *result_actions(lakehouse.queries, statements, lakehouse.results, settings.results.page_rows),
                *BucketActions(lakehouse).actions(),
                *DatasetActions(lakehouse).actions(),
                *CacheActions(lakehouse).actions(),
                *ChangeActions(lakehouse).actions(),
                *InteropActions(lakehouse, lakehouse.external, lakehouse.exports).actions(),
                *VersionActions(lakehouse).actions(),
                *MaintenanceActions(lakehouse).actions(),
                *MovingActions(lakehouse).actions(),
                *BucketObjectActions(lakehouse).actions(),
                *catalog_actions(lakehouse.catalog, lakehouse.events),
            ]
        )
        try:
            super().__init__(
                f"grpc://{host}:{port}",
                auth_handler=OpenHandshake(),
                middleware={MIDDLEWARE: CallMiddlewareFactory(sessions, self._completed)},
            )
        except (OSError, pa.ArrowException) as error:
            raise BackendUnavailable(f"can't listen on {host} port {port}: it is in use or not ours") from error
        self.uri = f"grpc://{host}:{self.port}"

    def stop(self, grace_seconds: float) -> bool:
        """Refuse new calls, and give those that run `grace_seconds`; False if some were still running then."""
        stopper = threading.Thread(target=self.shutdown, name="flight-shutdown", daemon=True)
        stopper.start()
        stopper.join(grace_seconds)
        return not stopper.is_alive()

    def _completed(self, call: CallContext, error: BaseException | None) -> None:
        """Counts a finished call; pyarrow runs it outside of every handler."""
        found = _CODE.search(str(error))
        code = "OK" if error is None else found[1] if found else "other"
        self._metrics.calls.labels(call.rpc, code).inc()
        self._metrics.call_seconds.labels(call.rpc).observe(time.monotonic() - call.started)

    @translated("ListFlights")
    def list_flights(self, context: Any, criteria: bytes) -> Iterator[fl.FlightInfo]:  # noqa: ARG002  # pyarrow's signature
        """Every dataset as a flight; criteria have no meaning here."""
        return translated_batches(self._reading.flights(call_context(context)), "ListFlights")

    @translated("GetFlightInfo")
    def get_flight_info(self, context: Any, descriptor: Any) -> fl.FlightInfo:
        """What a descriptor answers, and the tickets that fetch it."""
        self._check_size(descriptor)
        call = replace(call_context(context), is_cancelled=context.is_cancelled)
        return self._reading.info(call, descriptor)

    @translated("GetSchema")
    def get_schema(self, context: Any, descriptor: Any) -> fl.SchemaResult:
        """The schema of what a descriptor answers."""
        self._check_size(descriptor)
        return fl.SchemaResult(self._reading.schema(call_context(context), descriptor))

    @translated("DoGet")
    def do_get(self, context: Any, ticket: Any) -> fl.FlightDataStream:
        """The stream that a ticket names."""
        return self._reading.stream(call_context(context), ticket.ticket, context.is_cancelled)

    @translated("DoPut")
    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Takes rows, bound values, uploads, or a statement that changes data."""
        self._check_size(descriptor)
        self._writing.put(call_context(context), descriptor, reader, writer, context.is_cancelled)

    @translated("DoExchange")
    def do_exchange(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Runs SQL against the rows sent, as table `input`, and sends the result back."""
        self._check_size(descriptor)
        call = call_context(context)
        self._reading.check_bucket(call)
        given = (sent_schema(reader), held_batches(reader, self._input_bytes))
        schema, batches = self._reading.exchange(call, descriptor, given, context.is_cancelled)
        # A client that goes away must not leave the statement to the garbage collector.
        with closing(batches):
            writer.begin(schema)
            for batch in batches:
                writer.write_batch(batch)

    @translated("DoAction")
    def do_action(self, context: Any, action: Any) -> Iterator[fl.Result]:
        """Runs an action of the protocol or of ours."""
        body = action.body.to_pybytes()
        if len(body) > self._limits.request_bytes:
            raise InvalidRequest(f"the body has {len(body):,} bytes; at most {self._limits.request_bytes:,} are read")
        request = decode_action(action.type, body)
        if request is not None:
            answer = self._protocol.run(context, request)
            return iter([] if answer is None else [fl.Result(answer)])
        call = replace(call_context(context), is_cancelled=context.is_cancelled)
        results = (fl.Result(answer) for answer in self._registry.get(action.type).run(call, body))
        return translated_batches(results, "DoAction")

    @translated("ListActions")
    def list_actions(self, context: Any) -> list[tuple[str, str]]:  # noqa: ARG002  # pyarrow's signature
        """Every action with its description and JSON schemas."""
        ours = [(action.name, action.description()) for action in self._registry]
        return [*ACTION_DESCRIPTIONS.items(), *ours]

    def _check_size(self, descriptor: Any) -> None:
        size = len(descriptor.command or b"") + sum(len(part) for part in descriptor.path or [])
        if size > self._limits.request_bytes:
            raise InvalidRequest(f"the descriptor has {size:,} bytes; at most {self._limits.request_bytes:,} are read")
