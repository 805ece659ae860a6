"""On random tables, statements leave what they leave in DuckDB, which follows PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings
from query.language.computing import Lake, Row, in_order, table

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

COLUMNS = {"id": pa.int64(), "n": pa.int64()}
SMALL = st.one_of(st.none(), st.integers(0, 4))


def rows(keys: SearchStrategy[Any]) -> SearchStrategy[list[Row]]:
    return st.lists(st.tuples(keys, SMALL), max_size=6, unique_by=lambda row: object() if row[0] is None else row[0])


KEYED = rows(st.integers(0, 5))
LOOSE = rows(SMALL)


def in_duckdb(sql: str, target: list[Row], source: list[Row], *, keyed: bool) -> list[Row]:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t (id BIGINT {'PRIMARY KEY' if keyed else ''}, n BIGINT)")
        connection.execute("CREATE TABLE s (id BIGINT, n BIGINT)")
        for name, given_rows in (("t", target), ("s", source)):
            for row in given_rows:
                connection.execute(f"INSERT INTO {name} VALUES (?, ?)", row)
        connection.execute(sql)
        return in_order(connection.execute("SELECT id, n FROM t").fetchall())


def here(sql: str, target: list[Row], source: list[Row]) -> list[Row]:
    return Lake(table(COLUMNS, *target), ("id",), {"s": table(COLUMNS, *source)}).after(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE t SET n = n + 1, id = n WHERE n > 1 OR NOT id < 3",
        "UPDATE t SET n = s.n, id = s.id + t.id FROM s WHERE s.id = t.id",
        "UPDATE t SET n = (SELECT max(s.n) FROM s WHERE s.id = t.id)",
        "DELETE FROM t WHERE n NOT IN (SELECT n FROM s)",
        "DELETE FROM t WHERE NOT (n > 1 AND id <> 2)",
        "DELETE FROM t USING s WHERE t.n < s.n",
        "DELETE FROM t WHERE EXISTS (SELECT 1 FROM s WHERE s.id = t.id AND s.n IS NULL)",
        "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED AND s.n > 1 THEN UPDATE SET n = t.n + s.n",
        "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED AND s.n > t.n THEN DELETE WHEN MATCHED THEN DO NOTHING",
        """MERGE INTO t USING s ON t.id = s.id AND t.n > 1
           WHEN MATCHED THEN UPDATE SET n = s.n
           WHEN NOT MATCHED AND s.n IS NOT NULL THEN INSERT VALUES (s.id, s.n * 10)""",
        """MERGE INTO t USING (SELECT * FROM s WHERE n < 3) AS s ON t.id = s.id
           WHEN MATCHED AND t.n IS NULL THEN DELETE
           WHEN MATCHED THEN UPDATE SET n = s.n
           WHEN NOT MATCHED THEN INSERT (n, id) VALUES (s.id, s.n)
           WHEN NOT MATCHED BY SOURCE AND t.n > 1 THEN DELETE
           WHEN NOT MATCHED BY SOURCE THEN UPDATE SET n = 99""",
        """MERGE INTO t USING s ON t.id = s.id
           WHEN NOT MATCHED BY SOURCE AND t.n < 3 THEN UPDATE SET n = t.n - 1
           WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)""",
    ],
)
@settings(max_examples=20)  # each makes a database
@given(target=LOOSE, source=LOOSE)
def test_update_delete_and_merge(sql: str, target: list[Row], source: list[Row]) -> None:
    assert here(sql, target, source) == in_duckdb(sql, target, source, keyed=False)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t SELECT * FROM s ON CONFLICT DO NOTHING",
        "INSERT INTO t SELECT * FROM s ON CONFLICT (id) DO UPDATE SET n = t.n + excluded.n WHERE t.n < excluded.n",
        "INSERT INTO t (n, id) SELECT n, id FROM s ON CONFLICT (id) DO UPDATE SET n = coalesce(excluded.n, t.n)",
        "INSERT OR REPLACE INTO t SELECT * FROM s",
        "INSERT OR IGNORE INTO t (id) SELECT id FROM s",
    ],
)
@settings(max_examples=20)  # each makes a database
@given(target=KEYED, source=KEYED)
def test_insert_with_conflicts(sql: str, target: list[Row], source: list[Row]) -> None:
    assert here(sql, target, source) == in_duckdb(sql, target, source, keyed=True)
