"""Keys of CREATE TABLE become values, and what the engine reads of it has none."""

from __future__ import annotations

import pytest

from flightserver.errors import InvalidRequest
from flightserver.query.language.changes import ForeignKey, Keys, TableName
from flightserver.query.language.statements import parse


@pytest.mark.parametrize(
    ("written", "columns", "keys"),
    [
        ("a INT, b TEXT", "a INT, b TEXT", Keys()),
        ('a INT, "B b" DECIMAL(3, 1) PRIMARY KEY, c TEXT', 'a INT, "B b" DECIMAL(3, 1), c TEXT', Keys(("B b",))),
        ("a INT NOT NULL PRIMARY KEY NOT NULL", "a INT NOT NULL NOT NULL", Keys(("a",))),
        ("a INT CONSTRAINT k PRIMARY /* two words */ KEY", "a INT", Keys(("a",), "k")),
        ("a INT, b INT, CONSTRAINT k PRIMARY KEY (b, A)", "a INT, b INT", Keys(("b", "a"), "k")),
        ('PRIMARY KEY ("primary key"), "primary key" INT', '"primary key" INT', Keys(("primary key",))),
        ("s STRUCT<a INT, b ARRAY<INT>> , PRIMARY KEY (x)", "s STRUCT<a INT, b ARRAY<INT>>", Keys(("x",))),
        ('"references" INT, "foreign key" INT', '"references" INT, "foreign key" INT', Keys()),
        ("a INT REFERENCES u", "a INT", Keys(foreign_keys=(ForeignKey(("a",), TableName("u")),))),
        (
            'a INT CONSTRAINT "K" REFERENCES "S".u (B) NOT NULL',
            "a INT NOT NULL",
            Keys(foreign_keys=(ForeignKey(("a",), TableName("u", "S"), ("b",), "K"),)),
        ),
        (
            "a INT REFERENCES u ON DELETE CASCADE ON UPDATE SET DEFAULT REFERENCES v",
            "a INT",
            Keys(
                foreign_keys=(
                    ForeignKey(("a",), TableName("u"), on_update="SET DEFAULT", on_delete="CASCADE"),
                    ForeignKey(("a",), TableName("v")),
                )
            ),
        ),
        (
            "a INT, b INT, FOREIGN KEY (a, b) REFERENCES lakehouse.s.u (x, y) MATCH SIMPLE, PRIMARY KEY (b)",
            "a INT, b INT",
            Keys(("b",), foreign_keys=(ForeignKey(("a", "b"), TableName("u", "s"), ("x", "y")),)),
        ),
        (
            "CONSTRAINT k FOREIGN /* two words */ KEY (b) REFERENCES u ON DELETE RESTRICT NOT DEFERRABLE, b INT",
            "b INT",
            Keys(foreign_keys=(ForeignKey(("b",), TableName("u"), name="k", on_delete="RESTRICT"),)),
        ),
    ],
)
def test_keys_are_taken_out_of_the_columns(written: str, columns: str, keys: Keys) -> None:
    statement = parse(f"CREATE TABLE t ({written})")

    assert (statement.columns, statement.keys) == (columns, keys)


def test_a_query_may_give_the_columns_of_keys() -> None:
    statement = parse("CREATE TABLE t (PRIMARY KEY (a), FOREIGN KEY (b) REFERENCES u) AS SELECT 1 AS a, 2 AS b")

    assert (statement.columns, statement.query) == ("", "SELECT 1 AS a, 2 AS b")
    assert statement.keys == Keys(("a",), foreign_keys=(ForeignKey(("b",), TableName("u")),))


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("a INT PRIMARY KEY, b INT PRIMARY KEY", "PRIMARY KEY is there twice, of a and of b: a table has one"),
        ("a INT, PRIMARY KEY (a, a)", 'column "a" is named twice'),
        ("a INT, PRIMARY KEY (a) b", "expected ',' or '\\)' behind the key, found 'b'"),
        ("a INT, PRIMARY KEY", r"expected \("),
        ("a INT, FOREIGN KEY (a)", "expected REFERENCES"),
        ("a INT, FOREIGN KEY REFERENCES u", r"expected \(, found 'REFERENCES'"),
        ("a INT REFERENCES", "expected a name"),
        ("a INT REFERENCES a.b.c.d", "can't name a table"),
        ("a INT REFERENCES u (b, b)", 'column "b" is named twice'),
        ("a INT REFERENCES u ON INSERT CASCADE", "expected UPDATE or DELETE behind ON, each once, found 'INSERT'"),
        ("a INT REFERENCES u ON DELETE CASCADE ON DELETE CASCADE", "expected UPDATE or DELETE behind ON, each once"),
        ("a INT REFERENCES u ON DELETE FORGET", "expected NO ACTION, RESTRICT, CASCADE, SET NULL or SET DEFAULT"),
        ("a INT REFERENCES u MATCH FULL", r"expected MATCH SIMPLE \(foreign keys are recorded, not checked\)"),
        ("a INT REFERENCES u DEFERRABLE", "expected NOT DEFERRABLE"),
        ("a INT REFERENCES u INITIALLY DEFERRED", "expected INITIALLY IMMEDIATE"),
        ("a INT, CONSTRAINT k", "expected PRIMARY KEY or FOREIGN KEY behind the name of the constraint"),
        ("a INT UNIQUE", "UNIQUE in CREATE TABLE is refused, because it would not be kept"),
        ("a INT, CONSTRAINT k CHECK (a > 0)", "CHECK in CREATE TABLE is refused"),
    ],
)
def test_what_is_no_key_or_would_not_be_kept_is_refused(written: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        parse(f"CREATE TABLE t ({written})")
