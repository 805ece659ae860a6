"""Whether an S3 server is silent: whether a request to it has waited in vain for all the time that it may take.

Theory of operation: a server that hangs costs each request `S3Timeouts.patience`. Who reads need not wait so long again
and again: for `SILENT_SECONDS` after a request has waited in vain, a read begins by a look, one request that waits
`LOOK_SECONDS` at most, and fails when that isn't answered either. There is one look in `_PAUSE_SECONDS`; reads that
come between fail at once. The first answer of any kind to any request ends the silence, be it an error: so a server
that is back is used again at once. What is an answer is decided in `flightserver.storage.s3_errors.answer`.

A server that is slow must not be taken for a silent one. So only a HEAD counts, which moves no data and costs a server
least, and only when it has used up its time without any answer, while no other request to the bucket was answered.
Writes are never refused here, and neither are looks at the bucket's health, which are patient: they end the silence of
a server that is back but slower than a look.

Invariant: `_lock` guards `_answered`, `_since` and `_looked`; nothing is asked under it.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError

from flightserver.errors import BackendUnavailable
from flightserver.storage.s3_errors import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SILENT_SECONDS = 30.0
"""After which a read waits as long as it may again."""
LOOK_SECONDS = 2.0
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

    @contextmanager
    def asking(self, patience: float = math.inf) -> Iterator[None]:
        """Learn from a request, which is made inside; one without an answer counts when it took `patience` seconds."""
        began = self._clock()
        try:
            yield
        except (FileNotFoundError, BaseError) as error:
            if answer(error) is None:
                self._unanswered(began, patience)
            else:
                self.answered()
            raise
        else:
            self.answered()

    def answered(self) -> None:
        """Learn that the server has answered."""
        with self._lock:
            self._answered = self._clock()
            self._since = -math.inf

    @property
    def has_answered(self) -> bool:
        """Whether the server has ever answered."""
        with self._lock:
            return self._answered > -math.inf

    def check(self, action: str, look: Callable[[], bool]) -> None:
        """Return if it is worth to wait for an answer.

        Args:
            action: What can't be done otherwise, such as "read 'a'".
            look: Asks the server, for a short time, and says whether it answered.

        Raises:
            BackendUnavailable: The server has been silent a moment ago, and still is as far as that is known.
        """
        with self._lock:
            now = self._clock()
            since = self._since
            if now - since >= SILENT_SECONDS:
                return
            is_turn = now - self._looked >= _PAUSE_SECONDS
            if is_turn:
                self._looked = now
        if is_turn and look():
            self.answered()
            return
        raise BackendUnavailable(
            f"can't {action}: the S3 server of this bucket doesn't answer: {now - since:.0f} seconds ago it was waited "
            "for in vain, and it is looked for every few seconds; try again later"
        )

    def _unanswered(self, began: float, patience: float) -> None:
        with self._lock:
            now = self._clock()
            if now - began >= patience and self._answered < began:
                self._since = now
