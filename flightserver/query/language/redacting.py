"""Statements without their values, for logs that others read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot.tokenizer_core import TokenType

from flightserver.errors import InvalidRequest
from flightserver.query.language.tokens import LITERALS, tokenize

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST = 4_000
"""Characters of a statement that are looked at."""


def redacted(sql: str) -> str:
    """A statement with `?` in the place of each literal, and without comments.

    One that can't be read, or that was cut in the middle of a literal, is not shown at all.
    """
    try:
        return " ".join(_shown(sql[:_LONGEST]))
    except InvalidRequest:
        return "(can't be read)"


def _shown(sql: str) -> Iterator[str]:
    for token in tokenize(sql):
        is_value = token.token_type in LITERALS or token.token_type is TokenType.NUMBER
        yield "?" if is_value else sql[token.start : token.end + 1]
