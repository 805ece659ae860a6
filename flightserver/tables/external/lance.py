"""Lance tables, by the `pylance` package, which reads them for the engine.

pylance hands the table to the engine by DataFusion's foreign function interface, with projections and filters pushed
into it. Both sides must be built against the same major release of DataFusion, or the process may crash; so a pylance
that was not tried with our engine is refused. Its other interface, a pyarrow dataset, doesn't take the engine's
filters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lance

from flightserver.errors import InvalidRequest, NotFound
from flightserver.tables.external.source import Source, nullable, number_option
from flightserver.tables.schema import canonical

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    import pyarrow as pa

    from flightserver.tables.external.locations import Location, Locations

VERSIONS = "_versions"

_TRIED_MAJOR = "14"
"""pylance 14 speaks the interface of DataFusion 54, as our engine does."""


class LanceReader:
    """See `Reader`. `version` pins a version.

    Args:
        locations: Where files may lie.

    Raises:
        InvalidRequest: The installed pylance doesn't fit our engine.
    """

    options = frozenset({"version"})

    def __init__(self, locations: Locations) -> None:
        if lance.__version__.partition(".")[0] != _TRIED_MAJOR:
            msg = (
                f"pylance {lance.__version__} can't read tables for this server's engine, only {_TRIED_MAJOR} can: "
                "ask the administrator to install flightserver[lance]"
            )
            raise InvalidRequest(msg)
        self._locations = locations

    def marker(self, table: Location, options: Mapping[str, str]) -> Hashable:
        """The names of all versions: whether numbers grow or shrink in them depends on the table's age."""
        try:
            names = frozenset(entry.name for entry in (table.path / VERSIONS).iterdir())
        except OSError as error:
            msg = f"{table.shown!r} is no Lance table: it has no versions, or it has been deleted"
            raise NotFound(msg) from error
        return names, options.get("version")

    def describe(self, table: Location, options: Mapping[str, str], known: pa.Schema | None) -> Source:  # noqa: ARG002  # the table has its schema
        """Open the table."""
        for path in table.path.rglob("*"):
            if path.is_symlink():
                self._locations.file(table, str(path.relative_to(table.path)))
        try:
            dataset = lance.dataset(str(table.path), version=number_option(options, "version"))
            rows = dataset.count_rows()
        except (ValueError, OSError, RuntimeError) as error:
            msg = f"Lance table {table.shown!r} can't be read: it is damaged, or has no such version"
            raise InvalidRequest(msg) from error
        schema = nullable(canonical(dataset.schema))
        provider = lance.FFILanceTableProvider(dataset, with_row_id=False, with_row_addr=False)
        return Source(str(dataset.version), schema, rows, provider=provider)
