"""Keeps the buckets that are open the same as those that the catalog has, and knows which can be reached.

Theory of operation: a bucket is opened when it is asked for first (`Buckets.get`), and when its name has become
another's, so that nothing is read from or written to the place of a bucket that was dropped. A thread looks at each of
them every `check_seconds`: one that was dropped or defined anew elsewhere, whose disk was mounted or whose credentials
have changed is closed or opened again, and each is asked for what this lakehouse has written there, which tells whether
it answers, and is the place that the catalog means (`flightserver.federation.looking`).
Each bucket is asked by a thread of its own, so that any number of them that hang delay no other's turn. Its answer may
take all of a bucket's retries: one that has let the look wait for some seconds counts as unreachable until it answers.

Names that a bucket had before it was renamed open it too, and so do the names that references to `primary` had in old
catalogs, unless a bucket has them.

What changes in the health of a bucket is told as an event: each change once, in the order in which they were noted.

Invariants: `_lock` guards `_health`, `_defined`, `_asked`, `_looks_on` and `_untold`; no storage is asked under it, and
nothing told. `_looks_on` has the one look that waits at a bucket, and only what that look finds is kept: a bucket that
was dropped has no health. Changes are taken out of `_untold` under `_telling`, which is taken before `_lock`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.catalog.bucket_rules import identity
from flightserver.catalog.entities import PRIMARY
from flightserver.catalog.migration import home
from flightserver.errors import FlightserverError
from flightserver.federation.looking import Looks
from flightserver.federation.opening import reachable
from flightserver.periodic import STOP_SECONDS, Periodic
from flightserver.storage.health import Health
from flightserver.telemetry import Trouble

if TYPE_CHECKING:
    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Bucket
    from flightserver.federation.opening import Opener
    from flightserver.storage.buckets import Buckets, OpenBucket
    from flightserver.telemetry import Events

_log = logging.getLogger(__name__)

LOST = Trouble("bucket unreachable")
"""Kind of the event of a bucket that can't be reached any more."""
_SILENT_SECONDS = 5.0
"""After which a look that waits is told: a server that is well answers sooner, and one that is asked for readiness, as
orchestrators do, shouldn't keep quiet about a bucket for all of its retries."""
_CREDENTIALS_SECONDS = 300.0
"""Between two looks for credentials, which may have been renewed; some ask a server for them."""


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """A look at a bucket that waits for its answer; each is itself and no other."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.monotonic)

    def silence(self) -> Health | None:
        """What is to be said of the bucket meanwhile, or None if it has still time to answer."""
        seconds = time.monotonic() - self.began
        if seconds < _SILENT_SECONDS:
            return None
        return Health(self.at, seconds * 1000, f"it has not answered for {seconds:.0f} s")


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
        self._looks_on: dict[str, _Look] = {}
        self._telling = threading.Lock()
        self._untold: deque[tuple[str, Health]] = deque()
        self._known_places = Looks(catalog)
        look = self._known_places.look
        self._look_into = look if opener.rescue is None else opener.rescue.look_by(look)
        self._looks = Periodic("bucket-keeper", self._look_at_all, check_seconds, at_once=True)
        buckets.load_by(self._load, self._is_current)

    def start(self) -> None:
        """Begin to look at the buckets."""
        self._looks.start()

    def stop(self) -> None:
        """End; a bucket that hangs isn't waited for."""
        self._looks.stop(STOP_SECONDS)

    def health(self, name: str) -> Health | None:
        """What the last look at a bucket found, or that it waits for an answer; None when there was none yet."""
        with self._lock:
            return self._known(name)

    def unreachable(self) -> dict[str, str]:
        """Buckets that the last look couldn't reach, or that don't answer it, and why."""
        with self._lock:
            known = {name: self._known(name) for name in sorted({*self._health, *self._looks_on})}
        return {name: health.error for name, health in known.items() if health is not None and health.error is not None}

    def renamed(self, name: str, to: str) -> None:
        """Learn that a bucket has another name; what the last look found is as true of it under that."""
        with self._lock:
            health = self._health.get(name)
            if health is not None:
                self._health.setdefault(to, health)

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
        health = self._asked_now(name)
        with self._lock:
            self._note(name, health)
        self._tell()
        return health

    def look(self, bucket: OpenBucket) -> str | None:
        """Ask whether an open bucket is there; why it isn't, or None. Unlike by `check` nobody is told."""
        return self._look_into(bucket)

    def _asked_now(self, name: str) -> Health:
        bucket = self._buckets.get(name)
        began = time.monotonic()
        error = self._look_into(bucket)
        return Health(datetime.now(UTC), (time.monotonic() - began) * 1000, error)

    def _known(self, name: str) -> Health | None:
        """The health of a bucket; `_lock` is held."""
        look = self._looks_on.get(name)
        return (look and look.silence()) or self._health.get(name)

    def _note(self, name: str, health: Health) -> None:
        """Remember the health of a bucket, and that `_tell` is to tell when it is lost or back; `_lock` is held."""
        before = self._health.get(name)
        self._health[name] = health
        if health.reachable != (before is None or before.reachable):
            self._untold.append((name, health))

    def _tell(self) -> None:
        """Tell the changes that nobody has told yet; `_lock` isn't held, as an event may be written somewhere."""
        with self._telling:
            while True:
                with self._lock:
                    if not self._untold:
                        return
                    name, health = self._untold.popleft()
                kind = "bucket reachable" if health.reachable else LOST
                self._events.record(kind, name, error=health.error or "")

    def _load(self, name: str) -> OpenBucket | None:
        there = self._catalog.snapshot().buckets
        bucket = there.get(home(there, name))
        if bucket is None:
            return None
        if bucket.name != name and bucket.name in self._buckets:
            return self._buckets.get(bucket.name)
        with self._lock:
            self._defined[bucket.name] = bucket
        return self._open(self._placed(bucket))

    def _is_current(self, bucket: OpenBucket) -> bool:
        """Whether a bucket that is open is the one that has its name; for those that were dropped it is."""
        known = self._catalog.known.buckets.get(bucket.name)
        return known is None or identity(known) == bucket.identity

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

    def _open(self, bucket: Bucket) -> OpenBucket:
        return self._opener.open(bucket, has_files=self._known_places.has_files(bucket.name))

    def _reopen(self, bucket: Bucket) -> None:
        opened = self._open(bucket)
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
            self._looks_on.pop(name, None)

    def _look(self, name: str) -> None:
        """Have a bucket looked at, unless the last look still waits for an answer."""
        look = _Look()
        with self._lock:
            if name in self._looks_on:
                return
            self._looks_on[name] = look
        # Nobody waits for the thread, at the end of the process neither: whatever the bucket answers then is too late.
        thread = threading.Thread(target=self._check_once, args=(name, look), name=f"bucket-check-{name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there can't be more threads now
            with self._lock:
                self._looks_on.pop(name, None)
            raise

    def _check_once(self, name: str, look: _Look) -> None:
        health = None
        try:
            health = self._asked_now(name)
        except FlightserverError:
            _log.info("a bucket went away while it was looked at", extra={"bucket": name}, exc_info=True)
        finally:
            with self._lock:
                if self._looks_on.get(name) is look:
                    del self._looks_on[name]
                    if health is not None and not self._looks.stopped.is_set():
                        self._note(name, health)
            self._tell()

    def _look_at_all(self) -> None:
        # Before the catalog is read: `primary`, where it lies, may hang.
        looked_at = {PRIMARY, *(bucket.name for bucket in self._buckets)}
        for name in sorted(looked_at):
            self._look(name)
        try:
            self.refresh()
        except FlightserverError:
            _log.warning("the buckets can't be compared with the catalog", exc_info=True)
        for bucket in self._buckets:
            if bucket.name not in looked_at:
                self._look(bucket.name)
        with self._lock:
            for name, look in self._looks_on.items():
                silence = look.silence()
                if silence is not None:
                    self._note(name, silence)
        self._tell()
