"""What the Flight server is made of, composed once, whatever listens for it.

Theory of operation: pyarrow's server can't change its certificate, so a server that is given a new one is replaced by
another (`listening.py`). Everything that must outlive it is here: sessions, prepared statements, tickets, counts.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flightserver.access.audit import AuditEntry, shortened
from flightserver.access.authenticating import Authenticator
from flightserver.flight.actions.access import AccessActions
from flightserver.flight.actions.bucket_objects import BucketObjectActions
from flightserver.flight.actions.buckets import BucketActions
from flightserver.flight.actions.cache import CacheActions
from flightserver.flight.actions.catalog import catalog_actions
from flightserver.flight.actions.changes import ChangeActions
from flightserver.flight.actions.datasets import DatasetActions
from flightserver.flight.actions.indexes import IndexActions
from flightserver.flight.actions.ingest import ingest_actions
from flightserver.flight.actions.interop import InteropActions
from flightserver.flight.actions.maintenance import MaintenanceActions
from flightserver.flight.actions.moving import MovingActions
from flightserver.flight.actions.registry import Registry
from flightserver.flight.actions.results import result_actions
from flightserver.flight.actions.users import UserActions
from flightserver.flight.actions.versions import VersionActions
from flightserver.flight.advertising import Advertising
from flightserver.flight.callers import Callers
from flightserver.flight.calls import Calls
from flightserver.flight.paging import Paging
from flightserver.flight.permissions import COMMANDS
from flightserver.flight.reading import Reading
from flightserver.flight.scoping import renewed
from flightserver.flight.sql.answers import Answers
from flightserver.flight.sql.commands import Commands
from flightserver.flight.sql.info import Limits
from flightserver.flight.sql.prepared import IDLE_SECONDS, PreparedStatements
from flightserver.flight.sql.protocol_actions import ProtocolActions
from flightserver.flight.sql.sessions import Sessions
from flightserver.flight.sql.statements import TICKET_SECONDS, Statements
from flightserver.flight.tickets import Signer, load_or_create_key
from flightserver.flight.writing import Writing
from flightserver.query.language.redacting import redacted

if TYPE_CHECKING:
    from flightserver.errors import Sees
    from flightserver.flight.callers import Note
    from flightserver.flight.middleware import CallContext
    from flightserver.lakehouse import Lakehouse

_CODE = re.compile(r"\[(FS-\d{4})\]")
"""The stable code in the message of an error that pyarrow has sent."""


_DENIED = "FS-2"
"""How the codes of errors begin that say that somebody may not."""

_RUNNING = frozenset({"HANDSHAKE", "DO_GET", "DO_PUT", "DO_EXCHANGE", "DO_ACTION"})
"""Calls that do something; the others only describe it."""

_QUIET = frozenset(
    {
        *(kind.__name__ for kind in COMMANDS if kind.__name__.startswith("Get")),
        "ClosePreparedStatement",
        "CloseSession",
        "GetSessionOptions",
        "MetadataTicket",
        "RenewFlightEndpoint",
        "SetSessionOptions",
    }
)
"""Calls that clients make by themselves, and that tell nothing of data."""


class Service:
    """The parts that answer calls.

    Args:
        lakehouse: What is served; the caller closes it after the servers have stopped.

    Attributes:
        limits: Of requests.
        metrics: Where calls are counted.
        input_bytes: How much of the rows that a client sends to DoExchange is kept in memory.
        calls: Those in flight.
        advertising: Where endpoints say that they can be read.
        sessions: Of all clients.
        callers: Knows who calls.
        reading: GetFlightInfo, GetSchema, DoGet, DoExchange and ListFlights.
        writing: DoPut.
        protocol: The actions of Flight SQL.
        registry: Our own actions.
    """

    def __init__(self, lakehouse: Lakehouse) -> None:
        settings = lakehouse.settings
        self.limits = settings.server
        self.metrics = lakehouse.metrics
        self.input_bytes = settings.query.memory_bytes // 4
        self.calls = Calls(settings.server.max_calls, settings.server.stalled_seconds, settings.query.memory_bytes // 2)
        self.advertising = Advertising(settings.server.advertise)
        self.metrics.calls_in_flight.set_function(lambda: self.calls.in_flight)
        self.metrics.calls_refused.set_function(lambda: self.calls.refused)
        self.metrics.connections_closed.set_function(lambda: self.calls.closed)
        self.sessions = sessions = Sessions(idle_seconds=settings.server.session_idle_seconds)
        key = load_or_create_key(settings.server.data / settings.access.key)
        self.callers = Callers(Authenticator(lakehouse.access.state, key, settings.access), lakehouse.access)
        self._audit = lakehouse.audit
        self._queries = lakehouse.queries
        signer = Signer(key)
        paging = Paging(lakehouse.results, signer, lakehouse.server_name, TICKET_SECONDS)
        transactions = lakehouse.transactions
        statements = Statements(lakehouse.queries, signer, paging, transactions, lakehouse.temporary)
        prepared = PreparedStatements(settings.server.prepared_bytes)
        limits = Limits(
            prepared_seconds=IDLE_SECONDS,
            transaction_seconds=settings.server.session_idle_seconds,
            statement_bytes=settings.query.statement_bytes,
        )
        answers = Answers(lakehouse.queries, lakehouse.information_schema, lakehouse.temporary, limits)
        commands = Commands(statements, prepared, answers, signer)
        self.reading = Reading(lakehouse.queries, statements, commands, paging, signer, lakehouse.diffs)
        self.writing = Writing(
            statements,
            prepared,
            lakehouse.ingest,
            lakehouse.uploads,
            lakehouse.metrics,
            lakehouse.streams,
            transactions,
        )
        self.protocol = ProtocolActions(statements, prepared, sessions, paging, signer, transactions)
        self.registry = Registry(
            [
                *ingest_actions(lakehouse.ingest, lakehouse.metrics, lakehouse.queries),
                *result_actions(lakehouse.queries, statements, lakehouse.results, settings.results.page_rows),
                *BucketActions(lakehouse).actions(),
                *DatasetActions(lakehouse).actions(),
                *CacheActions(lakehouse).actions(),
                *ChangeActions(lakehouse).actions(),
                *InteropActions(lakehouse, lakehouse.external, lakehouse.exports).actions(),
                *VersionActions(lakehouse).actions(),
                *MaintenanceActions(lakehouse).actions(),
                *MovingActions(lakehouse).actions(),
                *IndexActions(lakehouse).actions(),
                *BucketObjectActions(lakehouse).actions(),
                *UserActions(lakehouse.administration, lakehouse.catalog).actions(),
                *AccessActions(lakehouse.administration, lakehouse.catalog, lakehouse.queries.check_policy).actions(),
                *catalog_actions(lakehouse.catalog, lakehouse.events),
            ]
        )

    def sees(self, call: CallContext) -> Sees:
        """What a caller may be told of, by what this process knows: storage, which may hang, isn't asked for that."""
        return call.rights.at(self._queries.known.access).sees

    def renewed(self, call: CallContext) -> CallContext:
        """A call with the rights that its caller has by the newest version of the catalog."""
        return renewed(self._queries, call)

    def completed(self, note: Note, error: BaseException | None) -> None:
        """Count and note a finished call; pyarrow runs it outside of every handler."""
        found = _CODE.search(str(error))
        code = "OK" if error is None else found[1] if found else "other"
        seconds = time.monotonic() - note.started
        self.metrics.calls.labels(note.rpc, code).inc()
        self.metrics.call_seconds.labels(note.rpc).observe(seconds)
        if (note.rpc in _RUNNING and note.what not in _QUIET) or code.startswith(_DENIED):
            about = redacted(note.about) if note.is_sql else note.about
            milliseconds = round(seconds * 1000, 3)
            self._audit.record(
                AuditEntry(
                    datetime.now(UTC),
                    note.user,
                    note.method,
                    note.peer,
                    note.rpc,
                    note.what,
                    shortened(about),
                    code,
                    milliseconds,
                )
            )
