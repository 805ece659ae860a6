"""GetFlightInfo, GetSchema, ListFlights and DoGet: which part answers which descriptor or ticket."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pyarrow.flight as fl

from flightserver.catalog.entities import Dataset, View
from flightserver.errors import InvalidRequest
from flightserver.flight.plain import PlainDiff, PlainQuery, plain_command, table_path
from flightserver.flight.sql.decoding import decode_command
from flightserver.flight.sql.statements import TICKET_SECONDS, Wanted
from flightserver.flight.tickets import DiffTicket, MetadataTicket, PageTicket, StatementTicket, TableTicket
from flightserver.query.namespace import INPUT
from flightserver.query.quoting import quoted
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
        snapshot = self._queries.scope(Request(sql="", as_of=call.session.options.as_of)).snapshot
        relations: list[Dataset | View] = [*snapshot.datasets.values(), *snapshot.views.values()]
        for one in relations:
            descriptor = fl.FlightDescriptor.for_path(one.bucket, one.name)
            yield self._table_info(call, descriptor, one, snapshot.version)

    def info(self, call: CallContext, descriptor: Any) -> fl.FlightInfo:
        """Answers GetFlightInfo.

        Raises:
            InvalidRequest: The descriptor is none of the known forms.
            NotFound: It names something that doesn't exist.
        """
        if descriptor.descriptor_type == fl.DescriptorType.PATH:
            version, one = self._relation(call, descriptor.path)
            return self._table_info(call, descriptor, one, version)
        command = decode_command(_command(descriptor))
        if command is not None:
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
            version, one = self._relation(call, descriptor.path)
            return self._columns(one, version)
        command = decode_command(_command(descriptor))
        if command is not None:
            return self._commands.schema(call, command)
        match plain_command(descriptor.command):
            case PlainDiff() as plain:
                return self._diffed(call, self._diff(call, plain)).schema
            case plain:
                return self._statements.plan(call, _query(plain)).schema

    def stream(self, call: CallContext, ticket: bytes, is_cancelled: Callable[[], bool]) -> fl.FlightDataStream:
        """Answers DoGet.

        Raises:
            InvalidRequest: The ticket is none of ours.
            Unauthenticated: Its signature is wrong.
            NotFound: It has expired, or what it names is gone.
        """
        match self._signer.decode_ticket(ticket):
            case StatementTicket() as statement:
                return self._statements.read(statement, is_cancelled)
            case PageTicket() as page:
                return self._paging.read(page)
            case TableTicket(bucket=bucket, dataset=dataset, version=version):
                sql = _all_rows(bucket, dataset)
                timeout = call.session.options.query_timeout
                request = Request(
                    sql=sql, as_of=version, timeout_seconds=timeout, user=call.user, is_cancelled=is_cancelled
                )
                return self._statements.stream(self._queries.plan(request))
            case DiffTicket(bucket=bucket, dataset=dataset, start=start, end=end):
                found = self._queries.scope(Request(sql="")).dataset(dataset, bucket)
                diff = self._diffs.between(found, start, end)
                return self._statements.stream(self._diffed(call, diff, is_cancelled))
            case MetadataTicket(command=data):
                command = decode_command(data)
                if command is None:
                    raise InvalidRequest("this ticket holds no Flight SQL command")
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
        self._queries.scope(Request(sql="", bucket=call.bucket))

    def _diff(self, call: CallContext, plain: PlainDiff) -> Diff:
        scope = self._queries.scope(Request(sql="", bucket=plain.bucket or call.bucket, schema=call.schema))
        found = scope.dataset(plain.diff, plain.bucket)
        return self._diffs.between(
            found, moment(found, plain.from_), None if plain.to is None else moment(found, plain.to)
        )

    def _diffed(self, call: CallContext, diff: Diff, is_cancelled: Callable[[], bool] | None = None) -> Planned:
        text = f"diff of {diff.now.key} from version {diff.then.version} to {diff.now.version}"
        timeout = call.session.options.query_timeout
        request = Request(sql=text, timeout_seconds=timeout, user=call.user, is_cancelled=is_cancelled)
        return self._diffs.rows(diff, request)

    def _diff_info(self, call: CallContext, descriptor: Any, plain: PlainDiff) -> fl.FlightInfo:
        diff = self._diff(call, plain)
        now = diff.now
        expires_at = int(time.time()) + TICKET_SECONDS
        ticket = DiffTicket(now.bucket, now.name, diff.then.version, now.version, expires_at, call.user)
        endpoint = fl.FlightEndpoint(fl.Ticket(self._signer.sign(ticket)), [])
        return fl.FlightInfo(self._diffed(call, diff).schema, descriptor, [endpoint], -1, -1)

    def _relation(self, call: CallContext, path: list[bytes]) -> tuple[int, Dataset | View]:
        table = table_path(path)
        options = call.session.options
        scope = self._queries.scope(Request(sql="", bucket=call.bucket, schema=call.schema, as_of=options.as_of))
        return scope.snapshot.version, scope.relation(table.name, table.schema)

    def _table_info(self, call: CallContext, descriptor: Any, one: Dataset | View, version: int) -> fl.FlightInfo:
        expires_at = int(time.time()) + TICKET_SECONDS
        ticket = self._signer.sign(TableTicket(one.bucket, one.name, version, expires_at, call.user))
        endpoint = fl.FlightEndpoint(fl.Ticket(ticket), [])
        rows, size = (one.rows, one.bytes) if isinstance(one, Dataset) and one.external is None else (-1, -1)
        return fl.FlightInfo(self._columns(one, version), descriptor, [endpoint], rows, size)

    def _columns(self, one: Dataset | View, version: int) -> pa.Schema:
        if isinstance(one, Dataset):
            return visible(decode(one.schema))
        # What a view answers changes with the tables that it reads.
        return self._queries.plan(Request(sql=_all_rows(one.bucket, one.name), as_of=version)).schema


def _all_rows(bucket: str, name: str) -> str:
    return f'SELECT * FROM "{quoted(bucket)}"."{quoted(name)}"'  # noqa: S608  # names are quoted


def _command(descriptor: Any) -> bytes:
    if descriptor.descriptor_type != fl.DescriptorType.CMD:
        raise InvalidRequest("the descriptor has neither a command nor a path")
    command: bytes = descriptor.command
    return command


def _query(plain: PlainCommand) -> Wanted:
    if not isinstance(plain, PlainQuery):
        raise InvalidRequest("this JSON command sends data: use it with DoPut")
    return Wanted(sql=plain.sql, parameters=plain.bound(), page_rows=plain.page_rows, as_of=plain.as_of)
