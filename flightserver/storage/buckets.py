"""The buckets that are open in this process, by name.

Theory of operation: a bucket that nobody has opened yet is opened when it is asked for, by the loader, which knows the
catalog; and so is one that has another's name by now. Whoever needs to know of each bucket, as the engine does, is told
of it once, before anybody else gets it.

Invariant: `_lock` guards `_open` and `_listeners`; both are replaced and never changed, so that reading needs no lock.
URL schemes are unique: the engine finds an object store by scheme and host alone.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import quote

from flightserver.errors import AlreadyExists, BackendUnavailable, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from flightserver.errors import Sees
    from flightserver.storage.objects import ObjectMeta, Objects
    from flightserver.storage.s3_access import S3Access

ALSO_ASKED = "also_asked"
"""In the details of an error of reading: the bucket that was asked too, in vain."""

_HOST_CHARACTERS = str.maketrans(":_", "--")


def url_scheme(name: str) -> str:
    """The scheme of a bucket's URLs: `profile:user` -> `lakehouse-profile-user`. Two names may share one."""
    return f"lakehouse-{name.translate(_HOST_CHARACTERS)}"


OLD_SCHEME = "lakehouse"
"""Of URLs from before there were several buckets: `lakehouse://data/<key>` is in primary."""

MISSING = "missing"
"""In the details of a `BackendUnavailable`: what isn't there or isn't whole, in a bucket that answers."""


class Reads(Protocol):
    """What reads objects that are never written again, like `Objects`, here or elsewhere."""

    def get(self, key: str) -> bytes:
        """Return all bytes of an object."""

    def open(self, key: str) -> BinaryIO:
        """Open an object for random access."""

    def head(self, key: str) -> ObjectMeta | None:
        """Return what is known of an object, or None."""

    def serving(self, keys: Sequence[str], check: Callable[[str], None]) -> str:
        """Name of the bucket that has these objects; `check` is called with names, and raises where they aren't."""

    def look(self) -> str | None:
        """Ask whether the bucket itself is there, with what the catalog knows of it; why it isn't, or None."""


@dataclass(frozen=True, slots=True)
class OpenBucket:
    """A bucket whose objects can be read and written.

    Attributes:
        name: The bucket's name.
        objects: Its objects.
        url_scheme: The scheme under which the engine knows it.
        local_root: The directory of a local bucket that can be read, else None.
        s3: How the engine reaches an S3 bucket, else None.
        reads: Reads its objects where that isn't done by `objects` alone (`flightserver.federation.rescue`).
        identity: Tells it from another bucket that has or had its name; empty where there can be no other.
    """

    name: str
    objects: Objects
    url_scheme: str
    local_root: Path | None = None
    s3: S3Access | None = None
    reads: Reads | None = None
    identity: str = ""

    @property
    def reading(self) -> Objects | Reads:
        """What files are read from: this bucket's objects, or other copies of them where it can't serve them."""
        return self.objects if self.reads is None else self.reads

    def serving(self, keys: Sequence[str], check: Callable[[str], None]) -> str:
        """Name of the bucket from which these objects can be read, this one if it has them.

        Args:
            keys: Of the objects.
            check: Called with the name of a bucket; raises unless it has them.

        Raises:
            BackendUnavailable: As `check` does; the message names all buckets that were asked.
        """
        if self.reads is None:
            check(self.name)
            return self.name
        return self.reads.serving(keys, check)

    def lost(self) -> BackendUnavailable | None:
        """Ask whether the bucket itself is there; the error of all that needs it if it isn't, or None.

        A bucket that has gone, and a server in its place that knows nothing of it, lack each object as well. Whoever
        finds that an object isn't there, or nothing, asks this before blaming the object.
        """
        reason = None if self.reads is None else self.reads.look()
        return None if reason is None else lost_bucket(self.name, reason)

    def url(self, key: str) -> str:
        """The URL by which the engine reads an object, or those under a prefix."""
        full = key if self.s3 is None else self.s3.location.full_key(key)
        return f"{self.url_scheme}://data/{quote(full)}"


