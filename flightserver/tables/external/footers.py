"""Footers of Parquet files, each read once: what columns a file has, and how many rows.

`_lock` guards the map, which forgets what was not asked for longest; reading happens outside of it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from flightserver.tables.external.locations import Location
    from flightserver.tables.external.source import SourceFile

_KEPT = 100_000
"""Some kilobytes each for wide tables."""


@dataclass(frozen=True, slots=True)
class Footer:
    """What is kept of one."""

    schema: pa.Schema
    rows: int


class Footers:
    """Reads footers and keeps them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[object, Footer] = OrderedDict()

    def read(self, file: SourceFile, table: Location, stamp: object = None) -> Footer:
        """The footer of a file.

        Args:
            file: Which.
            table: To which it belongs, for messages.
            stamp: Changes when the file does, if files of this table ever change.

        Raises:
            InvalidRequest: It is no Parquet file, or missing.
        """
        key = (file.path, file.size, stamp)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        try:
            metadata = pq.read_metadata(file.path)
            footer = Footer(metadata.schema.to_arrow_schema(), metadata.num_rows)
        except (pa.ArrowException, OSError) as error:
            msg = f"file {file.path.name!r} of table {table.shown!r} is missing, or no Parquet file that can be read"
            raise InvalidRequest(msg) from error
        with self._lock:
            self._kept[key] = footer
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return footer
