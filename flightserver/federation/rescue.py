"""Rescue: what a bucket can't serve is read from the same key of the bucket `rescue`, when there is one.

Theory of operation: readers of files of datasets and vector indexes read through `OpenBucket.reading`, which asks the
home bucket first, and `rescue` when that has no such object or doesn't answer. Before an object is said to be missing,
the bucket itself is looked at, which may have gone as a whole (`flightserver.federation.looking`). A bucket that has
gone, or didn't answer, which costs all of its retries, isn't asked first again for `_AVOIDED_SECONDS`: a file that
`rescue` has is read from there at once. Looks at the health of buckets count as well. What only a silent S3 server may
have is an error at once (`flightserver.storage.s3_looking`).
The engine reads by URL; `flightserver.query.scan` chooses the bucket of each segment by the same objects. Nothing is
ever written to `rescue` here, and nothing of the catalog is read from it: an old commit log would be taken for the
newest.

Each object that is served so is counted, and told as an event, once in `_TOLD_SECONDS`.

Invariant: `_lock` guards `_told`, `_served` and `_down`.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from flightserver.catalog.entities import RESCUE
from flightserver.errors import BackendUnavailable, NotFound
from flightserver.storage.buckets import ALSO_ASKED, MISSING, lost_bucket
from flightserver.storage.limits import VECTORS
from flightserver.storage.s3_looking import expect_answer
from flightserver.tables.collecting import DATASETS
from flightserver.telemetry import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flightserver.storage.buckets import Buckets, OpenBucket
    from flightserver.storage.objects import ObjectMeta, Objects
    from flightserver.telemetry import Events

Answer = TypeVar("Answer")

SERVED = Trouble("read from rescue")
"""Kind of the event of an object that its home bucket couldn't serve."""

_RESCUED = (DATASETS, VECTORS)
_TOLD_SECONDS = 60.0
_AVOIDED_SECONDS = 30.0
_MOST_TOLD = 100_000
"""Objects of which it is remembered that they were told: some 20 MB."""


