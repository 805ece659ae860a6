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
from typing import TYPE_CHECKING, BinaryIO

from flightserver.storage.objects import ObjectMeta, absent, check_key, check_prefix, taken
from flightserver.storage.writing import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

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
            raise absent(key)
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
                raise taken(key)
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


class _MemoryWriter(Writer):
    """Collects bytes until it is committed."""

    def __init__(self, objects: MemoryObjects, key: str) -> None:
        super().__init__(key)
        self._objects = objects
        self._buffer = io.BytesIO()

    @property
    def closed(self) -> bool:
        return self._buffer.closed

    def take(self, data: bytes | memoryview) -> None:
        self._buffer.write(data)

    def publish(self) -> ObjectMeta:
        data = self._buffer.getvalue()
        self._buffer.close()
        return self._objects.put(self.key, data)

    def abort(self) -> None:
        self._buffer.close()
