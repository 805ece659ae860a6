"""A server in a process of its own, and a client that sends it exactly the bytes it is given.

pyarrow's client encodes streams itself and refuses to send what is not valid, so messages go by plain gRPC. What
the client sees is an `Answer`; `Target.call` also looks at the process and at the catalog.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import grpc  # type: ignore[import-untyped]  # ships no types

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

Headers = "Sequence[tuple[str, str | bytes]]"

_READY = re.compile(r"flightserver ready: grpc://(\S+) ")
_SERVICE = "/arrow.flight.protocol.FlightService/"
_KINDS = {
    "GetFlightInfo": "unary_unary",
    "GetSchema": "unary_unary",
    "DoGet": "unary_stream",
    "DoAction": "unary_stream",
    "ListFlights": "unary_stream",
    "DoPut": "stream_stream",
    "DoExchange": "stream_stream",
}
_CODE = re.compile(r"\[(FS-\d{4})\]")
_UNSEEMLY = re.compile(r"Traceback|File \"|panick|\.py\b|\.rs:\d|incident|/home/|/tmp/|site-packages")
_UNHAPPY_LOG = re.compile(r"Traceback|panicked|incident|Segmentation|core dumped|terminate called")

COUNT = 10_000 if os.environ.get("FLIGHTSERVER_TEST_THOROUGH") == "1" else 600
"""Mutations of each kind that a run tries; the first ones are always the same."""

CALL_SECONDS = 120.0
"""A MiB of brackets takes 10 s to be refused on a quiet machine."""

_MOST_READ = 16 * 2**20
"""Of one answer; a statement that came out of a mutation may answer without end."""

ENVIRONMENT = {
    "FLIGHTSERVER_QUERY_TIMEOUT_SECONDS": "3",
    "FLIGHTSERVER_QUERY_MEMORY_BYTES": str(256 * 2**20),
}
"""Limits under which a statement that would run for ever ends soon."""


def field(number: int, data: bytes) -> bytes:
    """One length-delimited field of a protobuf message."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def descriptor(command: bytes) -> bytes:
    """A FlightDescriptor of a command."""
    return b"\x08\x02" + field(2, command)


def path(*parts: str) -> bytes:
    """A FlightDescriptor of a path."""
    return b"\x08\x01" + b"".join(field(3, part.encode()) for part in parts)


def flight_data(header: bytes, body: bytes, described: bytes | None = None) -> bytes:
    """A FlightData; pyarrow expects its body, field 1000, last."""
    first = b"" if described is None else field(1, described)
    return first + (field(2, header) if header else b"") + field(1000, body)


@dataclass(frozen=True)
class Answer:
    """What a client has seen of a call.

    Attributes:
        code: The name of the gRPC status.
        text: Its message.
        messages: What was answered before.
    """

    code: str
    text: str
    messages: tuple[bytes, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the call was refused."""
        return self.code != "OK"

    def complaints(self) -> list[str]:
        """What is wrong with an answer to bad input; nothing if it is clean."""
        wrong: list[str] = []
        if not self.failed:
            return wrong
        if _CODE.search(self.text) is None:
            wrong.append("no stable code")
        if self.code in {"UNKNOWN", "INTERNAL"}:
            wrong.append(f"status {self.code}")
        if _UNSEEMLY.search(self.text):
            wrong.append("text that tells of the server's inside")
        return wrong


def shown(number: int, rpc: str, sent: Sequence[bytes], answer: Answer, wrong: list[str]) -> str:
    """A line for a failed test, from which the case can be kept in `found.json`."""
    data = " ".join(base64.b64encode(each[:1500]).decode() for each in sent[:4])
    return f"{number} {rpc} {answer.code}: {'; '.join(wrong)}: {answer.text[:300]} <- {data}"


class Target:
    """`flightserver serve` over an empty data directory.

    Attributes:
        pid: Its process.
        address: Host and port where it listens.
    """

    def __init__(self, directory: Path) -> None:
        self._commits = directory / "data" / "primary" / "_catalog" / "commits"
        self._log = directory / "stderr.log"
        self._version = 0
        command = [sys.executable, "-m", "flightserver.cli.main", "serve", "--data", str(directory / "data")]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--port", "0", "--http-port", "0"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
            )
        assert self._process.stdout is not None
        ready = next((found for line in self._process.stdout if (found := _READY.search(line))), None)
        assert ready is not None, f"the server did not start: {self._log.read_text()}"
        self.pid = self._process.pid
        self.address = ready[1]
        self._channel = grpc.insecure_channel(
            self.address, options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )

    def call(self, rpc: str, sent: bytes | Iterable[bytes], headers: Any = ()) -> Answer:
        """One call, to its end.

        Args:
            rpc: Its name.
            sent: The bytes of its message, or of each of its messages.
            headers: Names and values.
        """
        method = getattr(self._channel, _KINDS[rpc])(_SERVICE + rpc)
        messages: list[bytes] = []
        given = sent if isinstance(sent, bytes) else iter(sent)
        try:
            answered = method(given, metadata=headers, timeout=CALL_SECONDS)
            if _KINDS[rpc] == "unary_unary":
                return Answer("OK", "", (answered,))
            size = 0
            for message in answered:
                messages.append(message)
                size += len(message)
                if size > _MOST_READ:
                    answered.cancel()
                    break
        except grpc.RpcError as error:
            return Answer(error.code().name, error.details() or "", tuple(messages))
        return Answer("OK", "", tuple(messages))

    def version(self) -> int:
        """The version of the catalog."""
        while (self._commits / f"{self._version + 1:020}.json").exists():
            self._version += 1
        return self._version

    def checked(self, rpc: str, sent: bytes | Iterable[bytes], headers: Any = ()) -> tuple[Answer, list[str]]:
        """One call, and all that is wrong with how it went."""
        before = self.version()
        answer = self.call(rpc, sent, headers)
        wrong = answer.complaints()
        if not self.lives():
            wrong.append("the server died")
        if answer.failed and self.version() != before:
            wrong.append("a refused call changed the catalog")
        return answer, wrong

    def lives(self) -> bool:
        """Whether the process that was started is still there."""
        return self._process.poll() is None

    def log_complaints(self) -> list[str]:
        """Lines of the log that no bad input may cause."""
        lines = self._log.read_text(errors="replace").splitlines()
        return [line[:300] for line in lines if _UNHAPPY_LOG.search(line)]

    def stop(self) -> int:
        """Ask it to stop; returns its exit status."""
        self._channel.close()
        self._process.terminate()
        try:
            self._process.communicate(timeout=30)
        finally:
            self._process.kill()
        return self._process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.lives():
            self.stop()
