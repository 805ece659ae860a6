"""Tables that client tests send and expect back, value by value."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa


def people() -> pa.Table:
    """Four people: a key, text with all that needs care, a number, and nulls."""
    return pa.table(
        {
            "id": pa.array([1, 2, 3, 4], pa.int64()),
            "name": pa.array(["Ada", "Grace O'Hara", None, "Łucja 🚀"], pa.utf8()),
            "score": pa.array([9.5, -0.25, None, 1e300], pa.float64()),
        }
    )


def more_people() -> pa.Table:
    """Two more, of the same schema."""
    return pa.table(
        {
            "id": pa.array([5, 6], pa.int64()),
            "name": pa.array(["Edsger", ""], pa.utf8()),
            "score": pa.array([0.0, 2.5], pa.float64()),
        }
    )


COLUMNS: dict[str, pa.Array] = {
    "int8": pa.array([-128, 127, None], pa.int8()),
    "int16": pa.array([-32768, 32767, None], pa.int16()),
    "int32": pa.array([-(2**31), 2**31 - 1, None], pa.int32()),
    "int64": pa.array([-(2**63), 2**63 - 1, None], pa.int64()),
    "uint8": pa.array([0, 255, None], pa.uint8()),
    "uint16": pa.array([0, 65535, None], pa.uint16()),
    "uint32": pa.array([0, 2**32 - 1, None], pa.uint32()),
    "uint64": pa.array([0, 2**64 - 1, None], pa.uint64()),
    "float32": pa.array([0.5, -1.25, None], pa.float32()),
    "float64": pa.array([0.1, 1.7976931348623157e308, None], pa.float64()),
    "bool": pa.array([True, False, None], pa.bool_()),
    "decimal": pa.array([Decimal("12345678.9012"), Decimal("-0.0001"), None], pa.decimal128(12, 4)),
    "wide_decimal": pa.array([Decimal("9" * 38), Decimal(-1), None], pa.decimal128(38, 0)),
    "date": pa.array([date(1969, 12, 31), date(2026, 2, 28), None], pa.date32()),
    "time": pa.array([time(0, 0, 1), time(23, 59, 59, 999999), None], pa.time64("us")),
    "timestamp": pa.array(
        [datetime(1969, 7, 20, 20, 17, 40, 123456), datetime(2026, 11, 21), None],  # noqa: DTZ001  # without a zone on purpose
        pa.timestamp("us"),
    ),
    "timestamp_ns": pa.array([1, -(10**18) + 1, None], pa.timestamp("ns")),
    "timestamp_utc": pa.array(
        [datetime(1969, 7, 20, 20, 17, 40, 123456, UTC), datetime(2026, 11, 21, tzinfo=UTC), None],
        pa.timestamp("us", tz="UTC"),
    ),
    "timestamp_zone": pa.array([0, 1_700_000_000_000_000, None], pa.timestamp("us", tz="Europe/Warsaw")),
    "string": pa.array(["", 'it\'s "quoted" \u0000 🚀\n', None], pa.utf8()),
    "binary": pa.array([b"", b"\x00\xff'", None], pa.binary()),
    "list": pa.array([[1, None, 3], [], None], pa.list_(pa.int64())),
    "list_of_strings": pa.array([["a", "b"], [None], None], pa.list_(pa.utf8())),
    "struct": pa.array(
        [{"x": 1, "y": "one"}, {"x": None, "y": None}, None],
        pa.struct([("x", pa.int32()), ("y", pa.utf8())]),
    ),
}
"""One column of each type that a dataset keeps as it is: its two extreme or awkward values, and a null."""


def all_types() -> pa.Table:
    """The columns as one table, with a key to order by."""
    return pa.table({"id": pa.array([1, 2, 3], pa.int64()), **COLUMNS})


def create_empty(cursor: Any, table: str, schema: pa.Schema) -> int:
    """Create a table without rows; returns the count that the server tells.

    The driver sends nothing at all, not even the command, for a stream without any batch (adbc-driver-flightsql
    1.13), hence one batch without rows.
    """
    empty = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
    counted: int = cursor.adbc_ingest(table, pa.RecordBatchReader.from_batches(schema, [empty]), mode="create")
    return counted
