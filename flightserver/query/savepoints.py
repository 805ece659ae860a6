"""Savepoints of one transaction.

Theory of operation: a savepoint is a mark in what a transaction has staged. Rolling back to it undoes what came later
and ends the savepoints set later; it stays itself. Releasing it ends it and those set later, and undoes nothing.
Flight SQL (FlightSql.proto, ActionEndSavepointRequest) says so of a rollback, and that a released savepoint ends; that
a release ends later ones too is what SQL says.

Savepoints are numbered in the order in which they were set, and numbers are never used again. The caller holds the lock
of the transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flightserver.errors import LimitExceeded, NotFound

if TYPE_CHECKING:
    from flightserver.catalog.staging import Mark

_MAX_SAVEPOINTS = 1_000
"""Each keeps the snapshot that it goes back to."""

_NAMED = 8
"""Savepoints that the message of an error names."""


@dataclass(frozen=True, slots=True)
class _Savepoint:
    name: str
    mark: Mark


class Savepoints:
    """Those that have not ended, by number."""

    def __init__(self) -> None:
        self._set: dict[int, _Savepoint] = {}
        self._last = 0

    def set(self, name: str, mark: Mark) -> int:
        """Set a savepoint; returns its number.

        Args:
            name: What the client calls it; several may have the same name.
            mark: To which it goes back.

        Raises:
            LimitExceeded: There are too many.
        """
        if len(self._set) >= _MAX_SAVEPOINTS:
            raise LimitExceeded(f"this transaction has {_MAX_SAVEPOINTS:,} savepoints: release some")
        self._last += 1
        self._set[self._last] = _Savepoint(name, mark)
        return self._last

    def release(self, number: int) -> None:
        """End a savepoint and those set later.

        Raises:
            NotFound: There is none of this number, or it has ended.
        """
        self._get(number)
        self._end_after(number - 1)

    def back_to(self, number: int) -> Mark:
        """End the savepoints set after one, and return its mark.

        Raises:
            NotFound: As `release`.
        """
        mark = self._get(number).mark
        self._end_after(number)
        return mark

    def move(self, mark: Mark) -> None:
        """Make all of them go back to a mark: the transaction, which has changed nothing, begins anew."""
        self._set = {number: replace(one, mark=mark) for number, one in self._set.items()}

    def _get(self, number: int) -> _Savepoint:
        found = self._set.get(number)
        if found is not None:
            return found
        if not 1 <= number <= self._last:
            raise NotFound("this transaction never had such a savepoint: set one with BeginSavepoint")
        left = ", ".join(repr(one.name) for one in list(self._set.values())[-_NAMED:]) or "none"
        raise NotFound(
            "this savepoint has ended: it, or one set before it, was released, or the transaction was rolled back to "
            f"one set before it; the latest that are left: {left}"
        )

    def _end_after(self, number: int) -> None:
        self._set = {each: one for each, one in self._set.items() if each <= number}
