"""A file on its way to the server: a stream of one binary column, one chunk a row.

The server acknowledges each chunk with the bytes that it has, and at the end tells what it received. Acknowledgements
are read while chunks are written, a few behind: never reading them would end in both sides waiting for the
other once gRPC's window (64 KiB) is full of them, and waiting for each would halve the speed.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flightclient.commands import encode_object
from flightclient.errors import InvalidRequest, ProtocolError
from flightclient.results import Progress, UploadResult, decode_object, decode_result
from flightclient.translation import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import RawIOBase
    from pathlib import Path

    from flightclient.connection import Connection

CHUNK_BYTES = 1 << 20
"""Large enough that the overhead of a message does not count, small enough for smooth progress."""

_UNACKNOWLEDGED = 8
"""Chunks sent ahead of their acknowledgements."""

_SCHEMA = pa.schema([pa.field("data", pa.binary(), nullable=False)])


def send_file(connection: Connection, path: Path, progress: Callable[[Progress], None] | None) -> UploadResult:
    """Send a file and check what the server received.

    Raises:
        InvalidRequest: The file can't be read.
        LimitExceeded: It is larger than the server takes.
        ProtocolError: The server received other bytes than were sent.
    """
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(path, error) from None
    with file:
        return _send(connection, path, file, os.fstat(file.fileno()).st_size, progress)


def _send(
    connection: Connection, path: Path, file: RawIOBase, size: int, progress: Callable[[Progress], None] | None
) -> UploadResult:
    sent = hashlib.sha256()
    command = encode_object({"upload": path.name, "bytes": size})
    with translated():
        writer, answers = connection.put(command, _SCHEMA)
        with writer:
            for number, chunk in enumerate(_chunks(path, file)):
                sent.update(chunk)
                writer.write_batch(pa.record_batch([pa.array([chunk], pa.binary())], schema=_SCHEMA))
                if number >= _UNACKNOWLEDGED:
                    _report(answers.read(), size, progress)
            writer.done_writing()
            last: dict[str, Any] = {}
            while (answer := answers.read()) is not None:
                last = _report(answer, size, progress)
    received = decode_result(UploadResult, last)
    if received.sha256 != sent.hexdigest():
        raise ProtocolError(f"the server received other bytes of {path.name} than were sent; send it again")
    return received


def _chunks(path: Path, file: RawIOBase) -> Iterator[bytes]:
    while True:
        try:
            chunk = file.read(CHUNK_BYTES)
        except OSError as error:
            raise _unreadable(path, error) from None
        if not chunk:
            return
        yield chunk


def _unreadable(path: Path, error: OSError) -> InvalidRequest:
    return InvalidRequest(f"the file {str(path)!r} can't be read: {error.strerror}")


def _report(answer: pa.Buffer | None, size: int, progress: Callable[[Progress], None] | None) -> dict[str, Any]:
    """Decodes an answer. None: the server has ended the call early; closing the writer raises the reason."""
    if answer is None:
        return {}
    fields = decode_object(answer.to_pybytes())
    if progress is not None and "received" in fields:
        progress(Progress("upload", int(fields["received"]), size))
    return fields
