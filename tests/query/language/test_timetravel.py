"""Tables at other times get generated names, and everything else of the statement stays as it is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flightserver.errors import InvalidRequest
from flightserver.query.language.changes import Delete, Merge, TableName, Update, Upsert
from flightserver.query.language.statements import AsOf, parse


@pytest.mark.parametrize(
    ("clause", "at"),
    [
        ("FOR VERSION AS OF 3", 3),
        ("for system_version as of 0", 0),
        ("FOR VERSION AS OF 'release 1'", "release 1"),
        ("FOR VERSION AS OF '3'", "3"),
        ("AT (VERSION => 12)", 12),
        ("at(version=>'tag')", "tag"),
        ("FOR TIMESTAMP AS OF '2026-01-31'", datetime(2026, 1, 31, tzinfo=UTC)),
        ("FOR SYSTEM_TIME AS OF '2026-01-31 12:30:00'", datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
        ("FOR TIMESTAMP AS OF TIMESTAMP '2026-01-31T12:30:00.25Z'", datetime(2026, 1, 31, 12, 30, 0, 250000, UTC)),
        ("AT (TIMESTAMP => '2026-01-31T12:30:00+02:00')", datetime(2026, 1, 31, 10, 30, tzinfo=UTC)),
        ("AT (TIMESTAMP => DATE '2026-01-31')", datetime(2026, 1, 31, tzinfo=UTC)),
    ],
)
def test_every_way_to_name_a_version_or_time(clause: str, at: int | str | datetime) -> None:
    statement = parse(f"SELECT * FROM t {clause} WHERE t.a = 1")

    assert statement.sql == 'SELECT * FROM "__as_of_0" AS "t" WHERE t.a = 1'
    assert statement.as_of == (AsOf("__as_of_0", TableName("t"), at),)


@pytest.mark.parametrize(
    ("query", "rewritten"),
    [
        ("FROM t {} AS x", 'FROM "__as_of_0" AS x'),
        ("FROM t {} x WHERE 1", 'FROM "__as_of_0" x WHERE 1'),
        ('FROM t {} "where"', 'FROM "__as_of_0" "where"'),
        ('FROM S."T t" {} , u', 'FROM "__as_of_0" AS "T t" , u'),
        ('FROM "a""b" {}', 'FROM "__as_of_0" AS "a""b"'),
        ("FROM t {} LEFT JOIN u ON i = j", 'FROM "__as_of_0" AS "t" LEFT JOIN u ON i = j'),
        ("FROM u JOIN t {} USING (i)", 'FROM u JOIN "__as_of_0" AS "t" USING (i)'),
        ("FROM u, lakehouse.s.t {} GROUP BY a", 'FROM u, "__as_of_0" AS "t" GROUP BY a'),
        ("FROM (t {})", 'FROM ("__as_of_0" AS "t")'),
        ("WHERE a IN (SELECT b FROM t {} LIMIT 1)", 'WHERE a IN (SELECT b FROM "__as_of_0" AS "t" LIMIT 1)'),
        ("FROM t {} UNION ALL SELECT 2", 'FROM "__as_of_0" AS "t" UNION ALL SELECT 2'),
    ],
)
def test_a_table_keeps_its_alias_or_gets_its_name_as_one(query: str, rewritten: str) -> None:
    assert parse("SELECT 1 " + query.format("FOR VERSION AS OF 1")).sql == "SELECT 1 " + rewritten
    assert parse("SELECT 1 " + query.format("AT (VERSION => 1)")).sql == "SELECT 1 " + rewritten


def test_several_tables_at_several_times() -> None:
    statement = parse(
        "WITH old AS (SELECT * FROM t FOR VERSION AS OF 1) SELECT ?, * FROM t AT (VERSION => 2) AS a "
        "JOIN S.t FOR VERSION AS OF 1 b ON a.i = b.i, T FOR VERSION AS OF 1 c, old -- FOR VERSION AS OF 9"
    )

    assert statement.sql == (
        'WITH old AS (SELECT * FROM "__as_of_0" AS "t") SELECT $1, * FROM "__as_of_1" AS a '
        'JOIN "__as_of_2" b ON a.i = b.i, "__as_of_0" c, old'
    )
    assert statement.as_of == (
        AsOf("__as_of_0", TableName("t"), 1),
        AsOf("__as_of_1", TableName("t"), 2),
        AsOf("__as_of_2", TableName("t", "s"), 1),
    )


def test_sources_of_changes_may_be_of_the_past() -> None:
    as_of = (AsOf("__as_of_0", TableName("t"), 7),)

    update = parse("UPDATE t SET a = old.a FROM t FOR VERSION AS OF 7 AS old WHERE old.i = t.i")
    assert isinstance(update.change, Update)
    assert (update.change.source, update.as_of) == ('"__as_of_0" AS old', as_of)

    delete = parse("DELETE FROM u USING t FOR VERSION AS OF 7 WHERE u.i NOT IN (SELECT i FROM t AT (VERSION => 7))")
    assert delete.change == Delete("u", '"__as_of_0" AS "t"', 'u.i NOT IN (SELECT i FROM "__as_of_0" AS "t")')
    assert delete.as_of == as_of

    merge = parse("MERGE INTO u USING t FOR VERSION AS OF 7 ON t.i = u.i WHEN MATCHED THEN DELETE")
    assert isinstance(merge.change, Merge)
    assert (merge.change.source, merge.change.source_name, merge.as_of) == ('"__as_of_0" AS "t"', "t", as_of)

    insert = parse("INSERT INTO t SELECT * FROM t FOR VERSION AS OF 7")
    assert (insert.sql, insert.as_of) == ('INSERT INTO t SELECT * FROM "__as_of_0" AS "t"', as_of)

    upsert = parse("INSERT INTO t SELECT * FROM t FOR VERSION AS OF 7 ON CONFLICT DO NOTHING")
    assert isinstance(upsert.change, Upsert)
    assert (upsert.change.query, upsert.as_of) == ('SELECT * FROM "__as_of_0" AS "t"', as_of)

    create = parse("CREATE TABLE u AS SELECT * FROM t FOR VERSION AS OF 7")
    assert (create.query, create.as_of) == ('SELECT * FROM "__as_of_0" AS "t"', as_of)


def test_a_table_that_is_described_needs_no_alias() -> None:
    assert parse("DESCRIBE t FOR VERSION AS OF 1").sql == 'DESCRIBE "__as_of_0"'


def test_a_statement_of_the_present_is_not_rewritten() -> None:
    sql = "SELECT a AS version, 'FOR VERSION AS OF 1', \"at\"(version) FROM t FOR UPDATE"

    assert (parse(sql).sql, parse(sql).as_of) == (sql, ())


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        (
            "SELECT * FROM t FOR VERSION AS OF $1",
            "expected the number of a version or .*option as_of",
        ),
        ("SELECT * FROM t FOR VERSION AS OF -1", "expected the number of a version"),
        ("SELECT * FROM t FOR VERSION AS OF 1.5", "expected the number of a version"),
        ("SELECT * FROM t FOR VERSION AS OF 99999999999999999999", "expected the number of a version"),
        ("SELECT * FROM t FOR VERSION AS OF ''", "expected the number of a version"),
        ("SELECT * FROM t FOR VERSION AS OF", "found the end of the statement"),
        ("SELECT * FROM t FOR TIMESTAMP AS OF 3", "expected a time in quotes"),
        ("SELECT * FROM t FOR TIMESTAMP AS OF now()", "expected a time in quotes"),
        ("SELECT * FROM t FOR TIMESTAMP AS OF '31.1.2026'", "'31.1.2026' is no time: expected ISO 8601"),
        ("SELECT * FROM t FOR TIMESTAMP AS OF '0001-01-01T00:00+01:00'", "is no time"),
        ("SELECT * FROM t AT (VERSION => 1", r"expected \), found the end of the statement"),
        ("SELECT * FROM t AS x FOR VERSION AS OF 1", "FOR VERSION stands directly behind the name of a table, before"),
        ("SELECT * FROM (SELECT 1) FOR VERSION AS OF 1", "stands directly behind the name of a table"),
        ("SELECT * FROM f(1) AT (VERSION => 1)", "stands directly behind the name of a table"),
        ("FOR VERSION AS OF 1", "stands directly behind the name of a table"),
        ("SELECT * FROM a.b.c.d FOR VERSION AS OF 1", "can't name a table"),
        ("INSERT INTO t FOR VERSION AS OF 1 SELECT 1", "the past can be read but not changed"),
        ("UPDATE t FOR VERSION AS OF 1 SET a = 1", "the past can be read but not changed"),
        ("DELETE FROM t FOR VERSION AS OF 1 AS x WHERE a", "the past can be read but not changed"),
        ("DELETE FROM t FOR VERSION AS OF 1", "the past can be read but not changed"),
        ("MERGE INTO t AT (VERSION => 1) USING s ON a WHEN MATCHED THEN DELETE", "read but not changed"),
        ("TRUNCATE t AT (VERSION => 1)", "the past can be read but not changed"),
        ("ALTER TABLE t FOR VERSION AS OF 1 DROP a", "the past can be read but not changed"),
        ("CREATE TABLE t FOR VERSION AS OF 1 AS SELECT 1", "the past can be read but not changed"),
        ("DROP TABLE t FOR VERSION AS OF 1", "the past can be read but not changed"),
    ],
)
def test_a_clause_that_is_malformed_or_misplaced_is_refused(sql: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        parse(sql)
