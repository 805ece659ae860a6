"""Sessions: the options that a client set, found again by a cookie.

Theory of operation: Flight has no connections that a server can see, so a session is a cookie,
`arrow_flight_session_id`, which names an entry of this store. A session begins with the first option that is set; a
client without a cookie, or without cookie support, has the defaults in every call. The id is a secret of 160 random
bits, and good for the user only who began the session.

Bounds: a session that was not used for `idle_seconds` is forgotten, and of more than `max_sessions` the one least
recently used, so that clients that never close theirs cost nothing in the long run; who has more than half of all loses
own ones first, so that nobody can take those of others away. A call with the cookie of a
forgotten session has the defaults; only GetSessionOptions and CloseSession fail, as the specification wants.

Locking: `_lock` guards `_sessions`, which is ordered by last use, oldest first. Sessions themselves are immutable.

Specification: https://arrow.apache.org/docs/format/Flight.html#session-management-rpcs.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flightserver.access.principal import ANONYMOUS_NAME
from flightserver.errors import NotFound
from flightserver.flight.sql.options import Rejected, SessionOptions, changed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flightserver.flight.sql.messages import SessionValue

_ID_BYTES = 20


@dataclass(frozen=True, slots=True)
class Session:
    """One client's options.

    Attributes:
        id: The value of the cookie; empty for a client that has no session, so only defaults.
        user: Whose it is; for others there is no such session.
        options: What it chose.
    """

    id: str = ""
    options: SessionOptions = field(default_factory=SessionOptions)
    user: str = ANONYMOUS_NAME


NO_SESSION = Session()


@dataclass(slots=True)
class _Entry:
    session: Session
    last_used: float


class Sessions:
    """The sessions of this process.

    Args:
        idle_seconds: After how long without a call a session is forgotten.
        max_sessions: How many are kept; a session takes about 1 KiB.
        clock: Monotonic seconds.
    """

    def __init__(
        self, *, idle_seconds: float = 3600.0, max_sessions: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._idle_seconds = idle_seconds
        self._max_sessions = max_sessions
        self._clock = clock
        self._sessions: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, session_id: str, user: str = ANONYMOUS_NAME) -> Session:
        """Returns the session of a cookie, or `NO_SESSION` if this user has none of this id any more."""
        with self._lock:
            entry = self._touch(session_id, user)
            return entry.session if entry is not None else NO_SESSION

    def set_options(
        self, session_id: str, changes: Mapping[str, SessionValue], user: str = ANONYMOUS_NAME
    ) -> tuple[Session, dict[str, Rejected]]:
        """Sets options, in a new session if this user has none of this id.

        Args:
            session_id: The cookie's value, or empty.
            changes: New values by name; None, and an empty text, clear an option.
            user: Whose session it is.

        Returns:
            The session as it is now, whose id may be new, and the options that were rejected.
        """
        with self._lock:
            entry = self._touch(session_id, user)
            if entry is None:
                entry = _Entry(Session(secrets.token_urlsafe(_ID_BYTES), user=user), self._clock())
                self._sessions[entry.session.id] = entry
                self._forget_surplus(user)
            options, rejected = changed(entry.session.options, changes)
            entry.session = Session(entry.session.id, options, user)
            return entry.session, rejected

    def options(self, session_id: str, user: str = ANONYMOUS_NAME) -> SessionOptions:
        """Returns the options of a client; one that never had a session has the defaults.

        Raises:
            NotFound: The cookie names a session that was closed or forgotten.
        """
        session = self.find(session_id, user)
        if session_id and not session.id:
            raise self._unknown()
        return session.options

    def close(self, session_id: str, user: str = ANONYMOUS_NAME) -> None:
        """Forgets a session.

        Raises:
            NotFound: There is none of this id.
        """
        with self._lock:
            if self._touch(session_id, user) is None:
                raise self._unknown()
            del self._sessions[session_id]

    def __len__(self) -> int:
        """How many sessions are kept now."""
        with self._lock:
            self._forget_idle()
            return len(self._sessions)

    def _touch(self, session_id: str, user: str) -> _Entry | None:
        self._forget_idle()
        entry = self._sessions.get(session_id)
        if entry is not None and entry.session.user != user:
            return None
        if entry is not None:
            entry.last_used = self._clock()
            self._sessions.move_to_end(session_id)
        return entry

    def _forget_idle(self) -> None:
        oldest_kept = self._clock() - self._idle_seconds
        while self._sessions:
            session_id, entry = next(iter(self._sessions.items()))
            if entry.last_used >= oldest_kept:
                return
            del self._sessions[session_id]

    def _forget_surplus(self, user: str) -> None:
        while len(self._sessions) > self._max_sessions:
            own = [session_id for session_id, entry in self._sessions.items() if entry.session.user == user]
            del self._sessions[own[0] if len(own) > self._max_sessions // 2 else next(iter(self._sessions))]

    def _unknown(self) -> NotFound:
        return NotFound(
            f"No session has this id: sessions end when they are closed or after {self._idle_seconds:.0f} seconds "
            "without a call. Set an option to begin a new one."
        )
