"""Files over objects in S3: one that is read by ranges, and one that is uploaded when it is committed."""

from __future__ import annotations

import io
import tempfile
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from flightserver.storage import posix
from flightserver.storage.writing import Writer

if TYPE_CHECKING:
    from flightserver.storage.objects import ObjectMeta

_SPOOL_BYTES = 16 * 2**20
"""What a writer keeps in memory; more goes to a temporary file."""
_DISK = "the server's disk for temporary files"
_SINGLE_PUT_BYTES = 64 * 2**20
"""Larger objects are uploaded in parts."""


class Transfers(Protocol):
    """What files need of `flightserver.storage.s3.S3Objects`."""

    def get_range(self, key: str, start: int, length: int) -> memoryview:
        """Bytes of an object."""

    def put(self, key: str, data: bytes) -> ObjectMeta:
        """Write an object under a free key."""

    def put_parts(self, key: str, file: BinaryIO, size: int) -> ObjectMeta:
        """Upload a large object in parts."""


class S3Writer(Writer):
    """Collects bytes in a temporary file.

    Args:
        objects: Sends it.
        key: Of the object.
    """

    def __init__(self, objects: Transfers, key: str) -> None:
        super().__init__(key)
        self._objects = objects
        # No context manager: `publish` and `abort` close it.
        self._file = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115  # as above

    @property
    def closed(self) -> bool:
        """Whether it was committed or aborted."""
        return self._file.closed

    def take(self, data: bytes | memoryview) -> None:
        """Keep bytes behind those that are there."""
        try:
            self._file.write(data)
        except OSError as error:
            raise posix.translate(error, "write", self.key, _DISK) from error

    def publish(self) -> ObjectMeta:
        """Upload what was written."""
        try:
            self._file.seek(0)
            if self._size <= _SINGLE_PUT_BYTES:
                return self._objects.put(self.key, self._file.read())
            file: Any = self._file
            return self._objects.put_parts(self.key, file, self._size)
        except OSError as error:
            raise posix.translate(error, "write", self.key, _DISK) from error
        finally:
            self._file.close()

    def abort(self) -> None:
        """Discard what was written."""
        self._file.close()


class S3File(io.RawIOBase):
    """Reads an object by ranges."""

    def __init__(self, objects: Transfers, key: str, size: int) -> None:
        super().__init__()
        self._objects = objects
        self._key = key
        self._size = size
        self._place = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; 0 at the end."""
        view = memoryview(buffer).cast("B")
        length = min(len(view), self._size - self._place)
        if length <= 0:
            return 0
        view[:length] = self._objects.get_range(self._key, self._place, length)
        self._place += length
        return length