class Buckets:
    """Open buckets by name; all methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open: Mapping[str, OpenBucket] = MappingProxyType({})
        self._listeners: tuple[Callable[[OpenBucket], None], ...] = ()
        self._load: Callable[[str], OpenBucket | None] = _nothing
        self._is_current: Callable[[OpenBucket], bool] = _always

    def load_by(self, load: Callable[[str], OpenBucket | None], is_current: Callable[[OpenBucket], bool]) -> None:
        """Open buckets that aren't open yet by a function of their name, which returns None when there is none.

        `is_current` says, without asking storage, whether one that is open still has its name.
        """
        self._load = load
        self._is_current = is_current

    def tell(self, listener: Callable[[OpenBucket], None]) -> None:
        """Call a function with each bucket that is open, and each that will be, before others can get it."""
        with self._lock:
            for bucket in self._open.values():
                listener(bucket)
            self._listeners = (*self._listeners, listener)

    def get(self, name: str) -> OpenBucket:
        """Return the bucket.

        Raises:
            NotFound: No open bucket has the name; the message lists those that are.
        """
        found = self._open.get(name)
        if found is None or not self._is_current(found):
            found = self._loaded(name)
        if found is None:
            raise NotFound(f"there is no bucket {name!r}", partial(_listed, sorted(self._open)))
        return found

    def _loaded(self, name: str) -> OpenBucket | None:
        # Not under the lock: it may ask the catalog, or a server for credentials. Of two that do so one is kept.
        bucket = self._load(name)
        if bucket is None:
            return None
        with self._lock:
            there = self._open.get(bucket.name)
            if there is not None and there.identity == bucket.identity:
                return there
            for other in self:  # the catalog has none of its scheme beside it any more
                if other.url_scheme == bucket.url_scheme:
                    self.remove(other.name)
            self.add(bucket)
            return bucket

    def add(self, bucket: OpenBucket) -> None:
        """Make a bucket known.

        Raises:
            AlreadyExists: A bucket has its name or URL scheme.
        """
        with self._lock:
            for other in self._open.values():
                if other.name == bucket.name:
                    msg = f"bucket {bucket.name!r} is open already"
                    raise AlreadyExists(msg)
                if other.url_scheme == bucket.url_scheme:
                    msg = (
                        f"bucket {bucket.name!r} would have the URL scheme {bucket.url_scheme!r} of bucket "
                        f"{other.name!r}: ':' and '_' are the same as '-' there"
                    )
                    raise AlreadyExists(msg)
            for listener in self._listeners:
                listener(bucket)
            self._open = MappingProxyType({**self._open, bucket.name: bucket})

    def replace(self, bucket: OpenBucket) -> None:
        """Put a bucket in the place of the one of its name, which was opened otherwise. Readers of that may go on."""
        with self._lock:
            self.remove(bucket.name)
            self.add(bucket)

    def remove(self, name: str) -> None:
        """Forget a bucket; one that isn't open is fine. Readers that hold it may go on."""
        with self._lock:
            self._open = MappingProxyType({key: value for key, value in self._open.items() if key != name})

    def __contains__(self, name: str) -> bool:
        """Whether a bucket is open."""
        return name in self._open

    def __iter__(self) -> Iterator[OpenBucket]:
        """Iterate over the buckets that are open now, by name."""
        return iter([bucket for _, bucket in sorted(self._open.items())])


def lost_bucket(name: str, reason: str) -> BackendUnavailable:
    """The error of what needs a bucket that isn't there."""
    return BackendUnavailable(f"bucket {name!r} can't be reached: {reason}")


def _nothing(_name: str) -> OpenBucket | None:
    return None


def _always(_bucket: OpenBucket) -> bool:
    return True


def _listed(names: Sequence[str], sees: Sees) -> str:
    """Those that somebody sees."""
    seen = [one for one in names if sees(one, None)]
    return f"; there are: {', '.join(seen) or 'none'}"
