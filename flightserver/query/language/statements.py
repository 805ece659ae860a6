"""What a statement is, told from its tokens, before any engine sees it.

The engine plans SELECT itself and would execute DDL while it plans, so statements are sorted first. Queries go to the
engine with DDL, DML and settings switched off. INSERT is planned by the engine and carried out by us. UPDATE, DELETE,
MERGE and INSERT with conflicts are taken apart (`dml.py`) and computed by a query (`change_queries.py`). Statements
about tables and views are taken apart here and in `ddl.py`, those about grants in `grants.py`. Everything else is
refused with a reason.
Sorting is not the guard: the engine's own switches are (see `engine.py`), so a statement that is sorted wrongly is
refused there.

Texts are slices of the statement: after `?` became `$1`, and tables at other times (`timetravel.py`) and searches
(`searches.py`) got their generated names, nothing is printed anew, so that the engine reads what the user wrote.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from sqlglot.tokenizer_core import TokenType

from flightserver.errors import InvalidRequest
from flightserver.query.language import constraints, ddl, dml, grants, searches, timetravel
from flightserver.query.language.changes import Change, Keys, TableName
from flightserver.query.language.reader import QUERY_WORDS, RETURNING_REFUSED, Reader
from flightserver.query.language.timetravel import AsOf
from flightserver.query.language.tokens import check_complexity, numbered, tokenize

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.query.language.searches import Search

__all__ = ["AsOf", "Kind", "RowValues", "Statement", "TableName", "parse"]

_QUERY_WORDS = QUERY_WORDS | {"SHOW", "DESCRIBE", "DESC", "EXPLAIN"}

_TRANSACTIONS = (
    "transactions are begun and ended by the client's transaction API (ADBC autocommit=False, JDBC "
    "setAutoCommit(false))"
)

MAX_PLACEHOLDERS = 10_000
"""Planning takes 2.5 s for as many, and grows with their square."""

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
    "BEGIN": _TRANSACTIONS,
    "START": _TRANSACTIONS,
    "COMMIT": _TRANSACTIONS,
    "ROLLBACK": _TRANSACTIONS,
    "END": _TRANSACTIONS,
    "ABORT": _TRANSACTIONS,
    "SAVEPOINT": _TRANSACTIONS,
    "RELEASE": _TRANSACTIONS,
    "CALL": "there are no procedures; what changes the server is a Flight action",
    "ANALYZE": "statistics are kept with every write; EXPLAIN ANALYZE shows what a query did",
    "VACUUM": "storage needs no vacuum",
}

_TEMPORARY = (
    "temporary tables are made by bulk ingestion with the option `temporary` (ADBC adbc_ingest(..., temporary=True)); "
    "name parts of one statement by WITH"
)

_REFUSED_CREATE = {
    "EXTERNAL": "an external table reaches files of the server; load them with the action ingest.file",
    "TEMPORARY": _TEMPORARY,
    "TEMP": _TEMPORARY,
    "UNBOUNDED": "streams are not available",
    "MATERIALIZED": "views are computed when they are read; keep a result with CREATE TABLE ... AS",
    "FUNCTION": "functions cannot be created by SQL",
    "DATABASE": "there is one catalog, lakehouse; schemas are buckets",
    "SCHEMA": "schemas are buckets; the administrator creates them",
    "INDEX": "statistics are kept with every write; vector indexes are made by the action index.create",
    "USER": grants.USERS_BY_ACTIONS,
    "POLICY": grants.POLICIES_BY_ACTIONS,
}


class Kind(enum.Enum):
    """What carries a statement out."""

    QUERY = "query"
    INSERT = "insert"
    CREATE_TABLE = "create table"
    CREATE_TABLE_AS = "create table as"
    DROP_TABLE = "drop table"
    TRUNCATE = "truncate"
    UPDATE = "update"
    DELETE = "delete"
    MERGE = "merge"
    UPSERT = "upsert"
    ALTER_TABLE = "alter table"
    COMMENT = "comment"
    CREATE_VIEW = "create view"
    DROP_VIEW = "drop view"
    GRANT = "grant"
    REVOKE = "revoke"
    CREATE_ROLE = "create role"
    DROP_ROLE = "drop role"

    @property
    def is_update(self) -> bool:
        """Whether the statement changes data and answers with a count instead of rows."""
        return self is not Kind.QUERY


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
        sql: Its text, with `?` rewritten to `$1`, `$2`, ... and names for tables at other times and searches.
        placeholders: Names of its placeholders without `$`, each once, in order of first use.
        target: The table that it changes; None for queries, and for statements about roles and grants.
        query: The text after AS of CREATE TABLE AS.
        columns: The columns between the parentheses of CREATE TABLE, without keys, or None.
        keys: What CREATE TABLE says of keys.
        row_values: For INSERT of a single VALUES tuple, where it stands in `sql`.
        change: What UPDATE, DELETE, MERGE, INSERT with conflicts, ALTER TABLE, COMMENT and statements about views,
            roles and grants say.
        as_of: Tables that the statement reads as they were at another time, under the names that `sql` has for them.
        searches: Searches that the statement reads, likewise; each may read those before it.
    """

    kind: Kind
    sql: str
    placeholders: tuple[str, ...] = ()
    target: TableName | None = None
    query: str | None = None
    columns: str | None = None
    keys: Keys = field(default_factory=Keys)
    exists_ok: bool = False
    or_replace: bool = False
    row_values: RowValues | None = None
    change: Change | None = None
    as_of: tuple[AsOf, ...] = ()
    searches: tuple[Search, ...] = ()


