"""Prepared statements: a handle for a statement's text and the values bound to it last.

A handle is a random id of an entry in this process; entries that were not used for an hour, and of more than 10,000
the ones used longest ago, are forgotten. The statement is planned anew at each run, because the engine
plans after binding and the catalog may have moved on. `lock` guards the map; entries are immutable.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flightserver.errors import NotFound

if TYPE_CHECKING:
    import pyarrow as pa

_KEPT = 10_000
_IDLE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """One prepared statement; `parameters` are the rows bound last, `transaction` is that which it was prepared in."""

    sql: str
    used: float
    parameters: pa.RecordBatch | None = None
    transaction: bytes | None = None


class PreparedStatements:
    """The prepared statements of this process."""

    def __init__(self) -> None:
        self._prepared: OrderedDict[bytes, Prepared] = OrderedDict()
        self._lock = threading.Lock()

    def create(self, sql: str, transaction: bytes | None = None) -> bytes:
        """Keep a statement; returns its handle."""
        handle = secrets.token_hex(16).encode()
        now = time.monotonic()
        with self._lock:
            self._prepared[handle] = Prepared(sql, now, transaction=transaction)
            while len(self._prepared) > _KEPT or next(iter(self._prepared.values())).used < now - _IDLE_SECONDS:
                self._prepared.popitem(last=False)
        return handle

    def get(self, handle: bytes) -> Prepared:
        """The statement of a handle; counts as a use.

        Raises:
            NotFound: It was closed, or forgotten after an hour without use.
        """
        with self._lock:
            found = self._prepared.get(handle)
            if found is None:
                raise NotFound("this prepared statement was closed, or not used for an hour: prepare it again")
            used = self._prepared[handle] = replace(found, used=time.monotonic())
            self._prepared.move_to_end(handle)
            return used

    def bind(self, handle: bytes, parameters: pa.RecordBatch) -> None:
        """Bind rows of values, in place of those bound before.

        Raises:
            NotFound: As `get`.
        """
        prepared = self.get(handle)
        with self._lock:
            self._prepared[handle] = replace(prepared, parameters=parameters)

    def close(self, handle: bytes) -> None:
        """Forget a statement; one that is not kept is fine."""
        with self._lock:
            self._prepared.pop(handle, None)
