"""Attaching what lies below a directory to a lake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.tables.external.attaching import Attached, AttachRequest, ExternalTables
from flightserver.tables.external.locations import Locations

if TYPE_CHECKING:
    from pathlib import Path

    from tables.lake import Lake

    from flightserver.tables.external.source import Source


class Attaching:
    """Attaches to a lake what lies below one directory."""

    def __init__(self, lake: Lake, root: Path) -> None:
        self.lake = lake
        self.root = root
        self.external = ExternalTables(Locations([root]))

    def attach(self, location: str = "table", table_format: str | None = None, **options: str) -> Attached:
        request = AttachRequest(
            name="attached",
            bucket="primary",
            location=location,
            format=table_format,
            options=options,
            operation=Operation(new_ulid(), "attach"),
        )
        return self.external.attach(request, self.lake.catalog)

    def source(self) -> Source:
        return self.external.source(self.lake.dataset("attached"))
