"""Looking whether a silent S3 server answers again, before it is waited for (`flightserver.storage.silence`)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flightserver.errors import FlightserverError
from flightserver.storage.s3 import S3Objects, S3Timeouts
from flightserver.storage.silence import LOOK_SECONDS, Silence

if TYPE_CHECKING:
    from flightserver.storage.s3 import S3Access


def expect_answer(access: S3Access, key: str) -> None:
    """Return if it is worth to ask an S3 server for an object.

    Raises:
        BackendUnavailable: It has used up the time of a request a moment ago, and doesn't answer now.
    """

    def look() -> bool:
        seconds = min(LOOK_SECONDS, access.timeouts.request_seconds)
        hurried = S3Timeouts(seconds, seconds, retry_seconds=0, retries=0)
        heard = Silence()
        try:
            S3Objects(replace(access, timeouts=hurried, silence=heard)).head(key)
        except FlightserverError:
            return heard.has_answered
        return True

    access.silence.check(f"read {key!r}", look)
