"""ALTER TABLE, COMMENT ON and statements about views become values."""

from __future__ import annotations

import pytest

from flightserver.errors import InvalidRequest
from flightserver.query.language.changes import (
    AddColumn,
    AddForeignKey,
    AlterTable,
    Comment,
    CreateView,
    DropColumn,
    DropConstraint,
    DropPrimaryKey,
    DropView,
    ForeignKey,
    RenameColumn,
    RenameTable,
    SetNullable,
    SetPrimaryKey,
    SetType,
    Step,
    TableName,
)
from flightserver.query.language.statements import parse


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("ADD a INT", AddColumn("a", "INT")),
        ('ADD COLUMN "A a" DECIMAL(10, 2) NULL', AddColumn("A a", "DECIMAL(10, 2)")),
        (
            "ADD COLUMN IF NOT EXISTS a TIMESTAMP WITH TIME ZONE",
            AddColumn("a", "TIMESTAMP WITH TIME ZONE", if_not_exists=True),
        ),
        ("ADD a STRUCT<b INT, c ARRAY<ARRAY<INT>>>", AddColumn("a", "STRUCT<b INT, c ARRAY<ARRAY<INT>>>")),
        ("ADD a INT[]", AddColumn("a", "INT[]")),
        ("DROP a", DropColumn("a")),
        ("DROP COLUMN IF EXISTS a CASCADE", DropColumn("a", if_exists=True)),
        ("RENAME COLUMN a TO B", RenameColumn("a", "b")),
        ('RENAME a TO "B"', RenameColumn("a", "B")),
        ("RENAME TO u", RenameTable("u")),
        ("ADD PRIMARY KEY (a, b)", SetPrimaryKey(("a", "b"))),
        ("ADD CONSTRAINT c PRIMARY /* two words */ KEY (a)", SetPrimaryKey(("a",), "c")),
        ("DROP PRIMARY KEY", DropPrimaryKey()),
        ("ADD FOREIGN KEY (a, b) REFERENCES u", AddForeignKey(ForeignKey(("a", "b"), TableName("u")))),
        (
            'ADD CONSTRAINT "C" FOREIGN /* two words */ KEY (a) REFERENCES s.u (b) ON UPDATE SET NULL',
            AddForeignKey(ForeignKey(("a",), TableName("u", "s"), ("b",), "C", on_update="SET NULL")),
        ),
        (
            "ADD a INT CONSTRAINT c REFERENCES u ON DELETE CASCADE",
            AddColumn("a", "INT", foreign_key=ForeignKey(("a",), TableName("u"), name="c", on_delete="CASCADE")),
        ),
        ("DROP CONSTRAINT t_pkey", DropConstraint("t_pkey")),
        ("DROP CONSTRAINT IF EXISTS c RESTRICT", DropConstraint("c", if_exists=True)),
        ("ALTER COLUMN a SET DATA TYPE BIGINT", SetType("a", "BIGINT")),
        ("ALTER a TYPE DOUBLE PRECISION", SetType("a", "DOUBLE PRECISION")),
        ("ALTER a SET NOT NULL", SetNullable("a", nullable=False)),
        ("ALTER COLUMN a DROP NOT NULL", SetNullable("a", nullable=True)),
    ],
)
def test_steps_of_alter_table(text: str, step: Step) -> None:
    statement = parse(f"ALTER TABLE s.t {text};")

    assert (statement.target, statement.change) == (TableName("t", "s"), AlterTable(if_exists=False, steps=(step,)))


def test_several_steps_are_kept_in_their_order() -> None:
    statement = parse("ALTER TABLE IF EXISTS ONLY t ADD a MAP(INT, INT), DROP b, ALTER c TYPE TEXT, RENAME d TO e")

    assert statement.target == TableName("t")
    assert statement.change == AlterTable(
        if_exists=True,
        steps=(AddColumn("a", "MAP(INT, INT)"), DropColumn("b"), SetType("c", "TEXT"), RenameColumn("d", "e")),
    )


@pytest.mark.parametrize(
    ("text", "target", "comment"),
    [
        ("TABLE t IS 'it''s \\ here'", TableName("t"), Comment(None, "it's \\ here")),
        ("TABLE lakehouse.s.t IS NULL", TableName("t", "s"), Comment(None, None)),
        ("VIEW v IS ''", TableName("v"), Comment(None, "")),
        ("COLUMN t.\"C c\" IS 'x'", TableName("t"), Comment("C c", "x")),
        ("COLUMN s.t.c IS $$it's$$", TableName("t", "s"), Comment("c", "it's")),
        ("COLUMN lakehouse.s.t.c IS NULL", TableName("t", "s"), Comment("c", None)),
    ],
)
def test_comments(text: str, target: TableName, comment: Comment) -> None:
    statement = parse(f"COMMENT ON {text}")

    assert (statement.target, statement.change) == (target, comment)


def test_a_view_keeps_its_query_as_it_is_written() -> None:
    statement = parse("CREATE OR REPLACE VIEW s.v (a, \"B\") AS  SELECT 1 , 'x' /* two */ FROM t -- end\n ;")
    query = "SELECT 1 , 'x' /* two */ FROM t"

    assert statement.target == TableName("v", "s")
    assert statement.change == CreateView(("a", "B"), query, query, or_replace=True, exists_ok=False)
    assert parse("CREATE VIEW IF NOT EXISTS v AS (VALUES (1))").change == CreateView(
        (), "(VALUES (1))", "(VALUES (1))", or_replace=False, exists_ok=True
    )


