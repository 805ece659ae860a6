"""LIKE patterns in the filters of metadata commands.

`%` matches any text, `_` any one character, a backslash makes the next character plain (SqlInfo
SQL_SEARCH_STRING_ESCAPE says so). Matching is case-sensitive, because quoted names are.

A pattern is cut at its `%` into pieces of fixed length. The first piece must match at the start and the last at the
end; each one between is looked for from left to right, and the first place is always good enough, so nothing is ever
tried again: time is bounded by the product of the lengths of name and pattern, whatever the pattern. A regular
expression of the same meaning can take exponential time in some engines, and a pattern comes from strangers.
"""

from __future__ import annotations

from dataclasses import dataclass

_ANY_ONE = None
"""A place that any character matches."""

_Piece = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class LikePattern:
    """A pattern that was parsed once and is matched often; see `like_pattern`.

    Attributes:
        pieces: What stands between the `%`, in order; one piece alone must match the whole name.
    """

    pieces: tuple[_Piece, ...]

    def matches(self, name: str) -> bool:
        """Tells whether a whole name matches."""
        first, *rest = self.pieces
        if not rest:
            return len(name) == len(first) and _fits(first, name, 0)
        *between, last = rest
        end = len(name) - len(last)
        if end < len(first) or not _fits(first, name, 0) or not _fits(last, name, end):
            return False
        position = len(first)
        for piece in between:
            found = _find(piece, name, position, end)
            if found is None:
                return False
            position = found + len(piece)
        return True


def _fits(piece: _Piece, name: str, start: int) -> bool:
    if len(piece) > len(name) - start:
        return False
    return all(character is _ANY_ONE or character == name[start + place] for place, character in enumerate(piece))


def _find(piece: _Piece, name: str, start: int, end: int) -> int | None:
    return next((place for place in range(start, end - len(piece) + 1) if _fits(piece, name, place)), None)


def like_pattern(text: str | None) -> LikePattern:
    """Parses a pattern.

    Args:
        text: The pattern; None and empty match every name. A backslash at the end stands for itself.
    """
    pieces: list[list[str | None]] = [[]]
    characters = iter(text or "%")
    for character in characters:
        if character == "%":
            pieces.append([])
        elif character == "_":
            pieces[-1].append(_ANY_ONE)
        elif character == "\\":
            pieces[-1].append(next(characters, "\\"))
        else:
            pieces[-1].append(character)
    return LikePattern(tuple(tuple(piece) for piece in pieces))
