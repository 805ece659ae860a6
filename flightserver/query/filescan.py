"""One scan of exactly the files that are named.

The engine's public API makes a Parquet table from one path, and a directory would be listed. A logical plan, however,
serializes to protobuf, whose scan node has a repeated field of paths; and appending a message to another merges them
(protobuf encoding, "Last One Wins" and merging of embedded messages). So a scan of many files is the plan of the
first one with the other paths appended. Measured with datafusion 54.1 over 200 files: planning takes 6 ms against 23
ms for a union of 200 tables. Each scan costs one HEAD per file, which is a stat for a local one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datafusion import LogicalPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from datafusion import DataFrame, SessionContext

_LISTING_SCAN = 1
"""Field of `LogicalPlanNode` that holds a `ListingTableScanNode` (datafusion.proto)."""
_PATHS = 2
"""Field of `ListingTableScanNode`: repeated string paths."""
_LENGTH_DELIMITED = 2


def scan_files(context: SessionContext, urls: Sequence[str], schema: pa.Schema) -> DataFrame:
    """The rows of Parquet files.

    Args:
        context: The engine.
        urls: Of the files, at least one, under a scheme that the engine knows.
        schema: What is read: columns that a file lacks are null, narrower ones are cast.
    """
    frame = context.read_parquet(urls[0], schema=schema)
    if len(urls) == 1:
        return frame
    paths = b"".join(_field(_PATHS, url.encode()) for url in urls[1:])
    plan = frame.logical_plan().to_bytes() + _field(_LISTING_SCAN, paths)
    return context.create_dataframe_from_logical_plan(LogicalPlan.from_bytes(context, plan))


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004  # seven payload bits a byte
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(payload)) + payload
