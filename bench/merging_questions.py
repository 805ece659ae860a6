"""What is asked of a table that was changed, and of its peer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """A query over `{table}`, and how often it is run in one turn."""

    title: str
    sql: str
    times: int

    def over(self, dataset: str) -> str:
        """Its text."""
        return self.sql.format(table=dataset)


def questions(count: int) -> list[Question]:
    """What is asked of so many orders."""
    some = f"customer_id < {count // 200}"
    return [
        Question("full scan", "SELECT * FROM {table}", 1),
        Question("filter, 5 %", f"SELECT * FROM {{table}} WHERE {some}", 3),
        Question("count(*)", "SELECT count(*) AS n FROM {table}", 9),
        Question("count, filter", f"SELECT count(*) AS n FROM {{table}} WHERE {some}", 3),
        Question("GROUP BY", "SELECT status, count(*) AS n, sum(amount) AS s FROM {table} GROUP BY status", 3),
        Question("point", f"SELECT * FROM {{table}} WHERE order_id = {count * 2 // 3}", 9),
    ]
