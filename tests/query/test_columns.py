"""Which columns of a result are told to be those of a table, and that nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from query.asking import run

from flightserver.access.rights import UNRESTRICTED
from flightserver.query.columns import origins
from flightserver.query.request import Request

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse


@pytest.fixture
def tables(lakehouse: Lakehouse) -> Lakehouse:
    """A table that is a merge of deltas, one that is not, and a view."""
    for sql in (
        "CREATE TABLE people (id BIGINT, name VARCHAR)",
        "INSERT INTO people VALUES (1, 'a'), (2, 'b')",
        "DELETE FROM people WHERE id = 1",
        "CREATE TABLE whole (id BIGINT, name VARCHAR)",
        "CREATE VIEW v AS SELECT upper(name) AS up, name FROM people",
    ):
        run(lakehouse, sql)
    return lakehouse


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM people", ["primary.people.id", "primary.people.name"]),
        ("SELECT name AS n, id + 1 FROM public.people p", ["public.people.name", None]),
        ("SELECT * FROM v", ["primary.v.up", "primary.v.name"]),
        ('SELECT name FROM lakehouse."primary".people', ["primary.people.name"]),
        ("SELECT a.id, b.id FROM whole a LEFT JOIN people b ON a.id = b.id", ["primary.whole.id", "primary.people.id"]),
        ("SELECT name, count(*) FROM whole GROUP BY name ORDER BY 2 LIMIT 3", ["primary.whole.name", None]),
        ("SELECT DISTINCT name FROM whole", ["primary.whole.name"]),
        ("WITH x AS (SELECT name AS z FROM whole) SELECT z FROM x", ["primary.whole.name"]),
        ("WITH whole AS (SELECT upper(name) AS name FROM people) SELECT name FROM whole", [None]),
        ("SELECT * FROM (SELECT upper(name) AS name FROM people) people", [None]),
        ("SELECT id FROM whole UNION SELECT id FROM people", [None]),
        ("SELECT id, row_number() OVER () FROM whole", ["primary.whole.id", None]),
        ("SELECT coalesce(name, name) FROM people", [None]),
        ("SELECT table_name FROM information_schema.tables", ["information_schema.tables.table_name"]),
        ("EXPLAIN SELECT 1", [None, None]),
    ],
)
def test_a_column_has_an_origin_only_where_it_is_that_of_a_table(
    tables: Lakehouse, sql: str, expected: list[str | None]
) -> None:
    found = origins(tables.queries.plan(Request(rights=UNRESTRICTED, sql=sql)))

    assert [None if one is None else f"{one.schema}.{one.table}.{one.column}" for one in found] == expected
