"""Statements are sorted by their tokens, and everything that isn't ours to run is refused with a reason."""

from __future__ import annotations

import pytest

from flightserver.errors import InvalidRequest
from flightserver.query.language.changes import Keys
from flightserver.query.language.statements import Kind, TableName, parse
from flightserver.query.parameters import insert_from_bound


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
        ("truncate table t", Kind.TRUNCATE),
        ("truncate t", Kind.TRUNCATE),
        ("delete from t", Kind.TRUNCATE),
        ("delete from t where a", Kind.DELETE),
        ("delete from t using s", Kind.DELETE),
        ("update t set a = 1", Kind.UPDATE),
        ("merge into t using s on a = b when matched then delete", Kind.MERGE),
        ("insert into t values (1) on conflict do nothing", Kind.UPSERT),
        ("insert or replace into t values (1)", Kind.UPSERT),
        ("insert or ignore into t select 1", Kind.UPSERT),
        ("alter table t drop a", Kind.ALTER_TABLE),
        ("comment on table t is null", Kind.COMMENT),
        ("create view v as select 1", Kind.CREATE_VIEW),
        ("drop view v", Kind.DROP_VIEW),
    ],
)
def test_a_statement_is_sorted_by_its_words(sql: str, kind: Kind) -> None:
    assert parse(sql).kind is kind
    assert parse(sql).kind.is_update is (kind is not Kind.QUERY)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("COPY t TO '/tmp/x'", "COPY reaches files of the server"),
        ("SET datafusion.execution.batch_size = 1", "settings of the engine belong to the administrator"),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "an external table reaches files"),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1", "CREATE MATERIALIZED is refused: views are computed"),
        ("CREATE TEMPORARY VIEW v AS SELECT 1", "CREATE TEMPORARY is refused: temporary tables are made by bulk"),
        ("BEGIN", "begun and ended by the client's transaction API"),
        ("START TRANSACTION", "ADBC autocommit=False"),
        ("COMMIT", r"JDBC setAutoCommit\(false\)"),
        ("ROLLBACK", "begun and ended by the client's transaction API"),
        ("INSERT INTO t VALUES (1) RETURNING a", "RETURNING is refused"),
        ("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING RETURNING a", "RETURNING is refused"),
        ("UPDATE t SET a = 1 RETURNING a", "RETURNING is refused"),
        ("UPDATE t SET a = 1 FROM s RETURNING a", "RETURNING is refused"),
        ("DELETE FROM t RETURNING *", "RETURNING is refused"),
        ("DELETE FROM t WHERE a RETURNING *", "RETURNING is refused"),
        ("MERGE INTO t USING s ON a WHEN MATCHED THEN DELETE RETURNING *", "RETURNING is refused"),
        ("WITH x AS (SELECT 1) UPDATE t SET a = 1", "WITH stands before UPDATE"),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "WITH stands before INSERT"),
        ("truncate a, b", "expected the end of the statement, found ','"),
        ("SELECT 1; DROP TABLE t", "one statement at a time"),
        ("", "the statement is empty"),
        (" -- nothing", "the statement is empty"),
        ("frobnicate", "can't start with 'frobnicate'"),
        ("insert overwrite t select 1", "expected INTO"),
        ("drop index v", "only these can be dropped"),
        ("drop table a, b", "one table at a time"),
        ("drop view a, b", "one view at a time"),
        ("create table t", r"expected '\(' or AS"),
        ("create sequence t", "expected TABLE, VIEW or ROLE, found 'sequence'"),
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


def test_a_question_mark_before_a_cast_is_a_placeholder() -> None:
    statement = parse("SELECT ?::INT, ? ::INT")

    assert statement.sql == "SELECT $1::INT, $2 ::INT"
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
    assert statement.columns == "x INT NOT NULL, y DECIMAL(10, 2)"
    assert statement.keys == Keys(primary_key=("x", "y"))
    assert statement.query == "SELECT 1 , 2"


def test_an_insert_of_bound_values_reads_all_rows_at_once() -> None:
    statement = parse("INSERT INTO t (a, b) VALUES (?, upper(?) || '$1')")

    assert insert_from_bound(statement) == 'INSERT INTO t (a, b) SELECT "1", upper("2") || \'$1\' FROM "__bound"'


def test_an_insert_of_several_tuples_is_not_rewritten() -> None:
    assert insert_from_bound(parse("INSERT INTO t VALUES (?), (?)")) is None


def test_a_query_that_begins_with_with_is_a_query() -> None:
    sql = 'WITH x AS (SELECT 1 AS "update"), y AS (VALUES (1)) SELECT x."update" FROM x, y'

    assert parse(sql).kind is Kind.QUERY
    assert parse("WITH x AS (SELECT 1) VALUES (1)").kind is Kind.QUERY


def test_insert_does_not_take_a_column_for_a_conflict() -> None:
    sql = "INSERT INTO t SELECT a.x FROM a JOIN b ON conflict = b.conflict"

    assert parse(sql).kind is Kind.INSERT


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE t SET a = {}",
        "DELETE FROM t WHERE {}",
        "MERGE INTO t USING s ON {} WHEN MATCHED THEN DELETE",
        "MERGE INTO t USING s ON a = b WHEN MATCHED THEN UPDATE SET a = {}",
        "INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = {}",
        "CREATE VIEW v AS SELECT {}",
    ],
)
def test_chains_that_are_too_deep_for_the_engine_are_refused_in_every_statement(sql: str) -> None:
    parse(sql.format(" + ".join(["a"] * 400)))

    with pytest.raises(InvalidRequest, match="a chain of more than 500 operators"):
        parse(sql.format(" + ".join(["a"] * 600)))


@pytest.mark.parametrize(
    "sql", ["UPDATE t SET a = 1 FROM {}", "DELETE FROM t USING {}", "CREATE VIEW v AS SELECT * FROM {}"]
)
def test_too_many_relations_are_refused_in_every_statement(sql: str) -> None:
    with pytest.raises(InvalidRequest, match="more than 250 relations"):
        parse(sql.format(" CROSS JOIN ".join(f"s{number}" for number in range(300))))


def test_more_placeholders_than_can_be_planned_in_reasonable_time_are_refused() -> None:
    assert len(parse("SELECT " + ", ".join("?" * 10_000)).placeholders) == 10_000
    with pytest.raises(InvalidRequest, match="10,001 placeholders; at most 10,000"):
        parse("SELECT " + ", ".join("?" * 10_001))
