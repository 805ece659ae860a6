"""Files that clients send, kept until they are ingested.

Theory of operation: an upload is a directory of its own, named by a ULID. Its bytes go to `.part` there; `finish`
makes them durable and then renames the file to the name that the client gave. So an upload that `open` finds is
whole, also after a crash, and one that isn't finished is only a directory that `collect` removes one day.

An upload belongs to the user who sent it, whose name is in the file `.owner` beside it; for others there is none.

Invariant: a path is built from nothing but a ULID that was checked and a file name that was checked.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from flightserver.catalog.ulid import new_ulid
from flightserver.errors import InvalidRequest, LimitExceeded, NotFound
from flightserver.storage import posix

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path
    from types import TracebackType

_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_PART = ".part"
_OWNER = ".owner"
_MAX_NAME_BYTES = 255
"""NAME_MAX of Linux file systems."""
GIB = 1 << 30


def is_upload_id(text: str) -> bool:
    """Tell whether `text` has the form of an upload id, a ULID."""
    return _ULID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class UploadInfo:
    """A finished upload.

    Args:
        id: What `Uploads.open` takes.
        name: The file name that the client gave.
        bytes: Its size.
        sha256: Hash of its bytes, in hexadecimal.
    """

    id: str
    name: str
    bytes: int
    sha256: str


class Uploads:
    """All uploads of a server. Methods may be called from any thread.

    Args:
        directory: Where they are; it is created when it is absent.
        max_bytes: The largest upload.

    Raises:
        BackendUnavailable: The directory can't be created.
    """

    def __init__(self, directory: Path, max_bytes: int = 16 * GIB) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise posix.translate(error, "create", "the directory of uploads") from error

    def start(self, name: str, expected_bytes: int | None = None, user: str = "") -> Upload:
        """Start an upload.

        Args:
            name: File name; its extension helps to find the format.
            expected_bytes: Its size, if the client knows it.
            user: Whose it is.

        Raises:
            InvalidRequest: The name can't be a file name.
            LimitExceeded: It would be larger than the limit, or the disk is full.
        """
        _check_name(name)
        if expected_bytes is not None and expected_bytes > self._max_bytes:
            raise _too_large(name, self._max_bytes)
        upload = new_ulid()
        directory = self._directory / upload
        try:
            directory.mkdir()
            with (directory / _OWNER).open("x") as file:
                file.write(user)
                file.flush()
                posix.sync_file(file.fileno())
            return Upload(upload, name, directory, self._max_bytes, expected_bytes)
        except OSError as error:
            raise posix.translate(error, "write", name) from error

    def open(self, upload: str, user: str | None = None) -> Path:
        """Return the file of a finished upload.

        Args:
            upload: Its id.
            user: Who asks; None for the server itself.

        Raises:
            NotFound: There is no such finished upload, or it is another user's.
            InvalidRequest: That isn't an upload id.
        """
        try:
            place = self._place(upload)
            files = [file for file in place.iterdir() if file.name not in {_PART, _OWNER}]
            if user is not None and (place / _OWNER).read_text() != user:
                files = []
        except FileNotFoundError:
            files = []
        except OSError as error:
            raise posix.translate(error, "read", upload) from error
        if len(files) != 1:
            msg = f"there is no finished upload {upload}; one is kept until it is ingested, discarded or too old"
            raise NotFound(msg)
        return files[0]

    def discard(self, upload: str) -> None:
        """Delete an upload; one that is absent is fine.

        Raises:
            InvalidRequest: That isn't an upload id.
        """
        _remove(self._place(upload), upload)

    def collect(self, older_than: timedelta) -> list[str]:
        """Delete the uploads to which nothing was written for that long, finished or not.

        Returns:
            Their ids.
        """
        oldest = time.time() - older_than.total_seconds()
        removed = []
        try:
            directories = sorted(self._directory.iterdir())
        except OSError as error:
            raise posix.translate(error, "list", "the directory of uploads") from error
        for directory in directories:
            if is_upload_id(directory.name) and _last_written(directory) < oldest:
                _remove(directory, directory.name)
                removed.append(directory.name)
        return removed

    def _place(self, upload: str) -> Path:
        if not is_upload_id(upload):
            msg = f"{upload!r} isn't an upload id; those are ULIDs, which starting an upload returns"
            raise InvalidRequest(msg)
        return self._directory / upload


class Upload:
    """One upload while its bytes come in; belongs to one thread. Leaving the `with` block unfinished aborts it.

    Made by `Uploads.start`.
    """

    def __init__(self, upload: str, name: str, directory: Path, max_bytes: int, expected_bytes: int | None) -> None:
        self.id = upload
        self.name = name
        self._directory = directory
        self._max_bytes = max_bytes
        self._expected_bytes = expected_bytes
        self._size = 0
        self._hash = hashlib.sha256()
        self._file = (directory / _PART).open("xb")

    def write(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises:
            LimitExceeded: There are more than the limit allows, or the disk is full; the upload is gone.
        """
        data = memoryview(chunk)
        if self._size + data.nbytes > self._max_bytes:
            self.abort()
            raise _too_large(self.name, self._max_bytes)
        try:
            self._file.write(data)
        except OSError as error:
            self.abort()
            raise posix.translate(error, "write", self.name) from error
        self._hash.update(data)
        self._size += data.nbytes

    def finish(self) -> UploadInfo:
        """Make the upload durable and visible.

        Raises:
            InvalidRequest: It hasn't as many bytes as the client announced; the upload is gone.
            LimitExceeded: The disk is full; the upload is gone.
        """
        if self._expected_bytes is not None and self._size != self._expected_bytes:
            self.abort()
            msg = f"{self.name} has {self._size:,} bytes, but {self._expected_bytes:,} were announced; send it again"
            raise InvalidRequest(msg)
        try:
            self._file.flush()
            posix.sync_file(self._file.fileno())
            self._file.close()
            (self._directory / _PART).rename(self._directory / self.name)
            posix.sync_directory(str(self._directory))
            posix.sync_directory(str(self._directory.parent))
        except OSError as error:
            self.abort()
            raise posix.translate(error, "write", self.name) from error
        return UploadInfo(self.id, self.name, self._size, self._hash.hexdigest())

    def abort(self) -> None:
        """Delete what came in; a finished upload stays."""
        if not self._file.closed:
            # Closing the raw file forgets what is buffered: a full disk would fail its last flush once more.
            self._file.raw.close()
            _remove(self._directory, self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def _check_name(name: str) -> None:
    is_path = "/" in name or "\\" in name or name in {"", ".", "..", _PART, _OWNER}
    if is_path or not name.isprintable() or len(name.encode("utf-8", "replace")) > _MAX_NAME_BYTES:
        msg = f"{name[:80]!r} can't name an upload; use a plain file name such as 'people.csv', without directories"
        raise InvalidRequest(msg)


def _too_large(name: str, max_bytes: int) -> LimitExceeded:
    return LimitExceeded(
        f"{name} is larger than {max_bytes:,} bytes, the limit of one upload; split it or raise the limit"
    )


def _last_written(directory: Path) -> float:
    try:
        return max(path.stat().st_mtime for path in (directory, *directory.iterdir()) if path.name != _OWNER)
    except FileNotFoundError:  # removed by another thread in this moment
        return time.time()


def _remove(directory: Path, upload: str) -> None:
    try:
        for file in directory.iterdir():
            file.unlink(missing_ok=True)
        directory.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise posix.translate(error, "delete", upload) from error
