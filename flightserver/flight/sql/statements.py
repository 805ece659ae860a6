"""Statements over the wire: FlightInfo, tickets, streams, counts.

GetFlightInfo plans and hands out a ticket that says everything needed to run the statement again on any server of
the catalog: text, bound values, the version of the catalog that it saw, and an operation id. The plan itself is
kept for a while, so that the DoGet that usually follows needn't plan again, unless it holds rows of temporary tables. A
statement that changes data runs at the first DoGet of its ticket and answers the same count to every other.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl

from flightserver.catalog.ulid import new_ulid
from flightserver.flight.paging import MAX_PAGES
from flightserver.flight.sql.columns import described as described_schema
from flightserver.flight.tickets import StatementTicket
from flightserver.query.changes import given_target
from flightserver.query.columns import origins
from flightserver.query.namespace import PUBLIC
from flightserver.query.request import Planned, Request
from flightserver.query.substrait import check_version, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from datetime import datetime

    from flightserver.access.rights import Rights
    from flightserver.flight.middleware import CallContext
    from flightserver.flight.paging import Paging
    from flightserver.flight.sql.messages import SubstraitPlan
    from flightserver.flight.tickets import Signer
    from flightserver.query.service import Queries
    from flightserver.query.temporary import TemporaryTables
    from flightserver.query.transactions import Transaction, Transactions

TICKET_SECONDS = 24 * 60 * 60
"""As long as the catalog remembers operation ids: a ticket never outlives the memory that its statement has run."""

_KEPT_PLANS = 256
_KEPT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A statement that a client asks for, before the call's session and headers are added.

    Attributes:
        described: Whether columns of the answer shall carry the metadata of Flight SQL.
        substrait: The statement as a Substrait plan, for which `sql` is a text to show.
        follows: Whether a transaction that has ended stands for the one that its connection has begun since.
    """

    sql: str
    parameters: pa.RecordBatch | None = None
    page_rows: int | None = None
    as_of: int | datetime | None = None
    transaction: bytes | None = None
    described: bool = False
    substrait: bytes | None = None
    follows: bool = False


def wanted_plan(plan: SubstraitPlan, transaction: bytes | None) -> Wanted:
    """A Substrait plan as a statement that a client asks for.

    Raises:
        InvalidRequest: It is of a version of Substrait that can't be read.
    """
    check_version(plan.version)
    return Wanted(sql=shown(plan.plan), transaction=transaction, described=True, substrait=plan.plan)