def parse(sql: str) -> Statement:
    """Sort one statement.

    Raises:
        InvalidRequest: It is empty, more than one, not tokenizable, of a kind that is refused, or has too many
            placeholders; the message says why and what to use instead.
    """
    tokens = tokenize(sql)
    check_complexity(tokens)
    written = numbered(sql, tokens)
    if written != sql:  # reading a statement of megabytes takes seconds
        sql, tokens = written, tokenize(written)
    if not tokens:
        msg = "the statement is empty"
        raise InvalidRequest(msg)
    if any(token.token_type is TokenType.SEMICOLON for token in tokens):
        msg = "one statement at a time: this text has several, separated by ';'"
        raise InvalidRequest(msg)
    written = sql
    sql, as_of = timetravel.replaced(sql, tokens)
    tokens = tokenize(sql) if as_of else tokens
    names = Reader(sql, tokens).placeholders()
    sql, found = searches.replaced(sql, tokens)
    reader = Reader(sql, tokenize(sql) if found else tokens, {one.name for one in as_of}, names)
    statement = _sorted(reader, written)
    if len(statement.placeholders) > MAX_PLACEHOLDERS:
        msg = (
            f"the statement has {len(statement.placeholders):,} placeholders; at most {MAX_PLACEHOLDERS:,} are read: "
            "bind rows to a shorter statement, or load them into a table"
        )
        raise InvalidRequest(msg)
    return replace(statement, as_of=as_of, searches=found)


def _sorted(reader: Reader, written: str) -> Statement:
    """The statement, sorted by its first words.

    Args:
        reader: At its first word.
        written: Its text before tables at other times and searches got their generated names.
    """
    first = reader.peek()
    if first in _QUERY_WORDS:
        _refuse_change_after_with(reader)
        return Statement(Kind.QUERY, reader.sql, reader.placeholders())
    if first in _SORTS:
        return _SORTS[first](reader)
    if first == "CREATE":
        return _create(reader, written)
    if first in _REFUSED:
        msg = f"{first} is refused: {_REFUSED[first]}"
        raise InvalidRequest(msg)
    msg = (
        f"a statement can't start with {reader.tokens[0].text[:40]!r}; expected SELECT, WITH, VALUES, INSERT, UPDATE, "
        "DELETE, MERGE, TRUNCATE, CREATE, ALTER, DROP, COMMENT, GRANT, REVOKE, SHOW, DESCRIBE or EXPLAIN"
    )
    raise InvalidRequest(msg)


def _refuse_change_after_with(reader: Reader) -> None:
    if reader.peek() != "WITH":
        return
    mains = {word: reader.outside(word) for word in ("SELECT", "VALUES", "INSERT", "UPDATE", "DELETE", "MERGE")}
    first = min((places[0], word) for word, places in [*mains.items(), ("", [len(reader.tokens)])] if places)[1]
    if first in {"INSERT", "UPDATE", "DELETE", "MERGE"}:
        raise InvalidRequest(
            f"WITH stands before {first}: write it inside, as in INSERT INTO t WITH ... SELECT or MERGE INTO t USING "
            "(WITH ... SELECT ...) AS s"
        )


def _insert(reader: Reader) -> Statement:
    conflict = dml.conflict_clause(reader)
    if conflict is not None or (reader.peek(1) == "OR" and reader.peek(2) in {"REPLACE", "IGNORE"}):
        return _changing(Kind.UPSERT, reader, *dml.upsert(reader, conflict))
    if reader.outside("RETURNING"):
        raise InvalidRequest(RETURNING_REFUSED)
    reader.expect("INSERT")
    if reader.peek() == "OVERWRITE":
        reader.fail("INTO (to replace a table use CREATE OR REPLACE TABLE ... AS)")
    reader.expect("INTO")
    reader.take("TABLE")
    target = reader.target()
    if reader.peek() == "(" and reader.peek(1) not in {"SELECT", "WITH", "VALUES"}:
        reader.parenthesised()
    values = _single_values(reader)
    return Statement(Kind.INSERT, reader.sql, reader.placeholders(), target=target, row_values=values)


