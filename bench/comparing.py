"""Whether contestants answered the same, so that their times may be compared.

Engines choose their own types and orders. Whole results are compared as values: both are sorted, columns match by
their place, texts, dates and integers must be equal; where one has doubles or decimals, as for an average,
values may differ by the order in which they were summed and by the last digit of a decimal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_RELATIVE = 1e-6
_ABSOLUTE = 1e-6
"""An average of decimal(15, 2) is decimal(19, 6), cut off at its last digit, where DuckDB answers a double."""


def assert_same(name: str, found: pa.Table, expected: pa.Table) -> None:
    """Compare two results as sets of rows.

    Raises:
        AssertionError: They differ: nothing that was measured of them counts.
    """
    assert found.num_columns == expected.num_columns, f"{name}: {found.column_names}, expected {expected.column_names}"
    assert found.num_rows == expected.num_rows, f"{name}: {found.num_rows} rows, expected {expected.num_rows}"
    assert found.num_rows, f"{name}: no rows"
    inexact = [_inexact(one) or _inexact(other) for one, other in zip(found.columns, expected.columns, strict=True)]
    left, right = _sorted(found, inexact), _sorted(expected, inexact)
    for column, rounded in zip(found.column_names, inexact, strict=True):
        place = found.column_names.index(column)
        one, other = left[place], right[place]
        if rounded:
            same = bool(np.allclose(one, other, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True))
        else:
            same = one.equals(other)
        assert same, f"{name}: column {column} differs"


def _inexact(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_floating(column.type) or pa.types.is_decimal(column.type))


def _sorted(table: pa.Table, inexact: list[bool]) -> list[Any]:
    """Columns in plain types, sorted by the exact ones first."""
    columns = [_plain(column, rounded=rounded) for column, rounded in zip(table.columns, inexact, strict=True)]
    names = [f"c{place}" for place in range(len(columns))]
    order = sorted(range(len(columns)), key=lambda place: inexact[place])
    plain = pa.Table.from_arrays(columns, names)
    sort = [(names[place], "ascending") for place in order]
    ordered = plain.take(pc.sort_indices(plain, sort_keys=sort))
    return [
        ordered[place].to_numpy() if rounded else ordered[place].combine_chunks()
        for place, rounded in enumerate(inexact)
    ]


def _plain(column: pa.ChunkedArray, *, rounded: bool) -> pa.ChunkedArray:
    kind = column.type
    if rounded:
        return column.cast(pa.float64())
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type), rounded=False)
    if pa.types.is_integer(kind):
        return column.cast(pa.int64())
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us"))
    if pa.types.is_string(kind) or pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.large_string())
    return column
