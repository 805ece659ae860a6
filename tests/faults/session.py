"""Flight SQL by hand: statements with as few round trips as there can be, so that the load is the server's.

Errors are those of `flightclient.errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.flight as fl
from flightclient.translation import translated

from flightserver.flight.sql.protocol import SQL_PACKAGE, message_class, pack, unpack

if TYPE_CHECKING:
    from types import TracebackType

_COMMIT, _ROLLBACK = 1, 2


def _message(name: str, **fields: Any) -> Any:
    return message_class(f"{SQL_PACKAGE}.{name}")(**fields)


class Session:
    """One connection to a server; belongs to one thread at a time.

    Args:
        uri: Where the server listens.
    """

    def __init__(self, uri: str) -> None:
        self._client = fl.connect(uri)

    def rows(self, sql: str, transaction: bytes = b"") -> list[tuple[Any, ...]]:
        """The answer to a query."""
        command = _message("CommandStatementQuery", query=sql, transaction_id=transaction)
        with translated():
            info = self._client.get_flight_info(fl.FlightDescriptor.for_command(pack(command)))
            table = self._client.do_get(info.endpoints[0].ticket).read_all()
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def update(self, sql: str, transaction: bytes = b"") -> int:
        """Run a statement that changes data; how many rows."""
        command = _message("CommandStatementUpdate", query=sql, transaction_id=transaction)
        with translated():
            descriptor = fl.FlightDescriptor.for_command(pack(command))
            writer, answers = self._client.do_put(descriptor, pa.schema([]))
            with writer:
                writer.done_writing()
                answer = answers.read()
        return int(message_class(f"{SQL_PACKAGE}.DoPutUpdateResult").FromString(answer.to_pybytes()).record_count)

    def begin(self) -> bytes:
        """Begin a transaction."""
        [answer] = self._act("BeginTransaction", _message("ActionBeginTransactionRequest"))
        packed = unpack(answer)
        assert packed is not None
        identity: bytes = message_class(packed.name).FromString(packed.value).transaction_id
        return identity

    def commit(self, transaction: bytes) -> None:
        """End a transaction with its changes."""
        self._end(transaction, _COMMIT)

    def roll_back(self, transaction: bytes) -> None:
        """End a transaction without its changes."""
        self._end(transaction, _ROLLBACK)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _end(self, transaction: bytes, how: int) -> None:
        self._act("EndTransaction", _message("ActionEndTransactionRequest", transaction_id=transaction, action=how))

    def _act(self, kind: str, body: Any) -> list[bytes]:
        with translated():
            return [answer.body.to_pybytes() for answer in self._client.do_action(fl.Action(kind, pack(body)))]
