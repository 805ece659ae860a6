"""Objects in a directory of this machine, or of a shared file system that keeps POSIX promises.

Theory of operation: a write goes to a temporary file, which is made durable and then linked to its key. link(2)
fails when the key is taken, in whichever process, so it is the put-if-absent; a reader sees the whole file or none.
After it the directory is made durable, and the temporary name is removed.

A directory that others may just have created isn't durable because it exists: the first write into a directory
makes all directories above it durable as well. `_durable` remembers those where that was done. Deleting the last object
of a directory removes the directory; a writer that loses its directory so creates it again.

Temporary files are locked while they are written (flock(2)), and the kernel releases the lock when a process dies.
`clean` deletes those that nobody locks, but for the youngest, whose lock isn't tried either: between creating and
locking a file is a moment, and where a network doesn't share locks those that are being written are young. It is done
when a bucket is opened, and from time to time for what was young then (`flightserver.federation.expiring`).

Invariants: `_durable` needs no lock, since its single operations are atomic and a missing entry only costs time.
A writer belongs to one thread at a time.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import secrets
import stat
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

from flightserver.errors import BackendUnavailable
from flightserver.storage import posix
from flightserver.storage.objects import TEMPORARY, ObjectMeta, absent, check_key, check_prefix, taken
from flightserver.storage.writing import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flightserver.storage.objects import ObjectWriter

_log = logging.getLogger(__name__)

_UNLOCKED_SECONDS = 60.0
"""Since a temporary file was last written to: below that somebody may be writing it, or about to lock it."""

_REMEMBERED_DIRECTORIES = 4096
"""A process writes into few directories at a time; forgetting them costs one more sync each."""

_LINK_ATTEMPTS = 100
"""How often a file or directory may vanish, by what others do meanwhile, before it is the disk that is gone."""

_BUFFER_BYTES = 1 << 18
"""Parquet pages and footers come in small writes; larger ones pass the buffer by."""


class LocalObjects:
    """`Objects` in a directory, which is created when it is absent.

    Args:
        root: The bucket's directory.

    Raises:
        BackendUnavailable: The directory can't be created or written.
    """

    may_write_late = False

    def __init__(self, root: Path) -> None:
        self._root = str(root.absolute())
        self._temporary = f"{self._root}/{TEMPORARY}"
        self._durable: set[str] = set()
        try:
            self._make_root()
            self._open_temporary()
        except OSError as error:
            msg = f"can't open the directory of a bucket ({error.strerror})"
            raise BackendUnavailable(msg) from error

    def get(self, key: str) -> bytes:
        """Return all bytes of an object."""
        with self.open(key) as file:
            try:
                return file.read()
            except OSError as error:
                raise posix.translate(error, "read", key) from error

    def head(self, key: str) -> ObjectMeta | None:
        """Return what is known of an object, or None."""
        try:
            status = os.stat(self._path(key))  # noqa: PTH116  # called for each query: a Path costs more than the call
        except OSError as error:
            if posix.is_absence(error):
                return None
            raise posix.translate(error, "look up", key) from error
        return _meta(key, status) if stat.S_ISREG(status.st_mode) else None

    def put(self, key: str, data: bytes) -> ObjectMeta:
        """Write an object under a free key."""
        if self.head(key) is not None:
            self._confirm(key)
            raise taken(key)
        with self._write(key) as writer:
            writer.write(data)
            return writer.commit()

    def writer(self, key: str) -> ObjectWriter:
        """Start an object of unknown size."""
        return self._write(key)

    def open(self, key: str) -> BinaryIO:
        """Open an object for random access."""
        try:
            return open(self._path(key), "rb")  # noqa: PTH123  # a text path, as in head
        except OSError as error:
            if posix.is_absence(error):
                raise absent(key) from None
            raise posix.translate(error, "read", key) from error

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """Yield the objects under a prefix, in key order."""
        check_prefix(prefix)
        directory, slash, _ = prefix.rpartition("/")
        try:
            yield from self._walk(directory + slash, prefix, after)
        except OSError as error:
            raise posix.translate(error, "list", prefix) from error

    def delete(self, key: str) -> None:
        """Delete an object, if there is one, and the directories that it leaves empty."""
        path = self._path(key)
        try:
            posix.unlink(path)
        except OSError as error:
            if posix.is_absence(error):
                return
            raise posix.translate(error, "delete", key) from error
        directory = path.rpartition("/")[0]
        while directory != self._root:
            self._durable.discard(directory)
            try:
                posix.remove_directory(directory)
            except OSError:  # not empty, or another delete was faster: either way it is no longer ours to remove
                return
            directory = directory.rpartition("/")[0]

    def publish(self, temporary: str, key: str) -> ObjectMeta:
        """Give a finished temporary file its key, durably. For the writers of this module.

        Raises:
            AlreadyExists: The key is taken.
        """
        path = self._path(key)
        try:
            self._link(temporary, path)
            self._sync_directories(path.rpartition("/")[0])
            return _meta(key, os.stat(temporary))  # noqa: PTH116  # as in head
        except FileExistsError:
            self._confirm(key)
            raise taken(key) from None
        except OSError as error:
            raise posix.translate(error, "write", key) from error

    def clean(self) -> int:
        """Delete the temporary files that dead processes left, and return how many there were.

        Raises:
            BackendUnavailable: The disk failed.
        """
        try:
            return self._clean()
        except FileNotFoundError:
            return 0  # the whole directory, or a file a moment after it was seen: the next time will do
        except OSError as error:
            raise posix.translate(error, "clean up", TEMPORARY) from error

    def _write(self, key: str) -> _LocalWriter:
        check_key(key)
        return _LocalWriter(self, key, f"{self._temporary}{os.getpid()}-{secrets.token_hex(12)}")

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def _link(self, temporary: str, path: str) -> None:
        """Link a file into a directory that may be absent, or vanish any number of times before the link is made."""
        directory = path.rpartition("/")[0]
        for _ in range(_LINK_ATTEMPTS):
            try:
                if directory not in self._durable:
                    self._make_directories(directory)
                return posix.link(temporary, path)
            except FileNotFoundError:
                self._durable.discard(directory)
        return posix.link(temporary, path)

    def _confirm(self, key: str) -> None:
        """Make an object durable that another writer may have made visible a moment ago."""
        directory = self._path(key).rpartition("/")[0]
        try:
            self._sync_directories(directory)
        except FileNotFoundError:
            return  # deleted a moment ago: there is nothing left to outlive
        except OSError as error:
            raise posix.translate(error, "write", key) from error

    def _make_root(self) -> None:
        missing = []
        directory = self._root
        while not os.path.isdir(directory):  # noqa: PTH112  # text paths throughout, as in head
            missing.append(directory)
            directory = directory.rpartition("/")[0] or "/"
        for each in reversed(missing):
            posix.make_directory(each)
            posix.sync_directory(each.rpartition("/")[0] or "/")

    def _make_directories(self, directory: str) -> None:
        """Create a directory and those above it, but not the root: when that is gone, the disk is."""
        path = self._root
        for part in directory[len(self._root) + 1 :].split("/"):
            path = f"{path}/{part}"
            posix.make_directory(path)

    def _sync_directories(self, directory: str) -> None:
        posix.sync_directory(directory)
        if directory in self._durable:
            return
        above = directory
        while above != self._root:
            above = above.rpartition("/")[0]
            posix.sync_directory(above)
        if len(self._durable) >= _REMEMBERED_DIRECTORIES:
            self._durable.clear()
        self._durable.add(directory)

    def _open_temporary(self) -> None:
        """Make the directory of temporary files, and delete those that dead processes left."""
        for attempt in range(_LINK_ATTEMPTS):
            try:
                self._make_directories(self._temporary.rstrip("/"))
                self._clean()
            except FileNotFoundError:
                # Others delete directories that are empty, and finish their own files, in this moment.
                if attempt == _LINK_ATTEMPTS - 1:
                    raise
            else:
                return

    def _clean(self) -> int:
        with os.scandir(self._temporary) as entries:
            old = [entry.path for entry in entries if _is_old(entry)]
        deleted = 0
        for path in old:
            with contextlib.suppress(FileNotFoundError):  # finished, or cleaned up by another process
                if not posix.is_owned(path):
                    posix.unlink(path)
                    deleted += 1
                    _log.info("abandoned temporary file deleted", extra={"file": path})
        return deleted

    def _walk(self, directory: str, prefix: str, after: str) -> Iterator[ObjectMeta]:
        for key in self._children(directory, prefix, after):
            if key.endswith("/"):
                yield from self._walk(key, prefix, after)
                continue
            try:
                status = os.stat(f"{self._root}/{key}")  # noqa: PTH116  # as in head
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield _meta(key, status)

    def _children(self, directory: str, prefix: str, after: str) -> tuple[str, ...]:
        """Keys and directories (with their slash, which is how they sort) that may matter to a listing."""
        try:
            with os.scandir(f"{self._root}/{directory}") as entries:
                found = [directory + entry.name + ("/" if entry.is_dir() else "") for entry in entries]
        except OSError as error:
            if posix.is_absence(error):
                return ()
            raise
        wanted = (
            key
            for key in found
            if (key.startswith(prefix) or (key.endswith("/") and prefix.startswith(key)))
            and (key > after or (key.endswith("/") and after.startswith(key)))
            and key != TEMPORARY
        )
        return tuple(sorted(wanted))


class _LocalWriter(Writer):
    """Writes a temporary file."""

    def __init__(self, objects: LocalObjects, key: str, temporary: str) -> None:
        super().__init__(key)
        self._objects = objects
        self._temporary = temporary
        try:
            self._raw = io.FileIO(posix.create_file(temporary), "wb")
        except OSError as error:
            raise posix.translate(error, "write", key) from error
        self._file = io.BufferedWriter(self._raw, _BUFFER_BYTES)

    @property
    def closed(self) -> bool:
        return self._raw.closed

    def take(self, data: bytes | memoryview) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise posix.translate(error, "write", self.key) from error

    def publish(self) -> ObjectMeta:
        try:
            self._file.flush()
            posix.sync_file(self._raw.fileno())
            return self._objects.publish(self._temporary, self.key)
        except OSError as error:
            raise posix.translate(error, "write", self.key) from error
        finally:
            self.abort()

    def abort(self) -> None:
        if self._raw.closed:
            return
        try:
            posix.unlink(self._temporary)
        except OSError:  # the object's fate is decided without it, and opening the bucket deletes it one day
            _log.warning("temporary file not deleted", extra={"key": self.key}, exc_info=True)
        finally:
            # Closing the raw file forgets what is buffered: a full disk would fail its last flush once more.
            self._raw.close()


def _is_old(entry: os.DirEntry[str]) -> bool:
    """Whether nobody has written to a temporary file for a while."""
    try:
        return entry.stat(follow_symlinks=False).st_mtime < time.time() - _UNLOCKED_SECONDS
    except FileNotFoundError:  # it is finished by now
        return False


def _meta(key: str, status: os.stat_result) -> ObjectMeta:
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectMeta(key, status.st_size, etag, modified)
