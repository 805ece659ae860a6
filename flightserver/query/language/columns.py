"""Columns as expressions name them, told from tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot.tokenizer_core import TokenType

from flightserver.catalog.quoting import delimited
from flightserver.query.language.reader import folded
from flightserver.query.language.tokens import LITERALS, tokenize, word

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlglot.tokenizer_core import Token

_SUBQUERY = frozenset({"SELECT", "VALUES"})

_NEVER_BARE = frozenset(
    [
        "ALL",
        "AND",
        "ANY",
        "ARRAY",
        "AS",
        "BETWEEN",
        "CASE",
        "CAST",
        "COLLATE",
        "CURRENT_DATE",
        "CURRENT_TIME",
        "CURRENT_TIMESTAMP",
        "DISTINCT",
        "ELSE",
        "END",
        "EXISTS",
        "FALSE",
        "FROM",
        "ILIKE",
        "IN",
        "INTERVAL",
        "IS",
        "LIKE",
        "NOT",
        "NULL",
        "OR",
        "SOME",
        "THEN",
        "TRUE",
        "WHEN",
    ]
)
"""Words that are columns only between quotes."""

_BEFORE_OTHERS = frozenset({".", "$", "::", "AS", "WITH", "WITHOUT", "AT", "TIME", "ARRAY", "MAP"})
_BEHIND_OTHERS = frozenset({".", "(", "=>", "WITH", "WITHOUT", "TIME"})


def has_subquery(text: str) -> bool:
    """Whether the expression reads other tables."""
    return any(word(token) in _SUBQUERY for token in tokenize(text))


def mentions(text: str, names: Collection[str]) -> bool:
    """Whether one of the names occurs in the expression, as a column or otherwise; placeholders don't count."""
    tokens = tokenize(text)
    return any(
        folded(token) in names and token.token_type not in LITERALS and (place == 0 or tokens[place - 1].text != "$")
        for place, token in enumerate(tokens)
    )


def qualified(text: str, names: Collection[str], qualifier: str) -> str:
    """The expression with its bare columns qualified, where the statement sees one table and its query has two.

    A name is left as it is where it is no column: behind `.`, `$`, `::` or AS, before `.`, `(`, `=>` or a string. So is
    a text with a subquery, whose names mean first what is inside of it.

    Args:
        text: An expression.
        names: Columns.
        qualifier: The table that they are of.
    """
    tokens = tokenize(text)
    if any(word(token) in _SUBQUERY for token in tokens):
        return text
    pieces: list[str] = []
    position = 0
    for place, token in enumerate(tokens):
        if folded(token) in names and _is_column(tokens, place):
            pieces += [text[position : token.start], f"{delimited(qualifier)}."]
            position = token.start
    return "".join([*pieces, text[position:]])


def _is_column(tokens: list[Token], place: int) -> bool:
    token = tokens[place]
    if token.token_type in LITERALS or token.token_type is TokenType.NUMBER or word(token) in _NEVER_BARE:
        return False
    before = tokens[place - 1] if place else None
    behind = tokens[place + 1] if place + 1 < len(tokens) else None
    if before is not None and (word(before) in _BEFORE_OTHERS or _is_text(before)):
        return False
    if behind is not None and (word(behind) in _BEHIND_OTHERS or _is_text(behind)):
        return False
    # The unit of EXTRACT(year FROM time).
    return not (behind is not None and word(behind) == "FROM" and place > 1 and word(tokens[place - 2]) == "EXTRACT")


def _is_text(token: Token) -> bool:
    return token.token_type in LITERALS and not word(token)
