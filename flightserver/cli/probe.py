"""What a probe of `flightserver doctor` says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a probe ended."""

    OK = "ok"
    WARNING = "warning"
    """The server works, but something is missing or scarce."""
    FAILED = "failed"
    """The server doesn't work like this, or not all of its buckets do."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What one probe found: `detail` for people, `mend` the command or step that mends it, empty if all is well."""

    name: str
    state: State
    detail: str
    mend: str = ""
