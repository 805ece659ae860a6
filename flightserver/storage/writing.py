"""What all writers of objects have in common; see `flightserver.storage.objects.ObjectWriter`.

A store says how bytes are taken, kept and given up. That a writer is handed to libraries which flush and close files,
that it is aborted at the end of its block, and that nothing is written after its end, is the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from types import TracebackType

    from flightserver.storage.objects import ObjectMeta


class Writer(ABC):
    """A writer of one object; it belongs to one thread at a time.

    Args:
        key: Of the object.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._size = 0

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether it was committed or aborted."""

    @abstractmethod
    def take(self, data: bytes | memoryview) -> None:
        """Keep bytes behind those that are there."""

    @abstractmethod
    def publish(self) -> ObjectMeta:
        """Make the object visible and durable, once, and let go of everything, whatever comes of it."""

    @abstractmethod
    def abort(self) -> None:
        """Discard what was written. Doing so again, or after a commit, changes nothing."""

    def write(self, data: bytes | memoryview) -> int:
        """Add bytes at the end and return how many were given."""
        self._check_unfinished()
        self.take(data)
        size = memoryview(data).nbytes
        self._size += size
        return size

    def commit(self) -> ObjectMeta:
        """Make the object visible and durable."""
        self._check_unfinished()
        return self.publish()

    def tell(self) -> int:
        """How many bytes were written so far."""
        self._check_unfinished()
        return self._size

    def flush(self) -> None:  # noqa: B027  # nothing to do for any writer
        """Do nothing: bytes become durable together, by `commit`."""

    def close(self) -> None:  # noqa: B027  # as above
        """Do nothing: only `commit` and `abort` finish a writer."""

    def readable(self) -> bool:
        """Return False."""
        return False

    def writable(self) -> bool:
        """Return True until it is committed or aborted."""
        return not self.closed

    def seekable(self) -> bool:
        """Return False."""
        return False

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abort unless committed."""
        self.abort()

    def _check_unfinished(self) -> None:
        if self.closed:
            msg = f"the write of {self.key!r} is finished: it was committed or aborted"
            raise InvalidRequest(msg)
