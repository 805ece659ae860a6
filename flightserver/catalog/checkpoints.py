"""Checkpoints: whole snapshots beside the log, so that opening the catalog doesn't replay all of it.

Theory of operation: a checkpoint is derived from the log and can be deleted at any time. It is two lines of JSON in
one Zstandard frame: a header with format, version and the SHA-256 of the second line, and the snapshot. A
checkpoint that can't be read, for whatever reason, is as good as none: the next older one serves, or the log alone.

Who commits a version that `every` divides writes the checkpoint of that version, in the background. So it is never
newer than what is durable in the log, and servers needn't agree on anything. Thinning keeps the newest
`_KEPT_NEWEST`, for opening, and older ones `_SPACING` checkpoints apart, so that time travel to any version replays
a thousand commits at most while the space they take stays small beside the log's.

While servers of two releases share a catalog, the older one drops fields that it doesn't know when it reads the log.
So a checkpoint says which fields its writer knew (`shape`), and a server that knows others replays the log instead.

Invariant: writing happens on one thread; `_lock` guards `_pending` and `_closed`.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from flightserver.catalog.draft import Outcome  # noqa: TC001  # as datetime
from flightserver.catalog.entities import Bucket, Dataset, View  # noqa: TC001  # as datetime
from flightserver.catalog.identities import AccessState  # noqa: TC001  # as datetime
from flightserver.catalog.indexes import VectorIndex  # noqa: TC001  # as datetime
from flightserver.catalog.snapshot import Snapshot
from flightserver.errors import AlreadyExists, FlightserverError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.storage.objects import Objects

_log = logging.getLogger(__name__)

CHECKPOINTS = "_catalog/checkpoints/"
"""Prefix of the checkpoints in the primary bucket."""

FORMAT = 1
"""Raised when the same fields come to mean something else. A checkpoint of another format is ignored, not converted."""

_KEY = re.compile(re.escape(CHECKPOINTS) + r"(\d{20})\.json\.zst")
_KEPT_NEWEST = 4
_SPACING = 16


class _Header(msgspec.Struct, frozen=True):
    format: int
    shape: str
    version: int
    sha256: str


class _Contents(msgspec.Struct, frozen=True):
    time: datetime
    buckets: tuple[Bucket, ...]
    datasets: tuple[Dataset, ...]
    operations: dict[str, Outcome]
    views: tuple[View, ...]
    horizon: int
    access: AccessState
    indexes: tuple[VectorIndex, ...]


def _shape() -> str:
    """A digest of the names of all fields that a checkpoint holds."""
    _, components = msgspec.json.schema_components([_Contents])
    fields = {name: sorted(schema.get("properties", ())) for name, schema in sorted(components.items())}
    return hashlib.sha256(_encoder.encode(fields)).hexdigest()


_encoder = msgspec.json.Encoder()
_SHAPE = _shape()
_header_decoder = msgspec.json.Decoder(_Header)
_contents_decoder = msgspec.json.Decoder(_Contents)


def checkpoint_key(version: int) -> str:
    """The key of a checkpoint."""
    return f"{CHECKPOINTS}{version:020d}.json.zst"


def encode(snapshot: Snapshot) -> bytes:
    """Write a snapshot as the bytes of a checkpoint."""
    contents = _encoder.encode(
        _Contents(
            snapshot.time,
            tuple(snapshot.buckets.values()),
            tuple(snapshot.datasets.values()),
            dict(snapshot.operations),
            tuple(snapshot.views.values()),
            snapshot.horizon,
            snapshot.access,
            tuple(snapshot.indexes.values()),
        )
    )
    header = _encoder.encode(_Header(FORMAT, _SHAPE, snapshot.version, hashlib.sha256(contents).hexdigest()))
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(header + b"\n")
        stream.write(contents)
    return bytes(sink.getvalue())


def decode(version: int, data: bytes) -> Snapshot | None:
    """Read the bytes of a checkpoint; None when they aren't a good one of this version and format."""
    try:
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            first, _, contents = stream.read().partition(b"\n")
        header = _header_decoder.decode(first)
        if header != _Header(FORMAT, _SHAPE, version, hashlib.sha256(contents).hexdigest()):
            return None
        decoded = _contents_decoder.decode(contents)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Snapshot(
        version,
        decoded.time,
        MappingProxyType({bucket.name: bucket for bucket in decoded.buckets}),
        MappingProxyType({dataset.key: dataset for dataset in decoded.datasets}),
        MappingProxyType(decoded.operations),
        MappingProxyType({view.key: view for view in decoded.views}),
        decoded.horizon,
        decoded.access,
        MappingProxyType({index.key: index for index in decoded.indexes}),
    )


class Checkpoints:
    """Reads and writes the checkpoints of one catalog.

    Args:
        objects: The primary bucket.
        every: Commits between two checkpoints.
    """

    def __init__(self, objects: Objects, every: int) -> None:
        self._objects = objects
        self._every = every
        self._lock = threading.Lock()
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._pending: Future[None] | None = None
        self._closed = False

    def newest(self, at_most: int | None = None) -> Snapshot | None:
        """Return the newest good checkpoint that is not newer than version `at_most`."""
        for version in sorted(self._versions(), reverse=True):
            if at_most is not None and version > at_most:
                continue
            snapshot = self._read(version)
            if snapshot is not None:
                return snapshot
        return None

    def offer(self, snapshot: Snapshot) -> None:
        """Write a checkpoint in the background, if it is this snapshot's turn and none is being written.

        The snapshot must be durable in the log.
        """
        if snapshot.version % self._every:
            return
        with self._lock:
            if not self._closed and (self._pending is None or self._pending.done()):
                self._pending = self._writer.submit(self._write, snapshot)

    def close(self) -> None:
        """Wait for the checkpoint that is being written, and write no more."""
        with self._lock:
            self._closed = True
        self._writer.shutdown(wait=True)

    def _versions(self) -> Iterator[int]:
        for meta in self._objects.list(CHECKPOINTS):
            matched = _KEY.fullmatch(meta.key)
            if matched:
                yield int(matched[1])

    def _read(self, version: int) -> Snapshot | None:
        try:
            snapshot = decode(version, self._objects.get(checkpoint_key(version)))
        except FlightserverError:
            _log.warning("checkpoint not readable", extra={"version": version}, exc_info=True)
            return None
        if snapshot is None:
            _log.warning("checkpoint damaged or of another format, ignored", extra={"version": version})
        return snapshot

    def _write(self, snapshot: Snapshot) -> None:
        try:
            data = encode(snapshot)
            self._objects.put(checkpoint_key(snapshot.version), data)
            self._thin()
        except AlreadyExists:
            return
        except FlightserverError:
            _log.warning("checkpoint not written", extra={"version": snapshot.version}, exc_info=True)
        else:
            _log.info("checkpoint written", extra={"version": snapshot.version, "bytes": len(data)})

    def _thin(self) -> None:
        for version in sorted(self._versions())[:-_KEPT_NEWEST]:
            if version % (self._every * _SPACING):
                self._objects.delete(checkpoint_key(version))
