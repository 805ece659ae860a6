"""What `information_schema` says of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from query.asking import rows

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse


def referring(lakehouse: Lakehouse, **options: Any) -> list[tuple[Any, ...]]:
    """Every column of every foreign key: its schema, key, table and column, and what it refers to."""
    return rows(
        lakehouse,
        """
        SELECT k.table_schema, k.constraint_name, k.table_name, k.column_name,
               p.table_schema AS other_schema, p.table_name AS other, p.column_name AS other_column
        FROM information_schema.key_column_usage k
        JOIN information_schema.referential_constraints r
          ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name
        JOIN information_schema.key_column_usage p
          ON p.constraint_schema = r.unique_constraint_schema AND p.constraint_name = r.unique_constraint_name
         AND p.ordinal_position = k.position_in_unique_constraint
        ORDER BY 1, 2, k.ordinal_position
        """,
        **options,
    )


def named(lakehouse: Lakehouse, table: str) -> list[str]:
    """Names of the constraints of a table in `public`: the primary key, then foreign keys."""
    found = rows(
        lakehouse,
        "SELECT constraint_name FROM information_schema.table_constraints "
        f"WHERE table_schema = 'public' AND table_name = '{table}' ORDER BY constraint_type DESC, 1",
    )
    return [name for (name,) in found]
