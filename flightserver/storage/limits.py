"""How large an object may be: by the prefix of its key.

`VECTORS` is the one constant for the prefix of vector indexes, which are single large objects: whoever stores them
takes it from here, so that the limit and the store can't disagree. A large put has its bytes in memory on the way, so
at most `LARGE_AT_ONCE` of them are in flight in a process; others wait for their turn.

Theory of operation: `LimitedObjects` stands before the objects of a bucket. A put, whose size is known, is refused
before its bytes are looked at or sent; who knows a size before there are bytes asks `check`. A writer, whose size
isn't known, is limited below `VECTORS`, where it is refused at the first byte too many and leaves nothing.
Files of datasets are written by writers as well, which the layout cuts; they have no limit here.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, BinaryIO

from flightserver.errors import LimitExceeded
from flightserver.storage.objects import check_key
from flightserver.storage.writing import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.storage.objects import ObjectMeta, Objects, ObjectWriter

MIB = 2**20

VECTORS = "_vectors/"
"""Prefix of vector indexes."""

DEFAULT_PUT_BYTES = 256 * MIB
VECTOR_PUT_BYTES = 4096 * MIB
LARGE_AT_ONCE = 4

_large = threading.BoundedSemaphore(LARGE_AT_ONCE)


class LimitedObjects:
    """`Objects` that refuse puts over a limit.

    Args:
        objects: Where they go.
        put_bytes: The limit of one put.
        vector_put_bytes: The limit of one put below `VECTORS`.
    """

    def __init__(
        self, objects: Objects, put_bytes: int = DEFAULT_PUT_BYTES, vector_put_bytes: int = VECTOR_PUT_BYTES
    ) -> None:
        self.inner = objects
        self._put_bytes = put_bytes
        self._vector_put_bytes = vector_put_bytes

    @property
    def may_write_late(self) -> bool:
        """Whether a write that has failed may still happen."""
        return self.inner.may_write_late

    def limit(self, key: str) -> int:
        """How many bytes a put of the key may have."""
        return self._vector_put_bytes if key.startswith(VECTORS) else self._put_bytes

    def check(self, key: str, size: int) -> None:
        """Return when so many bytes may be put under the key.

        Raises:
            LimitExceeded: They are too many.
            InvalidRequest: It can't be a key.
        """
        limit = self.limit(check_key(key))
        if size > limit:
            what = f"below {VECTORS!r}" if key.startswith(VECTORS) else f"outside of {VECTORS!r}"
            msg = (
                f"an object of {size:,} bytes can't be put under {key!r}: a put {what} may have {limit:,}; "
                "bucket.set_limits changes that"
            )
            raise LimitExceeded(msg)

    def put(self, key: str, data: bytes) -> ObjectMeta:
        """Write an object under a free key, if it isn't too large."""
        self.check(key, len(data))
        if len(data) <= DEFAULT_PUT_BYTES:
            return self.inner.put(key, data)
        with _large:
            return self.inner.put(key, data)

    def get(self, key: str) -> bytes:
        """Return all bytes of an object."""
        return self.inner.get(key)

    def head(self, key: str) -> ObjectMeta | None:
        """Return what is known of an object, or None."""
        return self.inner.head(key)

    def writer(self, key: str) -> ObjectWriter:
        """Start an object of unknown size."""
        writer = self.inner.writer(key)
        return _LimitedWriter(writer, self, key) if key.startswith(VECTORS) else writer

    def open(self, key: str) -> BinaryIO:
        """Open an object for random access."""
        return self.inner.open(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """Yield the objects under a prefix, in key order."""
        return self.inner.list(prefix, after=after)

    def delete(self, key: str) -> None:
        """Delete an object, if there is one."""
        self.inner.delete(key)


def unlimited(objects: Objects) -> Objects:
    """The objects themselves, for what limits have no say in, such as signing a URL."""
    return objects.inner if isinstance(objects, LimitedObjects) else objects


def check_size(objects: Objects, key: str, size: int) -> None:
    """Return when an object of this size may be put under a key; for who knows the size before there are bytes.

    Raises:
        LimitExceeded: It is too large there.
    """
    if isinstance(objects, LimitedObjects):  # others have no limits
        objects.check(key, size)


class _LimitedWriter(Writer):
    """A writer that gives up, and leaves nothing, when it gets more bytes than its key may have."""

    def __init__(self, writer: ObjectWriter, limits: LimitedObjects, key: str) -> None:
        super().__init__(key)
        self._writer = writer
        self._limits = limits

    @property
    def closed(self) -> bool:
        return self._writer.closed

    def take(self, data: bytes | memoryview) -> None:
        try:
            self._limits.check(self.key, self._size + memoryview(data).nbytes)
        except LimitExceeded:
            self._writer.abort()
            raise
        self._writer.write(data)

    def publish(self) -> ObjectMeta:
        return self._writer.commit()

    def abort(self) -> None:
        self._writer.abort()
