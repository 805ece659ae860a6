"""Prepared statements: a handle for a statement's text or plan, and the values bound to it last.

A handle is a random id of an entry in this process; entries that were not used for an hour are forgotten, and of more
than 10,000, or of more bytes than `server.prepared_bytes` allows, the ones used longest ago, those of a user who has
more than half first. Bytes are those of texts, plans and bound rows. The statement is planned anew at each run, because
the engine plans after binding and the catalog may have moved on. `lock` guards the map and the sum of its bytes;
entries are immutable.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from flightserver.access.principal import ANONYMOUS_NAME
from flightserver.errors import LimitExceeded, NotFound
from flightserver.flight.sql.statements import Wanted
from flightserver.query.parameters import in_expected_units

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa

_Key = tuple[str, bytes]
"""A user and a handle."""

_KEPT = 10_000
IDLE_SECONDS = 3600.0
"""After which a statement that wasn't used is forgotten."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One prepared statement.

    Attributes:
        sql: Its text; of a Substrait plan, the text that is shown for it.
        used: When it was used last, in seconds of the clock.
        parameters: The rows bound last.
        transaction: The one that it was prepared in.
        substrait: Its Substrait plan, if it is one.
        expected: The type of each placeholder in the statement's order; None where it is unknown.
    """

    sql: str
    used: float
    parameters: pa.RecordBatch | None = None
    transaction: bytes | None = None
    substrait: bytes | None = None
    expected: Mapping[str, pa.DataType | None] = field(default_factory=dict)

    def values(self, sent: pa.RecordBatch) -> pa.RecordBatch:
        """Rows that a client sent, in the units that the statement needs."""
        return in_expected_units(sent, self.expected)

    def wanted(self, parameters: pa.RecordBatch | None = None) -> Wanted:
        """The statement to run, with these rows of values in place of those bound last, if any are given."""
        return Wanted(
            sql=self.sql,
            parameters=self.parameters if parameters is None else self.values(parameters),
            transaction=self.transaction,
            substrait=self.substrait,
            described=True,
            follows=True,
        )

    @property
    def size(self) -> int:
        """Bytes of text, plan and bound rows."""
        rows = 0 if self.parameters is None else self.parameters.nbytes
        return len(self.sql) + len(self.substrait or b"") + rows


class PreparedStatements:
    """The prepared statements of this process.

    Args:
        max_bytes: Of all together.
        clock: Monotonic seconds.
    """

    def __init__(self, max_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._prepared: OrderedDict[_Key, Prepared] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def create(
        self,
        sql: str,
        transaction: bytes | None = None,
        substrait: bytes | None = None,
        expected: Mapping[str, pa.DataType | None] | None = None,
        user: str = ANONYMOUS_NAME,
    ) -> bytes:
        """Keep a statement, with the types of its placeholders; returns its handle, which is good for this user only.

        Raises:
            LimitExceeded: It alone has more bytes than all may have.
        """
        handle = secrets.token_hex(16).encode()
        statement = Prepared(sql, self._clock(), transaction=transaction, substrait=substrait, expected=expected or {})
        with self._lock:
            self._keep((user, handle), statement)
        return handle

    def get(self, handle: bytes, user: str = ANONYMOUS_NAME) -> Prepared:
        """The statement of a user's handle; counts as a use.

        Raises:
            NotFound: It was closed or forgotten, or is another user's.
        """
        with self._lock:
            return self._use((user, handle))

    def bind(self, handle: bytes, parameters: pa.RecordBatch, user: str = ANONYMOUS_NAME) -> None:
        """Bind rows of values, in place of those bound before.

        Raises:
            NotFound: As `get`.
            LimitExceeded: As `create`; what was bound before stays.
        """
        with self._lock:
            prepared = self._use((user, handle))
            self._keep((user, handle), replace(prepared, parameters=prepared.values(parameters)))

    def close(self, handle: bytes, user: str = ANONYMOUS_NAME) -> None:
        """Forget a statement; one that is not kept, or is another user's, is fine."""
        with self._lock:
            self._forget((user, handle))

    @property
    def size(self) -> int:
        """Bytes of all statements that are kept."""
        with self._lock:
            return self._size

    def _use(self, key: _Key) -> Prepared:
        found = self._prepared.get(key)
        if found is None:
            raise NotFound(
                "this prepared statement was closed, not used for an hour, or forgotten to make room for others: "
                "prepare it again"
            )
        used = self._prepared[key] = replace(found, used=self._clock())
        self._prepared.move_to_end(key)
        return used

    def _keep(self, key: _Key, statement: Prepared) -> None:
        if statement.size > self._max_bytes:
            raise LimitExceeded(
                f"the statement and its bound values have {statement.size:,} bytes; all prepared statements together "
                f"may have {self._max_bytes:,}: bind fewer rows at once, or load them into a table"
            )
        self._forget(key)
        self._prepared[key] = statement
        self._size += statement.size
        oldest_kept = self._clock() - IDLE_SECONDS
        while next(iter(self._prepared.values())).used < oldest_kept:
            self._forget(next(iter(self._prepared)))
        while len(self._prepared) > _KEPT or self._size > self._max_bytes:
            self._forget(self._surplus(key))

    def _surplus(self, newest: _Key) -> _Key:
        """What makes room for the newest: another one of its user, who has more than half of all; else the oldest."""
        own = [key for key in self._prepared if key[0] == newest[0]]
        size = sum(self._prepared[key].size for key in own)
        has_most = len(own) > 1 and (len(own) * 2 > _KEPT or size * 2 > self._max_bytes)
        return own[0] if has_most else next(iter(self._prepared))

    def _forget(self, key: _Key) -> None:
        found = self._prepared.pop(key, None)
        if found is not None:
            self._size -= found.size
