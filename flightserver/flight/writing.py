"""DoPut: statements that change data, bound values, uploads and rows to ingest."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.flight as fl

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.identities import Privilege
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import InvalidRequest
from flightserver.flight.permissions import WRITER, check_change, check_command, still_ingests
from flightserver.flight.plain import PlainDelete, PlainIngest, PlainUpload, plain_command, table_path
from flightserver.flight.scoping import scope_of
from flightserver.flight.sql import messages as m
from flightserver.flight.sql import results
from flightserver.flight.sql.decoding import decode_command
from flightserver.flight.sql.statements import Wanted
from flightserver.flight.streams import SentRows, held_batches, one_batch, sent_batches, sent_schema
from flightserver.ingest.service import StreamRequest
from flightserver.query.namespace import CATALOG
from flightserver.tables.requests import Mode

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.flight.middleware import CallContext
    from flightserver.flight.sql.prepared import PreparedStatements
    from flightserver.flight.sql.statements import Statements
    from flightserver.ingest.service import Ingest
    from flightserver.ingest.uploads import Uploads
    from flightserver.query.transactions import Transactions
    from flightserver.query.upserts import RowStreams
    from flightserver.tables.requests import WriteResult
    from flightserver.telemetry import Metrics

MAX_BOUND_BYTES = 512 * 1024 * 1024
"""Bound rows of one DoPut are held in memory; larger inputs are ingestions."""

_MODES = {
    (m.IfNotExists.CREATE, m.IfExists.FAIL): "create",
    (m.IfNotExists.FAIL, m.IfExists.APPEND): "append",
    (m.IfNotExists.CREATE, m.IfExists.REPLACE): "replace",
    (m.IfNotExists.CREATE, m.IfExists.APPEND): "create_append",
}
"""What CommandStatementIngest's two options mean together."""


