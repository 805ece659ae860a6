"""An HTTP proxy before a server, which counts requests and lets some of them fail.

Theory of operation: each connection is read request by request, so that each is decided on by itself. What is forwarded
is forwarded to the byte, the `Host` header too, since requests to S3 are signed with it: the client signs for the
proxy's address, and that is what the server checks. Each request goes over a connection of its own to the server.

Faults are what networks and overloaded servers do. The worst is `RESET_AFTER`: the server has done what was asked and
the client isn't told. A request that stalls is forwarded afterwards even when the client has given it up, as a network
may deliver late what it was given early.

Invariant: all state belongs to the loop's thread, but for `asked`, which is appended to there and read by tests, and
`decide`, which tests may replace at any time.
"""

from __future__ import annotations

import asyncio
import enum
import random
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

STALL_SECONDS = 5.0
_MAX_HEAD = 64 * 1024
_RESET = struct.pack("ii", 1, 0)
"""`SO_LINGER` of no time."""
_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Fault(enum.Enum):
    """What becomes of a request."""

    NONE = "forwarded"
    BUSY = "503"
    RESET_BEFORE = "reset before it was forwarded"
    RESET_AFTER = "reset after it was answered"
    STALL = "stalled, then forwarded"
    HANG = "never answered"


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    target: str
    fault: Fault


def never(_method: str, _target: str) -> Fault:
    """Let every request through."""
    return Fault.NONE


def always_hang(_method: str, _target: str) -> Fault:
    """Let none be answered."""
    return Fault.HANG


def at_random(seed: int, rate: float) -> Callable[[str, str], Fault]:
    """Let this share of requests fail, each kind of fault as often as the others."""
    choose = random.Random(seed)  # noqa: S311  # faults, not secrets
    kinds = (Fault.BUSY, Fault.RESET_BEFORE, Fault.RESET_AFTER, Fault.STALL)
    return lambda _method, _target: choose.choice(kinds) if choose.random() < rate else Fault.NONE


class Proxy:
    """A proxy that listens on a free port of the loopback address when made.

    Args:
        upstream: URL of the server.
        decide: Method and target of a request -> what becomes of it.
        drop: Headers, in lower case, that aren't forwarded.

    Attributes:
        endpoint: Its URL.
        asked: All requests so far, in order.
        hanging: Set when a request hangs.
    """

    def __init__(
        self, upstream: str, decide: Callable[[str, str], Fault] = never, drop: frozenset[bytes] = frozenset()
    ) -> None:
        found = urlsplit(upstream)
        self._upstream = (found.hostname or "127.0.0.1", found.port or 80)
        self.decide = decide
        self._drop = drop
        self.asked: list[Asked] = []
        self.hanging = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stopped: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0
        self._thread = threading.Thread(target=self._run, name="faulty-proxy", daemon=True)
        self._thread.start()
        self._ready.wait()
        self.endpoint = f"http://127.0.0.1:{self._port}"

    def close(self) -> None:
        """Stop listening, and break all connections."""
        assert self._stopped is not None
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stopped = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_MAX_HEAD)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopped.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # aborted connections are closed by the loop

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._converse(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after the other."""
        # Closing resets the connection instead of ending it in good order.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        try:
            # Whichever side leaves, the other is left too: that is what the client of a proxy sees.
            with suppress(OSError, EOFError, asyncio.LimitOverrunError):
                while await self._answer(reader, writer):
                    pass
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        fault = self.decide(method, target)
        self.asked.append(Asked(method, target, fault))
        if b"expect: 100-continue" in head.lower():
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _body(reader, head, method, is_answer=False)
        if fault is Fault.RESET_BEFORE:
            return False
        if fault is Fault.BUSY:
            size = str(len(_BUSY)).encode()
            answer = b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: " + size
            writer.write(answer + b"\r\n\r\n" + (b"" if method == "HEAD" else _BUSY))
            await writer.drain()
            return True
        if fault is Fault.HANG:
            self.hanging.set()
            await asyncio.Event().wait()
        if fault is Fault.STALL:
            await asyncio.sleep(STALL_SECONDS)
        answer = await self._forwarded(self._without_dropped(head) + body, method)
        if fault is Fault.RESET_AFTER:
            return False
        writer.write(answer)
        await writer.drain()
        return True

    async def _forwarded(self, request: bytes, method: str) -> bytes:
        """The server's answer to a request, whole."""
        reader, writer = await asyncio.open_connection(*self._upstream, limit=_MAX_HEAD)
        try:
            writer.write(request)
            await writer.drain()
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 100"):
                    return head + await _body(reader, head, method, is_answer=True)
        finally:
            writer.transport.abort()

    def _without_dropped(self, head: bytes) -> bytes:
        first, *lines = head.split(b"\r\n")
        return b"\r\n".join([first, *(line for line in lines if line.partition(b":")[0].lower() not in self._drop)])


async def _body(reader: asyncio.StreamReader, head: bytes, method: str, *, is_answer: bool) -> bytes:
    """The body that belongs to a head (RFC 9112, section 6.3), as it came."""
    first, *lines = head.rstrip().split(b"\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    if is_answer and (method == "HEAD" or first.split()[1] in {b"204", b"304"}):
        return b""
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        return await _chunks(reader)
    if b"content-length" in fields:
        return await reader.readexactly(int(fields[b"content-length"]))
    return await reader.read() if is_answer else b""


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """A chunked body, as it came (RFC 9112, section 7.1); trailers aren't expected."""
    whole = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        whole += line + await reader.readexactly(size + 2)
        if size == 0:
            return whole
