"""UPDATE, DELETE, MERGE and INSERT with conflicts become values, whose texts are slices of the statement."""

from __future__ import annotations

import pytest

from flightserver.errors import InvalidRequest
from flightserver.query.language.changes import (
    Assignment,
    Clause,
    Delete,
    DeleteRow,
    DoNothing,
    InsertRow,
    Merge,
    SetColumns,
    Star,
    TableName,
    Update,
    Upsert,
    When,
)
from flightserver.query.language.statements import parse


def test_update_without_a_condition() -> None:
    statement = parse("UPDATE Lakehouse.s.T SET a = 1, \"B b\" = DEFAULT, c = 'x, y' || (SELECT max(d) FROM u)")

    assert statement.target == TableName("t", "s")
    assert statement.change == Update(
        "t",
        (Assignment("a", "1"), Assignment("B b", "NULL"), Assignment("c", "'x, y' || (SELECT max(d) FROM u)")),
    )


@pytest.mark.parametrize("alias", ["x", "AS x", 'AS "x"', "X"])
def test_update_with_an_alias_a_source_and_a_condition(alias: str) -> None:
    sql = f"UPDATE ONLY t {alias} SET x.a = s.b + $2 FROM s JOIN u ON s.i = u.i WHERE s.i = x.i AND x.c < $1"

    statement = parse(sql)

    assert statement.placeholders == ("2", "1")
    assert statement.change == Update(
        "x", (Assignment("a", "s.b + $2"),), "s JOIN u ON s.i = u.i", "s.i = x.i AND x.c < $1"
    )


def test_a_row_of_columns_is_assigned_from_a_row_of_values() -> None:
    expected = (Assignment("a", "f(1, 2)"), Assignment("b", "NULL"), Assignment("c", "[1, 2]"), Assignment("d", "{}"))

    first = parse("UPDATE t SET (a, b) = (f(1, 2), DEFAULT), c = [1, 2], d = {} WHERE e")
    second = parse("UPDATE t SET (a, b) = ROW (f(1, 2), DEFAULT), c = [1, 2], d = {} WHERE e")

    assert first.change == second.change == Update("t", expected, "", "e")


def test_words_inside_of_brackets_and_cases_end_no_text() -> None:
    statement = parse(
        "UPDATE t SET a = CASE WHEN b IS DISTINCT FROM c THEN CASE d WHEN 1 THEN 2 END END, "
        'b = extract(year FROM e), c = f."from" IS NOT DISTINCT FROM g /* WHERE */ FROM (SELECT 1 FROM h WHERE i) AS f '
        "WHERE j -- FROM"
    )

    assert statement.change == Update(
        "t",
        (
            Assignment("a", "CASE WHEN b IS DISTINCT FROM c THEN CASE d WHEN 1 THEN 2 END END"),
            Assignment("b", "extract(year FROM e)"),
            Assignment("c", 'f."from" IS NOT DISTINCT FROM g'),
        ),
        "(SELECT 1 FROM h WHERE i) AS f",
        "j",
    )


def test_delete() -> None:
    assert parse("DELETE FROM t WHERE a = ? OR b IN (?, ?)").change == Delete("t", "", "a = $1 OR b IN ($2, $3)")
    assert parse("DELETE FROM ONLY t AS x USING s, u WHERE x.a = s.a").change == Delete("x", "s, u", "x.a = s.a")
    assert parse("DELETE FROM t x USING s").change == Delete("x", "s", "")


def test_delete_of_all_rows_needs_no_change() -> None:
    statement = parse('DELETE FROM s."T" AS x')

    assert (statement.target, statement.change) == (TableName("T", "s"), None)