class Writing:
    """Everything that a client can send."""

    def __init__(
        self,
        statements: Statements,
        prepared: PreparedStatements,
        ingest: Ingest,
        uploads: Uploads,
        metrics: Metrics,
        streams: RowStreams,
        transactions: Transactions,
    ) -> None:
        self._streams = streams
        self._transactions = transactions
        self._statements = statements
        self._prepared = prepared
        self._ingest = ingest
        self._uploads = uploads
        self._metrics = metrics

    def put(
        self, call: CallContext, descriptor: Any, reader: Any, writer: Any, is_cancelled: Callable[[], bool]
    ) -> None:
        """Answers DoPut.

        Raises:
            InvalidRequest: The descriptor is none of the known forms, or the stream is not valid Arrow.
            NotFound: There is no such bucket, or what the descriptor names.
        """
        scope_of(self._statements.queries, call)
        if descriptor.descriptor_type == fl.DescriptorType.PATH:
            table = table_path(descriptor.path)
            self._ingest_rows(call, PlainIngest(ingest=table.name, bucket=table.schema), reader, writer)
            return
        command = decode_command(descriptor.command)
        if command is None:
            self._put_plain(call, descriptor.command, reader, writer)
        else:
            check_command(call, command)
            self._put_command(call, command, reader, writer, is_cancelled)

    def _put_plain(self, call: CallContext, command: bytes, reader: Any, writer: Any) -> None:
        match plain_command(command):
            case PlainUpload() as upload:
                call.note.what, call.note.about = "upload", upload.upload
                WRITER.check(call, "an upload", upload)
                self._upload(call, upload, reader, writer)
            case PlainIngest() as ingest:
                self._ingest_rows(call, ingest, reader, writer)
            case PlainDelete() as delete:
                self._delete(call, delete, reader, writer)
            case _:
                raise InvalidRequest(
                    'DoPut takes a path, {"ingest": dataset}, {"delete": dataset}, {"upload": file name} or a Flight '
                    "SQL command; "
                    "SQL against the rows that you send is DoExchange"
                )

    def _put_command(
        self, call: CallContext, command: m.Command, reader: Any, writer: Any, is_cancelled: Callable[[], bool]
    ) -> None:
        match command:
            case m.StatementUpdate(query=sql, transaction_id=transaction):
                wanted = Wanted(sql=sql, transaction=transaction)
                count = self._statements.update(self._statements.request(call, wanted, is_cancelled))
                writer.write(results.updated_rows(count))
            case m.PreparedStatementUpdate(prepared_statement_handle=handle):
                prepared = self._prepared.get(handle, call.user)
                sent = _bound(reader)
                count = self._statements.update(self._statements.request(call, prepared.wanted(sent), is_cancelled))
                writer.write(results.updated_rows(count))
            case m.PreparedStatementQuery(prepared_statement_handle=handle):
                sent = _bound(reader)
                if sent is not None:
                    self._prepared.bind(handle, sent, call.user)
                writer.write(results.bound_statement(handle))
            case m.StatementIngest():
                self._ingest_command(call, command, reader, writer)
            case _:
                raise InvalidRequest(f"{type(command).__name__} can't be sent by DoPut: it reads, use GetFlightInfo")

    def _ingest_command(self, call: CallContext, command: m.StatementIngest, reader: Any, writer: Any) -> None:
        mode = _MODES.get((command.if_not_exists, command.if_exists))
        if mode is None:
            raise InvalidRequest(
                f"if_not_exists={command.if_not_exists.name} with if_exists={command.if_exists.name} is not a mode: "
                "expected create, append, replace or create_append"
            )
        if command.temporary:
            writer.write(results.updated_rows(self._ingest_temporary(call, command, Mode(mode), reader)))
            return
        if command.catalog not in {None, "", CATALOG}:
            raise InvalidRequest(f"catalog {command.catalog!r} doesn't exist: there is one, {CATALOG!r}")
        ingest = PlainIngest(ingest=command.table, mode=mode, bucket=command.db_schema)
        result = self._load(call, ingest, reader, command.transaction_id)
        writer.write(results.updated_rows(result.rows))

    def _ingest_temporary(self, call: CallContext, command: m.StatementIngest, mode: Mode, reader: Any) -> int:
        """Rows into a temporary table, which is no part of a transaction."""
        if command.catalog or command.db_schema:
            place = f"catalog {command.catalog!r}" if command.catalog else f"schema {command.db_schema!r}"
            raise InvalidRequest(
                f"temporary table {command.table!r} is asked for in {place}: temporary tables have a bare name"
            )
        rows = self._statements.temporary.write(
            call.owner, command.table, mode, sent_schema(reader), sent_batches(reader)
        )
        self._metrics.ingested_rows.inc(rows)
        return rows

    def _ingest_rows(self, call: CallContext, ingest: PlainIngest, reader: Any, writer: Any) -> None:
        result = self._load(call, ingest, reader)
        writer.write(msgspec.json.encode(asdict(result)))

    def _load(
        self, call: CallContext, ingest: PlainIngest, reader: Any, transaction_id: bytes | None = None
    ) -> WriteResult:
        request = _stream_request(call, ingest)
        key = DatasetKey(request.bucket, request.dataset)
        call.note.what, call.note.about = call.note.what or f"ingest {request.mode}", str(key)
        allowed = still_ingests(self._statements.queries, call, key, mode=request.mode, evolve=request.evolve)

        def confirm() -> None:
            """The client may have taken long to send: what it may do and what the name means can be another by then."""
            reader.check()
            allowed()

        if transaction_id is None:
            result = self._ingest.stream(request, SentRows(reader), confirm=confirm)
        else:
            self._transactions.check_owner(transaction_id, call.user)
            transaction = self._transactions.get(transaction_id)
            with transaction.statement() as staged:
                result = self._ingest.stream(request, SentRows(reader), staged, confirm)
        self._metrics.ingested_rows.inc(result.rows)
        self._metrics.ingested_bytes.inc(result.bytes)
        return result

    def _delete(self, call: CallContext, delete: PlainDelete, reader: Any, writer: Any) -> None:
        """Delete the rows whose keys are sent."""
        scope = scope_of(self._statements.queries, call, delete.bucket)
        dataset = scope.dataset(delete.delete, delete.bucket)
        call.note.what, call.note.about = "delete", str(dataset.key)
        scope.rights.require((Privilege.DELETE,), dataset.key, scope.now(dataset))
        keys = pa.Table.from_batches(held_batches(reader, MAX_BOUND_BYTES), sent_schema(reader))
        operation = Operation(id=new_ulid(), kind="delete", detail=str(dataset.key), user=call.user)

        def confirm() -> None:
            """As of rows to ingest."""
            reader.check()
            check_change(self._statements.queries, call, dataset.key, Privilege.DELETE)

        rows = self._streams.delete(dataset.key, keys, operation, dataset_id=dataset.id, confirm=confirm)
        writer.write(msgspec.json.encode({"dataset": dataset.name, "bucket": dataset.bucket, "rows": rows}))

    def _upload(self, call: CallContext, asked: PlainUpload, reader: Any, writer: Any) -> None:
        schema = sent_schema(reader)
        if len(schema) != 1 or not _is_binary(schema.field(0).type):
            raise InvalidRequest(f"an upload is a stream of one binary column; this one has {schema.names}")
        received = 0
        with self._uploads.start(asked.upload, asked.bytes, call.user) as upload:
            for batch in sent_batches(reader):
                for chunk in batch.column(0):
                    data = chunk.as_buffer()
                    if data is None:
                        raise InvalidRequest("an upload is a stream of bytes; this one has a null")
                    upload.write(data)
                    received += len(data)
                writer.write(msgspec.json.encode({"received": received}))
            reader.check()
            info = upload.finish()
        writer.write(msgspec.json.encode({"upload": info.id, "bytes": info.bytes, "sha256": info.sha256}))


def _stream_request(call: CallContext, ingest: PlainIngest) -> StreamRequest:
    return StreamRequest(
        dataset=ingest.ingest,
        bucket=call.home(ingest.bucket),
        mode=ingest.mode,
        operation=Operation(id=new_ulid(), kind=f"ingest {ingest.mode}", detail=ingest.ingest, user=call.user),
        primary_key=ingest.primary_key,
        evolve=ingest.evolve,
    )


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _bound(reader: Any) -> pa.RecordBatch | None:
    """The rows that came with the call; None when none came or they have no columns."""
    schema = sent_schema(reader)
    if not schema.names:
        return None
    return one_batch(schema, held_batches(reader, MAX_BOUND_BYTES))
