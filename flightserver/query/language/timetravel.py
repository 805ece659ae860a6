"""Tables at another time: `t FOR VERSION AS OF 3`, `t FOR TIMESTAMP AS OF '2026-01-31'`, `t AT (VERSION => 3)`.

The engine knows none of these clauses. Each table with one is therefore replaced by a generated name, which the caller
resolves to the table as it was; where the statement gives no alias, the table keeps its own name as one, so that
`t.column` still means it. The same table at the same time has one generated name. Versions and times are literals,
because what a statement means must be known before values are bound.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlglot.tokenizer_core import TokenType

from flightserver.catalog.quoting import delimited
from flightserver.errors import InvalidRequest
from flightserver.query.language.reader import Reader

if TYPE_CHECKING:
    from sqlglot.tokenizer_core import Token

    from flightserver.query.language.changes import TableName

PREFIX = "__as_of_"
"""Generated names are this and a number."""

_VERSION = frozenset({"VERSION", "SYSTEM_VERSION"})
_TIME = frozenset({"TIMESTAMP", "SYSTEM_TIME"})
_OPTION = "a version or time must be a literal; to choose it by a value, set the option as_of of the statement"

_WHOLE = re.compile(r"[0-9]{1,18}")
_BEFORE = frozenset(
    {"FROM", "JOIN", ",", "(", "USING", "ONLY", "INTO", "TABLE", "UPDATE", "TRUNCATE", "VIEW", "EXISTS", "LATERAL"}
)
_DESCRIBING = frozenset({"DESCRIBE", "DESC"})


_ANY_CLAUSE = re.compile(r"\bOF\b|=>", re.IGNORECASE)
"""Every clause has one of these."""


@dataclass(frozen=True, slots=True)
class AsOf:
    """A table at another time.

    Attributes:
        name: What it is called in the statement as it is planned.
        table: The table, which the statement reads.
        at: A version, the name of a tag, or a time in UTC.
    """

    name: str
    table: TableName
    at: int | str | datetime


def replaced(sql: str, tokens: list[Token]) -> tuple[str, tuple[AsOf, ...]]:
    """The statement with generated names for its tables at other times, and what these names mean.

    Raises:
        InvalidRequest: A version or time is malformed, or stands where no table does.
    """
    if not _ANY_CLAUSE.search(sql):  # a statement of megabytes is all values
        return sql, ()
    reader = Reader(sql, tokens)
    names: dict[tuple[TableName, int | str | datetime], AsOf] = {}
    pieces: list[str] = []
    position = 0
    while not reader.done():
        start = reader.position
        if not _clause_starts(reader):
            reader.position += 1
            continue
        first, table = _table_before(reader, start)
        described = reader.peek(first - 1 - start) in _DESCRIBING
        at = _at(reader)
        meant = names.setdefault((table, at), AsOf(f"{PREFIX}{len(names)}", table, at))
        pieces += [sql[position : tokens[first].start], delimited(meant.name)]
        if not described and not reader.at_alias():
            pieces.append(f" AS {delimited(table.name)}")
        position = tokens[reader.position - 1].end + 1
    return "".join([*pieces, sql[position:]]), tuple(names.values())


def _clause_starts(reader: Reader) -> bool:
    words = [reader.peek(ahead) for ahead in range(4)]
    if words[0] == "FOR":
        return words[1] in _VERSION | _TIME and words[2:] == ["AS", "OF"]
    return words[:2] == ["AT", "("] and words[2] in _VERSION | _TIME and words[3] == "=>"


def _table_before(reader: Reader, end: int) -> tuple[int, TableName]:
    """Where the name begins that stands before the token at `end`, and the table that it names."""
    if reader.peek(-1) == ")":
        raise InvalidRequest(
            f"{reader.text(end, end + 2)} stands directly behind the name of a table, not behind what answers "
            "rows: to search at an earlier version, set the option as_of of the statement"
        )
    first = end - 1
    while first > 1 and reader.tokens[first - 1].text == ".":
        first -= 2
    if first < 1 or reader.peek(first - 1 - end) not in _BEFORE | _DESCRIBING:
        clause = reader.text(end, end + 2)
        raise InvalidRequest(f"{clause} stands directly behind the name of a table, before its alias")
    name = Reader(reader.sql, reader.tokens[first:end])
    table = name.table()
    name.end("the name of a table before a version or time")
    return first, table


def _at(reader: Reader) -> int | str | datetime:
    """The version or time of the clause at hand; moves past the clause."""
    if reader.take("FOR"):
        unit = reader.peek()
        reader.position += 1
        reader.expect("AS", "OF")
        return _version(reader) if unit in _VERSION else _time(reader)
    reader.expect("AT", "(")
    unit = reader.peek()
    reader.position += 1
    reader.expect("=>")
    at = _version(reader) if unit in _VERSION else _time(reader)
    reader.expect(")")
    return at


def _version(reader: Reader) -> int | str:
    token = None if reader.done() else reader.tokens[reader.position]
    if token is not None and token.token_type is TokenType.STRING and token.text:
        reader.position += 1
        return token.text
    if token is not None and _WHOLE.fullmatch(token.text):
        reader.position += 1
        return int(token.text)
    return reader.fail(f"the number of a version or the name of a tag in quotes ({_OPTION})")


def _time(reader: Reader) -> datetime:
    if reader.peek() in {"TIMESTAMP", "TIMESTAMPTZ", "DATE"}:
        reader.position += 1
    token = None if reader.done() else reader.tokens[reader.position]
    if token is None or token.token_type is not TokenType.STRING:
        reader.fail(f"a time in quotes ({_OPTION})")
    reader.position += 1
    try:
        time = datetime.fromisoformat(token.text.strip())
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{token.text[:60]!r} is no time: expected ISO 8601, as in '2026-01-31 12:00:00' (UTC) or "
            "'2026-01-31T12:00:00+01:00'"
        ) from None
