"""The directories of the server from which files may be ingested.

Invariant: whatever a client asks for, it learns nothing about files outside of the roots: a path that leads out, by
`..` or by a symbolic link, gets the same answer as one that doesn't exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.errors import NotFound

if TYPE_CHECKING:
    from pathlib import Path


class Roots:
    """Allowed directories.

    Args:
        directories: The directories; messages name each by its last part.
    """

    def __init__(self, directories: tuple[Path, ...]) -> None:
        self._directories = directories

    def find(self, source: str) -> Path:
        """Return the file that `source` means, with symbolic links resolved.

        Args:
            source: An absolute path, or one relative to a root; the first root that has it wins.

        Raises:
            NotFound: No root has it.
        """
        for root in self._directories:
            if (path := _inside(root, source)) is not None:
                return path
        names = ", ".join(repr(root.name) for root in self._directories) or "none"
        msg = (
            f"there is no file {source!r} under the directories that may be ingested from ({names}); "
            "give a path relative to one of them, or upload the file"
        )
        raise NotFound(msg)


def _inside(root: Path, source: str) -> Path | None:
    try:
        base = root.resolve()
        path = (base / source).resolve()
        return path if path.is_relative_to(base) and path.is_file() else None
    except (OSError, ValueError, RuntimeError):
        # A name too long, a zero byte, a loop of links: no such file.
        return None