def test_a_view_of_the_past_can_be_parsed_again() -> None:
    statement = parse("CREATE VIEW v AS SELECT * FROM t FOR VERSION AS OF 3 JOIN u USING (i)")

    change = statement.change
    assert isinstance(change, CreateView)
    assert change.query == 'SELECT * FROM "__as_of_0" AS "t" JOIN u USING (i)'
    assert change.definition == "SELECT * FROM t FOR VERSION AS OF 3 JOIN u USING (i)"
    assert parse(change.definition).as_of == statement.as_of
    assert parse(change.definition).sql == change.query


def test_drop_view() -> None:
    assert parse("DROP VIEW s.v").change == DropView()
    assert parse("DROP VIEW IF EXISTS v CASCADE").change == DropView(exists_ok=True)
    assert parse("DROP VIEW v RESTRICT").target == TableName("v")


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("ALTER VIEW v RENAME TO w", "only tables can be altered by SQL"),
        ("ALTER TABLE t", "expected ADD, DROP, RENAME or ALTER, found the end of the statement"),
        ("ALTER TABLE t OWNER TO x", "expected ADD, DROP, RENAME or ALTER, found 'OWNER'"),
        ("ALTER TABLE t ADD a", "expected a type, found the end of the statement"),
        ("ALTER TABLE t ADD a INT, b INT", "expected ADD, DROP, RENAME or ALTER, found 'b'"),
        ("ALTER TABLE t ADD a INT NOT NULL", "ADD COLUMN a: NOT NULL is refused, because rows that exist"),
        ("ALTER TABLE t ADD a INT NULL DEFAULT 1", "ADD COLUMN a: DEFAULT is refused, because defaults are not kept"),
        ("ALTER TABLE t ADD a INT DEFAULT 1", "DEFAULT is refused, because defaults are not kept"),
        ("ALTER TABLE t ADD a INT PRIMARY KEY", "PRIMARY KEY is refused, because rows that exist"),
        ("ALTER TABLE t ADD a INT UNIQUE", "ADD COLUMN a: UNIQUE is refused, because it would not be kept"),
        ("ALTER TABLE t ADD a STRUCT<b INT", "expected a bracket that closes the type"),
        ("ALTER TABLE t ADD a INT)", "expected a type whose brackets match"),
        (
            "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)",
            r"expected PRIMARY KEY or FOREIGN KEY \(other constraints would not be kept\)",
        ),
        ("ALTER TABLE t ADD UNIQUE (a)", "expected PRIMARY KEY"),
        ("ALTER TABLE t ADD a INT CONSTRAINT c NOT NULL", "expected REFERENCES behind the name of the constraint"),
        ("ALTER TABLE t ADD FOREIGN KEY (a)", "expected REFERENCES, found the end"),
        ("ALTER TABLE t ADD PRIMARY KEY (a, a)", 'column "a" is named twice'),
        ("ALTER TABLE t ALTER a SET DEFAULT 1", "DEFAULT of 'a' is refused"),
        ("ALTER TABLE t ALTER a DROP DEFAULT", "DEFAULT of 'a' is refused"),
        ("ALTER TABLE t ALTER a TYPE INT USING a::INT", "values are cast to the new type"),
        ("ALTER TABLE t ALTER a NOT NULL", "expected TYPE, SET DATA TYPE, SET NOT NULL or DROP NOT NULL"),
        ("ALTER TABLE t RENAME TO s.u", "expected ',' or the end of the statement, found '.'"),
        ("ALTER TABLE t RENAME TO u, DROP a", "RENAME TO stands alone"),
        ("COMMENT ON SCHEMA s IS 'x'", "expected TABLE, VIEW or COLUMN, found 'SCHEMA'"),
        ("COMMENT ON COLUMN c IS 'x'", "COLUMN names table.column; 'c' is one name"),
        ("COMMENT ON COLUMN a.b.c.d.e IS 'x'", "can't name a table"),
        ("COMMENT ON TABLE t IS x", "expected a text in single quotes, or NULL, found 'x'"),
        ("COMMENT ON TABLE t IS $1", "expected a text in single quotes, or NULL"),
        ("COMMENT ON TABLE t IS 'a' 'b'", "expected the end of the statement, found 'b'"),
        ("CREATE VIEW v", "expected AS, found the end of the statement"),
        ("CREATE VIEW v AS", "expected a query after AS, found the end of the statement"),
        ("CREATE VIEW v AS SHOW TABLES", "expected a query after AS, found 'SHOW'"),
        ("CREATE VIEW v AS SELECT 1) UNION (SELECT 2", r"nothing opens it, found '\)'"),
        ("CREATE VIEW v AS SELECT $1", r"\$1 in a view is refused, because a view is read without values"),
        ("CREATE VIEW v AS SELECT ?", r"\$1 in a view is refused"),
        ("CREATE VIEW v (a, a) AS SELECT 1, 2", 'column "a" is named twice'),
    ],
)
def test_what_would_not_be_kept_is_refused(sql: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        parse(sql)
