"""A disk that is full from some step on, and a small disk of the kernel's own.

Theory of operation: `Space` replaces the steps of `flightserver.storage.posix` that need room, and the writing of
bytes, by ones that count and from step `full` on fail with ENOSPC, as a disk does that stays full until somebody makes
room: deleting works. Making a directory durable needs no room and never fails here.
"""

from __future__ import annotations

import errno
import io
import os
import subprocess
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from flightserver.storage import local, posix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NEEDS_ROOT = (
    "mounting a file system needs root, or a namespace of one's own: "
    "unshare --map-root-user --mount python -m pytest tests/faults/test_disk_full.py"
)


class Space:
    """Counts the steps that need room, and refuses them from one on.

    Args:
        full: The step, from 0, for which there is no room any more.
    """

    def __init__(self, full: int) -> None:
        self.full = full
        self.steps: list[str] = []

    @property
    def is_exhausted(self) -> bool:
        """Whether a step was refused."""
        return len(self.steps) > self.full

    def attach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the disk under all local buckets."""
        for step in ("create_file", "sync_file", "link", "make_directory"):
            monkeypatch.setattr(posix, step, self._counted(step, getattr(posix, step)))
        space = self

        class Raw(io.FileIO):
            """A file whose bytes need room."""

            def write(self, data: Any) -> int:
                space.take("write")
                return super().write(data)

        monkeypatch.setattr(local, "io", SimpleNamespace(FileIO=Raw, BufferedWriter=io.BufferedWriter))

    def take(self, step: str) -> None:
        """Take the room for a step.

        Raises:
            OSError: There is none.
        """
        self.steps.append(step)
        if self.is_exhausted:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _counted(self, step: str, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: Any) -> object:
            if step != "make_directory" or not os.path.isdir(arguments[0]):  # noqa: PTH112  # a text path of posix.py
                self.take(step)
            return call(*arguments)

        return counted


@contextmanager
def small_disk(point: Path, size: int) -> Iterator[Path]:
    """A file system in memory of so many bytes; skips the test where that isn't allowed."""
    point.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(point)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip(NEEDS_ROOT)
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", str(point)], check=True)


@contextmanager
def filled(point: Path, leaving: int) -> Iterator[None]:
    """Fill a disk but for about so many bytes while the block runs."""
    filler = point / "filler"
    free = os.statvfs(point)
    size = free.f_bavail * free.f_frsize - leaving
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(size, 1))
    try:
        yield
    finally:
        filler.unlink()
