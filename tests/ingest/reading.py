"""Reading a file that a test has just written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flightserver.ingest.formats import open_source

if TYPE_CHECKING:
    from pathlib import Path

    from flightserver.ingest.source import Limits


def read(
    directory: Path,
    name: str,
    content: str | bytes,
    *,
    file_format: str | None = None,
    limits: Limits | None = None,
    **options: object,
) -> Any:
    """Write `content` to a file of that name and read it back as a table."""
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_path(path, file_format=file_format, limits=limits, **options)


def read_path(path: Path, *, file_format: str | None = None, limits: Limits | None = None, **options: object) -> Any:
    """Read a file as a table."""
    source = open_source(path, file_format, options, limits=limits)
    return pa.Table.from_batches(source.batches(), source.schema)
