"""Vector indexes as the catalog has them, over objects of any content: nobody looks into those here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from catalog import making

from flightserver.catalog.entities import PRIMARY, DatasetKey
from flightserver.catalog.index_updates import CreateIndex, DropIndex, MoveIndex, PutGeneration
from flightserver.catalog.indexes import Generation
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.tables.generations import generation_key

if TYPE_CHECKING:
    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.indexes import VectorIndex
    from flightserver.catalog.updates import Update
    from flightserver.storage.buckets import Buckets
    from flightserver.storage.objects import ObjectMeta


class Place(Protocol):
    """An archive, or a lakehouse."""

    @property
    def catalog(self) -> Catalog:
        """Where indexes are known."""

    @property
    def buckets(self) -> Buckets:
        """Where their objects lie."""


def build(place: Place, name: str, bucket: str = PRIMARY, data: bytes = b"vectors") -> Generation:
    """Write a generation and commit nothing."""
    identity = new_ulid()
    key = generation_key(name, identity)
    place.buckets.get(bucket).objects.put(key, data)
    return Generation(identity, bucket, key, len(data), vectors=1, segments=("s1",))


def create(
    place: Place, name: str, dataset: Dataset, *, bucket: str = PRIMARY, data: bytes = b"vectors"
) -> VectorIndex:
    _commit(place, CreateIndex(making.index(name, dataset.id, build(place, name, bucket, data))))
    return index(place, name, bucket)


def refresh(place: Place, name: str, *, bucket: str = PRIMARY, data: bytes = b"newer") -> VectorIndex:
    _commit(place, PutGeneration(bucket, name, build(place, name, bucket, data)))
    return index(place, name, bucket)


def move(place: Place, name: str, to: str, *, bucket: str = PRIMARY) -> VectorIndex:
    data = place.buckets.get(bucket).objects.get(index(place, name, bucket).generation.key)
    _commit(place, MoveIndex(bucket, name, to, build(place, name, to, data)))
    return index(place, name, to)


def drop(place: Place, name: str, *, bucket: str = PRIMARY) -> None:
    _commit(place, DropIndex(bucket, name))


def index(place: Place, name: str, bucket: str = PRIMARY) -> VectorIndex:
    return place.catalog.snapshot().indexes[DatasetKey(bucket, name)]


def objects(place: Place, bucket: str = PRIMARY) -> dict[str, bytes]:
    """Everything under `_vectors/` in a bucket."""
    found = place.buckets.get(bucket).objects
    metas: list[ObjectMeta] = list(found.list("_vectors/"))
    return {meta.key: found.get(meta.key) for meta in metas}


def _commit(place: Place, update: Update) -> None:
    place.catalog.commit(Transaction(Operation(new_ulid(), "test"), (update,)))
