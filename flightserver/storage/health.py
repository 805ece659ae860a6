"""What the last look at a bucket found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Health:
    """What the last look at a bucket found.

    Attributes:
        checked: When, UTC.
        latency_ms: What asking for an object took.
        error: Why it can't be reached, or None.
    """

    checked: datetime
    latency_ms: float
    error: str | None = None

    @property
    def reachable(self) -> bool:
        """Whether it answered."""
        return self.error is None
