"""Statements without their values, for logs that others read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlglot.tokenizer_core import TokenType

from flightserver.errors import InvalidRequest
from flightserver.query.language.tokens import LITERALS, tokenize

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST = 600
"""Characters of a statement that are looked at, a little more than are shown. Reading as many takes a millisecond, each
time that a statement has run."""

_ATTEMPTS = 4
"""Openings of literals and comments that may be nested at the place where a statement is cut."""

_OPENING = re.compile(r"['\"`]|/\*|\$(?:[A-Za-z_]\w*)?\$")


def redacted(sql: str) -> str:
    """A statement with `?` in the place of each literal, and without comments.

    Of a long one the beginning; of a literal, name or comment that is cut there, nothing. What can't be read is not
    shown at all.
    """
    text = sql[:_LONGEST]
    for _ in range(_ATTEMPTS):
        try:
            return " ".join(_shown(text)) + (" ..." if len(text) < len(sql) else "")
        except InvalidRequest:
            *_, last = [0, *(found.start() for found in _OPENING.finditer(text))]
            text = text[:last]
    return "(can't be read)"


def _shown(sql: str) -> Iterator[str]:
    for token in tokenize(sql):
        is_value = token.token_type in LITERALS or token.token_type is TokenType.NUMBER
        yield "?" if is_value else sql[token.start : token.end + 1]
