"""MERGE on a real engine: what each clause does, and to which rows."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest
from query.language.computing import Lake, table

from flightserver.errors import InvalidRequest

STOCK = {"item": pa.string(), "number": pa.int64()}


@pytest.fixture
def stock() -> Lake:
    """Of the source, `b` and `c` match, `d` and the null are new; `a` and a null of the target have no partner."""
    rows = table(STOCK, ("a", 1), ("b", 2), ("c", None), (None, 4))
    news = table(STOCK, ("b", 20), ("c", None), ("d", 40), (None, 50))
    return Lake(rows, ("item",), {"news": news, "nothing": table(STOCK)}, name="stock")


def merge(clauses: str, source: str = "news AS n") -> str:
    return f"MERGE INTO stock AS s USING {source} ON s.item = n.item {clauses}"


def test_rows_that_match_are_updated(stock: Lake) -> None:
    assert stock.changes(merge("WHEN MATCHED THEN UPDATE SET number = n.number + 1")) == [
        (2, 101, 1, "b", 21),
        (2, 102, 1, "c", None),
    ]


def test_rows_that_match_are_deleted(stock: Lake) -> None:
    answer = stock.answer(merge("WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN DO NOTHING"))

    assert answer.schema.names == ["__action", "__rid", "__times"]
    assert sorted(answer.column("__rid").to_pylist()) == [101, 102]
    assert set(answer.column("__action").to_pylist()) == {1}


def test_rows_of_the_source_that_are_not_matched_are_inserted(stock: Lake) -> None:
    """A null matches nothing, not even another null."""
    expected = [(3, None, 1, "d", 40), (3, None, 1, None, 50)]

    assert stock.changes(merge("WHEN NOT MATCHED THEN INSERT *")) == expected
    assert stock.changes(merge("WHEN NOT MATCHED THEN INSERT VALUES (n.item, n.number)")) == expected
    by_bare_name = "WHEN NOT MATCHED BY TARGET THEN INSERT (number, item) VALUES (number, item)"
    assert stock.changes(merge(by_bare_name)) == expected


def test_columns_that_are_not_given_are_null(stock: Lake) -> None:
    answer = stock.changes(merge("WHEN NOT MATCHED AND n.item IS NOT NULL THEN INSERT (item) VALUES (item || '!')"))

    assert answer == [(3, None, 1, "d!", None)]


def test_rows_of_the_target_that_are_not_matched_are_changed(stock: Lake) -> None:
    assert stock.changes(merge("WHEN NOT MATCHED BY SOURCE THEN UPDATE SET number = number * 10")) == [
        (2, 100, 1, "a", 10),
        (2, 103, 1, None, 40),
    ]
    assert stock.changes(merge("WHEN NOT MATCHED BY SOURCE AND number > 1 THEN DELETE")) == [(1, 103, 1)]


def test_all_kinds_of_clauses_in_one_statement(stock: Lake) -> None:
    sql = merge(
        """WHEN MATCHED AND n.number IS NULL THEN DELETE
           WHEN MATCHED THEN UPDATE SET number = s.number + n.number
           WHEN NOT MATCHED AND item = 'd' THEN INSERT *
           WHEN NOT MATCHED BY SOURCE AND number = 1 THEN UPDATE SET item = upper(item)"""
    )

    assert stock.changes(sql) == [
        (2, 100, 1, "A", 1),
        (2, 101, 1, "b", 22),
        (1, 102, 1, "c", None),
        (3, None, 1, "d", 40),
    ]


def test_the_first_clause_that_holds_decides(stock: Lake) -> None:
    sql = merge(
        """WHEN MATCHED AND s.item = 'b' THEN DO NOTHING
           WHEN MATCHED AND s.number = n.number THEN DELETE
           WHEN MATCHED THEN UPDATE SET number = 0
           WHEN NOT MATCHED AND n.number > 40 THEN DO NOTHING
           WHEN NOT MATCHED THEN INSERT *"""
    )

    assert stock.changes(sql) == [(2, 102, 1, "c", 0), (3, None, 1, "d", 40)]


def test_a_condition_that_is_null_does_not_hold(stock: Lake) -> None:
    sql = merge("WHEN MATCHED AND s.number > 0 THEN DELETE WHEN NOT MATCHED AND NULL THEN INSERT *")

    assert stock.changes(sql) == [(1, 101, 1, "b", 2)]


def test_an_expression_is_computed_only_for_the_rows_of_its_clause(stock: Lake) -> None:
    sql = merge(
        """WHEN MATCHED AND n.number - 20 <> 0 THEN UPDATE SET number = 1 / (n.number - 20)
           WHEN NOT MATCHED AND n.number <> 50 THEN INSERT VALUES (n.item, 1 / (n.number - 50))"""
    )

    assert stock.changes(sql) == [(3, None, 1, "d", 0)]


def test_update_of_every_column_from_the_source(stock: Lake) -> None:
    assert stock.changes(merge("WHEN MATCHED THEN UPDATE SET *", "(SELECT 7 AS number, 'b' AS item) AS n")) == [
        (2, 101, 1, "b", 7)
    ]


@pytest.mark.parametrize("kind", ["UPDATE SET number = 0", "DELETE"])
def test_an_empty_source_matches_nothing(stock: Lake, kind: str) -> None:
    sql = merge(f"WHEN MATCHED THEN {kind} WHEN NOT MATCHED THEN INSERT *", "nothing AS n")
    assert stock.changes(sql) == []

    by_source = stock.changes(f"{sql} WHEN NOT MATCHED BY SOURCE THEN {kind}")
    assert [row[:2] for row in by_source] == [(1 if kind == "DELETE" else 2, row_id) for row_id in range(100, 104)]


def test_an_empty_target_matches_nothing() -> None:
    lake = Lake(table(STOCK), (), {"n": table(STOCK, ("a", 1))}, name="stock")
    sql = """MERGE INTO stock USING n ON stock.item = n.item
             WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT * WHEN NOT MATCHED BY SOURCE THEN DELETE"""

    assert lake.changes(sql) == [(3, None, 1, "a", 1)]


def test_a_row_that_several_of_the_source_match_is_answered_for_each(stock: Lake) -> None:
    sql = merge("WHEN MATCHED THEN UPDATE SET number = n.x", "(VALUES ('b', 1), ('b', 2)) AS n(item, x)")

    assert stock.changes(sql) == [(2, 101, 1, "b", 1), (2, 101, 1, "b", 2)]


def test_any_condition_can_join(stock: Lake) -> None:
    sql = """MERGE INTO stock s USING news n ON s.number < n.number AND s.item = 'a' AND n.item = 'd'
             WHEN MATCHED THEN UPDATE SET number = n.number WHEN NOT MATCHED AND n.item = 'b' THEN INSERT *
             WHEN NOT MATCHED BY SOURCE AND s.item = 'c' THEN DELETE"""

    assert stock.changes(sql) == [(2, 100, 1, "a", 40), (1, 102, 1, "c", None), (3, None, 1, "b", 20)]


def test_values_are_bound_in_every_text(stock: Lake) -> None:
    sql = """MERGE INTO stock USING (SELECT $1 AS item, CAST($2 AS BIGINT) AS number) n ON stock.item = n.item
             WHEN MATCHED AND n.number > $3 THEN UPDATE SET number = n.number + $4
             WHEN NOT MATCHED THEN INSERT VALUES ($1, $2)"""

    assert stock.changes(sql, {"1": "a", "2": 5, "3": 4, "4": 100}) == [(2, 100, 1, "a", 105)]
    assert stock.changes(sql, {"1": "z", "2": 5, "3": 4, "4": 100}) == [(3, None, 1, "z", 5)]


def test_conditions_with_subqueries(stock: Lake) -> None:
    sql = merge(
        """WHEN MATCHED AND n.number = (SELECT min(number) FROM news) THEN UPDATE SET number = n.number
           WHEN NOT MATCHED AND n.number < (SELECT max(number) FROM news) THEN INSERT *
           WHEN NOT MATCHED BY SOURCE AND s.number = (SELECT min(number) FROM stock) THEN DELETE"""
    )

    assert stock.changes(sql) == [(1, 100, 1, "a", 1), (2, 101, 1, "b", 20), (3, None, 1, "d", 40)]


def test_a_condition_of_chance_is_drawn_once_for_each_row() -> None:
    """Were it drawn for the action and again for the columns, rows would be updated to what they were."""
    ids = range(500)
    target = table({"id": pa.int64(), "n": pa.int64()}, *((number, 0) for number in ids))
    lake = Lake(target, (), {"s": table({"id": pa.int64()}, *((number,) for number in ids))})

    answer = lake.answer("MERGE INTO t USING s ON t.id = s.id WHEN MATCHED AND random() < 0.5 THEN UPDATE SET n = 1")

    assert set(answer.column("n").to_pylist()) == {1}
    assert 0 < answer.num_rows < len(ids)


def test_a_clause_keeps_the_digits_that_another_would_lose() -> None:
    """The engine makes CASE of a decimal and a double a double; each branch has the column's type instead."""
    precise = Decimal("12345678901234567890.0123456789")
    columns = {"id": pa.int64(), "price": pa.decimal128(30, 10)}
    lake = Lake(table(columns, (1, precise)), (), {"s": table(columns, (1, precise), (2, precise))})

    answer = lake.changes(
        "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET price = 1.5e0 WHEN NOT MATCHED THEN INSERT *"
    )

    assert answer == [(2, 100, 1, 1, Decimal("1.5000000000")), (3, None, 1, 2, precise)]


