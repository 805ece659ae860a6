"""Actions `dataset.upsert`, `dataset.delete`, `dataset.truncate` and `dataset.alter`: changes without SQL.

An action has no stream, so rows come as an upload (or a file under an allowed root) in any format that can be ingested,
Arrow streams among them; DoPut with `{"ingest": ..., "mode": "upsert"}` or `{"delete": ...}` takes a stream at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from flightserver.catalog.identities import Privilege
from flightserver.catalog.log import Operation
from flightserver.catalog.quoting import delimited
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import InvalidRequest
from flightserver.flight.actions.ingest import IngestFileRequest, IngestFileResponse, load_file
from flightserver.flight.actions.registry import Action, ActionRequest, ActionResponse, Progress
from flightserver.flight.permissions import Ingesting, OnDataset, check_change
from flightserver.flight.scoping import dataset_of
from flightserver.ingest.uploads import is_upload_id
from flightserver.query.request import Request
from flightserver.tables.schema import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.catalog.entities import Dataset
    from flightserver.flight.middleware import CallContext
    from flightserver.lakehouse import Lakehouse

_MAX_KEY_BYTES = 512 * 1024 * 1024
"""Of keys from a file, which are held in memory; as bound values."""


class UpsertRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `dataset.upsert`: rows of `source` take the place of those with the same primary key."""

    dataset: str
    source: str
    format: str | None = None
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    primary_key: tuple[str, ...] = ()


class DeleteRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `dataset.delete`: keys as JSON objects, or the `source` that has them."""

    dataset: str
    keys: list[dict[str, Any]] | None = None
    source: str | None = None
    format: str | None = None
    options: dict[str, Any] = msgspec.field(default_factory=dict)


class DatasetOnly(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `dataset.truncate`."""

    dataset: str


class NewColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column to add; `type` as in CREATE TABLE."""

    name: str
    type: str


class AlterRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `dataset.alter`; what is left out stays. All of it happens, or nothing."""

    dataset: str
    add: list[NewColumn] = msgspec.field(default_factory=list)
    drop: list[str] = msgspec.field(default_factory=list)
    rename: dict[str, str] = msgspec.field(default_factory=dict)
    primary_key: tuple[str, ...] | None = None
    """An empty one takes the key away."""
    comment: str | None = None
    comments: dict[str, str] = msgspec.field(default_factory=dict)
    """Of columns, by their names afterwards."""
    new_name: str | None = None


class ChangedRows(ActionResponse, frozen=True, kw_only=True):
    """Result of `dataset.delete` and `dataset.truncate`: how many rows are gone."""

    dataset: str
    bucket: str
    rows: int


class Altered(ActionResponse, frozen=True, kw_only=True):
    """Result of `dataset.alter`."""

    dataset: str
    bucket: str
    version: int
    columns: list[str]


