"""What the values of a segment's columns lie between, gathered while the segment is written.

Low and high come from the Parquet statistics that the writer computes anyway, nulls from the arrays. A bound is given
only if it holds for every value of every file: one row group without it (values of more than 4 KiB have no
statistics), or a NaN, which Parquet leaves out of them, and it is None. Text is compared as bytes of UTF-8.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from flightserver.catalog.entities import ColumnRange

if TYPE_CHECKING:
    from collections.abc import Mapping

type_is = pa.types

_TEXT_LENGTH = 64
"""Characters of a string bound: enough to tell ranges apart, small enough for a commit that lists hundreds."""

_INTEGER_BACKED = (type_is.is_date32, type_is.is_time, type_is.is_timestamp)
_COMPARABLE = (
    type_is.is_boolean,
    type_is.is_integer,
    type_is.is_floating,
    type_is.is_decimal,
    type_is.is_string,
    type_is.is_duration,
    *_INTEGER_BACKED,
)


class ColumnRanges:
    """Ranges of all top-level columns of one segment.

    Args:
        schema: What the files hold, `_rid` excluded.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._columns: list[_Bounds] = []
        leaf = 0
        for field in schema:
            self._columns.append(_Bounds(field, leaf))
            leaf += count_leaves(field.type)

    def add_rows(self, table: pa.Table) -> None:
        """Count the nulls of rows that are written."""
        for place, column in enumerate(self._columns):
            column.add_values(table.column(place))

    def add_file(self, metadata: Any) -> None:
        """Take the statistics of a finished file.

        Args:
            metadata: Its `pyarrow.parquet.FileMetaData`.
        """
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            for column in self._columns:
                column.add_statistics(group)

    def result(self) -> Mapping[str, ColumnRange]:
        """The ranges by column name."""
        return {column.name: column.result() for column in self._columns}


def count_leaves(data_type: pa.DataType) -> int:
    """How many Parquet columns a canonical type is stored in."""
    if not type_is.is_nested(data_type):
        return 1
    return sum(count_leaves(data_type.field(place).type) for place in range(data_type.num_fields))


class _Bounds:
    def __init__(self, field: pa.Field, leaf: int) -> None:
        self.name: str = field.name
        self._type = field.type
        self._leaf = leaf
        self._known = any(check(field.type) for check in _COMPARABLE)
        self._has_nan = False
        self._low: Any = None
        self._high: Any = None
        self._nulls = 0

    def add_values(self, values: pa.ChunkedArray) -> None:
        self._nulls += values.null_count
        if type_is.is_floating(self._type) and not self._has_nan:
            self._has_nan = pc.any(pc.is_nan(values)).as_py() is True

    def add_statistics(self, group: Any) -> None:
        if not self._known:
            return
        column = group.column(self._leaf)
        found = column.statistics
        if found is None or not found.has_min_max:
            # Nothing but nulls, or NaNs, is no value outside the bounds.
            self._known = found is not None and found.num_values == 0
            return
        if any(check(self._type) for check in _INTEGER_BACKED):
            low, high = found.min_raw, found.max_raw
        else:
            low, high = found.min, found.max
        self._low = low if self._low is None else min(self._low, low)
        self._high = high if self._high is None else max(self._high, high)

    def result(self) -> ColumnRange:
        if not self._known or self._low is None:
            return ColumnRange(nulls=self._nulls)
        low, high = self._text(self._low), self._text(self._high)
        if low is not None and len(low) > _TEXT_LENGTH:
            low = low[:_TEXT_LENGTH]  # a prefix is never greater than the whole
        if self._has_nan or (high is not None and len(high) > _TEXT_LENGTH):
            high = None
        return ColumnRange(low, high, self._nulls)

    def _text(self, value: Any) -> str | None:
        if any(check(self._type) for check in _INTEGER_BACKED):
            return _temporal_text(value, self._type)
        if isinstance(value, Decimal):
            return format(value, "f")
        return str(value).lower() if isinstance(value, bool) else str(value)


def _temporal_text(value: int, data_type: pa.DataType) -> str | None:
    """ISO 8601, instants in UTC; None for years that it doesn't have."""
    if type_is.is_timestamp(data_type) and data_type.tz is not None:
        data_type = pa.timestamp(data_type.unit, "UTC")
    width = pa.int32() if data_type.bit_width == 32 else pa.int64()  # noqa: PLR2004  # time and dates have 32 or 64
    text = str(pa.scalar(value, width).cast(data_type).cast(pa.string()).as_py())
    return None if text.startswith("<") else text.replace(" ", "T")
