"""The calls in flight: how many there may be, and which of them wait for a client that does nothing.

Theory of operation: gRPC gives every call a thread of the server and knows no limit, so `Calls.begin` refuses those
beyond `max_calls` before anything else is done for them. A thread that sends to a client which doesn't read, or
receives from one which doesn't send, is inside gRPC, where neither an exception nor `is_cancelled` reaches it, and the
client's connection is alive. What ends such a call is the end of its connection: `close_stalled` shuts down the socket,
which gRPC takes for a client that went away, and the handler then ends as it does after every such client.

Rows that a call keeps in memory as its client sends them, before any statement is admitted, are counted as well
(`Call.hold`), because each of many calls may keep few enough and all together too much.

All calls of a client share its connection, so only a connection is closed whose every call has waited for too long:
calls that never wait, such as an action, count as well.

Locking: `_lock` guards `_calls`, `_refused`, `_closed`, `_held` and `Call.held`. `Call.waiting_since` and `Call.peer`
are written by the call's own thread and only read here.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import psutil
import pyarrow as pa

from flightserver.errors import Cancelled, Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

_T = TypeVar("_T")


class Call:
    """One call in flight; made by `Calls.begin`.

    Args:
        calls: All of them.

    Attributes:
        held: Bytes of rows that it keeps in memory; only `Calls` changes it.
        peer: The client's address as gRPC has it, such as `ipv4:127.0.0.1:50000`; empty until a handler says it.
        waiting_since: Since when the call waits for its client, monotonic seconds; None while it works.
    """

    __slots__ = ("_calls", "held", "peer", "waiting_since")

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.held = 0
        self.peer = ""
        self.waiting_since: float | None = None

    def hold(self, size: int) -> None:
        """Count bytes of rows that are kept in memory until the call ends.

        Raises:
            Overloaded: All calls would keep too many.
        """
        self._calls.hold(self, size)

    def paced(self, items: Generator[_T]) -> Iterator[_T]:
        """Pass items on to the client; between two of them the call waits for it.

        Yields:
            The items. Closing this generator closes `items`.
        """
        with closing(items):
            for item in items:
                self.waiting_since = time.monotonic()
                yield item
                self.waiting_since = None


class SentStream:
    """The reader of what a client sends, which tells when the call waits for more.

    gRPC shows a client that dies in the middle like one that has sent all: the stream ends. Nothing may be committed of
    half a stream, so its end counts only while the call isn't cancelled. That is known a little later than the end, so
    it is looked at once more before a commit (`check`).

    Args:
        reader: The `pyarrow.flight.FlightMetadataReader` or `MetadataRecordBatchReader` that a handler was given.
        call: Whose it is.
        is_cancelled: Whether the client has gone; as pyarrow's context tells.
    """

    def __init__(self, reader: Any, call: Call, is_cancelled: Callable[[], bool]) -> None:
        self._reader = reader
        self._call = call
        self._is_cancelled = is_cancelled

    @property
    def schema(self) -> pa.Schema:
        """Of the stream; waits for its first message."""
        self._call.waiting_since = time.monotonic()
        try:
            return self._reader.schema
        finally:
            self._call.waiting_since = None

    def read_chunk(self) -> Any:
        """The next batch and its metadata; raises StopIteration after the last.

        Raises:
            Cancelled: The client went away before it had sent all.
        """
        self._call.waiting_since = time.monotonic()
        try:
            return self._reader.read_chunk()
        except StopIteration:
            self.check()
            raise
        finally:
            self._call.waiting_since = None

    def hold(self, size: int) -> None:
        """Count bytes that are kept of what was sent. Raises as `Call.hold`."""
        self._call.hold(size)

    def check(self) -> None:
        """Return while the client is there. What it has sent in full may be seen before it is known that it has gone.

        Raises:
            Cancelled: It has gone away.
        """
        if self._is_cancelled():
            raise Cancelled("the client went away before it had sent all: nothing was changed")


class Answers:
    """The writer of what a client is answered while it sends. All raise Cancelled when the client has gone away.

    Args:
        writer: The `pyarrow.flight.FlightMetadataWriter` or `MetadataRecordBatchWriter` that a handler was given.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, data: bytes) -> None:
        """Send metadata."""
        with _while_there():
            self._writer.write(data)

    def begin(self, schema: pa.Schema) -> None:
        """Send the schema of the batches that follow."""
        with _while_there():
            self._writer.begin(schema)

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Send a batch, which has that schema."""
        with _while_there():
            self._writer.write_batch(batch)


@contextmanager
def _while_there() -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid:  # a defect of ours
        raise
    except (OSError, pa.ArrowException):  # all that pyarrow says of a call that has ended
        raise Cancelled("the client went away before it was answered") from None


class Calls:
    """All calls of a server process.

    Args:
        max_calls: How many there may be at once.
        stalled_seconds: After which a call that waits for its client counts as stalled.
        max_held: Bytes of rows that all calls together may keep in memory as they come.
    """

    def __init__(self, max_calls: int, stalled_seconds: float, max_held: int) -> None:
        self._max_calls = max_calls
        self._stalled_seconds = stalled_seconds
        self._max_held = max_held
        self._held = 0
        self._lock = threading.Lock()
        self._calls: set[Call] = set()
        self._refused = 0
        self._closed = 0

    @property
    def in_flight(self) -> int:
        """How many there are now."""
        return len(self._calls)

    @property
    def refused(self) -> int:
        """How many were refused since the start."""
        return self._refused

    @property
    def closed(self) -> int:
        """How many connections were closed since the start because all their calls were stalled."""
        return self._closed

    def begin(self) -> Call:
        """Count a call; `end` must follow.

        Raises:
            Overloaded: There are too many.
        """
        call = Call(self)
        with self._lock:
            if len(self._calls) < self._max_calls:
                self._calls.add(call)
                return call
            self._refused += 1
        raise Overloaded(
            f"{self._max_calls} calls are in flight, which is the most that this server takes (server.max_calls). "
            "Try again later"
        )

    def end(self, call: Call) -> None:
        """Count a call, and what it holds, no more."""
        with self._lock:
            self._calls.discard(call)
            self._held -= call.held
            call.held = 0

    def hold(self, call: Call, size: int) -> None:
        """See `Call.hold`."""
        with self._lock:
            if self._held + size <= self._max_held:
                self._held += size
                call.held += size
                return
        raise Overloaded(
            f"clients are sending more rows at once than the {self._max_held:,} bytes that are kept in memory for all "
            "of them (half of query.memory_bytes). Try again later, or ingest the rows into a table"
        )

    def close_stalled(self) -> list[str]:
        """Close the connections whose every call has waited for its client for too long; returns their peers."""
        before = time.monotonic() - self._stalled_seconds
        with self._lock:
            calls = list(self._calls)
        working = {call.peer for call in calls if call.waiting_since is None or call.waiting_since > before}
        peers = {call.peer for call in calls} - working
        closed = [peer for peer in sorted(peers) if close_connection(peer)]
        with self._lock:
            self._closed += len(closed)
        return closed


def close_connection(peer: str) -> bool:
    """Shut down this process's connection to a client; False if there is none.

    Args:
        peer: Its address as gRPC has it, such as `ipv4:127.0.0.1:50000` or `ipv6:%5B::1%5D:50000`.
    """
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    address = (host.strip("[]"), port)
    for connection in psutil.Process().net_connections("tcp"):
        if connection.raddr and str(connection.raddr.port) == port and _shut_down(connection.fd, address):
            return True
    return False


def _shut_down(descriptor: int, address: tuple[str, str]) -> bool:
    """Shut a socket down if it is still the one to that address; its number may be another's by now."""
    try:
        # A duplicate keeps what it was made of, whatever happens to the number.
        with socket.socket(fileno=os.dup(descriptor)) as duplicate:
            host, port = duplicate.getpeername()[:2]
            if (host.removeprefix("::ffff:"), str(port)) != address:
                return False
            duplicate.shutdown(socket.SHUT_RDWR)
    except OSError:
        return False
    return True
