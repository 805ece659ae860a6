"""What is asked of the engine, and what was understood of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from flightserver.errors import InvalidRequest
from flightserver.query.namespace import PUBLIC, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from datafusion import DataFrame

    from flightserver.access.rights import Rights
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.query.language.statements import Statement
    from flightserver.query.substrait import SubstraitQuery
    from flightserver.query.transactions import Transaction

COUNT_SCHEMA = pa.schema([pa.field("count", pa.int64(), nullable=False)])
"""What a statement that changes data answers when it is run as a query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One statement as a caller sends it.

    Attributes:
        sql: One statement.
        parameters: Rows of bound values, or None.
        bucket: Where bare names are looked up first and new tables are made; None for primary.
        schema: The session's schema.
        as_of: Version or time to read at; None for now.
        timeout_seconds: None for the server's own limit, which is also the most that counts.
        rights: Of who asks; when it is planned, those by the newest snapshot take their place.
        operation: Identifies the statement's one run; empty for a new one.
        given: Tables that came with the statement, and temporary ones of whoever asks.
        drop_temporary: Drops a temporary table of whoever asks, and tells whether there was one; None where nobody
            could have one.
        temporary: Whether the statement was understood before to change a temporary table, even if that is gone now.
        substrait: A query as a serialized Substrait plan, for which `sql` is a text to show; None where `sql` says it.
        transaction: The one that the statement is part of; None for one of its own.
        repeatable: Whether the operation may be asked for again for as long as the log remembers it.
        is_cancelled: Tells whether whoever asked has gone away; must stay callable until the statement ends.
    """

    sql: str
    parameters: pa.RecordBatch | None = None
    bucket: str | None = None
    schema: str = PUBLIC
    as_of: int | datetime | None = None
    timeout_seconds: float | None = None
    rights: Rights
    operation: str = ""
    given: Mapping[str, tuple[pa.Schema, list[pa.RecordBatch]]] = field(default_factory=dict)
    transaction: Transaction | None = None
    is_cancelled: Callable[[], bool] | None = None
    repeatable: bool = False
    substrait: bytes | None = None
    drop_temporary: Callable[[str], bool] | None = None
    temporary: bool = False

    @property
    def user(self) -> str:
        """For `system.queries` and the commit log."""
        return self.rights.user

    def judged_by(self, scope: Scope) -> Request:
        """The same with the rights by which its scope was made, which may be newer than those that it came with."""
        return self if scope.rights is self.rights else replace(self, rights=scope.rights)

    def refuse_in_transaction(self, what: str) -> None:
        """Return unless the statement is part of a transaction.

        Raises:
            InvalidRequest: It is.
        """
        if self.transaction is not None:
            raise InvalidRequest(f"{what} is not available inside of a transaction: commit first")


@dataclass(frozen=True, slots=True)
class Planned:
    """A statement that was understood: what it is, and what it will answer.

    Attributes:
        frame: The engine's plan of a query; None for a statement that changes data.
        schema: Of the rows it answers; of the count for a statement that changes data.
        plan: The query where it came as a Substrait plan; else None.
        searches: Whether the query, or a view in it, searches: it is planned anew when its rows are wanted.
    """

    request: Request
    statement: Statement
    scope: Scope
    schema: pa.Schema
    frame: DataFrame | None
    plan: SubstraitQuery | None = None
    searches: bool = False

    def holds_for(self, rights: Rights, newest: Snapshot) -> bool:
        """Whether it shows whoever has these rights what it would if it were planned now.

        Policies may be about tags of columns, which are no part of rights, so for those to whom any apply it holds in
        the version in which it was planned.
        """
        now, mine = rights.at(newest.access), self.request.rights
        if now.principal != mine.principal or now.access.version != mine.access.version:
            return False
        judged = self.scope.newest
        return not now.has_policies or (judged is not None and judged.version == newest.version)