class Statements:
    """Plans, describes and runs statements for the wire.

    Attributes:
        temporary: The temporary tables that statements see.
    """

    def __init__(
        self,
        queries: Queries,
        signer: Signer,
        paging: Paging,
        transactions: Transactions,
        temporary: TemporaryTables,
    ) -> None:
        self._queries = queries
        self.temporary = temporary
        self._transactions = transactions
        self._signer = signer
        self._paging = paging
        self._plans = _Plans()

    def plan(self, call: CallContext, wanted: Wanted, *, bucket: str | None = None) -> Planned:
        """Plan a statement with the options of the call; `bucket` wins over those."""
        request = self.request(call, wanted)
        planned = self._queries.plan(request if bucket is None else replace(request, bucket=bucket))
        return _described(planned) if wanted.described else planned

    def parameter_types(self, planned: Planned) -> dict[str, pa.DataType | None]:
        """The type of each placeholder in the statement's order; None where it is open until a value is bound."""
        types = self._queries.parameter_types(planned)
        return {name: types.get(name) for name in planned.statement.placeholders}

    @property
    def queries(self) -> Queries:
        """Where statements are planned."""
        return self._queries

    def cancel(self, operation: str) -> bool:
        """Stop the statement that runs under a ticket's operation; False when none does."""
        return self._queries.cancel(operation)

    def request(
        self,
        call: CallContext,
        wanted: Wanted,
        is_cancelled: Callable[[], bool] | None = None,
        given: Mapping[str, tuple[pa.Schema, list[pa.RecordBatch]]] | None = None,
    ) -> Request:
        """The statement with the options of the call's session and headers, and tables that came with it."""
        options = call.session.options
        call.note.about, call.note.is_sql = wanted.sql, wanted.substrait is None
        return Request(
            sql=wanted.sql,
            parameters=wanted.parameters,
            bucket=call.bucket,
            schema=call.schema,
            as_of=wanted.as_of if wanted.as_of is not None else options.as_of,
            timeout_seconds=options.query_timeout,
            rights=call.rights,
            operation=new_ulid(),
            given={**self.temporary.given(call.owner), **(given or {})},
            drop_temporary=partial(self.temporary.drop, call.owner),
            transaction=self._transaction(wanted.transaction, call.user, follows=wanted.follows),
            is_cancelled=is_cancelled or call.is_cancelled,
            substrait=wanted.substrait,
        )

    def _transaction(self, transaction_id: bytes | None, user: str, *, follows: bool = False) -> Transaction | None:
        if transaction_id is None:
            return None
        self._transactions.check_owner(transaction_id, user)
        find = self._transactions.current if follows else self._transactions.get
        return find(transaction_id)

    def info(self, call: CallContext, descriptor: Any, wanted: Wanted) -> fl.FlightInfo:
        """What a statement will answer and the tickets that fetch it.

        A paged query is run now, into the result store; everything else runs when its ticket is fetched.
        """
        planned = self.plan(call, wanted)
        page_rows = call.page_rows if wanted.page_rows is None else wanted.page_rows
        if page_rows is not None and planned.frame is not None:
            return self._paging.info(self._queries.store(planned, page_rows, max_pages=MAX_PAGES), descriptor)
        return self.planned_info(planned, descriptor, described=wanted.described)

    def planned_info(self, planned: Planned, descriptor: Any, *, described: bool = False) -> fl.FlightInfo:
        """FlightInfo of a statement that runs when its ticket is fetched."""
        ticket = self._signer.sign(_ticket(planned, int(time.time()) + TICKET_SECONDS, described=described))
        if planned.frame is not None and not planned.request.given:
            # What changes data is planned when it runs, on the catalog as it is then. A plan over temporary tables
            # would hold their rows after they were dropped, when nothing counts them any more.
            self._plans.keep(replace(planned, request=replace(planned.request, is_cancelled=None)))
        endpoint = fl.FlightEndpoint(fl.Ticket(ticket), [])
        return fl.FlightInfo(planned.schema, descriptor, [endpoint], -1, -1)

    def read(
        self, ticket: StatementTicket, call: CallContext, is_cancelled: Callable[[], bool]
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Run the statement of a ticket, with the rights that its user has now.

        Raises:
            NotFound: A version of the catalog that the ticket needs is gone.
        """
        planned = self._plans.take(ticket.execution)
        # An administrator is shown everything; to look whether that has changed costs a request on S3.
        is_admin = planned is not None and planned.request.rights is call.rights and call.rights.is_admin
        if planned is not None and not is_admin and not planned.holds_for(call.rights, self._queries.newest()):
            planned = None
        request = planned.request if planned is not None else self._ticket_request(ticket, call)
        request = replace(request, is_cancelled=is_cancelled)
        if planned is None:
            planned = self._queries.plan(request)
            planned = _described(planned) if ticket.described else planned
        return self.stream(replace(planned, request=request))

    def _ticket_request(self, ticket: StatementTicket, call: CallContext) -> Request:
        """What a ticket asks. In a transaction that is still open it reads what the transaction sees by now."""
        request = replace(
            _request(ticket, call.rights),
            given=self.temporary.given(call.owner),
            drop_temporary=partial(self.temporary.drop, call.owner),
        )
        if ticket.transaction is None:
            return request
        return replace(request, as_of=None, transaction=self._transaction(ticket.transaction, request.user))

    def stream(self, planned: Planned) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Schema and rows of a planned statement, as they are made."""
        return planned.schema, self._queries.stream(planned)

    def update(self, request: Request) -> int:
        """Run a statement that changes data, and return its count."""
        return self._queries.update(self._queries.plan(request))

    def batches(self, request: Request) -> tuple[pa.Schema, Generator[pa.RecordBatch]]:
        """Run any statement; schema and rows."""
        planned = self._queries.plan(request)
        return planned.schema, self._queries.stream(planned)


def _described(planned: Planned) -> Planned:
    """The statement, whose answer's columns carry what Flight SQL tells of columns."""
    return replace(planned, schema=described_schema(planned.schema, origins(planned)))


def _ticket(planned: Planned, expires_at: int, *, described: bool) -> StatementTicket:
    request = planned.request
    return StatementTicket(
        execution=request.operation,
        sql=request.sql,
        expires_at=expires_at,
        parameters=None if request.parameters is None else _encoded(request.parameters),
        as_of=None if planned.frame is None else planned.scope.snapshot.version,
        bucket=request.bucket,
        schema=request.schema,
        query_timeout=request.timeout_seconds,
        user=request.user,
        transaction=None if request.transaction is None else request.transaction.id,
        described=described,
        substrait=request.substrait,
        temporary=given_target(planned) is not None,
    )


def _request(ticket: StatementTicket, rights: Rights) -> Request:
    return Request(
        sql=ticket.sql,
        parameters=None if ticket.parameters is None else _decoded(ticket.parameters),
        bucket=ticket.bucket,
        schema=ticket.schema or PUBLIC,
        as_of=ticket.as_of,
        timeout_seconds=ticket.query_timeout,
        rights=rights,
        operation=ticket.execution,
        repeatable=True,
        substrait=ticket.substrait,
        temporary=ticket.temporary,
    )


def _encoded(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def _decoded(data: bytes) -> pa.RecordBatch:
    """Rows from a ticket: they were validated before the ticket was signed."""
    return pa.ipc.open_stream(data).read_next_batch()


class _Plans:
    """Plans between GetFlightInfo and DoGet, by operation id. `lock` guards the map."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[float, Planned]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, planned: Planned) -> None:
        now = time.monotonic()
        with self._lock:
            self._kept[planned.request.operation] = (now, planned)
            while len(self._kept) > _KEPT_PLANS or next(iter(self._kept.values()))[0] < now - _KEPT_SECONDS:
                self._kept.popitem(last=False)

    def take(self, operation: str) -> Planned | None:
        """The plan, once: a DataFrame runs in one stream at a time."""
        with self._lock:
            found = self._kept.pop(operation, None)
        return None if found is None else found[1]
