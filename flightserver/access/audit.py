"""The audit trail: who did what, from where, and what came of it.

Theory of operation: each call that ran something, and each that was denied, becomes an entry: a line of the log, for
whoever keeps logs, and a row of `system.audit`, which shows the newest of this process. What was changed in the catalog
is in its commit log for ever, with the user (`system.commits`).

Invariant: no entry has a secret in it. Values in statements may be anything, so they are left out; of the bodies of
actions only names of what they are about are taken.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from flightserver.telemetry import Newest

if TYPE_CHECKING:
    from datetime import datetime

_log = logging.getLogger(__name__)

_KEPT = 10_000
"""Entries of some 300 bytes: 3 MB."""

_LONGEST = 500
"""Characters of what an entry is about."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One call.

    Attributes:
        time: When it ended, UTC.
        user: Who called; empty when nobody was recognised.
        method: How the caller was recognised, see `flightserver.access.principal.Principal`.
        peer: The address of the client's end of the connection; empty when that isn't known.
        rpc: The RPC, such as `DO_GET`.
        what: The command or action.
        about: The statement without its values, or what the action names.
        outcome: `OK`, or the stable code of the error.
        milliseconds: How long it took, with sending the answer.
    """

    time: datetime
    user: str
    method: str
    peer: str
    rpc: str
    what: str
    about: str
    outcome: str
    milliseconds: float


class Audit(Newest[AuditEntry]):
    """The newest entries of this process, which are logged as well."""

    def __init__(self) -> None:
        super().__init__(_KEPT)

    def record(self, entry: AuditEntry) -> None:
        """Keep and log an entry."""
        self.add(entry)
        fields = asdict(entry)
        del fields["time"]  # each line of the log has its own
        _log.info("audit", extra=fields)


def shortened(about: str) -> str:
    """What an entry is about, as long as it may be."""
    return about if len(about) <= _LONGEST else about[: _LONGEST - 3] + "..."
