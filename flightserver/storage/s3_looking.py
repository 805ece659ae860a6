"""Looking whether a silent S3 server answers again, before it is waited for (`flightserver.storage.silence`)."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from flightserver.errors import FlightserverError
from flightserver.storage.s3 import S3Objects
from flightserver.storage.s3_access import S3Timeouts
from flightserver.storage.silence import LOOK_SECONDS, Silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.storage.s3_access import S3Access


def expect_answer(access: S3Access, key: str, *, elsewhere: bool = False) -> None:
    """Return if it is worth to ask an S3 server for an object.

    Args:
        access: How it is asked.
        key: Of the object.
        elsewhere: Whether somebody else may have the object, so that one that is only slow is left alone, too.

    Raises:
        BackendUnavailable: It was waited for in vain a moment ago, or is now, and doesn't answer.
    """

    def look() -> bool:
        seconds = min(LOOK_SECONDS, access.timeouts.request_seconds)
        hurried = S3Timeouts(seconds, seconds, retry_seconds=0, retries=0)
        heard = Silence()
        with suppress(FlightserverError):
            S3Objects(replace(access, timeouts=hurried, silence=heard)).head(key)
        return heard.has_answered

    access.silence.check(f"read {key!r}", lambda: _is_true_soon(look), elsewhere=elsewhere)


def _is_true_soon(look: Callable[[], bool]) -> bool:
    """Whether a look answers in good time.

    It has a thread of its own: who reads may be interrupted at any moment, and a client may not be made halfway
    (`flightserver.storage.environment`), nor may a read wait for those who make others.
    """
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(look()), name="bucket-look", daemon=True)
    thread.start()
    thread.join(2 * LOOK_SECONDS)
    return answers == [True]
