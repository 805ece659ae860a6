"""GetFlightInfo, GetSchema, ListFlights and DoGet: which part answers which descriptor or ticket."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow.flight as fl

from flightserver.catalog.entities import Dataset, View
from flightserver.catalog.quoting import delimited
from flightserver.errors import Forbidden, InvalidRequest, RequestError
from flightserver.flight.permissions import check_command
from flightserver.flight.plain import PlainDiff, PlainQuery, plain_command, table_path
from flightserver.flight.scoping import scope_of
from flightserver.flight.sql.decoding import decode_command
from flightserver.flight.sql.statements import TICKET_SECONDS, Wanted
from flightserver.flight.tickets import (
    DiffTicket,
    MetadataTicket,
    PageTicket,
    StatementTicket,
    TableTicket,
    check_owner,
    note_ticket,
)
from flightserver.query.namespace import INPUT
from flightserver.query.request import Request
from flightserver.tables.schema import decode, visible
from flightserver.tables.versions import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import pyarrow as pa

    from flightserver.flight.middleware import CallContext
    from flightserver.flight.paging import Paging
    from flightserver.flight.plain import PlainCommand
    from flightserver.flight.sql.commands import Commands
    from flightserver.flight.sql.statements import Statements
    from flightserver.flight.tickets import Signer
    from flightserver.query.diff import Diff, Diffs
    from flightserver.query.namespace import Scope
    from flightserver.query.request import Planned
    from flightserver.query.service import Queries


class Reading:
    """Everything that a client can fetch."""

    def __init__(
        self,
        queries: Queries,
        statements: Statements,
        commands: Commands,
        paging: Paging,
        signer: Signer,
        diffs: Diffs,
    ) -> None:
        self._queries = queries
        self._diffs = diffs
        self._statements = statements
        self._commands = commands
        self._paging = paging
        self._signer = signer

    def flights(self, call: CallContext) -> Iterator[fl.FlightInfo]:
        """Every dataset as a flight, by path."""
        scope = self._queries.scope(Request(sql="", as_of=call.session.options.as_of, rights=call.rights))
        relations: list[Dataset | View] = [*scope.snapshot.datasets.values(), *scope.snapshot.views.values()]
        for one in relations:
            descriptor = fl.FlightDescriptor.for_path(one.bucket, one.name)
            # A view that can't be read, such as one of a table that is gone or hidden, or a table whose policies
            # can't be applied, is no flight.
            with suppress(RequestError, Forbidden):
                yield self._table_info(call, descriptor, one, scope)

    def info(self, call: CallContext, descriptor: Any) -> fl.FlightInfo:
        """Answers GetFlightInfo.

        Raises:
            InvalidRequest: The descriptor is none of the known forms.
            NotFound: It names something that doesn't exist.
        """
        if descriptor.descriptor_type == fl.DescriptorType.PATH:
            scope, one = self._relation(call, descriptor.path)
            return self._table_info(call, descriptor, one, scope)
        command = decode_command(_command(descriptor))
        if command is not None:
            check_command(call, command)
            return self._commands.info(call, descriptor, command)
        match plain_command(descriptor.command):
            case PlainDiff() as plain:
                return self._diff_info(call, descriptor, plain)
            case plain:
                return self._statements.info(call, descriptor, _query(plain))

    def schema(self, call: CallContext, descriptor: Any) -> pa.Schema:
        """Answers GetSchema; nothing runs.

        Raises:
            InvalidRequest, NotFound: As `info`.
        """
        if descriptor.descriptor_type == fl.DescriptorType.PATH:
            scope, one = self._relation(call, descriptor.path)
            return self._columns(call, one, scope)
        command = decode_command(_command(descriptor))
        if command is not None:
            check_command(call, command)
            return self._commands.schema(call, command)
        match plain_command(descriptor.command):
            case PlainDiff() as plain:
                return self._diffed(call, self._diff(call, plain)[1]).schema
            case plain:
                return self._statements.plan(call, _query(plain)).schema

    def stream(
        self, call: CallContext, ticket: bytes, is_cancelled: Callable[[], bool]
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Answers DoGet: the schema and the rows, as they are made.

        Raises:
            InvalidRequest: The ticket is none of ours.
            Unauthenticated: Its signature is wrong.
            Forbidden: It was made for another user.
            NotFound: It has expired, or what it names is gone.
        """
        asked = self._signer.decode_ticket(ticket)
        note_ticket(call.note, asked)
        check_owner(asked, call.user)
        match asked:
            case StatementTicket() as statement:
                return self._statements.read(statement, call, is_cancelled)
            case PageTicket() as page:
                return self._paging.read(page, call.rights)
            case TableTicket(bucket=bucket, dataset=dataset, version=version):
                sql = _all_rows(bucket, dataset)
                timeout = call.session.options.query_timeout
                request = Request(
                    sql=sql, as_of=version, timeout_seconds=timeout, rights=call.rights, is_cancelled=is_cancelled
                )
                return self._statements.stream(self._queries.plan(request))
            case DiffTicket(bucket=bucket, dataset=dataset, start=start, end=end):
                found = self._queries.scope(Request(sql="", rights=call.rights)).dataset(dataset, bucket)
                diff = self._diffs.between(found, start, end)
                return self._statements.stream(self._diffed(call, diff, is_cancelled))
            case MetadataTicket(command=data):
                command = decode_command(data)
                if command is None:
                    raise InvalidRequest("this ticket holds no Flight SQL command")
                check_command(call, command)
                return self._commands.stream(call, command)

    def exchange(
        self,
        call: CallContext,
        descriptor: Any,
        given: tuple[pa.Schema, list[pa.RecordBatch]],
        is_cancelled: Callable[[], bool],
    ) -> tuple[pa.Schema, Generator[pa.RecordBatch]]:
        """Runs the SQL of a descriptor against the rows that came with it, the table `input`."""
        wanted = _query(plain_command(_command(descriptor)))
        request = self._statements.request(call, wanted, is_cancelled, {INPUT: given})
        return self._statements.batches(request)

    def check_bucket(self, call: CallContext) -> None:
        """Return when the bucket of the call, if it names one, exists.

        Raises:
            NotFound: It doesn't; lists those that do.
        """
        if call.bucket is not None:
            self._queries.scope(Request(sql="", bucket=call.bucket, rights=call.rights))

    def _diff(self, call: CallContext, plain: PlainDiff) -> tuple[Dataset, Diff]:
        """The dataset as it is, and two versions of it, which may have had another name."""
        scope = scope_of(self._queries, call, plain.bucket)
        found = scope.dataset(plain.diff, plain.bucket)
        end = None if plain.to is None else moment(found, plain.to)
        return found, self._diffs.between(found, moment(found, plain.from_), end)

    def _diffed(self, call: CallContext, diff: Diff, is_cancelled: Callable[[], bool] | None = None) -> Planned:
        text = f"diff of {diff.now.key} from version {diff.then.version} to {diff.now.version}"
        timeout = call.session.options.query_timeout
        request = Request(sql=text, timeout_seconds=timeout, rights=call.rights, is_cancelled=is_cancelled)
        return self._diffs.rows(diff, request)

    def _diff_info(self, call: CallContext, descriptor: Any, plain: PlainDiff) -> fl.FlightInfo:
        found, diff = self._diff(call, plain)
        expires_at = int(time.time()) + TICKET_SECONDS
        ticket = DiffTicket(found.bucket, found.name, diff.then.version, diff.now.version, expires_at, call.user)
        endpoint = fl.FlightEndpoint(fl.Ticket(self._signer.sign(ticket)), [])
        return fl.FlightInfo(self._diffed(call, diff).schema, descriptor, [endpoint], -1, -1)

    def _relation(self, call: CallContext, path: list[bytes]) -> tuple[Scope, Dataset | View]:
        table = table_path(path)
        scope = scope_of(self._queries, call, as_of=call.session.options.as_of)
        return scope, scope.relation(table.name, table.schema)

    def _table_info(self, call: CallContext, descriptor: Any, one: Dataset | View, scope: Scope) -> fl.FlightInfo:
        expires_at = int(time.time()) + TICKET_SECONDS
        ticket = self._signer.sign(TableTicket(one.bucket, one.name, scope.snapshot.version, expires_at, call.user))
        endpoint = fl.FlightEndpoint(fl.Ticket(ticket), [])
        known = isinstance(one, Dataset) and one.external is None and not scope.hides(one)
        rows, size = (one.rows, one.bytes) if isinstance(one, Dataset) and known else (-1, -1)
        return fl.FlightInfo(self._columns(call, one, scope), descriptor, [endpoint], rows, size)

    def _columns(self, call: CallContext, one: Dataset | View, scope: Scope) -> pa.Schema:
        if isinstance(one, Dataset) and not scope.hides(one):
            return visible(decode(one.schema))
        # What a view answers changes with the tables that it reads, and a mask may be null where its column isn't.
        asked = Request(sql=_all_rows(one.bucket, one.name), as_of=scope.snapshot.version, rights=call.rights)
        return self._queries.plan(asked).schema


def _all_rows(bucket: str, name: str) -> str:
    return f"SELECT * FROM {delimited(bucket)}.{delimited(name)}"  # noqa: S608  # names are quoted


def _command(descriptor: Any) -> bytes:
    if descriptor.descriptor_type != fl.DescriptorType.CMD:
        raise InvalidRequest("the descriptor has neither a command nor a path")
    command: bytes = descriptor.command
    return command


def _query(plain: PlainCommand) -> Wanted:
    if not isinstance(plain, PlainQuery):
        raise InvalidRequest("this JSON command sends data: use it with DoPut")
    return Wanted(sql=plain.sql, parameters=plain.bound(), page_rows=plain.page_rows, as_of=plain.as_of)
