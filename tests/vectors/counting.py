"""A bucket that isn't local, and counts what is read and written."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from flightserver.catalog.entities import PRIMARY
from flightserver.storage.buckets import Buckets
from flightserver.storage.limits import VECTOR_PUT_BYTES, LimitedObjects

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse
    from flightserver.storage.objects import Objects, ObjectWriter


class CountingObjects(LimitedObjects):
    """Counts how often each object was opened and begun."""

    def __init__(self, objects: Objects, vector_put_bytes: int = VECTOR_PUT_BYTES) -> None:
        super().__init__(objects, vector_put_bytes=vector_put_bytes)
        self.opened: Counter[str] = Counter()
        self.begun: Counter[str] = Counter()

    def open(self, key: str) -> BinaryIO:
        self.opened[key] += 1
        return super().open(key)

    def writer(self, key: str) -> ObjectWriter:
        self.begun[key] += 1
        return super().writer(key)


def counted(lakehouse: Lakehouse, *, vector_put_bytes: int = VECTOR_PUT_BYTES) -> tuple[Buckets, CountingObjects]:
    """The primary bucket of a lakehouse once more, as one that isn't local."""
    primary = lakehouse.buckets.get(PRIMARY)
    assert isinstance(primary.objects, LimitedObjects)
    objects = CountingObjects(primary.objects.inner, vector_put_bytes)
    buckets = Buckets()
    buckets.add(replace(primary, objects=objects, local_root=None, reads=None))
    return buckets, objects
