"""Statements are sorted by their tokens, and everything that isn't ours to run is refused with a reason."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from flightserver.errors import FlightserverError, InvalidRequest
from flightserver.query.parameters import insert_from_bound
from flightserver.query.statements import Kind, TableName, parse


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT 1", Kind.QUERY),
        ("  -- comment\n /* another */ select 1;", Kind.QUERY),
        ("with x as (select 1) select * from x", Kind.QUERY),
        ("(select 1) union all (select 2)", Kind.QUERY),
        ("values (1), (2)", Kind.QUERY),
        ("explain analyze select 1", Kind.QUERY),
        ("show tables", Kind.QUERY),
        ("describe t", Kind.QUERY),
        ("INSERT INTO t VALUES (1)", Kind.INSERT),
        ("insert into t (a, b) select 1, 2", Kind.INSERT),
        ("create table t (a int)", Kind.CREATE_TABLE),
        ("create or replace table s.t as select 1", Kind.CREATE_TABLE_AS),
        ("drop table if exists t", Kind.DROP_TABLE),
        ("truncate table t", Kind.DELETE_ALL),
        ("delete from t", Kind.DELETE_ALL),
    ],
)
def test_a_statement_is_sorted_by_its_first_words(sql: str, kind: Kind) -> None:
    assert parse(sql).kind is kind


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("COPY t TO '/tmp/x'", "COPY reaches files of the server"),
        ("SET datafusion.execution.batch_size = 1", "settings of the engine belong to the administrator"),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "an external table reaches files"),
        ("CREATE VIEW v AS SELECT 1", "views are not available"),
        ("UPDATE t SET a = 1", "UPDATE is not available"),
        ("DELETE FROM t WHERE a = 1", "DELETE with WHERE is not available"),
        ("BEGIN", "each statement is atomic"),
        ("SELECT 1; DROP TABLE t", "one statement at a time"),
        ("", "the statement is empty"),
        (" -- nothing", "the statement is empty"),
        ("frobnicate", "can't start with 'frobnicate'"),
        ("insert overwrite t select 1", "expected INTO"),
        ("drop view v", "only tables can be dropped"),
        ("drop table a, b", "one table at a time"),
        ("create table t", r"expected '\(' or AS"),
        ("create table t (a int", r"expected '\)', found the end"),
        ("create table a.b.c.d (x int)", "can't name a table"),
        ("select 'unfinished", "can't be read"),
    ],
)
def test_what_is_not_run_is_refused_with_a_reason(sql: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        parse(sql)


def test_unquoted_names_are_folded_and_quoted_ones_are_kept() -> None:
    assert parse("DROP TABLE Foo").target == TableName("foo")
    assert parse('DROP TABLE "My ""odd"" Täble"').target == TableName('My "odd" Täble')
    assert parse('DROP TABLE Lakehouse."B".c').target == TableName("c", "B")


def test_question_marks_become_numbers_except_in_strings_names_and_comments() -> None:
    statement = parse("SELECT '?', \"?\", ? /* ? */ FROM t WHERE é = ? -- ?")

    assert statement.sql == "SELECT '?', \"?\", $1 /* ? */ FROM t WHERE é = $2"
    assert statement.placeholders == ("1", "2")


def test_placeholders_are_listed_once_in_order_of_first_use() -> None:
    assert parse("SELECT $2,$1,$2, $name, '$9'").placeholders == ("2", "1", "name")
    assert parse("SELECT $$ it's $8; ? $$, $tag$ $9 $tag$, $1").placeholders == ("1",)


def test_the_parts_of_create_table_are_the_original_text() -> None:
    statement = parse(
        "CREATE TABLE IF NOT EXISTS a.b (x INT NOT NULL, y DECIMAL(10, 2), PRIMARY KEY (x, y)) AS SELECT 1 , 2"
    )

    assert statement.target == TableName("b", "a")
    assert statement.exists_ok
    assert statement.columns == "x INT NOT NULL, y DECIMAL(10, 2), PRIMARY KEY (x, y)"
    assert statement.primary_key == ("x", "y")
    assert statement.query == "SELECT 1 , 2"


def test_a_primary_key_may_stand_behind_its_column() -> None:
    assert parse('CREATE TABLE t (a INT, "B b" DECIMAL(3, 1) PRIMARY KEY, c TEXT)').primary_key == ("B b",)


def test_an_insert_of_bound_values_reads_all_rows_at_once() -> None:
    statement = parse("INSERT INTO t (a, b) VALUES (?, upper(?) || '$1')")

    assert insert_from_bound(statement) == 'INSERT INTO t (a, b) SELECT "1", upper("2") || \'$1\' FROM "__bound"'


def test_an_insert_of_several_tuples_is_not_rewritten() -> None:
    assert insert_from_bound(parse("INSERT INTO t VALUES (?), (?)")) is None


@given(st.text(max_size=200))
def test_any_text_is_sorted_or_refused(text: str) -> None:
    try:
        statement = parse(text)
    except FlightserverError as error:
        assert error.message  # noqa: PT017  # either outcome is right; what matters is that nothing else is raised
    else:
        assert statement.kind in Kind


WORDS = [
    "create",
    "table",
    "(",
    ")",
    "as",
    "select",
    ",",
    "primary_key",
    "x",
    ".",
    "insert",
    "into",
    "values",
    "?",
    "if",
    "not",
    "exists",
    "drop",
    ";",
    "$1",
    "--",
    "'s'",
    '"',
]


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_any_sequence_of_words_is_sorted_or_refused(text: str) -> None:
    try:
        parse(text.replace("_", " "))
    except FlightserverError as error:
        assert error.message  # noqa: PT017  # as above
