"""Names as they stand in SQL."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
"""Names that mean themselves without quotes: SQL makes the letters of others small, or doesn't take them for names."""
_WORDS = frozenset({"lateral", "local", "only", "table", "unnest"})
"""Words that aren't taken for a table's name where one may stand: `lateral`, `table` and `unnest` after FROM, `local`
after INSERT INTO (Hive's `LOCAL DIRECTORY`), `only` after UPDATE, DELETE FROM and ALTER TABLE (PostgreSQL's `ONLY`)."""


def quoted(name: str) -> str:
    """`name` as it stands between double quotes in SQL."""
    return name.replace('"', '""')


def delimited(name: str) -> str:
    """A name between double quotes."""
    return f'"{quoted(name)}"'


def identifier(name: str) -> str:
    """A name as people type it: between double quotes only where SQL needs them."""
    return name if _PLAIN.fullmatch(name) and name not in _WORDS else delimited(name)
