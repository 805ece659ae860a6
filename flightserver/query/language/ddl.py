"""ALTER TABLE, COMMENT ON, CREATE VIEW and DROP VIEW, from tokens to values.

What would have to be kept and is not, such as defaults and checks, is refused rather than forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot.tokenizer_core import TokenType

from flightserver.errors import InvalidRequest
from flightserver.query.language import constraints
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
    RenameColumn,
    RenameTable,
    SetNullable,
    SetPrimaryKey,
    SetType,
)
from flightserver.query.language.constraints import KEPT_OF_COLUMNS, REFUSED_OPTIONS
from flightserver.query.language.reader import QUERY_WORDS, Reader, table_name
from flightserver.query.language.tokens import word

if TYPE_CHECKING:
    from flightserver.query.language.changes import Step, TableName

_NO_VALUE = "rows that exist would have no value for it"
_REFUSED_OF_NEW_COLUMNS = {
    "NOT": f"NOT NULL is refused, because {_NO_VALUE}: add the column, give it values, then SET NOT NULL",
    "DEFAULT": "DEFAULT is refused, because defaults are not kept: add the column, then give it values by UPDATE",
    "PRIMARY": f"PRIMARY KEY is refused, because {_NO_VALUE}: add the column, give it values, then ADD PRIMARY KEY",
    "PRIMARY KEY": f"PRIMARY KEY is refused, because {_NO_VALUE}: add the column, give it values, then ADD PRIMARY KEY",
}
_NESTING = {"(": 1, "[": 1, "<": 1, "<<": 2, ")": -1, "]": -1, ">": -1, ">>": -2}
_CONSTRAINTS = frozenset({"UNIQUE", "CHECK", "EXCLUDE"})


def alter_table(reader: Reader) -> tuple[TableName, AlterTable]:
    """ALTER TABLE [IF EXISTS] [ONLY] t step, ...

    Raises:
        InvalidRequest: It is not written so, or a step is refused; the message says why.
    """
    reader.expect("ALTER")
    if not reader.take("TABLE"):
        reader.fail("TABLE (only tables can be altered by SQL)")
    if_exists = reader.take("IF", "EXISTS")
    reader.take("ONLY")
    target = reader.target()
    steps = [_step(reader)]
    while reader.take(","):
        steps.append(_step(reader))
    reader.end("',' or the end of the statement")
    if len(steps) > 1 and any(isinstance(step, RenameTable) for step in steps):
        raise InvalidRequest("RENAME TO stands alone: alter the table in one statement and rename it in another")
    return target, AlterTable(if_exists, tuple(steps))


def comment(reader: Reader) -> tuple[TableName, Comment]:
    """COMMENT ON {TABLE t | VIEW v | COLUMN t.c} IS {'text' | NULL}.

    Raises:
        InvalidRequest: It is not written so.
    """
    reader.expect("COMMENT", "ON")
    column: str | None = None
    if reader.take("TABLE") or reader.take("VIEW"):
        target = reader.target()
    elif reader.take("COLUMN"):
        parts = reader.qualified()
        if len(parts) == 1:
            reader.fail(f"'.' and a column (COLUMN names table.column; {parts[0]!r} is one name)")
        target, column = table_name(parts[:-1]), parts[-1]
    else:
        reader.fail("TABLE, VIEW or COLUMN")
    reader.expect("IS")
    text = None if reader.take("NULL") else _string(reader)
    reader.end()
    return target, Comment(column, text)


def create_view(reader: Reader, written: str, *, or_replace: bool) -> tuple[TableName, CreateView]:
    """What follows CREATE [OR REPLACE]: VIEW [IF NOT EXISTS] v [(columns)] AS query.

    Args:
        reader: At VIEW.
        written: The statement before tables at other times and searches got their generated names. Up to AS both are
            the same.
        or_replace: Whether OR REPLACE was there.

    Raises:
        InvalidRequest: It is not written so, or the query has placeholders.
    """
    reader.expect("VIEW")
    exists_ok = reader.take("IF", "NOT", "EXISTS")
    target = reader.target()
    columns = reader.names() if reader.peek() == "(" else ()
    reader.expect("AS")
    if reader.peek() not in QUERY_WORDS:
        reader.fail("a query after AS")
    if reader.placeholders():
        raise InvalidRequest(
            f"${reader.placeholders()[0]} in a view is refused, because a view is read without values: write the value"
        )
    start = reader.tokens[reader.position].start
    query = reader.upto(what="a query after AS")
    return target, CreateView(columns, query, written[start:], or_replace, exists_ok)


def drop_view(reader: Reader) -> tuple[TableName, DropView]:
    """What follows DROP: VIEW [IF EXISTS] v [CASCADE | RESTRICT].

    Raises:
        InvalidRequest: It is not written so.
    """
    reader.expect("VIEW")
    exists_ok = reader.take("IF", "EXISTS")
    target = reader.target()
    if not reader.take("CASCADE"):
        reader.take("RESTRICT")
    reader.end("the end of the statement (one view at a time)")
    return target, DropView(exists_ok)


def _step(reader: Reader) -> Step:
    if reader.take("ADD"):
        return _add(reader)
    if reader.take("DROP"):
        return _drop(reader)
    if reader.take("RENAME"):
        return _rename(reader)
    if reader.take("ALTER"):
        reader.take("COLUMN")
        return _alter_column(reader, reader.identifier())
    return reader.fail("ADD, DROP, RENAME or ALTER")


def _add(reader: Reader) -> Step:
    constraint = reader.identifier() if reader.take("CONSTRAINT") else ""
    if reader.primary_key():
        return SetPrimaryKey(reader.names(), constraint)
    if constraints.at_foreign_key(reader):
        return AddForeignKey(constraints.foreign_key(reader, constraint))
    if constraint or reader.peek() in _CONSTRAINTS:
        reader.fail("PRIMARY KEY or FOREIGN KEY (other constraints would not be kept)")
    reader.take("COLUMN")
    if_not_exists = reader.take("IF", "NOT", "EXISTS")
    name = reader.identifier()
    stops = ("NULL", "CONSTRAINT", "REFERENCES", *_REFUSED_OF_NEW_COLUMNS, *REFUSED_OPTIONS)
    definition = _type(reader, *stops)
    reader.take("NULL")
    key = constraints.column_reference(reader, name)
    if key is None and reader.peek() == "CONSTRAINT":
        reader.fail("REFERENCES behind the name of the constraint (others would not be kept)")
    option = reader.peek()
    if option in _REFUSED_OF_NEW_COLUMNS:
        raise InvalidRequest(f"ADD COLUMN {name}: {_REFUSED_OF_NEW_COLUMNS[option]}")
    if option in REFUSED_OPTIONS:
        raise InvalidRequest(f"ADD COLUMN {name}: {option} is refused, because {KEPT_OF_COLUMNS}")
    return AddColumn(name, definition, if_not_exists, key)


def _drop(reader: Reader) -> Step:
    if reader.primary_key():
        return DropPrimaryKey()
    constraint = reader.take("CONSTRAINT")
    if not constraint:
        reader.take("COLUMN")
    if_exists = reader.take("IF", "EXISTS")
    name = reader.identifier()
    if not reader.take("CASCADE"):
        reader.take("RESTRICT")
    return DropConstraint(name, if_exists) if constraint else DropColumn(name, if_exists)


def _rename(reader: Reader) -> Step:
    if reader.take("TO"):
        return RenameTable(reader.identifier())
    reader.take("COLUMN")
    old = reader.identifier()
    reader.expect("TO")
    return RenameColumn(old, reader.identifier())


def _alter_column(reader: Reader, column: str) -> Step:
    if reader.take("SET", "DATA", "TYPE") or reader.take("TYPE"):
        kind = _type(reader, "USING")
        if reader.peek() == "USING":
            reader.fail("',' or the end of the statement (values are cast to the new type; compute others by UPDATE)")
        return SetType(column, kind)
    if reader.take("SET", "NOT", "NULL"):
        return SetNullable(column, nullable=False)
    if reader.take("DROP", "NOT", "NULL"):
        return SetNullable(column, nullable=True)
    if reader.peek(1) == "DEFAULT":
        raise InvalidRequest(f"DEFAULT of {column!r} is refused, because defaults are not kept")
    return reader.fail("TYPE, SET DATA TYPE, SET NOT NULL or DROP NOT NULL")


def _type(reader: Reader, *stops: str) -> str:
    """The text of a type, up to a comma, one of the words or the end; `<` and `>` are brackets in types."""
    first, depth = reader.position, 0
    while not reader.done() and not (depth == 0 and reader.peek() in {",", *stops}):
        depth += _NESTING.get(reader.peek(), 0)
        if depth < 0:
            reader.fail("a type whose brackets match")
        reader.position += 1
    if depth:
        reader.fail("a bracket that closes the type")
    if reader.position == first:
        reader.fail("a type")
    return reader.text(first, reader.position)


def _string(reader: Reader) -> str:
    token = None if reader.done() else reader.tokens[reader.position]
    # A lone `$` has the type of a dollar-quoted string too.
    if token is None or word(token) or token.token_type not in {TokenType.STRING, TokenType.HEREDOC_STRING}:
        reader.fail("a text in single quotes, or NULL")
    reader.position += 1
    return token.text
