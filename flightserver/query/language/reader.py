"""A walk over the tokens of one statement, and the pieces of grammar that statements share.

A text that ends where a word stands (`upto`) is read with its brackets in view, CASE ... END among them, so that the
word counts only outside of them. What is cut out is therefore balanced: put between parentheses, it can't reach out of
them. Names in backticks, which the engine knows and the tokenizer does not, would break that, and are refused.
"""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, NoReturn

from sqlglot.tokenizer_core import TokenType

from flightserver.errors import InvalidRequest
from flightserver.query.language.changes import TableName
from flightserver.query.language.tokens import LITERALS, placeholders, word

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlglot.tokenizer_core import Token

QUERY_CLAUSES = frozenset(
    {"GROUP BY", "ORDER BY", "HAVING", "LIMIT", "OFFSET", "FETCH", "WINDOW", "QUALIFY", "UNION", "INTERSECT", "EXCEPT"}
)
"""What may follow FROM in a query and may not in a change."""

QUERY_WORDS = frozenset({"SELECT", "WITH", "VALUES", "("})
"""How a query begins that stands inside of another statement."""

_NO_ALIAS = QUERY_CLAUSES | frozenset(
    [
        "ADD",
        "ALTER",
        "AND",
        "ANTI",
        "ASOF",
        "CLUSTER BY",
        "CROSS",
        "DEFAULT",
        "DISTRIBUTE BY",
        "DO",
        "DROP",
        "FOR",
        "FROM",
        "FULL",
        "INNER",
        "INTO",
        "IS",
        "JOIN",
        "LATERAL",
        "LEFT",
        "NATURAL",
        "ON",
        "OR",
        "OVERRIDING",
        "PIVOT",
        "POSITIONAL",
        "RENAME",
        "RETURNING",
        "RIGHT",
        "SELECT",
        "SEMI",
        "SET",
        "SORT BY",
        "TABLESAMPLE",
        "THEN",
        "UNPIVOT",
        "USING",
        "VALUES",
        "WHEN",
        "WHERE",
        "WITH",
    ]
)
"""Words that follow a table without being its alias."""

RETURNING_REFUSED = "RETURNING is refused: a change answers with a count of rows; read the rows by a query"

_ASCII_LOWER = str.maketrans({letter: letter.lower() for letter in string.ascii_uppercase})
_CLOSING = {"(": ")", "[": "]", "{": "}", "CASE": "END"}
_BARE = re.compile(r"\w[\w$]*")


