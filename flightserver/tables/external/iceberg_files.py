"""How pyiceberg opens files: to read them, on local disks, below the allowed directories."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, cast

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile

from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from pathlib import Path

    from flightserver.tables.external.locations import Location, Locations


class TableFiles(FileIO):
    """The files of one table.

    Args:
        locations: Where files may lie.
        table: Where the table is now.
    """

    def __init__(self, locations: Locations, table: Location) -> None:
        super().__init__()
        self._locations = locations
        self._table = table
        self._before: str | None = None

    def located_at(self, location: str) -> None:
        """Say where the table's metadata says it is."""
        self._before = location.rstrip("/") + "/"

    def path(self, reference: str) -> Path:
        """The file that metadata refers to.

        Raises:
            InvalidRequest: It lies outside of the allowed directories.
        """
        if self._before is not None:
            reference = reference.removeprefix(self._before)
        return self._locations.file(self._table, reference)

    def new_input(self, location: str) -> InputFile:
        """A file to read."""
        return _File(location, self.path(location))

    def new_output(self, location: str) -> OutputFile:
        """Refuse: attached tables are only read."""
        self._refuse(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Refuse: attached tables are only read."""
        self._refuse(str(location))

    def _refuse(self, location: str) -> NoReturn:
        msg = f"attached tables are only read: {location.rpartition('/')[2]!r} of {self._table.shown!r} stays as it is"
        raise InvalidRequest(msg)


class _File(InputFile):
    """A local file."""

    def __init__(self, location: str, path: Path) -> None:
        super().__init__(location)
        self._path = path

    def __len__(self) -> int:
        return self._path.stat().st_size

    def exists(self) -> bool:
        return self._path.exists()

    def open(self, seekable: bool = True) -> InputStream:  # noqa: ARG002, FBT001, FBT002  # pyiceberg's signature
        return cast("InputStream", self._path.open("rb"))
