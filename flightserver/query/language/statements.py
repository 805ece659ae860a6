"""What a statement is, told from its tokens, before any engine sees it.

The engine plans SELECT itself and would execute DDL while it plans, so statements are sorted first: queries go to the
engine with DDL, DML and settings switched off; INSERT is planned by the engine and carried out by us; CREATE TABLE
and DROP TABLE are taken apart here. Everything else is refused with a reason. Sorting is not the guard: the engine's
own switches are (see `engine.py`), so a statement that is sorted wrongly is refused there.

"""

from __future__ import annotations

import enum
import re
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from sqlglot.tokenizer_core import TokenType

from flightserver.errors import InvalidRequest
from flightserver.query.tokens import LITERALS, check_complexity, numbered, placeholders, tokenize, word

if TYPE_CHECKING:
    from sqlglot.tokenizer_core import Token

_QUERY_WORDS = frozenset({"SELECT", "WITH", "VALUES", "(", "SHOW", "DESCRIBE", "DESC", "EXPLAIN"})

_ASCII_LOWER = str.maketrans({letter: letter.lower() for letter in string.ascii_uppercase})

_REFUSED = {
    "COPY": "COPY reaches files of the server; export through a client, import with the action ingest.file",
    "SET": "settings of the engine belong to the administrator; session options are set by SetSessionOptions",
    "RESET": "settings of the engine belong to the administrator; session options are set by SetSessionOptions",
    "PREPARE": "prepare through the client's prepared statements",
    "EXECUTE": "execute through the client's prepared statements",
    "DEALLOCATE": "close the client's prepared statement",
    "LOAD": "extensions cannot be loaded",
    "INSTALL": "extensions cannot be loaded",
    "ATTACH": "buckets are attached by the administrator",
    "USE": "set the session option `schema` or `bucket`",
    "BEGIN": "transactions over several statements are not available in this version; each statement is atomic",
    "START": "transactions over several statements are not available in this version; each statement is atomic",
    "COMMIT": "transactions over several statements are not available in this version; each statement is atomic",
    "ROLLBACK": "transactions over several statements are not available in this version; each statement is atomic",
    "UPDATE": "UPDATE is not available in this version; write a new table with CREATE OR REPLACE TABLE ... AS",
    "MERGE": "MERGE is not available in this version; write a new table with CREATE OR REPLACE TABLE ... AS",
    "ALTER": "ALTER is not available in this version; write a new table with CREATE OR REPLACE TABLE ... AS",
    "CALL": "there are no procedures; what changes the server is a Flight action",
    "GRANT": "grants are not available in this version",
    "REVOKE": "grants are not available in this version",
    "ANALYZE": "statistics are kept with every write; EXPLAIN ANALYZE shows what a query did",
    "VACUUM": "storage needs no vacuum",
}

_REFUSED_OPTIONS = frozenset({"DEFAULT", "UNIQUE", "REFERENCES", "CHECK", "FOREIGN", "GENERATED", "AUTO_INCREMENT"})

_REFUSED_CREATE = {
    "EXTERNAL": "an external table reaches files of the server; load them with the action ingest.file",
    "TEMPORARY": "temporary tables are not available in this version",
    "TEMP": "temporary tables are not available in this version",
    "UNBOUNDED": "streams are not available",
    "VIEW": "views are not available in this version",
    "MATERIALIZED": "views are not available in this version",
    "FUNCTION": "functions cannot be created by SQL",
    "DATABASE": "there is one catalog, lakehouse; schemas are buckets",
    "SCHEMA": "schemas are buckets; the administrator creates them",
    "INDEX": "there are no secondary indexes; statistics and page indexes are kept with every write",
}


class Kind(enum.Enum):
    """What carries a statement out."""

    QUERY = "query"
    INSERT = "insert"
    CREATE_TABLE = "create table"
    CREATE_TABLE_AS = "create table as"
    DROP_TABLE = "drop table"
    DELETE_ALL = "delete all"

    @property
    def is_update(self) -> bool:
        """Whether the statement changes data and answers with a count instead of rows."""
        return self is not Kind.QUERY


@dataclass(frozen=True, slots=True)
class TableName:
    """A table as written: `schema` is None for a bare name. Unquoted parts are folded to lower case."""

    name: str
    schema: str | None = None

    def __str__(self) -> str:
        return self.name if self.schema is None else f'"{self.schema}".{self.name}'