class Reader:
    """Walks over tokens; `peek` and `take` speak upper-case words.

    Args:
        sql: A statement.
        tokens: Of that statement, or some of them.
        past: Names that stand for tables at another time, which no statement can change.
        names: Of the statement's placeholders, where some of them are not among the tokens.
    """

    def __init__(
        self, sql: str, tokens: list[Token], past: Collection[str] = (), names: tuple[str, ...] | None = None
    ) -> None:
        self.sql = sql
        self.tokens = tokens
        self.position = 0
        self._past = past
        self._names = names
        # Behind a dot every word is a name.
        behind_dot = [False, *(token.text == "." for token in tokens)]
        self._words = ["" if dot else word(token) for token, dot in zip(tokens, behind_dot, strict=False)]

    def peek(self, ahead: int = 0) -> str:
        """The word that follows; empty for names in quotes, data and the end."""
        index = self.position + ahead
        return self._words[index] if index < len(self.tokens) else ""

    def take(self, *words: str) -> bool:
        """Move past the words if they follow."""
        if any(self.peek(ahead) != word for ahead, word in enumerate(words)):
            return False
        self.position += len(words)
        return True

    def expect(self, *words: str) -> None:
        """Move past the words.

        Raises:
            InvalidRequest: Something else follows.
        """
        for each in words:
            if not self.take(each):
                self.fail(each)

    def done(self) -> bool:
        """Whether nothing follows."""
        return self.position >= len(self.tokens)

    def end(self, expected: str = "the end of the statement") -> None:
        """Make sure that nothing follows.

        Raises:
            InvalidRequest: Something does.
        """
        if self.peek() == "RETURNING":
            raise InvalidRequest(RETURNING_REFUSED)
        if not self.done():
            self.fail(expected)

    def outside(self, wanted: str) -> list[int]:
        """How many words ahead `wanted` stands outside of all parentheses, each time that it does."""
        if wanted not in self._words:
            return []
        depth, found = 0, []
        for ahead, now in enumerate(self._words[self.position :]):
            depth += {"(": 1, ")": -1}.get(now, 0)
            if depth == 0 and now == wanted:
                found.append(ahead)
        return found

    def fail(self, expected: str) -> NoReturn:
        """Say what was expected and what follows.

        Raises:
            InvalidRequest: Always.
        """
        found = "the end of the statement" if self.done() else repr(self.tokens[self.position].text[:40])
        msg = f"expected {expected}, found {found}"
        raise InvalidRequest(msg)

    def at_name(self) -> bool:
        """Whether a name follows, or a word that could be one."""
        if self.done():
            return False
        token = self.tokens[self.position]
        bare = token.token_type not in LITERALS and _BARE.fullmatch(token.text) is not None
        return bare or token.token_type is TokenType.IDENTIFIER

    def identifier(self) -> str:
        """The name that follows, folded as the engine does: ASCII letters only, unless it is quoted."""
        if not self.at_name():
            self.fail("a name")
        token = self.tokens[self.position]
        self.position += 1
        return folded(token)

    def qualified(self) -> list[str]:
        """The parts of a name with dots."""
        parts = [self.identifier()]
        while self.take("."):
            parts.append(self.identifier())
        return parts

    def table(self) -> TableName:
        """The name of a table."""
        return table_name(self.qualified())

    def target(self) -> TableName:
        """The name of the table that the statement changes.

        Raises:
            InvalidRequest: It is no such name, or has a version.
        """
        name = self.table()
        if name.schema is None and name.name in self._past:
            raise InvalidRequest(
                "the table that a statement changes can't have FOR ... AS OF or AT (...): the past can be read but not "
                "changed"
            )
        return name

    def at_alias(self) -> bool:
        """Whether an alias of a table follows, with or without AS."""
        return self.peek() == "AS" or (self.at_name() and self.peek() not in _NO_ALIAS)

    def alias(self) -> str:
        """The alias that follows; empty when none does."""
        if not self.at_alias():
            return ""
        self.take("AS")
        return self.identifier()

    def names(self) -> tuple[str, ...]:
        """Names in parentheses, each once.

        Raises:
            InvalidRequest: A name is there twice.
        """
        self.expect("(")
        found = [self.identifier()]
        while self.take(","):
            found.append(self.identifier())
        self.expect(")")
        check_once(found, "named")
        return tuple(found)

    def primary_key(self) -> bool:
        """Move past PRIMARY KEY if it follows; one token, or two with a comment between them."""
        return self.take("PRIMARY KEY") or self.take("PRIMARY", "KEY")

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

    def upto(self, *stops: str, what: str) -> str:
        """The text up to the first of the words outside of all brackets, or to the end.

        Args:
            stops: Words; a closing bracket among them is one that the text does not open.
            what: What is expected here, for messages.

        Raises:
            InvalidRequest: There is no text, its brackets don't match, or a name stands in backticks.
        """
        first = self.position
        open_brackets: list[str] = []
        while not self.done():
            now = self.peek()
            if not open_brackets and now in stops and not self._distinct_from(first):
                break
            self._bracket(now, open_brackets)
            self.position += 1
        if open_brackets:
            self.fail(repr(open_brackets[-1]))
        if self.position == first:
            self.fail(what)
        return self.text(first, self.position)

    def _distinct_from(self, first: int) -> bool:
        """Whether the word at hand is the FROM of IS DISTINCT FROM, which is an operator."""
        return self.position > first and self.peek() == "FROM" and self._words[self.position - 1] == "DISTINCT"

    def _bracket(self, now: str, open_brackets: list[str]) -> None:
        """Open or close a bracket; `open_brackets` holds what will close those that are open."""
        if self.tokens[self.position].token_type is TokenType.UNKNOWN:
            self.fail('a statement whose names are quoted by ", as in "my table"')
        if now in _CLOSING:
            open_brackets.append(_CLOSING[now])
        elif open_brackets and now == open_brackets[-1]:
            open_brackets.pop()
        elif now in {")", "]", "}"}:
            self.fail(repr(open_brackets[-1]) if open_brackets else f"no {now!r}, because nothing opens it")

    def expression(self, *stops: str) -> str:
        """An expression; DEFAULT is NULL, because columns have no other default."""
        text = self.upto(*stops, what="an expression")
        return "NULL" if text.upper() == "DEFAULT" else text

    def expressions(self) -> tuple[str, ...]:
        """Expressions in parentheses."""
        self.expect("(")
        found = [self.expression(",", ")")]
        while self.take(","):
            found.append(self.expression(",", ")"))
        self.expect(")")
        return tuple(found)

    def text(self, first: int, last: int) -> str:
        """Original text of the tokens from `first` up to and without `last`."""
        return self.sql[self.tokens[first].start : self.tokens[last - 1].end + 1] if last > first else ""

    def placeholders(self) -> tuple[str, ...]:
        """Names of all placeholders, each once, in order of first use."""
        if self._names is not None:
            return self._names
        return tuple(dict.fromkeys(one.name for one in placeholders(self.tokens)))


def folded(token: Token) -> str:
    """A name as the engine folds it: ASCII letters only, and none between quotes."""
    return token.text if token.token_type is TokenType.IDENTIFIER else token.text.translate(_ASCII_LOWER)


def table_name(parts: list[str]) -> TableName:
    """A table from the parts of its name.

    Raises:
        InvalidRequest: There are too many.
    """
    match parts:
        case [name]:
            return TableName(name)
        case [schema, name] | ["lakehouse", schema, name]:
            return TableName(name, schema)
        case _:
            msg = f"{'.'.join(parts)!r} can't name a table: expected name, schema.name or lakehouse.schema.name"
            raise InvalidRequest(msg)


def check_once(names: Iterable[str], verb: str) -> None:
    """Make sure that no column comes twice.

    Raises:
        InvalidRequest: One does.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidRequest(f'column "{name}" is {verb} twice')
        seen.add(name)
