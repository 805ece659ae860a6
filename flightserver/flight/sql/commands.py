"""Flight SQL commands that read: what each answers to GetFlightInfo and GetSchema, and what its ticket streams."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pyarrow.flight as fl

from flightserver.errors import InvalidRequest
from flightserver.flight.sql import messages as m
from flightserver.flight.sql.statements import TICKET_SECONDS, Wanted, wanted_plan
from flightserver.flight.tickets import MetadataTicket
from flightserver.query.wire import sliced

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from flightserver.flight.middleware import CallContext
    from flightserver.flight.sql.answers import Answers
    from flightserver.flight.sql.prepared import PreparedStatements
    from flightserver.flight.sql.statements import Statements
    from flightserver.flight.tickets import Signer


class Commands:
    """Describes and streams Flight SQL's reading commands."""

    def __init__(self, statements: Statements, prepared: PreparedStatements, answers: Answers, signer: Signer) -> None:
        self._statements = statements
        self._prepared = prepared
        self._answers = answers
        self._signer = signer

    def info(self, call: CallContext, descriptor: Any, command: m.Command) -> fl.FlightInfo:
        """Answers GetFlightInfo.

        Raises:
            InvalidRequest: The command can't be read.
        """
        wanted = self._wanted(call, command)
        if wanted is not None:
            return self._statements.info(call, descriptor, wanted)
        schema = self._answers.schema(command)
        expires_at = int(time.time()) + TICKET_SECONDS
        ticket = self._signer.sign(MetadataTicket(descriptor.command, expires_at, user=call.user))
        return fl.FlightInfo(schema, descriptor, [fl.FlightEndpoint(fl.Ticket(ticket), [])], -1, -1)

    def schema(self, call: CallContext, command: m.Command) -> pa.Schema:
        """Answers GetSchema; nothing runs."""
        wanted = self._wanted(call, command)
        return self._answers.schema(command) if wanted is None else self._statements.plan(call, wanted).schema

    def stream(self, call: CallContext, command: m.Command) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The answer to a metadata command: schema and rows."""
        table = self._answers.table(command, call)
        # Schemas of thousands of tables are more than clients accept as one message.
        return table.schema, (piece for batch in table.to_batches() for piece in sliced(batch))

    def _wanted(self, call: CallContext, command: m.Command) -> Wanted | None:
        """The statement that a command runs; None for metadata.

        Raises:
            InvalidRequest: The command can't be read.
        """
        match command:
            case (
                m.StatementQuery(query=sql, transaction_id=transaction)
                | m.StatementUpdate(query=sql, transaction_id=transaction)
            ):
                return Wanted(sql=sql, transaction=transaction, described=True)
            case (
                m.PreparedStatementQuery(prepared_statement_handle=handle)
                | m.PreparedStatementUpdate(prepared_statement_handle=handle)
            ):
                return self._prepared.get(handle, call.user).wanted()
            case m.StatementSubstraitPlan(plan=plan, transaction_id=transaction):
                return wanted_plan(plan, transaction)
            case m.StatementIngest() | m.TicketStatementQuery():
                raise InvalidRequest(
                    f"{type(command).__name__} can't be read: an ingestion is sent by DoPut, a ticket by DoGet"
                )
            case _:
                return None