class RowValues(NamedTuple):
    """`VALUES (a, b)` in a statement: where VALUES begins, and where the values begin and end."""

    keyword: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, sorted.

    Attributes:
        kind: What carries it out.
        sql: Its text, with `?` placeholders rewritten to `$1`, `$2`, ...
        placeholders: Names of its placeholders without `$`, each once, in order of first use.
        target: The table that it changes; None for queries.
        query: The text after AS of CREATE TABLE AS.
        columns: The text between the parentheses of CREATE TABLE, or None.
        primary_key: Columns of PRIMARY KEY, from CREATE TABLE.
        row_values: For INSERT of a single VALUES tuple, where it stands in `sql`.
    """

    kind: Kind
    sql: str
    placeholders: tuple[str, ...] = ()
    target: TableName | None = None
    query: str | None = None
    columns: str | None = None
    primary_key: tuple[str, ...] = ()
    exists_ok: bool = False
    or_replace: bool = False
    row_values: RowValues | None = None


def parse(sql: str) -> Statement:
    """Sort one statement.

    Raises:
        InvalidRequest: It is empty, more than one, not tokenizable, or of a kind that is refused; the message
            says why and what to use instead.
    """
    sql = numbered(sql, tokenize(sql))
    tokens = tokenize(sql)
    if not tokens:
        msg = "the statement is empty"
        raise InvalidRequest(msg)
    if any(token.token_type is TokenType.SEMICOLON for token in tokens):
        msg = "one statement at a time: this text has several, separated by ';'"
        raise InvalidRequest(msg)
    check_complexity(tokens)
    reader = _Reader(sql, tokens)
    first = reader.peek()
    if first in _QUERY_WORDS:
        return Statement(Kind.QUERY, sql, reader.placeholders())
    changing = {"INSERT": _insert, "CREATE": _create, "DROP": _drop, "DELETE": _delete_all, "TRUNCATE": _delete_all}
    if first in changing:
        return changing[first](reader)
    if first in _REFUSED:
        msg = f"{first} is refused: {_REFUSED[first]}"
        raise InvalidRequest(msg)
    msg = (
        f"a statement can't start with {tokens[0].text[:40]!r}; expected SELECT, WITH, VALUES, INSERT, CREATE TABLE, "
        "DROP TABLE, SHOW, DESCRIBE or EXPLAIN"
    )
    raise InvalidRequest(msg)


class _Reader:
    """Walks over tokens; `peek` and `take` speak upper-case words."""

    def __init__(self, sql: str, tokens: list[Token]) -> None:
        self.sql = sql
        self.tokens = tokens
        self.position = 0

    def peek(self, ahead: int = 0) -> str:
        index = self.position + ahead
        if index >= len(self.tokens):
            return ""
        return word(self.tokens[index])

    def take(self, *words: str) -> bool:
        if any(self.peek(ahead) != word for ahead, word in enumerate(words)):
            return False
        self.position += len(words)
        return True

    def done(self) -> bool:
        return self.position >= len(self.tokens)

    def fail(self, expected: str) -> NoReturn:
        found = "the end of the statement" if self.done() else repr(self.tokens[self.position].text[:40])
        msg = f"expected {expected}, found {found}"
        raise InvalidRequest(msg)

    def identifier(self) -> str:
        if self.done():
            self.fail("a name")
        token = self.tokens[self.position]
        quoted = token.token_type is TokenType.IDENTIFIER
        bare = token.token_type not in LITERALS and re.fullmatch(r"\w[\w$]*", token.text) is not None
        if not quoted and not bare:
            self.fail("a name")
        self.position += 1
        # As the engine folds names: ASCII letters only.
        return token.text if quoted else token.text.translate(_ASCII_LOWER)

    def table(self) -> TableName:
        parts = [self.identifier()]
        while self.take("."):
            parts.append(self.identifier())
        match parts:
            case [name]:
                return TableName(name)
            case [schema, name] | ["lakehouse", schema, name]:
                return TableName(name, schema)
            case _:
                msg = f"{'.'.join(parts)!r} can't name a table: expected name, schema.name or lakehouse.schema.name"
                raise InvalidRequest(msg)

    def parenthesised(self) -> tuple[int, int]:
        """Positions of the tokens just inside the parentheses that start here; moves past them."""
        if not self.take("("):
            self.fail("'('")
        first, depth = self.position, 1
        while depth:
            if self.done():
                self.fail("')'")
            depth += {"(": 1, ")": -1}.get(self.peek(), 0)
            self.position += 1
        return first, self.position - 1

    def text(self, first: int, last: int) -> str:
        """Original text of the tokens from `first` up to and without `last`."""
        return self.sql[self.tokens[first].start : self.tokens[last - 1].end + 1] if last > first else ""

    def placeholders(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.name for one in placeholders(self.tokens)))


def _insert(reader: _Reader) -> Statement:
    reader.position += 1
    if reader.peek() == "OVERWRITE":
        reader.fail("INTO (to replace a table use CREATE OR REPLACE TABLE ... AS)")
    if not reader.take("INTO"):
        reader.fail("INTO")
    reader.take("TABLE")
    target = reader.table()
    if reader.peek() == "(" and reader.peek(1) not in {"SELECT", "WITH", "VALUES"}:
        reader.parenthesised()
    values = _single_values(reader)
    return Statement(Kind.INSERT, reader.sql, reader.placeholders(), target=target, row_values=values)


def _single_values(reader: _Reader) -> RowValues | None:
    if reader.peek() != "VALUES":
        return None
    values = reader.tokens[reader.position]
    reader.position += 1
    first, last = reader.parenthesised()
    if not reader.done() or first == last:
        return None
    return RowValues(values.start, reader.tokens[first].start, reader.tokens[last - 1].end + 1)


def _create(reader: _Reader) -> Statement:
    reader.position += 1
    or_replace = reader.take("OR", "REPLACE")
    word = reader.peek()
    if word in _REFUSED_CREATE:
        msg = f"CREATE {word} is refused: {_REFUSED_CREATE[word]}"
        raise InvalidRequest(msg)
    if not reader.take("TABLE"):
        reader.fail("TABLE")
    exists_ok = reader.take("IF", "NOT", "EXISTS")
    target = reader.table()
    columns: str | None = None
    primary_key: tuple[str, ...] = ()
    if reader.peek() == "(":
        first, last = reader.parenthesised()
        columns = reader.text(first, last)
        _refuse_options(reader.tokens[first:last])
        primary_key = _primary_key(_Reader(reader.sql, reader.tokens[first:last]))
    if reader.take("AS"):
        query = reader.text(reader.position, len(reader.tokens))
        if _Reader(reader.sql, reader.tokens[reader.position :]).peek() not in _QUERY_WORDS:
            reader.fail("a query after AS")
        kind = Kind.CREATE_TABLE_AS
    elif columns is not None and reader.done():
        query, kind = None, Kind.CREATE_TABLE
    else:
        reader.fail("AS and a query, or the end of the statement" if columns is not None else "'(' or AS")
    return Statement(
        kind,
        reader.sql,
        reader.placeholders(),
        target=target,
        query=query,
        columns=columns,
        primary_key=primary_key,
        exists_ok=exists_ok,
        or_replace=or_replace,
    )


def _refuse_options(tokens: list[Token]) -> None:
    for token in tokens:
        if word(token) in _REFUSED_OPTIONS:
            raise InvalidRequest(
                f"{word(token)} in CREATE TABLE is refused, because it would not be kept: columns have a type, "
                "NOT NULL and PRIMARY KEY"
            )


def _primary_key(reader: _Reader) -> tuple[str, ...]:
    column = ""
    depth = 0
    expect_column = True
    while not reader.done():
        word = reader.peek()
        if word == "PRIMARY KEY":
            reader.position += 1
            if reader.peek() != "(":
                return (column,)
            first, last = reader.parenthesised()
            inner = _Reader(reader.sql, reader.tokens[first:last])
            names = [inner.identifier()]
            while inner.take(","):
                names.append(inner.identifier())
            return tuple(names)
        depth += {"(": 1, ")": -1}.get(word, 0)
        if expect_column and word not in {"CONSTRAINT", "UNIQUE", "CHECK", "FOREIGN"}:
            column = reader.identifier()
        else:
            reader.position += 1
        expect_column = word == "," and depth == 0
    return ()


def _drop(reader: _Reader) -> Statement:
    reader.position += 1
    if not reader.take("TABLE"):
        reader.fail("TABLE (only tables can be dropped by SQL)")
    exists_ok = reader.take("IF", "EXISTS")
    target = reader.table()
    reader.take("CASCADE")
    reader.take("RESTRICT")
    if not reader.done():
        reader.fail("the end of the statement (one table at a time)")
    return Statement(Kind.DROP_TABLE, reader.sql, reader.placeholders(), target=target, exists_ok=exists_ok)


def _delete_all(reader: _Reader) -> Statement:
    if reader.take("TRUNCATE"):
        reader.take("TABLE")
    elif not reader.take("DELETE", "FROM"):
        reader.fail("DELETE FROM and a table")
    target = reader.table()
    if reader.peek() == "WHERE":
        msg = (
            "DELETE with WHERE is not available in this version; write a new table with "
            "CREATE OR REPLACE TABLE ... AS SELECT"
        )
        raise InvalidRequest(msg)
    if not reader.done():
        reader.fail("the end of the statement")
    return Statement(Kind.DELETE_ALL, reader.sql, reader.placeholders(), target=target)
