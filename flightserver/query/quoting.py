"""Names as they stand in SQL."""

from __future__ import annotations


def quoted(name: str) -> str:
    """`name` as it stands between double quotes in SQL."""
    return name.replace('"', '""')
