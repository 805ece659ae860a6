"""Objects in memory: a bucket for tests and experiments that lasts as long as its Python object.

Invariant: `_lock` guards `_objects`; a value in it is never changed, so that a reader needs the lock for
one look-up only.
"""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, BinaryIO, Self

from flightserver.errors import AlreadyExists, InvalidRequest, NotFound
from flightserver.storage.objects import ObjectMeta, check_key, check_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from flightserver.storage.objects import ObjectWriter


@dataclass(frozen=True, slots=True)
class _Object:
    meta: ObjectMeta
    data: bytes


class MemoryObjects:
    """`Objects` that live in this process."""

    may_write_late = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, _Object] = {}
        self._generations = count(1)

    def get(self, key: str) -> bytes:
        """Return all bytes of an object."""
        found = self._find(check_key(key))
        if found is None:
            msg = f"no object has the key {key!r}"
            raise NotFound(msg)
        return found.data

    def head(self, key: str) -> ObjectMeta | None:
        """Return what is known of an object, or None."""
        found = self._find(check_key(key))
        return None if found is None else found.meta

    def put(self, key: str, data: bytes) -> ObjectMeta:
        """Write an object under a free key."""
        check_key(key)
        with self._lock:
            if key in self._objects:
                msg = f"an object with the key {key!r} exists, and objects are never overwritten"
                raise AlreadyExists(msg)
            meta = ObjectMeta(key, len(data), f"{next(self._generations):x}", datetime.now(UTC))
            self._objects[key] = _Object(meta, bytes(data))
        return meta

    def writer(self, key: str) -> ObjectWriter:
        """Start an object of unknown size."""
        return _MemoryWriter(self, check_key(key))

    def open(self, key: str) -> BinaryIO:
        """Open an object for random access."""
        return io.BytesIO(self.get(key))

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """Yield the objects under a prefix, in key order."""
        check_prefix(prefix)
        with self._lock:
            found = [each.meta for key, each in self._objects.items() if key.startswith(prefix) and key > after]
        yield from sorted(found, key=lambda meta: meta.key)

    def delete(self, key: str) -> None:
        """Delete an object, if there is one."""
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def _find(self, key: str) -> _Object | None:
        with self._lock:
            return self._objects.get(key)


class _MemoryWriter:
    """Collects bytes until `commit` puts them."""

    def __init__(self, objects: MemoryObjects, key: str) -> None:
        self._objects = objects
        self._key = key
        self._buffer = io.BytesIO()

    @property
    def closed(self) -> bool:
        return self._buffer.closed

    def write(self, data: bytes | memoryview) -> int:
        self._check_unfinished()
        return self._buffer.write(data)

    def tell(self) -> int:
        self._check_unfinished()
        return self._buffer.tell()

    def flush(self) -> None:
        """Do nothing: bytes are kept together until `commit`."""

    def close(self) -> None:
        """Do nothing: only `commit` and `abort` finish a writer."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return not self.closed

    def seekable(self) -> bool:
        return False

    def commit(self) -> ObjectMeta:
        self._check_unfinished()
        data = self._buffer.getvalue()
        self._buffer.close()
        return self._objects.put(self._key, data)

    def abort(self) -> None:
        self._buffer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _check_unfinished(self) -> None:
        if self.closed:
            msg = f"the write of {self._key!r} is finished: it was committed or aborted"
            raise InvalidRequest(msg)