class Rescue:
    """Knows the rescue bucket and tells of its use. All methods may be called from any thread.

    Args:
        buckets: Among which it is.
        events: Told of each object that is served from it.
        clock: Steady seconds.
    """

    def __init__(self, buckets: Buckets, events: Events, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets = buckets
        self._events = events
        self._clock = clock
        self._lock = threading.Lock()
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._served: dict[str, int] = {}
        self._down: dict[str, float] = {}
        self._look: Callable[[OpenBucket], str | None] = _nobody_looks

    def beside(self, bucket: OpenBucket) -> OpenBucket:
        """A bucket whose files are also looked for in the rescue bucket, unless it is that itself."""
        return replace(bucket, reads=RescuedObjects(self, bucket))

    def bucket(self) -> OpenBucket | None:
        """The rescue bucket, or None when there is none."""
        try:
            return self._buckets.get(RESCUE)
        except NotFound:
            return None

    def look_by(self, look: Callable[[OpenBucket], str | None]) -> Callable[[OpenBucket], str | None]:
        """Have a function say why a bucket isn't there, or None; the same function, of which reads learn as well."""
        self._look = look
        return self.look

    def look(self, bucket: OpenBucket) -> str | None:
        """Ask whether a bucket is there; why it isn't, or None."""
        reason = self._look(bucket)
        if reason is None:
            self.answered(bucket.name)
        else:
            self.failed(bucket.name)
        return reason

    def failed(self, bucket: str) -> None:
        """Remember that a bucket didn't answer."""
        with self._lock:
            self._down[bucket] = self._clock()

    def answered(self, bucket: str) -> None:
        """Forget that a bucket didn't answer."""
        with self._lock:
            self._down.pop(bucket, None)

    def is_avoided(self, bucket: str) -> bool:
        """Whether a bucket didn't answer a moment ago."""
        with self._lock:
            return self._clock() - self._down.get(bucket, -_AVOIDED_SECONDS) < _AVOIDED_SECONDS

    def served(self) -> dict[str, int]:
        """How many objects were served from the rescue bucket in the place of each bucket."""
        with self._lock:
            return dict(self._served)

    def tell(self, bucket: str, key: str, why: str) -> None:
        """Count that an object was served from the rescue bucket, and tell it unless that was told a moment ago."""
        now = self._clock()
        with self._lock:
            self._served[bucket] = self._served.get(bucket, 0) + 1
            told = self._told.get((bucket, key))
            if told is not None and now - told < _TOLD_SECONDS:
                return
            self._told[bucket, key] = now
            self._told.move_to_end((bucket, key))
            if len(self._told) > _MOST_TOLD:
                self._told.popitem(last=False)
        self._events.record(SERVED, bucket, key=key, reason=why)


class RescuedObjects:
    """Files of a bucket, or of `rescue` where the bucket can't serve them (`flightserver.storage.buckets.Reads`).

    Args:
        rescue: Knows the rescue bucket.
        home: The bucket.
    """

    def __init__(self, rescue: Rescue, home: OpenBucket) -> None:
        self._rescue = rescue
        self._home = home

    def get(self, key: str) -> bytes:
        """Return all bytes of an object; raises as the bucket does, naming both where both were asked."""
        return self._served([key], lambda bucket: bucket.objects.get(key))

    def open(self, key: str) -> BinaryIO:
        """Open an object for random access; raises as `get`."""
        return self._served([key], lambda bucket: bucket.objects.open(key))

    def head(self, key: str) -> ObjectMeta | None:
        """Return what is known of the object that would be read, or None when neither bucket has it."""
        try:
            return self._served([key], lambda bucket: _found(bucket.objects, key))
        except NotFound:
            return None

    def serving(self, keys: Sequence[str], check: Callable[[str], None]) -> str:
        """Name of the bucket that has these objects."""

        def ask(bucket: OpenBucket) -> str:
            check(bucket.name)
            return bucket.name

        return self._served(keys, ask)

    def look(self) -> str | None:
        """Why the home bucket isn't there, or None."""
        return self._rescue.look(self._home)

    def _served(self, keys: Sequence[str], ask: Callable[[OpenBucket], Answer]) -> Answer:
        name = self._home.name
        may_be_rescued = name != RESCUE and all(key.startswith(_RESCUED) for key in keys)
        if may_be_rescued and self._rescue.is_avoided(name):
            served = self._from_rescue(keys, ask, "the bucket didn't answer a moment ago")
            if served is not None:
                return served
        elsewhere = may_be_rescued and self._rescue.bucket() is not None
        try:
            answer = _asked(self._home, keys, ask, elsewhere=elsewhere)
        except (NotFound, BackendUnavailable) as error:
            failure = self._failure(error)
            if not elsewhere:
                if failure is error:
                    raise
                raise failure from error
            served = self._from_rescue(keys, ask, failure.message)
            if served is None:
                msg = f"{failure.message}; bucket {RESCUE!r} can't serve it either"
                raise type(failure)(msg, details={**failure.details, ALSO_ASKED: RESCUE}) from error
            return served
        self._rescue.answered(name)
        return answer

    def _failure(self, error: NotFound | BackendUnavailable) -> NotFound | BackendUnavailable:
        """What an error means: what has gone as a whole lacks each object, and only what is there lacks this one."""
        if isinstance(error, NotFound) or MISSING in error.details:
            reason = self.look()
            return error if reason is None else lost_bucket(self._home.name, reason)
        self._rescue.failed(self._home.name)
        return error

    def _from_rescue(self, keys: Sequence[str], ask: Callable[[OpenBucket], Answer], why: str) -> Answer | None:
        """What the rescue bucket answers, which is told; None when it lacks an object, or doesn't answer."""
        bucket = self._rescue.bucket()
        if bucket is None:
            return None
        try:
            answer = _asked(bucket, keys, ask, elsewhere=False)
        except (NotFound, BackendUnavailable):
            return None
        for key in keys:
            self._rescue.tell(self._home.name, key, why)
        return answer


def _nobody_looks(_bucket: OpenBucket) -> None:
    return None


def _asked(bucket: OpenBucket, keys: Sequence[str], ask: Callable[[OpenBucket], Answer], *, elsewhere: bool) -> Answer:
    if bucket.s3 is not None:
        expect_answer(bucket.s3, keys[0], elsewhere=elsewhere)
    return ask(bucket)


def _found(objects: Objects, key: str) -> ObjectMeta:
    found = objects.head(key)
    if found is None:
        msg = f"there is no object {key!r}"
        raise NotFound(msg)
    return found