def _single_values(reader: Reader) -> RowValues | None:
    if reader.peek() != "VALUES":
        return None
    values = reader.tokens[reader.position]
    reader.position += 1
    first, last = reader.parenthesised()
    if not reader.done() or first == last:
        return None
    return RowValues(values.start, reader.tokens[first].start, reader.tokens[last - 1].end + 1)


def _create(reader: Reader, written: str) -> Statement:
    reader.expect("CREATE")
    or_replace = reader.take("OR", "REPLACE")
    word = reader.peek()
    if word in _REFUSED_CREATE:
        msg = f"CREATE {word} is refused: {_REFUSED_CREATE[word]}"
        raise InvalidRequest(msg)
    if word == "VIEW":
        return _changing(Kind.CREATE_VIEW, reader, *ddl.create_view(reader, written, or_replace=or_replace))
    if word == "ROLE" and not or_replace:
        return _changing(Kind.CREATE_ROLE, reader, None, grants.create_role(reader))
    if not reader.take("TABLE"):
        reader.fail("TABLE or VIEW" if or_replace else "TABLE, VIEW or ROLE")
    exists_ok = reader.take("IF", "NOT", "EXISTS")
    target = reader.target()
    columns: str | None = None
    keys = Keys()
    if reader.peek() == "(":
        first, last = reader.parenthesised()
        columns, keys = constraints.definitions(Reader(reader.sql, reader.tokens[first:last]))
    if reader.take("AS"):
        query = reader.text(reader.position, len(reader.tokens))
        if reader.peek() not in _QUERY_WORDS:
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
        keys=keys,
        exists_ok=exists_ok,
        or_replace=or_replace,
    )


def _drop(reader: Reader) -> Statement:
    reader.expect("DROP")
    if reader.peek() == "VIEW":
        return _changing(Kind.DROP_VIEW, reader, *ddl.drop_view(reader))
    if reader.peek() == "ROLE":
        return _changing(Kind.DROP_ROLE, reader, None, grants.drop_role(reader))
    _refuse_identities(reader)
    if not reader.take("TABLE"):
        reader.fail("TABLE, VIEW or ROLE (only these can be dropped by SQL)")
    exists_ok = reader.take("IF", "EXISTS")
    target = reader.target()
    if not reader.take("CASCADE"):
        reader.take("RESTRICT")
    reader.end("the end of the statement (one table at a time)")
    return Statement(Kind.DROP_TABLE, reader.sql, reader.placeholders(), target=target, exists_ok=exists_ok)


def _truncate(reader: Reader) -> Statement:
    reader.expect("TRUNCATE")
    reader.take("TABLE")
    target = reader.target()
    reader.end()
    return _changing(Kind.TRUNCATE, reader, target, None)


def _delete(reader: Reader) -> Statement:
    target, change = dml.delete(reader)
    return _changing(Kind.TRUNCATE if change is None else Kind.DELETE, reader, target, change)


def _alter(reader: Reader) -> Statement:
    _refuse_identities(reader, 1)
    return _changing(Kind.ALTER_TABLE, reader, *ddl.alter_table(reader))


def _refuse_identities(reader: Reader, ahead: int = 0) -> None:
    """Refuse what is done by actions."""
    what = reader.peek(ahead)
    if what in {"USER", "POLICY"}:
        raise InvalidRequest(f"{reader.tokens[0].text.upper()} {what} is refused: {_REFUSED_CREATE[what]}")


def _changing(kind: Kind, reader: Reader, target: TableName | None, change: Change | None) -> Statement:
    return Statement(kind, reader.sql, reader.placeholders(), target=target, change=change)


_SORTS: dict[str, Callable[[Reader], Statement]] = {
    "INSERT": _insert,
    "DROP": _drop,
    "TRUNCATE": _truncate,
    "DELETE": _delete,
    "UPDATE": lambda reader: _changing(Kind.UPDATE, reader, *dml.update(reader)),
    "MERGE": lambda reader: _changing(Kind.MERGE, reader, *dml.merge(reader)),
    "ALTER": _alter,
    "COMMENT": lambda reader: _changing(Kind.COMMENT, reader, *ddl.comment(reader)),
    "GRANT": lambda reader: _changing(Kind.GRANT, reader, None, grants.grant(reader)),
    "REVOKE": lambda reader: _changing(Kind.REVOKE, reader, None, grants.revoke(reader)),
}
"""First word -> what reads such a statement; CREATE needs the text as written as well."""
