"""`vector_search('index', query, k, filter)` where a statement names a table.

The engine knows no function that answers rows of the lakehouse. Each call is therefore replaced by a generated name,
which the caller resolves to the rows that the search finds; where the statement gives no alias, the table is called
`vector_search`. Equal calls have one generated name. What is searched for may itself read tables, and search: calls
inside of it are replaced first, so that each call reads only names of those before it.

The index is a literal, because the columns of the answer must be known before values are bound.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from sqlglot.tokenizer_core import TokenType

from flightserver.catalog.quoting import delimited
from flightserver.errors import InvalidRequest
from flightserver.query.language.reader import Reader
from flightserver.query.language.tokens import placeholders, word

if TYPE_CHECKING:
    from sqlglot.tokenizer_core import Token

PREFIX = "__search_"
"""Generated names are this and a number."""
MAX_K = 10_000
"""Rows of one search: they are fetched by their ids and held in memory, and nobody looks at more of the nearest."""

MAX_DEPTH = 16
"""Searches for what searches find, and so on: as deep as views may be."""

_NAME = "vector_search"
_ARGUMENTS = ("index", "query", "k", "filter")
_ANY_CALL = re.compile(_NAME, re.IGNORECASE)
_WHOLE = re.compile(r"[0-9]{1,18}")
_TABLE_FOLLOWS = frozenset({"FROM", "JOIN", "USING", "LATERAL"})
_CLAUSES = frozenset(
    {"SELECT", "FROM", "USING", "WHERE", "ON", "GROUP BY", "ORDER BY", "HAVING", "VALUES", "SET", "WHEN", "BY"}
)
_USAGE = "vector_search('index', query, k) or vector_search('index', query, k, 'filter')"


class Bound(NamedTuple):
    """An argument that is bound when the statement runs: the placeholder's name without `$`."""

    name: str


@dataclass(frozen=True, slots=True)
class Search:
    """A call.

    Attributes:
        name: What its rows are called in the statement as it is planned.
        index: The name of the index as it is written.
        query: SQL text of an expression for the vector that is searched for.
        k: How many rows, at most.
        filter: SQL text of a predicate over the columns of the index's dataset, or None.
    """

    name: str
    index: str
    query: str
    k: int | Bound
    filter: str | Bound | None = None


def replaced(sql: str, tokens: list[Token]) -> tuple[str, tuple[Search, ...]]:
    """The statement with generated names for its searches, and what these names mean.

    Raises:
        InvalidRequest: A call is malformed, or stands where no table does.
    """
    if not _ANY_CALL.search(sql):  # a statement of megabytes is all values
        return sql, ()
    calls = _Calls(sql, tokens)
    text = sql[: tokens[0].start] + calls.rewritten(0, len(tokens))
    return text, tuple(calls.found.values())


def bound_name(text: str) -> str | None:
    """The name of the placeholder when an expression is nothing else."""
    return text[1:] if re.fullmatch(r"\$\w+", text) else None


