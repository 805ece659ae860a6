"""Trying a bucket for `flightserver doctor`: what the server does there, one step after the other.

The first step that fails ends it by its error, whose cause tells what mends it (`flightserver.cli.remedies`). That is
why the steps are taken here: an action such as `bucket.check` says what failed and lets the rest be.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flightserver.catalog.ulid import new_ulid
from flightserver.errors import AlreadyExists, BackendUnavailable, FlightserverError, NotFound
from flightserver.federation.places import check_s3_bucket
from flightserver.storage.discarding import discard
from flightserver.storage.objects import STAGING

if TYPE_CHECKING:
    from flightserver.storage.buckets import OpenBucket
    from flightserver.storage.objects import Objects


@dataclass(frozen=True, slots=True)
class Tried:
    """What a bucket can do that can be listed, read and written.

    Attributes:
        latency_ms: What asking for an object took.
        conditional_put: Whether a second put of a key was refused.
    """

    latency_ms: float
    conditional_put: bool

    def __str__(self) -> str:
        """For people."""
        return f"can be read and written, and answers in {self.latency_ms:,.1f} ms"


def tried(bucket: OpenBucket) -> Tried:
    """List a bucket, and write, read and delete an object below `_staging/` there.

    Raises:
        FlightserverError: A step failed.
    """
    if bucket.s3 is not None:
        check_s3_bucket(bucket.s3)
    key = f"{STAGING}doctor-{new_ulid()}"
    began = time.monotonic()
    bucket.objects.head(key)
    latency_ms = (time.monotonic() - began) * 1000
    bucket.objects.put(key, b"1")
    try:
        conditional = _refuses_twice(bucket.objects, key)
        _check_same(bucket.objects, key, b"1" if conditional else b"2")
    except FlightserverError:
        discard(bucket, [key])
        raise
    bucket.objects.delete(key)
    return Tried(latency_ms, conditional)


def _check_same(objects: Objects, key: str, written: bytes) -> None:
    try:
        found = objects.get(key)
    except NotFound:
        raise BackendUnavailable("what was written there can't be found there") from None
    if found != written:
        raise BackendUnavailable("it answers other bytes than were written")


def _refuses_twice(objects: Objects, key: str) -> bool:
    try:
        objects.put(key, b"2")
    except AlreadyExists:
        return True
    return False
