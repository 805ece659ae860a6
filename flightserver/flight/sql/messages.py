"""What a Flight SQL client can ask, as frozen dataclasses.

`decoding.py` makes them from the bytes that a client sends, so the rest of the server never sees protobuf.

None means that the client left a value out; an empty name means objects that have no such name. Patterns are LIKE
patterns, see `like.py`. Handles and transaction ids are opaque bytes that the server gave out before.

Specification: https://arrow.apache.org/docs/format/FlightSql.html and .../format/Flight.html.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

SessionValue = str | bool | int | float | tuple[str, ...] | None
"""None asks to clear the option."""


@dataclass(frozen=True, slots=True)
class GetSqlInfo:
    """Facts about the server; no ids means all of them."""

    info: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GetXdbcTypeInfo:
    """The server's SQL types, or the one with this XDBC number."""

    data_type: int | None = None


@dataclass(frozen=True, slots=True)
class GetCatalogs:
    """The names of the catalogs."""


@dataclass(frozen=True, slots=True)
class GetDbSchemas:
    """The names of the schemas; the filter is a LIKE pattern."""

    catalog: str | None = None
    db_schema_filter_pattern: str | None = None


@dataclass(frozen=True, slots=True)
class GetTables:
    """The tables; the filters are LIKE patterns, no types means all."""

    catalog: str | None = None
    db_schema_filter_pattern: str | None = None
    table_name_filter_pattern: str | None = None
    table_types: tuple[str, ...] = ()
    include_schema: bool = False


@dataclass(frozen=True, slots=True)
class GetTableTypes:
    """The kinds of table there are."""


@dataclass(frozen=True, slots=True)
class TableReference:
    """One table by exact names; None matches any catalog or schema."""

    catalog: str | None
    db_schema: str | None
    table: str


@dataclass(frozen=True, slots=True)
class GetPrimaryKeys:
    """The primary key of a table."""

    table: TableReference


@dataclass(frozen=True, slots=True)
class GetExportedKeys:
    """The foreign keys that refer to a table."""

    table: TableReference


@dataclass(frozen=True, slots=True)
class GetImportedKeys:
    """The foreign keys that a table has."""

    table: TableReference


@dataclass(frozen=True, slots=True)
class GetCrossReference:
    """The foreign keys of one table that refer to another."""

    parent: TableReference
    foreign: TableReference


@dataclass(frozen=True, slots=True)
class SubstraitPlan:
    """A serialized substrait.Plan and the Substrait release it is written for."""

    plan: bytes
    version: str


@dataclass(frozen=True, slots=True)
class StatementQuery:
    """A query to plan and run."""

    query: str
    transaction_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class StatementSubstraitPlan:
    """A Substrait plan to run, as a query or as an update."""

    plan: SubstraitPlan
    transaction_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class TicketStatementQuery:
    """The ticket of a statement, inside the wrapping that the specification gives it."""

    statement_handle: bytes


@dataclass(frozen=True, slots=True)
class PreparedStatementQuery:
    """A prepared query to run, or with DoPut, to bind values to."""

    prepared_statement_handle: bytes


@dataclass(frozen=True, slots=True)
class StatementUpdate:
    """A statement that changes something."""

    query: str
    transaction_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class PreparedStatementUpdate:
    """A prepared statement that changes something, run once per row of values sent with it."""

    prepared_statement_handle: bytes


class IfNotExists(enum.IntEnum):
    """What ingestion does when the table is not there."""

    CREATE = 1
    FAIL = 2


class IfExists(enum.IntEnum):
    """What ingestion does when the table is there."""

    FAIL = 1
    APPEND = 2
    REPLACE = 3


@dataclass(frozen=True, slots=True)
class StatementIngest:
    """A stream of rows to load into a table."""

    table: str
    if_not_exists: IfNotExists
    if_exists: IfExists
    db_schema: str | None = None
    catalog: str | None = None
    temporary: bool = False
    transaction_id: bytes | None = None
    options: Mapping[str, str] = field(default_factory=dict)


Command = (
    GetSqlInfo
    | GetXdbcTypeInfo
    | GetCatalogs
    | GetDbSchemas
    | GetTables
    | GetTableTypes
    | GetPrimaryKeys
    | GetExportedKeys
    | GetImportedKeys
    | GetCrossReference
    | StatementQuery
    | StatementSubstraitPlan
    | TicketStatementQuery
    | PreparedStatementQuery
    | StatementUpdate
    | PreparedStatementUpdate
    | StatementIngest
)


@dataclass(frozen=True, slots=True)
class CreatePreparedStatement:
    """Plan a statement once, to run it often."""

    query: str
    transaction_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class CreatePreparedSubstraitPlan:
    """Plan a Substrait plan once, to run it often."""

    plan: SubstraitPlan
    transaction_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class ClosePreparedStatement:
    """Forget a prepared statement."""

    prepared_statement_handle: bytes


@dataclass(frozen=True, slots=True)
class BeginTransaction:
    """Begin a transaction."""


@dataclass(frozen=True, slots=True)
class BeginSavepoint:
    """Set a mark in a transaction to which it can be rolled back."""

    transaction_id: bytes
    name: str


class EndTransactionMode(enum.IntEnum):
    """How a transaction ends."""

    COMMIT = 1
    ROLLBACK = 2


@dataclass(frozen=True, slots=True)
class EndTransaction:
    """Commit or roll back a transaction."""

    transaction_id: bytes
    mode: EndTransactionMode


class EndSavepointMode(enum.IntEnum):
    """What becomes of a savepoint."""

    RELEASE = 1
    ROLLBACK = 2


@dataclass(frozen=True, slots=True)
class EndSavepoint:
    """Release a savepoint or roll back to it."""

    savepoint_id: bytes
    mode: EndSavepointMode


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One part of a result and the ticket that fetches it."""

    ticket: bytes
    locations: tuple[str, ...] = ()
    expires_at: datetime | None = None
    app_metadata: bytes = b""


@dataclass(frozen=True, slots=True)
class SentFlightInfo:
    """A FlightInfo that a client sends back; of its descriptor, `command` or `path` is set."""

    endpoints: tuple[Endpoint, ...]
    command: bytes = b""
    path: tuple[str, ...] = ()
    app_metadata: bytes = b""


@dataclass(frozen=True, slots=True)
class CancelQuery:
    """Stop a query: the predecessor of CancelFlightInfo."""

    info: SentFlightInfo


@dataclass(frozen=True, slots=True)
class CancelFlightInfo:
    """Stop a query and free its results."""

    info: SentFlightInfo


@dataclass(frozen=True, slots=True)
class RenewFlightEndpoint:
    """Keep one part of a result for longer."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class SetSessionOptions:
    """Set, or with None clear, options of this session."""

    options: Mapping[str, SessionValue]


@dataclass(frozen=True, slots=True)
class GetSessionOptions:
    """The options of this session."""


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Forget this session."""


ActionRequest = (
    CreatePreparedStatement
    | CreatePreparedSubstraitPlan
    | ClosePreparedStatement
    | BeginTransaction
    | BeginSavepoint
    | EndTransaction
    | EndSavepoint
    | CancelQuery
    | CancelFlightInfo
    | RenewFlightEndpoint
    | SetSessionOptions
    | GetSessionOptions
    | CloseSession
)
