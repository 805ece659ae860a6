"""The buckets that are open in this process, by name.

Invariant: `_lock` guards `_open`, which is replaced and never changed, so that reading needs no lock. URL
schemes are unique: the engine finds an object store by scheme and host alone.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote

from flightserver.errors import AlreadyExists, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from flightserver.storage.objects import Objects

_HOST_CHARACTERS = str.maketrans(":_", "--")


def url_scheme(name: str) -> str:
    """The scheme of a bucket's URLs: `profile:user` -> `lakehouse-profile-user`. Two names may share one."""
    return f"lakehouse-{name.translate(_HOST_CHARACTERS)}"


@dataclass(frozen=True, slots=True)
class OpenBucket:
    """A bucket whose objects can be read and written.

    Attributes:
        name: The bucket's name.
        objects: Its objects.
        url_scheme: The scheme under which the engine knows it.
        local_root: The directory of a local bucket, else None.
    """

    name: str
    objects: Objects
    url_scheme: str
    local_root: Path | None = None

    def url(self, key: str) -> str:
        """The URL by which the engine reads an object, or those under a prefix."""
        return f"{self.url_scheme}://data/{quote(key)}"


class Buckets:
    """Open buckets by name; all methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Mapping[str, OpenBucket] = MappingProxyType({})

    def get(self, name: str) -> OpenBucket:
        """Return the bucket.

        Raises:
            NotFound: No open bucket has the name; the message lists those that are.
        """
        found = self._open.get(name)
        if found is None:
            msg = f"there is no bucket {name!r}; there are: {', '.join(sorted(self._open)) or 'none'}"
            raise NotFound(msg)
        return found

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
            self._open = MappingProxyType({**self._open, bucket.name: bucket})

    def remove(self, name: str) -> None:
        """Forget a bucket; one that isn't open is fine. Readers that hold it may go on."""
        with self._lock:
            self._open = MappingProxyType({key: value for key, value in self._open.items() if key != name})

    def __iter__(self) -> Iterator[OpenBucket]:
        """Iterate over the buckets that are open now, by name."""
        return iter([bucket for _, bucket in sorted(self._open.items())])
