"""Finding out what a bucket can do: whether it answers, lets us write, and honours a conditional put.

The catalog rests on one promise: of two writers of a key one is refused. A store that ignores `If-None-Match` lets both
write, and commits would vanish without anybody noticing; so it is asked before a catalog is opened in it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flightserver.catalog.ulid import new_ulid
from flightserver.errors import AlreadyExists, BackendUnavailable, FlightserverError, NotFound
from flightserver.federation.claims import check_unclaimed
from flightserver.federation.looking import answers
from flightserver.federation.prefixes import CATALOG
from flightserver.storage.discarding import discard
from flightserver.storage.objects import STAGING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.storage.buckets import OpenBucket


@dataclass(frozen=True, slots=True)
class Probe:
    """What a bucket can do.

    Attributes:
        reachable: Whether it is there: what answers is the bucket, and nothing else in its place.
        readable: Whether what was written could be read, or what was there before.
        writable: Whether an object could be written.
        deletable: Whether it could be deleted again. Rows can be kept without: what is deleted stays as garbage.
        conditional_put: Whether a taken key was refused; False also when nothing could be written.
        latency_ms: What looking at it took: a request, or two or three where nobody has claimed it.
        failure: What went wrong first, with its cause, or None.
    """

    reachable: bool = False
    readable: bool = False
    writable: bool = False
    deletable: bool = False
    conditional_put: bool = False
    latency_ms: float = 0.0
    failure: FlightserverError | None = None

    @property
    def error(self) -> str | None:
        """What went wrong first, or None."""
        return None if self.failure is None else str(self.failure)

    @property
    def obstacle(self) -> str | None:
        """Why no rows can be kept there, as far as that went wrong, or None."""
        return None if self.readable and self.writable else self.error


def probe(bucket: OpenBucket, look: Callable[[OpenBucket], str | None] = answers) -> Probe:
    """Look at a bucket, and try it.

    Args:
        bucket: What is tried.
        look: Says first why it isn't there, or None; that of `Keeper` for a bucket that the catalog has.
    """
    began = time.monotonic()
    reason = look(bucket)
    if reason is not None:
        return Probe(failure=BackendUnavailable(reason))
    return tried(bucket, time.monotonic() - began)


def tried(bucket: OpenBucket, seconds: float) -> Probe:
    """Try a bucket that answers, with an object below `_staging/` that is deleted again.

    Args:
        bucket: What is tried.
        seconds: What looking at it took.
    """
    key = f"{STAGING}probe-{new_ulid()}"
    found = Probe(reachable=True, latency_ms=seconds * 1000)
    try:
        bucket.objects.put(key, b"1")
    except FlightserverError as error:
        return replace(found, readable=True, failure=error)
    try:
        conditional = _refuses_twice(bucket, key)
        _check_same(bucket, key, b"1" if conditional else b"2")
    except BaseException as error:
        discard(bucket, [key])
        if isinstance(error, FlightserverError):
            return replace(found, writable=True, failure=error)
        raise
    found = replace(found, readable=True, writable=True, conditional_put=conditional)
    try:
        bucket.objects.delete(key)
    except FlightserverError as error:
        return replace(found, failure=error)
    return replace(found, deletable=True)


def check_usable(opened: OpenBucket) -> None:
    """Return when a bucket can be written safely, and no other lakehouse lives there."""
    found = probe(opened)
    if found.obstacle is not None:
        msg = f"bucket {opened.name!r} can't be used: {found.obstacle}"
        raise BackendUnavailable(msg)
    if not found.conditional_put:
        msg = (
            f"bucket {opened.name!r} can't be used: its S3 server ignores If-None-Match, so that two writers of one "
            "key would both succeed"
        )
        raise BackendUnavailable(msg)
    if next(opened.objects.list(CATALOG), None) is not None:
        msg = (
            f"bucket {opened.name!r} can't lie there: another lakehouse has its catalog there, and each would delete "
            "files of the other as garbage; give it a root or prefix of its own"
        )
        raise AlreadyExists(msg)


def check_primary(bucket: OpenBucket) -> None:
    """Return when a catalog can lie in the bucket. In a directory it can: link(2) keeps the promise.

    Raises:
        AlreadyExists: Another lakehouse has a bucket there.
        BackendUnavailable: It can't be reached or written, or it ignores `If-None-Match`.
    """
    if bucket.s3 is not None:
        _check_conditional(bucket)
    check_unclaimed(bucket)


def _check_conditional(bucket: OpenBucket) -> None:
    found = probe(bucket)
    if found.obstacle is not None:
        msg = f"the catalog's bucket {bucket.name!r} can't be used: {found.obstacle}"
        raise BackendUnavailable(msg)
    if not found.conditional_put:
        msg = (
            f"the S3 server of the catalog's bucket {bucket.name!r} ignores If-None-Match: two servers could overwrite "
            "each other's commits; use a server that honours conditional writes"
        )
        raise BackendUnavailable(msg)


def _refuses_twice(bucket: OpenBucket, key: str) -> bool:
    try:
        bucket.objects.put(key, b"2")
    except AlreadyExists:
        return True
    return False


def _check_same(bucket: OpenBucket, key: str, written: bytes) -> None:
    try:
        found = bucket.objects.get(key)
    except NotFound:
        raise BackendUnavailable("what was written there can't be found there") from None
    if found != written:
        raise BackendUnavailable("it answers other bytes than were written")
