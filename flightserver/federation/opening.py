"""From what the catalog says of a bucket to its objects.

Opening an S3 bucket connects to nothing. A local bucket is opened by looking at its directory, which is made only when
the bucket is created: later a missing directory means that a disk isn't mounted, and files written into a directory in
its place would be lost from sight. They would be in an empty one as well: that is a mount point, since whoever makes a
bucket leaves something in its directory. What can't be opened is open all the same, as objects that say why they can't
be reached: a statement over other buckets doesn't care.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Never

from flightserver.catalog.bucket_rules import identity
from flightserver.catalog.entities import PRIMARY, PutLimits
from flightserver.errors import BackendUnavailable, FlightserverError
from flightserver.storage import posix
from flightserver.storage.buckets import OpenBucket, lost_bucket, url_scheme
from flightserver.storage.credentials import find_credentials
from flightserver.storage.limits import LimitedObjects
from flightserver.storage.local import LocalObjects
from flightserver.storage.objects import STAGING
from flightserver.storage.s3 import S3Objects
from flightserver.storage.s3_access import S3Access, S3Timeouts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flightserver.catalog.entities import Bucket, S3Place
    from flightserver.federation.rescue import Rescue
    from flightserver.storage.objects import ObjectMeta, Objects, ObjectWriter


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens buckets.

    Attributes:
        data: The data directory: local buckets without a root are in it.
        credentials: Directory of files of credentials.
        timeouts: Of all S3 buckets.
        rescue: Reads what a bucket can't serve, if anybody does.
    """

    data: Path
    credentials: Path
    timeouts: S3Timeouts
    rescue: Rescue | None = None

    def open(self, bucket: Bucket, *, has_files: bool = False) -> OpenBucket:
        """Open a bucket, reachable or not.

        Args:
            bucket: Which.
            has_files: Whether the catalog names files in it, so that a directory without any isn't it.
        """
        try:
            return self.open_mounted(bucket, has_files=has_files)
        except FlightserverError as error:
            objects = Unreachable(bucket.name, str(error))
            unopened = OpenBucket(bucket.name, objects, url_scheme(bucket.name), identity=identity(bucket))
            return self._rescued(unopened)

    def open_mounted(self, bucket: Bucket, *, has_files: bool) -> OpenBucket:
        """Open a bucket that has to be reachable, and was made before. Nothing is left in a mount point.

        Raises:
            BackendUnavailable: Its directory or its credentials aren't there, or the directory is a mount point.
        """
        if bucket.s3 is None and _is_mount_point(self.root(bucket), has_files=has_files):
            raise BackendUnavailable(EMPTY)
        return self.open_strictly(bucket)

    def open_strictly(self, bucket: Bucket) -> OpenBucket:
        """Open a bucket that has to be reachable.

        Raises:
            BackendUnavailable: Its directory or its credentials aren't there.
        """
        return self._rescued(self._open(bucket))

    def root(self, bucket: Bucket) -> Path:
        """The directory of a local bucket."""
        if bucket.root:
            return self.data / bucket.root
        return self.data / PRIMARY if bucket.name == PRIMARY else self.data / "buckets" / bucket.name

    def access(self, place: S3Place) -> S3Access:
        """How an S3 bucket is reached.

        Raises:
            BackendUnavailable: Its credentials aren't there.
        """
        return S3Access(place, find_credentials(place.credentials, self.credentials), self.timeouts)

    def _rescued(self, bucket: OpenBucket) -> OpenBucket:
        return bucket if self.rescue is None else self.rescue.beside(bucket)

    def _open(self, bucket: Bucket) -> OpenBucket:
        limits = bucket.limits or PutLimits()
        scheme = url_scheme(bucket.name)
        if bucket.s3 is not None:
            access = self.access(bucket.s3)
            objects = LimitedObjects(S3Objects(access), limits.put_bytes, limits.vector_put_bytes)
            return OpenBucket(bucket.name, objects, scheme, s3=access, identity=identity(bucket))
        root = self.root(bucket)
        if not posix.is_directory(root):
            raise BackendUnavailable(_not_there(bucket.name))
        objects = LimitedObjects(LocalObjects(root), limits.put_bytes, limits.vector_put_bytes)
        return OpenBucket(bucket.name, objects, scheme, local_root=root, identity=identity(bucket))


EMPTY = "nothing of it is there: is its disk mounted?"
"""Why a directory isn't the bucket that the catalog means."""


class Unreachable:
    """`Objects` of a bucket that can't be opened: every method says why.

    Args:
        bucket: Its name.
        reason: Why.
    """

    may_write_late = False

    def __init__(self, bucket: str, reason: str) -> None:
        self.reason = reason
        self._message = f"bucket {bucket!r} can't be reached: {reason}"

    def get(self, key: str) -> bytes:
        """Raise."""
        self._refuse(key)

    def head(self, key: str) -> ObjectMeta | None:
        """Raise."""
        self._refuse(key)

    def put(self, key: str, data: bytes) -> ObjectMeta:  # noqa: ARG002  # the protocol's
        """Raise."""
        self._refuse(key)

    def writer(self, key: str) -> ObjectWriter:
        """Raise."""
        self._refuse(key)

    def open(self, key: str) -> BinaryIO:
        """Raise."""
        self._refuse(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:  # noqa: ARG002  # the protocol's
        """Raise."""
        self._refuse(prefix)

    def delete(self, key: str) -> None:
        """Raise."""
        self._refuse(key)

    def _refuse(self, _key: str) -> Never:
        raise BackendUnavailable(self._message)


def check_there(bucket: OpenBucket) -> None:
    """Ask whether a bucket is there, of which a listing may say nothing: what has gone lists nothing.

    Raises:
        BackendUnavailable: It isn't, or something else is in its place.
    """
    reason = unreachable(bucket)
    error = bucket.lost() if reason is None else lost_bucket(bucket.name, reason)
    if error is not None:
        raise error


def reachable(objects: Objects) -> str | None:
    """Why objects can't be reached as they were opened, or None."""
    return objects.reason if isinstance(objects, Unreachable) else None


def unreachable(bucket: OpenBucket) -> str | None:
    """Why a bucket can't be reached, as far as that can be known without asking a server, or None.

    A local bucket whose directory has gone would otherwise look like one without objects.
    """
    if bucket.local_root is not None and not posix.is_directory(bucket.local_root):
        return _not_there(bucket.name)
    return reachable(bucket.objects)


def _is_mount_point(root: Path, *, has_files: bool) -> bool:
    """Whether a directory lacks what is in a bucket: something, and, if it has files, more than opening it leaves."""
    try:
        return not any(not has_files or one.name != STAGING.rstrip("/") for one in root.iterdir())
    except OSError:  # opening it will tell
        return False


def _not_there(name: str) -> str:
    return f"the directory of bucket {name!r} isn't there: is its disk mounted?"
