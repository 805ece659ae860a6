"""The system calls that a local write is made of, and what their failures mean to a caller.

Each function is one step that a crash can fall before or after, and every step of every local write is in this
module: fault tests replace its functions to stop at each of them. A file's bytes survive a power cut after
`sync_file`, its name after `sync_directory` of the directory that holds the name (fsync(2), NOTES).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from flightserver.errors import BackendUnavailable, InvalidRequest, LimitExceeded
from flightserver.storage.objects import TEMPORARY

if TYPE_CHECKING:
    from flightserver.errors import FlightserverError

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def create_file(path: str) -> int:
    """Create a file, lock it for as long as it is open, and return its descriptor.

    The lock tells other processes that the file's owner is alive: the kernel releases it however the owner dies.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def is_owned(path: str) -> bool:
    """Whether a living process has this file from `create_file` open."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def sync_file(descriptor: int) -> None:
    """Make a file's bytes durable."""
    os.fsync(descriptor)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link(source: str, target: str) -> None:
    """Give a file its final name, if that is free: the atomic step of a write."""
    os.link(source, target)


def unlink(path: str) -> None:
    """Remove a name."""
    os.unlink(path)  # noqa: PTH108  # paths are text here: a pathlib.Path costs more than the system call


def make_directory(path: str) -> None:
    """Create a directory; when the name exists that is fine, and if it isn't a directory its first use will tell."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)  # noqa: PTH102  # as in unlink


def remove_directory(path: str) -> None:
    """Remove an empty directory."""
    os.rmdir(path)  # noqa: PTH106  # as in unlink


def is_directory(path: str | os.PathLike[str]) -> bool:
    """Whether there is a directory that can be asked; also of a disk that fails, of which `Path.is_dir` raises."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116  # this module is of system calls
    except OSError:
        return False


def is_absence(error: OSError) -> bool:
    """Whether a failure to read says that there is no such file."""
    return error.errno in _ABSENT


def translate(error: OSError, action: str, key: str, disk: str = "the disk of this bucket") -> FlightserverError:
    """What a failed system call means to a caller; the text has no local path.

    Each bucket has a directory of temporary files, made when it is opened and never deleted, and no key lies in it:
    where that isn't found, the whole bucket isn't.
    """
    reason = error.strerror or type(error).__name__
    if error.errno in _FULL:
        return LimitExceeded(f"can't {action} {key!r}: {disk} is full or over its quota ({reason})")
    if error.errno == errno.ENAMETOOLONG:
        return InvalidRequest(f"can't {action} {key!r}: a part of the key is longer than the file system allows")
    if error.errno in _ABSENT and error.filename2 is None and TEMPORARY in str(error.filename):
        return BackendUnavailable(f"can't {action} {key!r}: the directory of this bucket isn't there: is it mounted?")
    if error.errno in {errno.ENOTDIR, errno.EISDIR}:
        return InvalidRequest(f"can't {action} {key!r}: a part of the key is an object, so it can't hold others")
    return BackendUnavailable(f"can't {action} {key!r}: {disk} failed ({reason})")
