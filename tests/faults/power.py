"""A disk that loses power between two system calls.

Theory of operation: the functions of `flightserver.storage.posix` are replaced by ones that count, remember what was
not made durable yet, and at step `cut` stop for good: from then on each of them raises `PowerCut`, as if the process
were gone. `lose` and `truncate_unsynced` then do to the directory what the power cut may do: names that were never
synced vanish, and files that were never synced lose their bytes. Without them it is a crash of the process only.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from flightserver.storage import posix

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


STEPS = ("create_file", "sync_file", "sync_directory", "link", "unlink", "make_directory", "remove_directory")
"""All of `flightserver.storage.posix` that changes a disk, but the bytes of a file that isn't synced yet."""


class PowerCut(BaseException):
    """Not an Exception: nothing of a process survives this, so nothing may catch it."""


class Disk:
    """Counts the steps of local writes and stops at one of them.

    Args:
        cut: The step, from 0, that isn't done any more.
    """

    def __init__(self, cut: int) -> None:
        self.cut = cut
        self.steps: list[str] = []
        self._names: set[str] = set()
        self._files: set[int] = set()
        self._synced: set[int] = set()

    @property
    def is_off(self) -> bool:
        """Whether the cut has happened."""
        return len(self.steps) > self.cut

    def attach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the disk under all local buckets."""
        for step in STEPS:
            monkeypatch.setattr(posix, step, self._counted(step, getattr(posix, step)))

    def lose(self) -> None:
        """Take away what was written and not made durable."""
        for name in sorted(self._names, reverse=True):
            path = Path(name)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def truncate_unsynced(self, root: Path) -> None:
        """Take away the bytes of files that were never synced."""
        for path in root.rglob("*"):
            if path.is_file() and path.stat().st_ino in self._files - self._synced:
                path.write_bytes(b"")

    def _counted(self, step: str, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object) -> object:
            if self.is_off:
                raise PowerCut
            self.steps.append(step)
            if self.is_off:
                raise PowerCut
            existed = step == "make_directory" and Path(str(arguments[0])).exists()
            result = call(*arguments)
            self._remember(step, arguments, result, existed=existed)
            return result

        return counted

    def _remember(self, step: str, arguments: tuple[object, ...], result: object, *, existed: bool) -> None:
        match step, arguments, result:
            case "create_file", _, int(descriptor):
                self._files.add(os.fstat(descriptor).st_ino)
            case "sync_file", (int(descriptor),), _:
                self._synced.add(os.fstat(descriptor).st_ino)
            case "link", (_, str(target)), _:
                self._names.add(target)
            case "make_directory", (str(path),), _ if not existed:
                self._names.add(path)
            case "sync_directory", (str(directory),), _:
                self._names = {name for name in self._names if str(Path(name).parent) != directory}
            case _:
                pass
