"""Statements for all bound rows at once do what running them one after the other does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from query.language.computing import Lake, Row, table

from flightserver.query.language.building import each_once
from flightserver.query.language.statements import parse

if TYPE_CHECKING:
    from collections.abc import Mapping

COLUMNS = {"id": pa.int64(), "n": pa.int64(), "note": pa.string()}
ROWS = table(COLUMNS, (1, 10, "a"), (2, 20, "b"), (3, 30, None))


def one_by_one(sql: str, bound: list[Mapping[str, Any]]) -> list[Row]:
    lake = Lake(ROWS, ("id",))
    for values in bound:
        lake = replace(lake, target=table(COLUMNS, *lake.after(sql, values)))
    return lake.after("DELETE FROM t WHERE false")


def at_once(sql: str, bound: list[Mapping[str, Any]]) -> list[Row]:
    statement = each_once(parse(sql))
    assert statement is not None
    assert statement.placeholders == ()
    return Lake(ROWS, ("id",), {"__bound": pa.Table.from_pylist([dict(row) for row in bound])}).after(statement)


@pytest.mark.parametrize(
    ("sql", "bound"),
    [
        ("DELETE FROM t WHERE id = ?", [{"1": 1}, {"1": 3}, {"1": 3}, {"1": 9}, {"1": None}]),
        ("DELETE FROM t AS x WHERE x.n > $low AND n < $high", [{"low": 1, "high": 15}, {"low": 5, "high": 25}]),
        ("DELETE FROM t WHERE id = $id", [{"id": 2}, {"id": 7}]),
        ("UPDATE t SET n = ? WHERE id = ?", [{"1": 5, "2": 1}, {"1": None, "2": 2}, {"1": 7, "2": 9}]),
        ("UPDATE t SET n = $n, note = concat($n, $m, id) WHERE t.id = $id", [{"n": 1, "m": "x", "id": 1}]),
        (
            "INSERT INTO t VALUES (?, ?, upper(?)) ON CONFLICT (id) DO UPDATE SET n = t.n + excluded.n, note = 'new'",
            [{"1": 1, "2": 5, "3": "x"}, {"1": 8, "2": 6, "3": "y"}],
        ),
        (
            "INSERT INTO t (n, id) VALUES ($n, $id) ON CONFLICT DO NOTHING",
            [{"n": 1, "id": 1}, {"n": 2, "id": 7}, {"n": 3, "id": 7}],
        ),
        ("INSERT OR REPLACE INTO t VALUES ($1, $2, 'z')", [{"1": 1, "2": 5}, {"1": 8, "2": 6}]),
    ],
)
def test_all_bound_rows_at_once(sql: str, bound: list[Mapping[str, Any]]) -> None:
    assert at_once(sql, bound) == one_by_one(sql, bound)


def test_a_row_that_several_bound_rows_hit_is_answered_for_each_by_update_and_once_by_delete() -> None:
    bound = {"__bound": table({"1": pa.int64(), "2": pa.int64()}, (1, 1), (2, 1))}
    update = each_once(parse("UPDATE t SET n = ? WHERE id = ?"))
    delete = each_once(parse("DELETE FROM t WHERE id < ? + ?"))
    assert update is not None
    assert delete is not None

    assert Lake(ROWS, (), bound).changes(update) == [(2, 100, 1, 1, 1, "a"), (2, 100, 1, 1, 2, "a")]
    assert Lake(ROWS, (), bound).changes(delete) == [(1, 100, 1), (1, 101, 1)]


def test_bound_rows_with_one_key_are_counted() -> None:
    bound = {"__bound": table({"1": pa.int64()}, (1,), (1,), (7,))}
    upsert = each_once(parse("INSERT INTO t (id) VALUES (?) ON CONFLICT DO UPDATE SET n = t.n + 1"))
    assert upsert is not None

    assert Lake(ROWS, ("id",), bound).changes(upsert) == [
        (2, 100, 2, 1, 11, "a"),
        (2, 100, 2, 1, 11, "a"),
        (3, None, 1, 7, None, None),
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM t WHERE id = 1",
        "DELETE FROM t WHERE id = ? AND n = (SELECT max(n) FROM t)",
        "DELETE FROM t USING u WHERE t.id = u.id AND u.n = ?",
        "UPDATE t SET n = n + ? WHERE id = 1",
        "UPDATE t SET n = ?, note = t.n",
        'UPDATE t SET n = ? WHERE "n" = 5',
        "UPDATE t SET n = (SELECT max(n) FROM u) WHERE id = ?",
        "UPDATE t SET n = u.n FROM u WHERE u.id = ?",
        "INSERT INTO t VALUES (?, ?, ?), (?, ?, ?) ON CONFLICT DO NOTHING",
        "INSERT INTO t SELECT ?, n, note FROM t ON CONFLICT DO NOTHING",
        "INSERT INTO t VALUES (?, (SELECT max(n) FROM t), 'x') ON CONFLICT DO NOTHING",
        "INSERT INTO t VALUES (1, 2, 'x') ON CONFLICT DO UPDATE SET n = ?",
        "INSERT INTO t VALUES (?, 2, 'x') ON CONFLICT DO UPDATE SET n = 1 WHERE t.n > ?",
        "INSERT INTO t VALUES (?, 2, 'x') ON CONFLICT DO UPDATE SET n = (SELECT max(n) FROM t)",
        "MERGE INTO t USING (SELECT ? AS id) s ON t.id = s.id WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)",
        "INSERT INTO t VALUES (?, ?, ?)",
        "TRUNCATE t",
    ],
)
def test_what_may_see_what_an_earlier_run_did_is_run_one_by_one(sql: str) -> None:
    assert each_once(parse(sql)) is None


def test_a_placeholder_named_as_the_assigned_column_is_no_use_of_it() -> None:
    assert each_once(parse("UPDATE t SET n = $n WHERE id = $id AND note <> 'n'")) is not None
