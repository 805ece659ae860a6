"""The actions that Flight and Flight SQL define: prepared statements, sessions, cancel and renew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flightserver.errors import NotFound
from flightserver.flight.middleware import call_context, forget_session, send_session
from flightserver.flight.sql import messages as m
from flightserver.flight.sql import results
from flightserver.flight.sql.statements import Wanted, wanted_plan
from flightserver.flight.sql.types import parameter_schema
from flightserver.flight.tickets import PageTicket, StatementTicket, check_owner
from flightserver.query.namespace import CATALOG, PUBLIC

if TYPE_CHECKING:
    from flightserver.flight.middleware import CallContext
    from flightserver.flight.paging import Paging
    from flightserver.flight.sql.prepared import PreparedStatements
    from flightserver.flight.sql.sessions import Sessions
    from flightserver.flight.sql.statements import Statements
    from flightserver.flight.tickets import Signer
    from flightserver.query.transactions import Transactions


class ProtocolActions:
    """Runs the actions of the protocol. Each answers one message."""

    def __init__(  # each part that an action talks to
        self,
        statements: Statements,
        prepared: PreparedStatements,
        sessions: Sessions,
        paging: Paging,
        signer: Signer,
        transactions: Transactions,
    ) -> None:
        self._transactions = transactions
        self._statements = statements
        self._prepared = prepared
        self._sessions = sessions
        self._paging = paging
        self._signer = signer

    def run(self, context: Any, request: m.ActionRequest) -> bytes | None:
        """Runs one action; None for those that answer nothing.

        Raises:
            InvalidRequest: It is not available in this version, or its statement is not valid.
        """
        call = call_context(context)
        answer: bytes | None = None
        match request:
            case m.CreatePreparedStatement(query=sql, transaction_id=transaction):
                answer = self._prepare(call, Wanted(sql=sql, transaction=transaction, described=True))
            case m.CreatePreparedSubstraitPlan(plan=plan, transaction_id=transaction):
                answer = self._prepare(call, wanted_plan(plan, transaction))
            case m.ClosePreparedStatement(prepared_statement_handle=handle):
                self._prepared.close(handle, call.user)
            case m.SetSessionOptions() | m.GetSessionOptions() | m.CloseSession():
                answer = self._session(context, request)
            case m.CancelFlightInfo(info=info):
                answer = results.cancelled_flight_info(self._cancel(call, info))
            case m.CancelQuery(info=info):
                answer = results.cancelled_query(self._cancel(call, info))
            case m.RenewFlightEndpoint(endpoint=endpoint):
                answer = results.renewed_endpoint(self._renew(call, endpoint))
            case _:
                answer = self._transaction(call, request, context.peer())
        return answer

    def _transaction(
        self,
        call: CallContext,
        request: m.BeginTransaction | m.EndTransaction | m.BeginSavepoint | m.EndSavepoint,
        peer: str,
    ) -> bytes | None:
        match request:
            case m.EndTransaction(transaction_id=used) | m.BeginSavepoint(transaction_id=used):
                self._transactions.check_owner(used, call.user)
            case m.EndSavepoint(savepoint_id=used):
                self._transactions.check_owner(used, call.user)
        match request:
            case m.BeginTransaction():
                return results.transaction(self._transactions.begin(call.user, peer))
            case m.EndTransaction(transaction_id=transaction, mode=m.EndTransactionMode.COMMIT):
                self._transactions.commit(transaction, peer)
            case m.EndTransaction(transaction_id=transaction):
                self._transactions.roll_back(transaction, peer)
            case m.BeginSavepoint(transaction_id=transaction, name=name):
                return results.savepoint(self._transactions.begin_savepoint(transaction, name))
            case m.EndSavepoint(savepoint_id=savepoint, mode=m.EndSavepointMode.ROLLBACK):
                self._transactions.roll_back_to_savepoint(savepoint)
            case m.EndSavepoint(savepoint_id=savepoint):
                self._transactions.release_savepoint(savepoint)
        return None

    def _session(self, context: Any, request: m.SetSessionOptions | m.GetSessionOptions | m.CloseSession) -> bytes:
        call = call_context(context)
        match request:
            case m.SetSessionOptions(options=options):
                session, rejected = self._sessions.set_options(call.session_id, options, call.user)
                send_session(context, session)
                return results.rejected_session_options({name: one.error for name, one in rejected.items()})
            case m.GetSessionOptions():
                chosen = self._sessions.options(call.session_id, call.user).values()
                return results.session_options({"catalog": CATALOG, "schema": PUBLIC, **chosen})
            case m.CloseSession():
                self._sessions.close(call.session_id, call.user)
                self._statements.temporary.forget(call.owner)
                forget_session(context)
                return results.closed_session(results.CloseStatus.CLOSED)

    def _prepare(self, call: CallContext, wanted: Wanted) -> bytes:
        planned = self._statements.plan(call, wanted)
        types = self._statements.parameter_types(planned)
        handle = self._prepared.create(wanted.sql, wanted.transaction, wanted.substrait, types, call.user)
        update = planned.statement.kind.is_update
        return results.prepared_statement(
            handle,
            dataset_schema=b"" if update else planned.schema.serialize().to_pybytes(),
            parameter_schema=parameter_schema(types).serialize().to_pybytes(),
            is_update=update,
        )

    def _cancel(self, call: CallContext, info: m.SentFlightInfo) -> results.CancelStatus:
        """Frees the pages of a result, or stops the statement that runs under a ticket."""
        status = results.CancelStatus.NOT_CANCELLABLE
        for endpoint in info.endpoints:
            ticket = self._signer.decode_ticket(endpoint.ticket)
            check_owner(ticket, call.user)
            match ticket:
                case PageTicket() as page:
                    self._paging.close(page, call.rights)
                    return results.CancelStatus.CANCELLED
                case StatementTicket(execution=execution):
                    if self._statements.cancel(execution):
                        status = results.CancelStatus.CANCELLING
        return status

    def _renew(self, call: CallContext, endpoint: m.Endpoint) -> m.Endpoint:
        ticket = self._signer.decode_ticket(endpoint.ticket)
        if not isinstance(ticket, PageTicket):
            raise NotFound("only the endpoints of paged results expire before their tickets do; this one is no page")
        kept_until = self._paging.renew(ticket, call.rights)
        return m.Endpoint(endpoint.ticket, endpoint.locations, kept_until, endpoint.app_metadata)