def test_columns_named_like_words_of_expressions_are_qualified_with_care() -> None:
    columns = {"date": pa.date32(), "year": pa.int64(), "value": pa.string(), "end": pa.int64(), "upper": pa.string()}
    lake = Lake(table(columns), (), {"s": table(columns, (None, 3, "x", 9, "u"))})

    answer = lake.changes(
        """MERGE INTO t USING s ON t.year = s.year WHEN NOT MATCHED AND value = 'x' THEN INSERT VALUES (
             date '2020-01-01' + interval '1' day, extract(year FROM date '2021-01-01') + year,
             upper(value) || 'value' || upper, CASE WHEN date IS NULL THEN "end" END, year::varchar)"""
    )

    (row,) = answer
    assert (str(row[3]), *row[4:]) == ("2020-01-02", 2024, "Xvalueu", 9, "3")


@pytest.mark.parametrize(
    ("clause", "reason"),
    [
        ("WHEN MATCHED THEN UPDATE SET price = 1", "column \"price\" doesn't exist in table 'stock'"),
        ("WHEN NOT MATCHED THEN INSERT (item, price) VALUES (1, 2)", "its columns are item, number"),
        ("WHEN NOT MATCHED THEN INSERT VALUES (1)", r"INSERT of MERGE gives 1 values for 2 columns \(item, number\)"),
        ("WHEN NOT MATCHED THEN INSERT VALUES (1, 2, 3)", "gives 3 values for 2 columns"),
    ],
)
def test_what_does_not_fit_the_columns_is_refused(stock: Lake, clause: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        stock.query(merge(clause))