def test_merge_with_every_kind_of_clause() -> None:
    statement = parse(
        """MERGE INTO s.t AS a USING (SELECT $1 AS i, 2 AS j) AS b (i, j) ON a.i = b.i AND a.k
           WHEN MATCHED AND CASE WHEN a.j THEN b.j END THEN UPDATE SET j = CASE WHEN a.i THEN 1 END, a.k = DEFAULT
           WHEN MATCHED AND a.j = 2 THEN DO NOTHING
           WHEN MATCHED THEN DELETE
           WHEN NOT MATCHED AND b.j > $2 THEN INSERT (i, k) VALUES (b.i, DEFAULT)
           WHEN NOT MATCHED BY TARGET THEN INSERT *
           WHEN NOT MATCHED BY SOURCE AND a.j IS NULL THEN UPDATE SET j = 0
           WHEN NOT MATCHED BY SOURCE THEN DELETE"""
    )

    assert statement.target == TableName("t", "s")
    assert statement.placeholders == ("1", "2")
    assert statement.change == Merge(
        "a",
        "(SELECT $1 AS i, 2 AS j) AS b (i, j)",
        "b",
        "a.i = b.i AND a.k",
        (
            Clause(
                When.MATCHED,
                "CASE WHEN a.j THEN b.j END",
                SetColumns((Assignment("j", "CASE WHEN a.i THEN 1 END"), Assignment("k", "NULL"))),
            ),
            Clause(When.MATCHED, "a.j = 2", DoNothing()),
            Clause(When.MATCHED, "", DeleteRow()),
            Clause(When.NOT_MATCHED, "b.j > $2", InsertRow(("i", "k"), ("b.i", "NULL"))),
            Clause(When.NOT_MATCHED, "", InsertRow((), Star.EVERY_COLUMN)),
            Clause(When.NOT_MATCHED_BY_SOURCE, "a.j IS NULL", SetColumns((Assignment("j", "0"),))),
            Clause(When.NOT_MATCHED_BY_SOURCE, "", DeleteRow()),
        ),
    )


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("s", "s"),
        ("x.s", "s"),
        ("x.s AS Y", "y"),
        ('s "Y"', "Y"),
        ("generate_series(1, 3) AS g(i)", "g"),
        ("(VALUES (1, ')'), (2, '(')) v", "v"),
    ],
)
def test_the_source_of_a_merge_and_its_name(source: str, name: str) -> None:
    change = parse(f"MERGE INTO t USING {source} ON a = b WHEN MATCHED THEN UPDATE SET *").change

    assert change == Merge("t", source, name, "a = b", (Clause(When.MATCHED, "", SetColumns(Star.EVERY_COLUMN)),))


def test_insert_that_updates_on_a_conflict() -> None:
    statement = parse(
        "INSERT INTO s.t AS x (i, j) VALUES ($1, ','), ($2, $3) ON CONFLICT (i) "
        "DO UPDATE SET j = excluded.j || x.j, (k, l) = (1, DEFAULT) WHERE x.j <> excluded.j"
    )

    assert statement.target == TableName("t", "s")
    assert statement.placeholders == ("1", "2", "3")
    assert statement.row_values is None
    assert statement.change == Upsert(
        "x",
        ("i", "j"),
        "VALUES ($1, ','), ($2, $3)",
        2,
        ("i",),
        (Assignment("j", "excluded.j || x.j"), Assignment("k", "1"), Assignment("l", "NULL")),
        "x.j <> excluded.j",
    )


def test_insert_that_does_nothing_on_a_conflict() -> None:
    query = "WITH w AS (SELECT 1) SELECT a FROM w JOIN v ON conflict = a"

    assert parse(f"INSERT INTO t {query} ON CONFLICT DO NOTHING").change == Upsert("t", (), query, None, (), None)
    assert parse("INSERT INTO t (SELECT 1) ON CONFLICT ON CONSTRAINT t_pkey DO NOTHING").change == Upsert(
        "t", (), "(SELECT 1)", None, (), None
    )


