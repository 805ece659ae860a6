"""Generations that are open in this process.

Theory of operation: the object of a local bucket is mapped into memory; one that lies elsewhere is copied to an unnamed
temporary file first, which is mapped and is gone with the process, however that ends. So what is open takes memory only
as far as the system has some to spare. The least recently used is closed when all together are larger than the limit;
searches that hold it go on.

Objects are opened by threads of their own, each by one, and searches wait for that: what takes longer than a statement
may is there for the next one, which would begin anew otherwise, for ever. Each bucket has threads of its own, so that
one that hangs delays no other's; it has them as long as one of its objects is being opened.

Invariant: `_lock` guards `_open`, `_bytes` and `_busy`; nothing is opened under it. A bucket is in `_busy` if and only
if one of its objects is being opened, or waits for its turn; after `close` none is.
"""

from __future__ import annotations

import contextlib
import mmap
import tempfile
import threading
from collections import OrderedDict
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, BinaryIO

from flightserver.errors import BackendUnavailable
from flightserver.vectors.frame import Frame
from flightserver.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from flightserver.catalog.indexes import Generation
    from flightserver.storage.buckets import Buckets, OpenBucket

_CHUNK_BYTES = 8 * 1024 * 1024
_AT_ONCE = 4
"""Objects of a bucket that are opened at a time; others wait for their turn."""
_STOPPING = "vector indexes aren't opened any more: the server is stopping"


@dataclass(frozen=True, slots=True, eq=False)
class _Busy:
    """Threads that open objects of one bucket, and what they open, by id of the generation."""

    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="open-index")
    )
    opening: dict[str, Future[Frame]] = field(default_factory=dict)


class Frames:
    """Opens generations and keeps them open. All methods may be called from any thread.

    Args:
        buckets: Where they lie.
        directory: For copies of those in buckets that aren't local; made when it is needed.
        max_bytes: Of all that are open together; one alone may be larger.
    """

    def __init__(self, buckets: Buckets, directory: Path, max_bytes: int) -> None:
        self._buckets = buckets
        self._directory = directory
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Frame] = OrderedDict()
        self._bytes = 0
        self._closed = threading.Event()
        self._busy: dict[str, _Busy] = {}

    def close(self) -> None:
        """Stop opening objects; those that are open stay so as long as somebody holds them.

        One that is being read from a bucket that hangs isn't waited for.
        """
        with self._lock:
            self._closed.set()
            busy, self._busy = list(self._busy.values()), {}
        for each in busy:
            each.threads.shutdown(wait=False, cancel_futures=True)

    def get(self, generation: Generation) -> Frame:
        """The generation, open.

        Raises:
            NotFound: Its object isn't there.
            BackendUnavailable: It can't be read or copied, or is damaged.
        """
        with self._lock:
            found = self._kept(generation.id)
            if found is not None:
                return found
            busy = self._busy.get(generation.bucket)
            opening = None if busy is None else busy.opening.get(generation.id)
            if opening is None:
                opening = self._begun(generation)
        wait_for(opening)
        try:
            return opening.result()
        except CancelledError:
            raise BackendUnavailable(_STOPPING) from None

    def _begun(self, generation: Generation) -> Future[Frame]:
        """Have a generation opened; `_lock` is held."""
        if self._closed.is_set():
            raise BackendUnavailable(_STOPPING)
        busy = self._busy.get(generation.bucket) or _Busy()
        opening = busy.opening[generation.id] = busy.threads.submit(self._opened, generation, busy)
        self._busy[generation.bucket] = busy
        return opening

    def _opened(self, generation: Generation, busy: _Busy) -> Frame:
        try:
            frame = self._read(generation)
            self._keep(generation.id, frame)
            return frame
        finally:
            with self._lock:
                busy.opening.pop(generation.id, None)
                if not busy.opening and self._busy.get(generation.bucket) is busy:
                    del self._busy[generation.bucket]
                    busy.threads.shutdown(wait=False)

    def _kept(self, generation: str) -> Frame | None:
        found = self._open.get(generation)
        if found is not None:
            self._open.move_to_end(generation)
        return found

    def _keep(self, generation: str, frame: Frame) -> None:
        with self._lock:
            before = self._open.pop(generation, None)  # of another that opened it again when it was closed meanwhile
            self._open[generation] = frame
            self._bytes += frame.bytes - (0 if before is None else before.bytes)
            while self._bytes > self._max_bytes and len(self._open) > 1:
                _, closed = self._open.popitem(last=False)
                self._bytes -= closed.bytes

    def _read(self, generation: Generation) -> Frame:
        bucket = self._buckets.get(generation.bucket)
        what = f"object {generation.key!r} of bucket {bucket.name!r}"
        data = self._mapped(bucket, generation)
        if len(data) != generation.bytes:
            raise BackendUnavailable(
                f"{what} has {len(data):,} bytes and should have {generation.bytes:,}: index.refresh writes it anew"
            )
        return Frame.read(memoryview(data), what)

    def _mapped(self, bucket: OpenBucket, generation: Generation) -> mmap.mmap | bytes:
        if bucket.local_root is not None:
            with contextlib.suppress(OSError), (bucket.local_root / generation.key).open("rb") as file:
                return _map(file.fileno(), generation.bytes)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with bucket.reading.open(generation.key) as source, tempfile.TemporaryFile(dir=self._directory) as copy:
                self._copy(source, copy)
                return _map(copy.fileno(), copy.tell())
        except OSError as error:  # such as a full disk; buckets have errors of their own
            raise BackendUnavailable(
                f"object {generation.key!r} of bucket {bucket.name!r} can't be copied to the server's data directory: "
                f"{error.strerror}"
            ) from error

    def _copy(self, source: BinaryIO, copy: IO[bytes]) -> None:
        while chunk := source.read(_CHUNK_BYTES):
            if self._closed.is_set():
                raise BackendUnavailable(_STOPPING)
            copy.write(chunk)
        copy.flush()


def _map(file: int, size: int) -> mmap.mmap | bytes:
    """A file in memory, as much of it as there is."""
    try:
        return mmap.mmap(file, size, access=mmap.ACCESS_READ)
    except ValueError:  # it is empty, or shorter than it should be
        return b""
