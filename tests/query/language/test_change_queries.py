"""UPDATE and DELETE on a real engine: each row of the answer is one row that changes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafusion import SessionContext
from query.language.computing import Lake, table

from flightserver.errors import InvalidRequest
from flightserver.query.language.building import change_query
from flightserver.query.language.statements import parse

if TYPE_CHECKING:
    from pathlib import Path

PEOPLE = {"id": pa.int64(), "name": pa.string(), "age": pa.int32()}
AGES = {"id": pa.int64(), "age": pa.string()}


@pytest.fixture
def people() -> Lake:
    rows = table(PEOPLE, (1, "Ada", 36), (2, "Bob", 25), (3, "Cid", None), (4, None, 51))
    ages = table(AGES, (1, "40"), (3, "41"), (3, "42"), (None, "43"))
    return Lake(rows, ("id",), {"ages": ages, "nothing": table(AGES)}, name="people")


def test_update_answers_the_new_values_of_the_rows_that_match(people: Lake) -> None:
    answer = people.answer("UPDATE people SET age = age + 1, name = upper(name) WHERE age > 30")

    assert answer.schema.names == ["__action", "__rid", "__times", "id", "name", "age"]
    assert answer.schema.types == [pa.int64(), pa.int64(), pa.int64(), pa.int64(), pa.string(), pa.int32()]
    assert answer.to_pydict() == {
        "__action": [2, 2],
        "__rid": [100, 103],
        "__times": [1, 1],
        "id": [1, 4],
        "name": ["ADA", None],
        "age": [37, 52],
    }


def test_every_expression_sees_the_row_as_it_was(people: Lake) -> None:
    assert people.changes("UPDATE people AS p SET age = p.id, id = p.age WHERE p.id < 3") == [
        (2, 100, 1, 36, "Ada", 1),
        (2, 101, 1, 25, "Bob", 2),
    ]


def test_update_without_a_condition_changes_every_row(people: Lake) -> None:
    assert people.after("UPDATE people SET name = DEFAULT, age = '7'") == [
        (1, None, 7),
        (2, None, 7),
        (3, None, 7),
        (4, None, 7),
    ]


@pytest.mark.parametrize(
    ("condition", "matching"),
    [
        ("age > 30", [100, 103]),
        ("NOT age > 30", [101]),
        ("age > 30 OR name = 'Cid'", [100, 102, 103]),
        ("age IS NULL", [102]),
        ("age = NULL", []),
        ("NULL", []),
        ("name NOT IN ('Ada', NULL)", []),
        ("age NOT IN (SELECT age FROM people)", []),
        ("id IN (SELECT id FROM ages)", [100, 102]),
        ("age = (SELECT max(age) FROM people)", [103]),
        ("EXISTS (SELECT 1 FROM ages WHERE ages.id = people.id AND ages.age = '42')", [102]),
        ("EXISTS (SELECT 1 FROM nothing)", []),
        ("true -- WHERE false\n AND id = 1", [100]),
    ],
)
def test_a_row_matches_when_the_condition_is_true_and_neither_false_nor_null(
    people: Lake, condition: str, matching: list[int]
) -> None:
    updated = people.changes(f"UPDATE people SET age = 0 WHERE {condition}")
    deleted = people.changes(f"DELETE FROM people WHERE {condition}")

    assert [row[:3] for row in updated] == [(2, row_id, 1) for row_id in matching]
    assert deleted == [(1, row_id, 1) for row_id in matching]


def test_delete_answers_no_columns_of_the_table(people: Lake) -> None:
    answer = people.answer("DELETE FROM people WHERE id = 2")

    assert answer.to_pydict() == {"__action": [1], "__rid": [101], "__times": [1]}
    assert answer.schema.types == [pa.int64()] * 3


def test_update_takes_values_from_other_tables(people: Lake) -> None:
    answer = people.changes("UPDATE people AS p SET age = a.age FROM ages AS a WHERE p.id = a.id AND a.age < '42'")

    assert answer == [(2, 100, 1, 1, "Ada", 40), (2, 102, 1, 3, "Cid", 41)]


def test_update_answers_a_row_for_every_match(people: Lake) -> None:
    answer = people.changes("UPDATE people SET age = ages.age FROM ages WHERE people.id = ages.id")

    assert answer == [(2, 100, 1, 1, "Ada", 40), (2, 102, 1, 3, "Cid", 41), (2, 102, 1, 3, "Cid", 42)]


def test_update_from_several_sources(people: Lake) -> None:
    sql = """UPDATE people p SET name = a.age || '/' || b.name
             FROM ages a JOIN people b ON b.id = a.id + 1, (VALUES (1), (2)) AS c(i) WHERE p.id = a.id AND c.i = p.id"""

    assert people.changes(sql) == [(2, 100, 1, 1, "40/Bob", 36)]


@pytest.mark.parametrize("source", ["nothing", "(SELECT * FROM ages WHERE false) AS nothing"])
def test_an_empty_source_changes_nothing(people: Lake, source: str) -> None:
    assert people.changes(f"UPDATE people SET age = 1 FROM {source}") == []
    assert people.changes(f"DELETE FROM people USING {source}") == []


def test_delete_using_answers_each_row_once(people: Lake) -> None:
    assert people.changes("DELETE FROM people AS p USING ages AS a WHERE p.id = a.id") == [(1, 100, 1), (1, 102, 1)]
    assert people.changes("DELETE FROM people USING ages, people AS o") == [(1, row, 1) for row in range(100, 104)]


def test_values_are_bound_in_every_text(people: Lake) -> None:
    update = "UPDATE people SET name = $1 || a.age FROM (SELECT * FROM ages WHERE age = $2) a WHERE people.id = a.id"
    delete = "DELETE FROM people WHERE id = $id OR age = $age"

    assert people.changes(update, {"1": "x", "2": "40"}) == [(2, 100, 1, 1, "x40", 36)]
    assert people.changes(delete, {"id": 1, "age": 25}) == [(1, 100, 1), (1, 101, 1)]


def test_odd_names_of_columns_and_tables_work() -> None:
    columns = {
        "select": pa.int64(),
        "A.b": pa.int64(),
        'q"uote': pa.int64(),
        "größe": pa.int64(),
        "sp ace": pa.int64(),
        "_t": pa.int64(),
    }
    lake = Lake(table(columns, (1, 2, 3, 4, 5, 6)), name='My "t"')

    changed = lake.changes(
        'UPDATE "My ""t""" SET "select" = "A.b", "A.b" = "My ""t"""."q""uote", größe = größe + 1, '
        '"sp ace" = "select" WHERE "My ""t"""."select" = 1'
    )

    assert changed == [(2, 100, 1, 2, 3, 3, 5, 1, 6)]


