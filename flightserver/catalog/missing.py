"""Errors for names that nothing has, which tell nobody of anything that they may not see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightserver.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flightserver.errors import Sees


def no_bucket(name: str, there: Iterable[str]) -> NotFound:
    """The error for a bucket that isn't there; lists those that are."""
    known = sorted(there)

    def listed(sees: Sees) -> str:
        seen = [one for one in known if sees(one, None)]
        return f"; there are: {', '.join(seen)}" if seen else ""

    return NotFound(f"there is no bucket {name!r}", listed)
