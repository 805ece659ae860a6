"""What a bucket can do with objects: immutable bytes under a key.

Theory of operation: an object is written once, whole, under its final key, and never changes afterwards. `put` and
`ObjectWriter.commit` succeed for exactly one of any number of writers of the same key, in any number of processes;
the others get `AlreadyExists`. Everything above (the commit log, segments, checkpoints) rests on these invariants:

* A key is visible only with all of its bytes.
* When `put` or `commit` returns, the object survives a power cut. When they raise `AlreadyExists`, the object
  that took the key survives one too, so that what is built on it can't outlive it.
* When they raise anything else, the object may or may not be visible; who needs to know reads the key.
* `get`, `head` and `list` may show an object a moment before it is durable.
* No call overwrites a key. `delete` is the only change.

Keys are relative and `/`-separated. A directory is not a thing here: it exists while an object is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol, Self

from flightserver.errors import AlreadyExists, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from types import TracebackType

STAGING = "_staging/"
"""Prefix of what isn't committed yet: uploads, and the temporary files of a local bucket."""

UPLOADS = STAGING + "uploads/"
"""Prefix of what others put, by presigned URLs."""

TEMPORARY = STAGING + ".tmp/"
"""Where a local bucket keeps the bytes of unfinished writes. No key starts with it, so that none can collide."""


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What a store says of an object without reading it.

    Attributes:
        key: Where it is.
        size: In bytes.
        etag: Opaque; differs between any two objects with different bytes that the key ever had.
        modified: When it was written, UTC. S3 doesn't say so when it answers a put: what a put returns then has the
            time of this machine's clock, and `head` and `list` have the server's.
    """

    key: str
    size: int
    etag: str
    modified: datetime


class ObjectWriter(Protocol):
    """A binary file that becomes an object when it is committed.

    `pyarrow.PythonFile(writer, "w")` and `pyarrow.parquet.ParquetWriter(writer, schema)` can write to it. As a context
    manager it aborts at the end of the block unless `commit` was called.
    """

    @property
    def closed(self) -> bool:
        """Whether it was committed or aborted."""

    def write(self, data: bytes | memoryview) -> int:
        """Add bytes at the end and return how many were given."""

    def tell(self) -> int:
        """How many bytes were written so far."""

    def flush(self) -> None:
        """Do nothing: bytes become durable together, by `commit`."""

    def close(self) -> None:
        """Do nothing: writers that are handed to libraries are closed by them, which is not a decision to commit."""

    def readable(self) -> bool:
        """Return False."""

    def writable(self) -> bool:
        """Return True until it is committed or aborted."""

    def seekable(self) -> bool:
        """Return False."""

    def commit(self) -> ObjectMeta:
        """Make the object visible and durable.

        Raises:
            AlreadyExists: The key is taken; what was written is discarded.
        """

    def abort(self) -> None:
        """Discard what was written. Doing so again, or after a commit, changes nothing."""

    def __enter__(self) -> Self:
        """Return the writer."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abort unless committed."""


class Objects(Protocol):
    """The objects of one bucket. All methods may be called from any thread."""

    @property
    def may_write_late(self) -> bool:
        """Whether a write that has failed may still happen, when a network delivers it later."""

    def get(self, key: str) -> bytes:
        """Return all bytes of an object.

        Raises:
            NotFound: No object has the key.
        """

    def head(self, key: str) -> ObjectMeta | None:
        """Return what is known of an object, or None when no object has the key."""

    def put(self, key: str, data: bytes) -> ObjectMeta:
        """Write an object under a free key; visible and durable on return.

        Raises:
            AlreadyExists: The key is taken.
        """

    def writer(self, key: str) -> ObjectWriter:
        """Start an object of unknown size."""

    def open(self, key: str) -> BinaryIO:
        """Open an object for random access.

        Raises:
            NotFound: No object has the key.
        """

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """Yield the objects whose key starts with `prefix` and is greater than `after`, in key order.

        `prefix` is text, not a directory: `a/b` finds `a/bc` too. Keys are ordered by code point, as by UTF-8 bytes.
        An object written or deleted meanwhile may or may not be seen.
        """

    def delete(self, key: str) -> None:
        """Delete an object; when there is none that is fine."""


def absent(key: str) -> NotFound:
    """The error of reading a key that no object has."""
    return NotFound(f"no object has the key {key!r}")


def taken(key: str) -> AlreadyExists:
    """The error of writing a key that an object has."""
    return AlreadyExists(f"an object with the key {key!r} exists, and objects are never overwritten")


def check_key(key: str) -> str:
    """Return `key` when it can name an object.

    Raises:
        InvalidRequest: It is absolute, has an empty, `.` or `..` part or a character that can't be printed, or is
            where unfinished writes are kept.
    """
    if not key.isprintable() or not {"", ".", ".."}.isdisjoint(key.split("/")) or key.startswith(TEMPORARY):
        msg = (
            f"{key!r} can't be the key of an object: a key has one or more parts separated by '/', no part is "
            f"empty, '.' or '..', all characters are printable, and it doesn't start with {TEMPORARY!r}"
        )
        raise InvalidRequest(msg)
    return key


def check_prefix(prefix: str) -> str:
    """Return `prefix` when keys can start with it; the empty one is every key's.

    Raises:
        InvalidRequest: No key can start with it.
    """
    if prefix and not prefix.startswith(TEMPORARY):
        check_key(prefix + "_")
    return prefix
