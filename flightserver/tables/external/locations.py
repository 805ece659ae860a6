"""Where attached tables may lie: below the directories from which files may be ingested.

Invariant: nothing outside of these directories is read, whatever a client asks for and whatever a table's own
metadata refers to: paths are resolved, symbolic links included, before they are compared. Messages name a path as the
client did, or relative to its table, never as the server knows it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flightserver.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*")


@dataclass(frozen=True, slots=True)
class Location:
    """A table's directory, or its only file.

    Attributes:
        path: Absolute, with symbolic links resolved.
        shown: As messages name it.
    """

    path: Path
    shown: str


class Locations:
    """Finds tables and their files.

    Args:
        roots: The directories; they need not exist yet.
    """

    def __init__(self, roots: Iterable[Path]) -> None:
        self.roots = tuple(root.resolve() for root in roots)

    def find(self, location: str) -> Location:
        """The table at `location`: an absolute path, or one relative to a root; the first root that has it wins.

        Raises:
            NotFound: No root has it.
        """
        for root in self.roots:
            path = _resolved(root / location, strict=True)
            if path is not None and path.is_relative_to(root):
                return Location(path, location)
        names = ", ".join(repr(root.name) for root in self.roots) or "none"
        msg = (
            f"there is no table {location!r} under the directories that may be read ({names}): "
            "give a path relative to one of them"
        )
        raise NotFound(msg)

    def relative(self, location: Location) -> str:
        """How to write down where a table is: relative to its root if that finds it again, else as it was given."""
        _, within = self.place(location.path)
        return within if self.find(within).path == location.path else location.shown

    def file(self, table: Location, reference: str) -> Path:
        """The file that a table's metadata refers to.

        Args:
            table: Whose metadata it is.
            reference: A path relative to the table, an absolute one, or a `file:` URL.

        Raises:
            InvalidRequest: It is no local file, or lies outside of the roots.
        """
        path = _resolved(table.path / _local(reference, table))
        if path is None or not any(path.is_relative_to(root) for root in self.roots):
            msg = (
                f"table {table.shown!r} refers to the file {reference.rpartition('/')[2]!r} outside of the directories "
                "that may be read: copy the table with all of its files below one of them"
            )
            raise InvalidRequest(msg)
        return path

    def place(self, path: Path) -> tuple[int, str]:
        """The number of the root that has a resolved path, and the path relative to it."""
        for number, root in enumerate(self.roots):
            if path.is_relative_to(root):
                return number, path.relative_to(root).as_posix()
        msg = f"{path.name!r} is under none of the directories that may be read"
        raise NotFound(msg)


def _local(reference: str, table: Location) -> str:
    scheme, separator, rest = reference.partition(":")
    if not separator or not _SCHEME.fullmatch(scheme) or not (scheme == "file" or rest.startswith("//")):
        return reference
    if scheme != "file":
        msg = f"table {table.shown!r} has files in {scheme!r} storage: only tables on local disks can be attached"
        raise InvalidRequest(msg)
    return rest.removeprefix("//")


def _resolved(path: Path, *, strict: bool = False) -> Path | None:
    try:
        return path.resolve(strict=strict)
    except (OSError, ValueError, RuntimeError):
        # A name too long, a zero byte, a loop of links: no such file.
        return None
