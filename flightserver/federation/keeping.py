"""Keeps the buckets that are open the same as those that the catalog has, and knows which can be reached.

Theory of operation: a bucket is opened when it is asked for first (`Buckets.get`). A thread looks at each of them every
`check_seconds`: one that was dropped or defined anew elsewhere, whose disk was mounted or whose credentials have
changed is closed or opened again, and each is asked for an object that nobody has, which tells whether it answers.
Each bucket is asked by a thread of its own, so that one that hangs delays no other's turn.

Names that a bucket had before it was renamed open it too, and so do the names that references to `primary` had in old
catalogs, unless a bucket has them.

Invariant: `_lock` guards `_health`, `_defined`, `_asked` and `_looking`.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.entities import PRIMARY
from flightserver.catalog.migration import home
from flightserver.errors import FlightserverError
from flightserver.federation.opening import reachable, unreachable
from flightserver.periodic import Periodic
from flightserver.storage.health import Health

if TYPE_CHECKING:
    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Bucket
    from flightserver.federation.opening import Opener
    from flightserver.storage.buckets import Buckets, OpenBucket
    from flightserver.telemetry import Events

_log = logging.getLogger(__name__)

PROBE = "_staging/probe"
"""A key that no object has; asking for it tells whether a bucket answers."""
_CHECKERS = 8
_CREDENTIALS_SECONDS = 300.0
"""Between two looks for credentials, which may have been renewed; some ask a server for them."""


class Keeper:
    """Opens and watches buckets; `start` begins, `stop` ends.

    Args:
        buckets: Those that are open.
        catalog: Those that there are.
        opener: Opens them.
        events: Told when a bucket is lost or comes back.
        check_seconds: Between two looks.
        primary: Where the bucket `primary` is; the settings say so, not the catalog, which lies in it.
    """

    def __init__(  # what it keeps, what it asks, and how often
        self,
        buckets: Buckets,
        catalog: Catalog,
        opener: Opener,
        events: Events,
        check_seconds: float,
        primary: Bucket,
    ) -> None:
        self._buckets = buckets
        self._catalog = catalog
        self._opener = opener
        self._events = events
        self._lock = threading.Lock()
        self._health: dict[str, Health] = {}
        self._primary = primary
        self._defined = {PRIMARY: primary}
        self._asked: dict[str, float] = {}
        self._looking: set[str] = set()
        self._checkers = ThreadPoolExecutor(_CHECKERS, thread_name_prefix="bucket-check")
        self._looks = Periodic("bucket-keeper", self._look_at_all, check_seconds, at_once=True)
        buckets.load_by(self._load)

    def start(self) -> None:
        """Begin to look at the buckets."""
        self._looks.start()

    def stop(self) -> None:
        """End; a bucket that hangs isn't waited for."""
        self._looks.stopped.set()
        self._checkers.shutdown(wait=False, cancel_futures=True)
        self._looks.stop()

    def health(self, name: str) -> Health | None:
        """What the last look at a bucket found; None when there was none yet."""
        with self._lock:
            return self._health.get(name)

    def unreachable(self) -> dict[str, str]:
        """Buckets that the last look couldn't reach, and why."""
        with self._lock:
            return {name: health.error for name, health in sorted(self._health.items()) if health.error is not None}

    def refresh(self) -> None:
        """Make the open buckets the same as the catalog's, now."""
        there = self._catalog.snapshot().buckets
        for open_bucket in self._buckets:
            if open_bucket.name not in there:
                self._forget(open_bucket.name)
        for bucket in map(self._placed, there.values()):
            if bucket.name not in self._buckets:
                self._buckets.get(bucket.name)
            elif self._has_changed(bucket):
                self._reopen(bucket)

    def check(self, name: str) -> Health:
        """Look at a bucket now."""
        bucket = self._buckets.get(name)
        began = time.monotonic()
        error = unreachable(bucket)
        if error is None:
            try:
                bucket.objects.head(PROBE)
            except FlightserverError as failure:
                error = str(failure)
        health = Health(datetime.now(UTC), (time.monotonic() - began) * 1000, error)
        with self._lock:
            before = self._health.get(name)
            self._health[name] = health
        if (before is not None and before.reachable != health.reachable) or (before is None and error is not None):
            kind = "bucket reachable" if error is None else "bucket unreachable"
            self._events.record(kind, name, error=error or "")
        return health

    def _load(self, name: str) -> OpenBucket | None:
        there = self._catalog.snapshot().buckets
        bucket = there.get(home(there, name))
        if bucket is None:
            return None
        if bucket.name in self._buckets:
            return self._buckets.get(bucket.name)
        with self._lock:
            self._defined[bucket.name] = bucket
        return self._opener.open(bucket)

    def _placed(self, bucket: Bucket) -> Bucket:
        """What the catalog says of a bucket, where it really is."""
        return replace(self._primary, limits=bucket.limits) if bucket.name == PRIMARY else bucket

    def _has_changed(self, bucket: Bucket) -> bool:
        """Whether a bucket would be opened otherwise than it is open."""
        with self._lock:
            if self._defined.get(bucket.name, bucket) != bucket:
                return True
        current = self._buckets.get(bucket.name)
        if reachable(current.objects) is not None:
            return True
        return current.s3 is not None and self._is_time(bucket.name) and self._opener.open(bucket).s3 != current.s3

    def _is_time(self, name: str) -> bool:
        """Whether credentials of a bucket are to be looked for again."""
        now = time.monotonic()
        with self._lock:
            last = self._asked.setdefault(name, now)
            if now - last < _CREDENTIALS_SECONDS:
                return False
            self._asked[name] = now
        return True

    def _reopen(self, bucket: Bucket) -> None:
        opened = self._opener.open(bucket)
        if reachable(opened.objects) is not None and bucket.name in self._buckets:
            was = reachable(self._buckets.get(bucket.name).objects)
            if was is not None:
                return  # nothing is new
        with self._lock:
            self._defined[bucket.name] = bucket
        self._buckets.replace(opened)

    def _forget(self, name: str) -> None:
        self._buckets.remove(name)
        with self._lock:
            self._defined.pop(name, None)
            self._health.pop(name, None)

    def _look(self, name: str) -> None:
        """Have a bucket looked at, unless the last look still waits for an answer."""
        with self._lock:
            if name in self._looking:
                return
            self._looking.add(name)
        self._checkers.submit(self._check_once, name)

    def _check_once(self, name: str) -> None:
        try:
            self.check(name)
        except FlightserverError:
            _log.info("a bucket went away while it was looked at", extra={"bucket": name}, exc_info=True)
        finally:
            with self._lock:
                self._looking.discard(name)

    def _look_at_all(self) -> None:
        try:
            self.refresh()
            for bucket in self._buckets:
                self._look(bucket.name)
        except FlightserverError:
            _log.warning("the buckets can't be looked at", exc_info=True)
