"""Whether two engines gave the same answer.

Theory of operation: engines choose their own types for the same expression, so values are compared, not types.
Integers, texts, dates and decimals are exact in every engine and must be equal. Where one engine answers a
double, as DuckDB does for `avg` and `/` of decimals, it rounds in binary where DataFusion truncates at the last digit
of its decimal, so that they may differ by that digit (`avg` of decimal(15,2) is decimal(19,6): 1e-6); two doubles may
differ by the order in which they were summed. Hence 1e-6 relative, or one unit of the last decimal digit.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable

RELATIVE = 1e-6


def differences(ours: pa.Table, theirs: pa.Table, *, ordered: bool) -> list[str]:
    """What differs, as sentences; nothing when the results are the same.

    Args:
        ours: The answer under test.
        theirs: The answer to compare it with.
        ordered: Whether rows must come in the same order; otherwise both are sorted by all columns.
    """
    if ours.column_names != theirs.column_names:
        return [f"columns {ours.column_names}, expected {theirs.column_names}"]
    if ours.num_rows != theirs.num_rows:
        return [f"{ours.num_rows} rows, expected {theirs.num_rows}"]
    if not ordered:
        ours, theirs = _sorted(ours), _sorted(theirs)
    return [
        f"{name}, row {row}: {found!r}, expected {expected!r}"
        for name in ours.column_names
        for row, (found, expected) in enumerate(_pairs(ours[name], theirs[name]))
        if not _same(ours[name].type, theirs[name].type)(found, expected)
    ]


def _pairs(ours: pa.ChunkedArray, theirs: pa.ChunkedArray) -> list[tuple[object, object]]:
    return list(zip(ours.to_pylist(), theirs.to_pylist(), strict=True))


def _sorted(table: pa.Table) -> pa.Table:
    return table.take(pc.sort_indices(table, sort_keys=[(name, "ascending") for name in table.column_names]))


def _same(ours: pa.DataType, theirs: pa.DataType) -> Callable[[object, object], bool]:
    """How values of these types are compared."""
    if not (pa.types.is_floating(ours) or pa.types.is_floating(theirs)):
        return lambda found, expected: found == expected
    scales = [kind.scale for kind in (ours, theirs) if pa.types.is_decimal(kind)]
    last_digit = 10.0 ** -min(scales) if scales else 0.0

    def close(found: object, expected: object) -> bool:
        if not isinstance(found, float | int | Decimal) or not isinstance(expected, float | int | Decimal):
            return found is None and expected is None
        return math.isclose(found, expected, rel_tol=RELATIVE, abs_tol=last_digit)

    return close
