"""What a file becomes: a restartable source of Arrow batches with a schema known beforehand.

Theory of operation: opening a source settles its schema, if need be by reading the whole file once; from then on
every pass of `batches` yields the same rows of exactly that schema. So a writer that was given the schema never
meets another type halfway, and a pass that was broken off can simply be started again.

Invariants: memory is bounded by `Limits`, whatever the size of the file; a message names the file by the name that
the user gave it, never by its path on the server; every foreign error is translated by `reading`.
"""

from __future__ import annotations

import errno
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from flightserver.errors import BackendUnavailable, FlightserverError, InvalidRequest, LimitExceeded, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of reading one file.

    Args:
        decompressed_bytes: How many bytes a compressed file may unfold to; what stops a zip bomb.
        block_bytes: Text that is parsed at a time; a handful of blocks is in memory at once.
        record_bytes: The longest single record, line or object.
        batch_bytes: About how large a batch of a columnar file may be in memory.
    """

    decompressed_bytes: int = 256 * GIB
    block_bytes: int = 4 << 20
    record_bytes: int = 256 << 20
    batch_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage has come, in bytes of the file.

    `stage` is `hash` (recognising the content), `inspect` (settling the schema) or `read`.
    """

    stage: str
    done: int
    total: int


def no_progress(progress: Progress) -> None:
    """Take a progress report that nobody reads."""


@dataclass(frozen=True, slots=True)
class File:
    """A local file as the readers see it.

    Args:
        path: Where it is; never shown to anybody.
        name: What the user calls it; every message says this name.
        limits: Bounds of reading.
        progress: Is told how far each stage has come.
    """

    path: Path
    name: str
    limits: Limits = Limits()
    progress: Callable[[Progress], None] = no_progress

    def size(self) -> int:
        """Bytes of the file as it lies on disk."""
        with reading(self):
            return self.path.stat().st_size


class Source(Protocol):
    """Rows of one file."""

    @property
    def schema(self) -> pa.Schema:
        """Schema of every batch, settled for the whole file."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Read the file from its beginning; each call is a new pass.

        Raises:
            InvalidRequest: The file is damaged, or a value doesn't fit a type that the user fixed.
            LimitExceeded: It unfolds to more bytes, or has a longer record, than `Limits` allows.
        """


@contextmanager
def reading(file: File) -> Iterator[None]:
    """Translate what the file system, the decompressors and pyarrow raise about `file`.

    Raises:
        NotFound: The file is gone.
        BackendUnavailable: The operating system can't read it.
        LimitExceeded: It doesn't fit into memory.
        InvalidRequest: Its bytes aren't what they should be.
    """
    try:
        yield
    except FlightserverError:
        raise
    except (FileNotFoundError, IsADirectoryError) as error:
        msg = f"{file.name}: there is no such file"
        raise NotFound(msg) from error
    except MemoryError as error:
        msg = f"{file.name}: one block of it doesn't fit into memory"
        raise LimitExceeded(msg) from error
    except OSError as error:
        if error.errno is not None:
            msg = f"{file.name} can't be read: {errno.errorcode.get(error.errno, 'unknown error')}"
            raise BackendUnavailable(msg) from error
        raise damaged(file, error) from error
    except (pa.ArrowException, UnicodeError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise damaged(file, error) from error


def damaged(file: File, error: Exception) -> InvalidRequest:
    """Say that the bytes of `file` can't be read, in the reader's words but without paths and traces."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    reason = reason.replace(str(file.path), file.name)
    return InvalidRequest(f"{file.name} can't be read, it is damaged or not what its name says: {reason}")


def valid(file: File, batch: Any, row: int) -> Any:
    """Return `batch` when its buffers hold what its schema says (offsets, lengths, UTF-8).

    Raises:
        InvalidRequest: They don't; names the file and the rows.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        msg = f"{file.name}: rows {row + 1} to {row + batch.num_rows} aren't valid Arrow data: {reason}"
        raise InvalidRequest(msg) from error
    return batch