def test_insert_or_replace_and_insert_or_ignore() -> None:
    assert parse("INSERT OR REPLACE INTO t (a, b) VALUES (1, 2)").change == Upsert(
        "t", ("a", "b"), "VALUES (1, 2)", 2, (), Star.EVERY_COLUMN
    )
    assert parse("INSERT OR IGNORE INTO t SELECT * FROM s").change == Upsert("t", (), "SELECT * FROM s", None, (), None)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("UPDATE t SET a = 1, A = 2", 'column "a" is assigned twice'),
        ("UPDATE t SET (a, b) = (1, 2), b = 3", 'column "b" is assigned twice'),
        ("UPDATE t SET (a, a) = (1, 2)", 'column "a" is named twice'),
        ("UPDATE t SET (a, b) = (1, 2, 3)", r"SET assigns 3 values to 2 columns \(a, b\)"),
        ("UPDATE t SET (a, b) = (SELECT 1, 2)", "can't be assigned from one subquery"),
        ("UPDATE t AS x SET s.a = 1", "'s.a' can't be assigned: expected a column of 'x'"),
        ("UPDATE t SET t.a.b = 1", "'t.a.b' can't be assigned"),
        ("UPDATE t SET a[1] = 1", "'a' can't be assigned: expected a column of 't', which is assigned as a whole"),
        ("UPDATE t SET a", "expected =, found the end of the statement"),
        ("UPDATE t SET a =", "expected an expression, found the end of the statement"),
        ("UPDATE t SET a = WHERE b", "expected an expression, found 'WHERE'"),
        ("UPDATE t SET a = 1 FROM WHERE b", "expected a table after FROM, found 'WHERE'"),
        ("UPDATE t SET a = 1 FROM s LIMIT 1", "expected WHERE or the end of the statement, found 'LIMIT'"),
        ("UPDATE t SET a = 1 LIMIT 1", "expected WHERE or the end of the statement, found 'LIMIT'"),
        ("UPDATE t SET a = 1 WHERE b ORDER BY c", "expected the end of the statement, found 'ORDER BY'"),
        ("UPDATE t SET a = 1 WHERE", "expected a condition after WHERE"),
        ("UPDATE t SET a = (1", r"expected '\)', found the end of the statement"),
        ("UPDATE t SET a = 1)", r"expected no '\)', because nothing opens it, found '\)'"),
        ("UPDATE t SET a = f(1]", r"expected '\)', found ']'"),
        ("UPDATE t SET a = CASE WHEN b THEN 1", "expected 'END', found the end"),
        ("UPDATE t SET a = `b`", "quoted by"),
        ("UPDATE t WHERE a", "expected SET, found 'WHERE'"),
        ("DELETE t WHERE a", "expected FROM, found 't'"),
        ("DELETE FROM t WHERE a) OR (b", r"nothing opens it, found '\)'"),
        ("DELETE FROM t WHERE a UNION SELECT 1", "expected the end of the statement, found 'UNION'"),
        ("DELETE FROM t LIMIT 1", "expected WHERE or the end of the statement, found 'LIMIT'"),
        ("DELETE FROM t USING s GROUP BY a", "expected WHERE or the end of the statement, found 'GROUP BY'"),
        ("MERGE t USING s ON a WHEN MATCHED THEN DELETE", "expected INTO, found 't'"),
        ("MERGE INTO t USING s", "expected ON, found the end of the statement"),
        ("MERGE INTO t USING s ON a", "expected WHEN, found the end of the statement"),
        ("MERGE INTO t USING (SELECT 1) ON a WHEN MATCHED THEN DELETE", "expected an alias for the query after USING"),
        ("MERGE INTO t USING x.t ON a WHEN MATCHED THEN DELETE", 'source and target of MERGE are both called "t"'),
        ("MERGE INTO t USING s ON a WHEN MATCHED THEN INSERT *", "expected UPDATE SET, DELETE or DO NOTHING"),
        ("MERGE INTO t USING s ON a WHEN NOT MATCHED THEN DELETE", "rows of 's' that are not matched can only be"),
        ("MERGE INTO t USING s ON a WHEN NOT MATCHED BY SOURCE THEN INSERT *", "expected UPDATE SET, DELETE or DO"),
        ("MERGE INTO t USING s ON a WHEN NOT MATCHED BY SOURCE THEN UPDATE SET *", "takes its values from the source"),
        ("MERGE INTO t USING s ON a WHEN NOT MATCHED BY x THEN INSERT *", "expected TARGET, found 'x'"),
        (
            "MERGE INTO t USING s ON a WHEN NOT MATCHED THEN INSERT (a, b) VALUES (1)",
            "1 values are given for 2",
        ),
        ("MERGE INTO t USING s ON a WHEN MATCHED THEN DELETE WHEN MATCHED AND b THEN DELETE", "would never be reached"),
        ("MERGE INTO t USING s ON a" + " WHEN MATCHED AND b THEN DELETE" * 101, "at most 100 are read"),
        ("MERGE INTO t USING s ON a WHEN MATCHED THEN DELETE LIMIT 1", "expected WHEN or the end of the statement"),
        ("INSERT INTO t DEFAULT VALUES ON CONFLICT DO NOTHING", "expected VALUES or a query, found 'DEFAULT'"),
        ("INSERT INTO t VALUES (1) ON CONFLICT (a) WHERE b DO NOTHING", "a conflict is one of the primary key"),
        ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO DELETE", "expected UPDATE, found 'DELETE'"),
        ("INSERT OR REPLACE INTO t VALUES (1) ON CONFLICT DO NOTHING", "leave out ON CONFLICT"),
        ("INSERT OR IGNORE t VALUES (1)", "expected INTO, found 't'"),
        ("INSERT INTO t AS excluded VALUES (1) ON CONFLICT DO NOTHING", "give the table another alias"),
        ("INSERT INTO t (a, a) VALUES (1, 2) ON CONFLICT DO NOTHING", 'column "a" is named twice'),
    ],
)
def test_what_is_not_written_so_is_refused_with_what_was_expected(sql: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        parse(sql)
