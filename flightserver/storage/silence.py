"""Whether an S3 server is silent: whether a request to it has waited in vain for all the time that it may take.

Theory of operation: a server that hangs costs each request `S3Timeouts.patience`. Who reads need not wait so long again
and again: for `SILENT_SECONDS` after a request has waited in vain, a read begins by a look, one request that waits
`LOOK_SECONDS` at most, and fails when that isn't answered either. There is one look in `_PAUSE_SECONDS`; reads that
come between fail at once. The first answer of any kind to any request ends the silence, be it an error: so a server
that is back is used again at once. What is an answer is decided in `flightserver.storage.s3_errors.answer`.

A server that is slow must not be taken for a silent one. So only a HEAD counts, which moves no data and costs a server
least, and a GET until its first byte, and only while no other request to the bucket is answered. One that has used up
its time without any answer counts; so does one of which the last try, after all the others, found nobody to connect to,
which no slow server does. For who may read the same elsewhere, one that still waits counts for as long as it does, when
it has waited for `WAITING_SECONDS`, and twice as long as HEADs lately took that were answered; others would gain
nothing, and lose what a server that only stalls answers in the end. Among them are the looks at the bucket's
health, which are as patient as any request: they tell those who read of a server that has fallen silent, and end the
silence of one that is back but slower than a look. Writes are never refused here.

`is_doubtful` is about less: the last request had no answer. Whoever would only tidy up lets that be then.

Invariant: `_lock` guards all fields but the clock; nothing is asked under it.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError

from flightserver.errors import BackendUnavailable
from flightserver.storage.s3_errors import answer, found_nobody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SILENT_SECONDS = 30.0
"""After which a read waits as long as it may again."""
LOOK_SECONDS = 2.0
WAITING_SECONDS = 5.0
"""After which a HEAD that waits says something of the server: one that is well answers sooner."""
_PAUSE_SECONDS = 5.0


class Silence:
    """What is known of the silence of one bucket's server. All methods may be called from any thread.

    Args:
        clock: Steady seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._answered = -math.inf
        self._since = -math.inf
        self._looked = -math.inf
        self._is_doubtful = False
        self._waiting: dict[object, float] = {}
        self._pace = 0.0

    @contextmanager
    def asking(self, patience: float = math.inf) -> Iterator[None]:
        """Learn from a request, which is made inside.

        Args:
            patience: Seconds after which one without an answer counts; only a HEAD has that, and what waits as one.
        """
        began = self._clock()
        counts = patience < math.inf
        request = object()
        try:
            if counts:
                with self._lock:
                    self._waiting[request] = began
            yield
        except (FileNotFoundError, BaseError) as error:
            if answer(error) is None:
                self._unanswered(began, counts=counts and (self._clock() - began >= patience or found_nobody(error)))
            else:
                self._heard(began if counts else None)
            raise
        else:
            self._heard(began if counts else None)
        finally:
            with self._lock:
                self._waiting.pop(request, None)

    def answered(self) -> None:
        """Learn that the server has answered."""
        self._heard(None)

    @property
    def is_doubtful(self) -> bool:
        """Whether a request has ended without an answer, and none was answered since."""
        with self._lock:
            return self._is_doubtful

    @property
    def has_answered(self) -> bool:
        """Whether the server has ever answered."""
        with self._lock:
            return self._answered > -math.inf

    def check(self, action: str, look: Callable[[], bool], *, elsewhere: bool = False) -> None:
        """Return if it is worth to wait for an answer.

        Args:
            action: What can't be done otherwise, such as "read 'a'".
            look: Asks the server, for a short time, and says whether it answered.
            elsewhere: Whether the same can be read elsewhere: then a request that still waits counts.

        Raises:
            BackendUnavailable: The server has been silent a moment ago, and still is as far as that is known.
        """
        with self._lock:
            now = self._clock()
            waited = self._waited_in_vain(now, elsewhere=elsewhere)
            if waited is None:
                return
            is_turn = now - self._looked >= _PAUSE_SECONDS
            if is_turn:
                self._looked = now
        if is_turn and look():
            self.answered()
            return
        raise BackendUnavailable(
            f"can't {action}: the S3 server of this bucket doesn't answer: {waited}, and it is looked for every few "
            "seconds; try again later"
        )

    def _waited_in_vain(self, now: float, *, elsewhere: bool) -> str | None:
        """When the server was waited for in vain, or None if it isn't silent as far as that is known; under `_lock`."""
        if now - self._since < SILENT_SECONDS:
            return f"{now - self._since:.0f} seconds ago it was waited for in vain"
        if not elsewhere:
            return None
        seconds = now - min((began for began in self._waiting.values() if began >= self._answered), default=now)
        if seconds < max(WAITING_SECONDS, 2 * self._pace):
            return None
        return f"{seconds:.0f} seconds it has been waited for by now"

    def _heard(self, began: float | None) -> None:
        """Learn of an answer, to a HEAD if it is said when that began."""
        with self._lock:
            self._answered = self._clock()
            self._since = -math.inf
            self._is_doubtful = False
            if began is not None:
                # Of several that are answered at a time the slowest says most; it is forgotten by and by.
                self._pace = max(self._answered - began, self._pace / 2)

    def _unanswered(self, began: float, *, counts: bool) -> None:
        with self._lock:
            if self._answered > began:
                return
            self._is_doubtful = True
            if counts:
                self._since = self._clock()