def test_names_are_folded_as_the_engine_does() -> None:
    lake = Lake(table({"a": pa.int64(), "A": pa.int64()}, (1, 2)))

    assert lake.changes('UPDATE T SET A = 10, "A" = 20') == [(2, 100, 1, 10, 20)]


def test_an_unknown_column_is_refused_with_those_that_exist(people: Lake) -> None:
    with pytest.raises(InvalidRequest) as caught:
        people.query("UPDATE s.people SET nam = 1")
    assert caught.value.message == (
        'column "nam" doesn\'t exist in table \'"s".people\': did you mean "name"? its columns are id, name, age'
    )
    with pytest.raises(InvalidRequest, match=r'column "AGE" doesn.t exist .* did you mean "age"'):
        people.query('UPDATE people SET "AGE" = 1')


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE people SET _rid = 1",
        "UPDATE people SET age = people._rid",
        'DELETE FROM people WHERE "_rid" = 100',
        "MERGE INTO people USING ages ON _RID = ages.id WHEN MATCHED THEN DELETE",
    ],
)
def test_row_ids_are_not_to_be_seen(people: Lake, sql: str) -> None:
    with pytest.raises(InvalidRequest, match='column "_rid" doesn\'t exist'):
        people.query(sql)


def test_a_value_may_be_called_as_row_ids_are(people: Lake) -> None:
    assert people.changes("DELETE FROM people WHERE name = '_rid' OR id = $_rid", {"_rid": 1}) == [(1, 100, 1)]


def test_a_column_named_as_those_of_the_answer_is_refused() -> None:
    lake = Lake(table({"a": pa.int64(), "__times": pa.int64()}, (1, 2)))

    with pytest.raises(InvalidRequest, match=r'column "__times" .* ALTER TABLE t RENAME COLUMN'):
        lake.query("DELETE FROM t WHERE a = 1")


def test_a_statement_that_changes_no_single_rows_has_no_change_query(people: Lake) -> None:
    with pytest.raises(InvalidRequest, match="truncate changes no single rows"):
        people.query("DELETE FROM people")
    with pytest.raises(InvalidRequest, match="query changes no single rows"):
        people.query("SELECT 1")


def test_a_condition_cannot_reach_out_of_its_clause(people: Lake) -> None:
    """What the grammar lets pass is between parentheses, so that the engine refuses what is no condition."""
    for condition in ("id = 1 QUALIFY true", "id = 1 AS x", "1, 2", "SELECT 1, 2"):
        with pytest.raises(Exception, match=r"(?i)SQL|plan|type|subquer|expected"):
            people.changes(f"DELETE FROM people WHERE {condition}")


@pytest.mark.parametrize(
    "sql",
    ["UPDATE t SET a = a + 1 WHERE b = 7", "DELETE FROM t WHERE b = 7", "DELETE FROM t AS x USING s WHERE x.b = 7"],
)
def test_conditions_and_columns_reach_the_files_of_the_target(tmp_path: Path, sql: str) -> None:
    rows = pa.table({"a": [1, 2], "b": [7, 8], "_rid": [0, 1]})
    pq.write_table(rows, tmp_path / "t.parquet")
    context = SessionContext()
    context.register_parquet("__target", str(tmp_path / "t.parquet"))
    context.register_record_batches("s", [[pa.record_batch({"c": [1]})]])

    query = change_query(parse(sql), rows.schema.remove(2), ())
    plan = context.sql(f"EXPLAIN {query}").to_pydict()["plan"][1]

    [scan] = re.findall(r"DataSourceExec: .*parquet.*", plan)
    assert "predicate=b@1 = 7" in scan
    assert ("projection=[a, b, _rid]" in scan) == sql.startswith("UPDATE")
