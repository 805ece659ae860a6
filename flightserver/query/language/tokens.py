"""Statements as tokens: placeholders by position, and a bound on what the engine's recursion can bear.

Tokens come from sqlglot's PostgreSQL tokenizer, whose quoting and comments are those of the engine's dialect. Text
is always cut out of the original statement by token positions and never printed anew, so that the engine
reads what the user wrote.

The engine plans by recursion over the expression tree, and a chain such as `a + a + ...` is a tree as deep as it is
long: 2,000 terms overflow the native stack (datafusion 54.1), which kills the process. Brackets have a limit in the
engine's own parser; chains have theirs here.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from sqlglot.dialects import Postgres
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

LITERALS = frozenset(
    {
        TokenType.STRING,
        TokenType.BYTE_STRING,
        TokenType.HEX_STRING,
        TokenType.BIT_STRING,
        TokenType.NATIONAL_STRING,
        TokenType.RAW_STRING,
        TokenType.HEREDOC_STRING,
        TokenType.UNICODE_STRING,
    }
)
"""Tokens whose text is data, whatever it looks like."""

MAX_CHAIN = 500
"""Operators in one chain, brackets around it included. A quarter of what was seen to overflow the stack."""

MAX_RELATIONS = 250
"""Relations that one query may join or combine, and common table expressions: the plan is as deep as they are many."""

MAX_EXPANDED = 2000
"""Uses of common table expressions, those inside of others multiplied: the engine plans each use anew."""

_JOINING = frozenset({"AND", "OR"})
_CHAINED = frozenset(
    [
        "+",
        "-",
        "*",
        "/",
        "%",
        "||",
        "=",
        "<>",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        "IS",
        "IN",
        "LIKE",
        "ILIKE",
        "BETWEEN",
        "~",
        "!~",
        "~*",
        "!~*",
        "&",
        "|",
        "#",
        "<<",
        ">>",
        "::",
        "NOT",
        "[",
        "COLLATE",
    ]
)
_CLAUSES = frozenset(
    [
        "SELECT",
        "FROM",
        "WHERE",
        "HAVING",
        "ON",
        "WHEN",
        "THEN",
        "ELSE",
        "CASE",
        "END",
        "BY",
        "LIMIT",
        "SET",
        "VALUES",
        ",",
        ";",
    ]
)
_COMBINING = frozenset({"UNION", "INTERSECT", "EXCEPT", "JOIN", "WITH", "LATERAL"})


class _Tokenizer(Postgres.Tokenizer):  # type: ignore[misc]  # sqlglot builds its dialects by a metaclass
    # Otherwise the rest of EXPLAIN is one token.
    COMMANDS: ClassVar[set[TokenType]] = set()


class _Dialect(Postgres):  # type: ignore[misc]  # as above
    class Tokenizer(_Tokenizer):
        """Knows dollar-quoted strings."""


class _WithoutDollarQuotes(Postgres):  # type: ignore[misc]  # as above
    class Tokenizer(_Tokenizer):
        """Would otherwise take `$1,$` of `$1,$2` for the beginning of a dollar-quoted string."""

        HEREDOC_STRINGS: ClassVar[list[str | tuple[str, str]]] = []


_DOLLAR_QUOTE = re.compile(r"\$(?:[A-Za-z_]\w*)?\$")


class Placeholder(NamedTuple):
    """`$name` in a statement: its name, and where it stands in the text, the end excluded."""

    name: str
    start: int
    end: int


def tokenize(sql: str) -> list[Token]:
    """The tokens of a statement, without semicolons at its end.

    Raises:
        InvalidRequest: A string or comment is not closed, or there is a NUL character.
    """
    if "\0" in sql:
        # The engine names columns after literals, and its C interface panics at names with a NUL.
        raise InvalidRequest(
            f"the statement has a NUL character at place {sql.index(chr(0))}: bind such text as a value"
        )
    try:
        dialect = _Dialect() if _DOLLAR_QUOTE.search(sql) else _WithoutDollarQuotes()
        tokens = list(dialect.tokenize(sql))
    except TokenError as error:
        raise InvalidRequest(f"the statement can't be read: {str(error)[:200]}") from None
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    return tokens


def word(token: Token) -> str:
    """The token as an upper-case word; empty for quoted names and data."""
    is_data = token.token_type in LITERALS and not _is_dollar(token)
    return "" if is_data or token.token_type is TokenType.IDENTIFIER else token.text.upper()


def placeholders(tokens: list[Token]) -> list[Placeholder]:
    """Every `$name` among the tokens, in order."""
    return [
        Placeholder(name.text, mark.start, name.end + 1)
        for mark, name in pairwise(tokens)
        if _is_dollar(mark) and name.start == mark.end + 1
    ]


def _is_dollar(token: Token) -> bool:
    # Its token type differs between the two tokenizers; one character long it is never a quoted string.
    return token.text == "$" and token.start == token.end


def numbered(sql: str, tokens: list[Token]) -> str:
    """The statement with `?` rewritten to `$1`, `$2`, ... and cut behind its last token."""
    # `?::` is an operator to the tokenizer; to the engine it is a placeholder that is cast.
    marks = [
        token
        for token in tokens
        if (token.token_type is TokenType.PLACEHOLDER and token.text == "?") or token.token_type is TokenType.QDCOLON
    ]
    end = tokens[-1].end + 1 if tokens else 0
    pieces: list[str] = []
    position = 0
    for number, mark in enumerate(marks, start=1):
        pieces += [sql[position : mark.start], f"${number}"]
        position = mark.start + 1
    return "".join([*pieces, sql[position:end]])


def substituted(sql: str, replacement: Callable[[str], str]) -> str:
    """The text with each `$name` replaced by what `replacement` makes of the name."""
    pieces: list[str] = []
    position = 0
    for one in placeholders(tokenize(sql)):
        pieces += [sql[position : one.start], replacement(one.name)]
        position = one.end
    return "".join([*pieces, sql[position:]])


def check_complexity(tokens: list[Token]) -> None:
    """Refuse what would overflow the engine's stack, or take it for ever to plan.

    Raises:
        InvalidRequest: A chain of operators is too long, too many relations are combined, or common table expressions
            multiply each other.
    """
    if _combined(tokens) > MAX_RELATIONS:
        raise InvalidRequest(
            f"more than {MAX_RELATIONS} relations in one statement are too deep for the engine: store parts of the "
            "result in tables"
        )
    if _expanded(tokens) > MAX_EXPANDED:
        raise InvalidRequest(
            f"common table expressions that use each other would be planned more than {MAX_EXPANDED} times: store "
            "parts of the result in tables"
        )


def _combined(tokens: list[Token]) -> int:
    """How many relations are joined or combined.

    Raises:
        InvalidRequest: On the way, a chain of operators was found to be too long.
    """
    # Per bracket: conditions joined so far, and operators of the condition at hand.
    chains = [(0, 0)]
    clauses = [""]
    relations = 0
    for token in tokens:
        text = word(token)
        if text == "(":
            chains.append((0, 0))
            clauses.append("")
        elif text == ")":
            # An unmatched bracket is the parser's to refuse.
            chains = chains[:-1] or [(0, 0)]
            clauses = clauses[:-1] or [""]
        elif text in _CHAINED or text in _JOINING:
            joined, chained = chains[-1]
            chains[-1] = (joined + 1, 0) if text in _JOINING else (joined, chained + 1)
            if sum(joined + chained for joined, chained in chains) > MAX_CHAIN:
                raise InvalidRequest(
                    f"a chain of more than {MAX_CHAIN} operators is too deep for the engine: use IN (...), or join "
                    "with a table of the values"
                )
        else:
            relations += text in _COMBINING or (text == "," and clauses[-1] in {"FROM", "WITH"})
            chains[-1] = (0, 0) if text in _CLAUSES else chains[-1]
            clauses[-1] = text if text in _CLAUSES | _COMBINING and text != "," else clauses[-1]
    return relations


def _expanded(tokens: list[Token]) -> int:
    """How often the bodies of common table expressions are planned: each use of one counts all uses inside of it."""
    sizes: dict[str, int] = {}
    open_brackets: list[tuple[str, int]] = []
    count = 0
    for place, token in enumerate(tokens):
        text = word(token)
        if text == "(":
            defines = place > 1 and word(tokens[place - 1]) == "AS"
            open_brackets.append((tokens[place - 2].text.lower() if defines else "", count))
            count = 0
        elif text == ")" and open_brackets:
            name, outside = open_brackets.pop()
            if name:
                sizes[name] = sizes.get(name, 0) + count + 1
                count = outside
            else:
                count += outside
        elif token.token_type not in LITERALS:
            count += sizes.get(token.text.lower(), 0)
    return count
