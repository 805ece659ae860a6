"""Deleting what a write that has failed has left, which no commit names.

Whoever cleans up has mostly failed already, and its caller waits for the error. So a server that has just been asked in
vain isn't asked again: what is left is garbage, which `bucket.collect` deletes. The first delete that isn't answered
ends it too. A server that answers, be it by errors, is asked for each object.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from flightserver.errors import FlightserverError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flightserver.storage.buckets import OpenBucket

_log = logging.getLogger(__name__)


def discard(bucket: OpenBucket, keys: Sequence[str]) -> None:
    """Delete objects that nobody names or ever will, as far as the bucket lets us; the rest is garbage."""
    for number, key in enumerate(keys):
        if bucket.s3 is not None and bucket.s3.silence.is_doubtful:
            _log.info(
                "what a write left isn't deleted, since the bucket doesn't answer: bucket.collect will",
                extra={"bucket": bucket.name, "first": key, "objects": len(keys) - number},
            )
            return
        with suppress(FlightserverError):
            bucket.objects.delete(key)