class ChangeActions:
    """Handlers that change the rows or the definition of a dataset."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self._lakehouse = lakehouse

    def actions(self) -> list[Action]:
        """The family."""
        return [
            Action(
                "dataset.upsert",
                "Put rows in the place of those with the same primary key, and add the others.",
                UpsertRequest,
                IngestFileResponse,
                Ingesting(self._lakehouse.queries, "upsert"),
                self._upsert,
            ),
            Action(
                "dataset.delete",
                "Delete the rows that have these keys.",
                DeleteRequest,
                ChangedRows,
                OnDataset(self._lakehouse.queries, (Privilege.DELETE,)),
                self._delete,
            ),
            Action(
                "dataset.truncate",
                "Delete all rows.",
                DatasetOnly,
                ChangedRows,
                OnDataset(self._lakehouse.queries, (Privilege.DELETE,)),
                self._truncate,
            ),
            Action(
                "dataset.alter",
                "Add, drop and rename columns; set the key, comments and the name.",
                AlterRequest,
                Altered,
                OnDataset(self._lakehouse.queries, (Privilege.ALTER,)),
                self._alter,
            ),
        ]

    def _upsert(self, call: CallContext, request: UpsertRequest) -> Iterator[Progress | ActionResponse]:
        file = IngestFileRequest(
            bucket=request.bucket,
            source=request.source,
            dataset=request.dataset,
            mode="upsert",
            format=request.format,
            options=request.options,
            primary_key=request.primary_key,
        )
        return load_file(self._lakehouse.ingest, self._lakehouse.metrics, self._lakehouse.queries, call, file)

    def _delete(self, call: CallContext, request: DeleteRequest) -> Iterator[Progress | ActionResponse]:
        one = dataset_of(self._lakehouse.queries, call, request)
        keys = self._keys(one, request, call.user)
        operation = Operation(id=new_ulid(), kind="delete", detail=str(one.key), user=call.user)

        def confirm() -> None:
            """A source of keys may take long to read: what the caller may do can be another by then."""
            check_change(self._lakehouse.queries, call, one.key, Privilege.DELETE)

        rows = self._lakehouse.streams.delete(one.key, keys, operation, dataset_id=one.id, confirm=confirm)
        if request.source is not None and is_upload_id(request.source):
            self._lakehouse.uploads.discard(request.source)
        yield ChangedRows(dataset=one.name, bucket=one.bucket, rows=rows)

    def _keys(self, dataset: Dataset, request: DeleteRequest, user: str) -> pa.Table:
        if (request.keys is None) == (request.source is None):
            raise InvalidRequest("dataset.delete takes either `keys` or `source`")
        if request.source is None:
            return _table(dataset, request.keys or [])
        source = self._lakehouse.ingest.rows(request.source, request.format, request.options, user)
        batches, held = [], 0
        for batch in source.batches():
            held += batch.nbytes
            if held > _MAX_KEY_BYTES:
                raise InvalidRequest(f"the keys take more than {_MAX_KEY_BYTES:,} bytes: delete by SQL, from a table")
            batches.append(batch)
        return pa.Table.from_batches(batches, source.schema)

    def _truncate(self, call: CallContext, request: DatasetOnly) -> Iterator[Progress | ActionResponse]:
        one = dataset_of(self._lakehouse.queries, call, request)
        operation = Operation(id=new_ulid(), kind="truncate", detail=str(one.key), user=call.user)
        rows = self._lakehouse.tables.clear(one.name, one.bucket, operation)
        yield ChangedRows(dataset=one.name, bucket=one.bucket, rows=rows)

    def _alter(self, call: CallContext, request: AlterRequest) -> Iterator[Progress | ActionResponse]:
        """Runs the statements in one transaction."""
        one = dataset_of(self._lakehouse.queries, call, request)
        queries, transactions = self._lakehouse.queries, self._lakehouse.transactions
        open_id = transactions.begin(call.user)
        try:
            for sql in _statements(one, request):
                planned = Request(sql=sql, rights=call.rights, transaction=transactions.get(open_id))
                queries.update(queries.plan(planned))
            transactions.commit(open_id)
        except BaseException:
            transactions.close_quietly(open_id)
            raise
        if request.new_name is not None:
            sql = f"ALTER TABLE {_table_name(one)} RENAME TO {delimited(request.new_name)}"
            queries.update(queries.plan(Request(sql=sql, rights=call.rights)))
        now = self._lakehouse.catalog.snapshot().dataset(request.new_name or one.name, one.bucket)
        names = decode(now.schema).names
        yield Altered(dataset=now.name, bucket=now.bucket, version=now.version, columns=names)


def _statements(dataset: Dataset, request: AlterRequest) -> Iterator[str]:
    table = _table_name(dataset)
    steps = [f"DROP COLUMN {delimited(column)}" for column in request.drop]
    if request.primary_key is not None and dataset.primary_key:
        steps.insert(0, "DROP PRIMARY KEY")
    steps += [f"RENAME COLUMN {delimited(old)} TO {delimited(new)}" for old, new in request.rename.items()]
    steps += [f"ADD COLUMN {delimited(column.name)} {column.type}" for column in request.add]
    if request.primary_key:
        steps.append(f"ADD PRIMARY KEY ({', '.join(map(delimited, request.primary_key))})")
    if steps:
        yield f"ALTER TABLE {table} {', '.join(steps)}"
    if request.comment is not None:
        yield f"COMMENT ON TABLE {table} IS {_text(request.comment)}"
    for column, comment in request.comments.items():
        yield f"COMMENT ON COLUMN {table}.{delimited(column)} IS {_text(comment)}"


def _table(dataset: Dataset, keys: list[dict[str, Any]]) -> pa.Table:
    """Keys that came as JSON, with the types of the dataset's columns."""
    schema = decode(dataset.schema)
    names = list(dict.fromkeys(name for key in keys for name in key))
    unknown = [name for name in names if name not in schema.names]
    if unknown or not names:
        raise InvalidRequest(f"keys have columns of {dataset.key} ({', '.join(schema.names)}), found {unknown or keys}")
    try:
        columns = {name: pa.array([key.get(name) for key in keys], schema.field(name).type) for name in names}
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"a key doesn't fit the columns of {dataset.key}: {error}") from None
    return pa.table(columns)


def _table_name(dataset: Dataset) -> str:
    return f"{delimited(dataset.bucket)}.{delimited(dataset.name)}"


def _text(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
