"""The audit trail: who did what, from where, and what came of it.

Theory of operation: each call that ran something, and each that was denied, becomes an entry: a line of the log, for
whoever keeps logs, and a row of `system.audit`, which shows the newest of this process. What was changed in the catalog
is in its commit log for ever, with the user (`system.commits`).

Invariant: no entry has a secret in it. Values in statements may be anything, so they are left out; of the bodies of
actions only names of what they are about are taken.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

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


class Audit:
    """The newest entries of this process, which are logged as well. Methods may be called from any thread.

    `_lock` guards the ring, which may not change while somebody copies it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ring: deque[AuditEntry] = deque(maxlen=_KEPT)

    def record(  # noqa: PLR0913  # what an entry says
        self, *, user: str, method: str, peer: str, rpc: str, what: str, about: str, outcome: str, seconds: float
    ) -> None:
        """Remember and log a call."""
        shown = about if len(about) <= _LONGEST else about[: _LONGEST - 3] + "..."
        entry = AuditEntry(datetime.now(UTC), user, method, peer, rpc, what, shown, outcome, round(seconds * 1000, 3))
        with self._lock:
            self._ring.append(entry)
        _log.info(
            "audit",
            extra={
                "user": user,
                "method": method,
                "peer": peer,
                "rpc": rpc,
                "what": what,
                "about": shown,
                "outcome": outcome,
                "milliseconds": entry.milliseconds,
            },
        )

    def entries(self) -> list[AuditEntry]:
        """The entries, oldest first."""
        with self._lock:
            return list(self._ring)