class _Calls:
    """Walks over the tokens of a statement and replaces calls.

    Attributes:
        found: Calls by what they say, in the order in which they can be answered.
    """

    def __init__(self, sql: str, tokens: list[Token]) -> None:
        self.found: dict[tuple[object, ...], Search] = {}
        self._depth = 0
        self._reader = Reader(sql, tokens)

    def rewritten(self, first: int, last: int) -> str:
        """The text of the tokens from `first` up to and without `last`, with names for calls."""
        reader = self._reader
        sql, tokens = reader.sql, reader.tokens
        reader.position, position = first, tokens[first].start
        pieces: list[str] = []
        while reader.position < last:
            start = reader.position
            if reader.peek() != _NAME.upper() or reader.peek(1) != "(":
                reader.position += 1
                continue
            if not self._is_table(start):
                raise InvalidRequest(
                    f"{_NAME} answers rows: it stands where a table is read, as in FROM {_NAME}('index', query, k)"
                )
            reader.position += 2
            pieces += [sql[position : tokens[start].start], delimited(self._call().name)]
            if not reader.at_alias():
                pieces.append(f" AS {delimited(_NAME)}")
            position = tokens[reader.position - 1].end + 1
        return "".join([*pieces, sql[position : tokens[last - 1].end + 1]])

    def _is_table(self, place: int) -> bool:
        """Whether a table is named at a place: behind FROM or JOIN, or a comma or bracket there."""
        while (before := self._word(place - 1)) == "(":
            place -= 1
        if before != ",":
            return before in _TABLE_FOLLOWS and self._word(place - 2) != "DELETE"
        depth = 0
        for earlier in range(place - 1, -1, -1):
            now = self._word(earlier)
            depth += {")": 1, "(": -1}.get(now, 0)
            if depth < 0:
                return False
            if depth == 0 and now in _CLAUSES:
                return now in _TABLE_FOLLOWS
        return False

    def _word(self, place: int) -> str:
        return self._reader.peek(place - self._reader.position) if place >= 0 else ""

    def _call(self) -> Search:
        """The call whose first argument is at hand; moves past it."""
        reader = self._reader
        given: dict[str, tuple[int, int]] = {}
        by_name = False
        while True:
            by_name = by_name or reader.peek(1) == "=>"
            name = self._named(given) if by_name else self._placed(given)
            first = reader.position
            reader.upto(",", ")", what=f"the argument {name} of {_NAME}")
            given[name] = (first, reader.position)
            if reader.take(")"):
                break
            if not reader.take(","):
                reader.fail("',' or ')'")
        missing = [name for name in _ARGUMENTS[:3] if name not in given]
        if missing:
            raise InvalidRequest(f"{_NAME} lacks {', '.join(missing)}: expected {_USAGE}")
        end = reader.position
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InvalidRequest(f"{_NAME} is inside of {MAX_DEPTH} others: store parts of the result in tables")
        query = self.rewritten(*given["query"])
        self._depth -= 1
        reader.position = end
        said = (self._index(*given["index"]), query, self._k(*given["k"]), self._filter(given.get("filter")))
        return self.found.setdefault(said, Search(f"{PREFIX}{len(self.found)}", *said))

    def _placed(self, given: dict[str, tuple[int, int]]) -> str:
        if len(given) == len(_ARGUMENTS):
            raise InvalidRequest(f"{_NAME} has more than {len(_ARGUMENTS)} arguments: expected {_USAGE}")
        return _ARGUMENTS[len(given)]

    def _named(self, given: dict[str, tuple[int, int]]) -> str:
        reader = self._reader
        name = reader.peek().lower()
        if reader.peek(1) != "=>":
            reader.fail(f"name => value, as for the argument of {_NAME} before")
        if name not in _ARGUMENTS:
            reader.fail(f"one of the arguments {', '.join(_ARGUMENTS)} of {_NAME}")
        if name in given:
            raise InvalidRequest(f"the argument {name} of {_NAME} is given twice")
        reader.position += 2
        return name

    def _index(self, first: int, last: int) -> str:
        text = self._text(first, last)
        if text is None:
            self._refuse("index", "the name of an index in quotes, as in 'docs_embedding'", first, last)
        return text

    def _k(self, first: int, last: int) -> int | Bound:
        if last - first == 1 and _WHOLE.fullmatch(self._reader.tokens[first].text) and self._text(first, last) is None:
            k = int(self._reader.tokens[first].text)
            check_k(k)
            return k
        return self._bound(first, last) or self._refuse("k", "a whole number or a placeholder", first, last)

    def _filter(self, place: tuple[int, int] | None) -> str | Bound | None:
        if place is None or (place[1] - place[0] == 1 and self._word(place[0]) == "NULL"):
            return None
        text = self._text(*place)
        if text is not None:
            return text
        return self._bound(*place) or self._refuse("filter", "a predicate in quotes or a placeholder", *place)

    def _text(self, first: int, last: int) -> str | None:
        """The text of a literal; None for anything else."""
        token = self._reader.tokens[first]
        is_text = token.token_type in {TokenType.STRING, TokenType.HEREDOC_STRING} and not word(token)
        return token.text if last - first == 1 and is_text else None

    def _bound(self, first: int, last: int) -> Bound | None:
        found = placeholders(self._reader.tokens[first:last])
        return Bound(found[0].name) if len(found) == 1 and last - first == 2 else None  # noqa: PLR2004  # `$` and its name

    def _refuse(self, argument: str, expected: str, first: int, last: int) -> NoReturn:
        found = self._reader.text(first, last)[:40]
        raise InvalidRequest(f"the argument {argument} of {_NAME} must be {expected}; found {found}")


def check_k(k: int) -> None:
    """Return when a search may answer so many rows.

    Raises:
        InvalidRequest: It may not.
    """
    if not 1 <= k <= MAX_K:
        raise InvalidRequest(f"the argument k of {_NAME} is {k}: it must be from 1 to {MAX_K:,}")
