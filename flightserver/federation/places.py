"""Places of new buckets: which directory or S3 bucket a request means, whether it may, and how it is made.

Roots of local buckets are compared after symbolic links are followed, since what matters is where files end up. The
catalog holds a root in the data directory relative to that, so that the directory can be moved as a whole.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.exceptions import ClientError
from msgspec.structs import replace

from flightserver.catalog.bucket_rules import LOCAL_BUCKETS
from flightserver.catalog.entities import LOCAL
from flightserver.errors import AlreadyExists, BackendUnavailable, FlightserverError, InvalidRequest, NotFound
from flightserver.federation.aws import asking, code
from flightserver.storage import posix
from flightserver.storage.credentials import check_reference
from flightserver.storage.objects import check_key

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from flightserver.catalog.entities import Bucket, S3Place
    from flightserver.federation.opening import Opener
    from flightserver.storage.s3_access import S3Access

_S3_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_REGION = re.compile(r"[A-Za-z0-9-]{1,63}")
_ENCRYPTIONS = ("", "AES256", "aws:kms", "aws:kms:dsse")
_DEFAULT_REGION = "us-east-1"
"""The one for which AWS wants no location constraint, and refuses one."""


class LocalRoots:
    """Where local buckets may be made.

    Args:
        opener: Knows where local buckets are.
        roots: Directories beside the one in the data directory.
    """

    def __init__(self, opener: Opener, roots: Iterable[Path]) -> None:
        self._opener = opener
        self._data = opener.data
        self._home = opener.data / LOCAL_BUCKETS
        self._roots = (self._home, *roots)

    def placed(self, bucket: Bucket, others: Iterable[Bucket]) -> Bucket:
        """The bucket with its root as the catalog holds it; a root that is asked for is relative to the usual one.

        Raises:
            InvalidRequest: Files would end up outside of the allowed directories, or among the server's own.
            AlreadyExists: The directory is that of another bucket, inside or above.
        """
        try:
            found = (self._home / (bucket.root or bucket.name)).resolve()
            data, home = self._data.resolve(), self._home.resolve()
            allowed = any(root.resolve() in found.parents for root in self._roots)
            others_roots = [(each, self._opener.root(each).resolve()) for each in others if each.backend == LOCAL]
            is_other = found.exists() and not found.is_dir()
        except (OSError, RuntimeError, ValueError):  # too long, a loop of links, or a null character
            raise InvalidRequest(f"root {bucket.root!r} of bucket {bucket.name!r} can't be a directory") from None
        own = (found == data or data in found.parents or found in data.parents) and home not in found.parents
        if not allowed or own:
            msg = (
                f"root {bucket.root or bucket.name!r} of bucket {bucket.name!r} is outside of where local buckets may "
                "be made: below the server's directory of buckets, or below a directory of the setting buckets.roots"
            )
            raise InvalidRequest(msg)
        if is_other:
            raise InvalidRequest(f"root {bucket.root!r} of bucket {bucket.name!r} is a file: expected a directory")
        for other, root in others_roots:
            if found == root or root in found.parents or found in root.parents:
                msg = f"bucket {bucket.name!r} can't be there: the root of {other.name!r} is the same, inside or above"
                raise AlreadyExists(msg)
        if not bucket.root:
            return bucket
        return replace(bucket, root=str(found.relative_to(data)) if data in found.parents else str(found))


def check_place(bucket: Bucket) -> Bucket:
    """The bucket with its S3 place in one form: no slashes at the ends of prefix and endpoint.

    Raises:
        InvalidRequest: A field of the place can't be.
    """
    if bucket.s3 is None:
        raise InvalidRequest(f"bucket {bucket.name!r} of backend 's3' needs `s3`: at least its `bucket`")
    return replace(bucket, s3=check_s3_place(bucket.s3))


def check_s3_place(place: S3Place, called: str = "`s3.{}`") -> S3Place:
    """The place in one form: no slashes at the ends of prefix and endpoint.

    Args:
        place: What was asked for.
        called: What its fields are called where it was asked for, for messages.

    Raises:
        InvalidRequest: A field of the place can't be.
    """
    check_reference(place.credentials, called.format("credentials"))
    if not _S3_BUCKET.fullmatch(place.bucket):
        name = called.format("bucket")
        msg = f"{name} {place.bucket!r} can't name an S3 bucket: 3 to 63 letters, digits, '.', '_' and '-'"
        raise InvalidRequest(msg)
    if not _REGION.fullmatch(place.region):
        name = called.format("region")
        raise InvalidRequest(f"{name} {place.region!r} can't name a region: expected one such as {_DEFAULT_REGION!r}")
    if place.encryption not in _ENCRYPTIONS:
        name, known = called.format("encryption"), ", ".join(each for each in _ENCRYPTIONS if each)
        raise InvalidRequest(f"{name} {place.encryption!r} isn't known: expected one of {known}, or nothing")
    if place.kms_key and not place.encryption.startswith("aws:kms"):
        name = called.format("kms_key")
        raise InvalidRequest(f"{name} goes with the encryption 'aws:kms' or 'aws:kms:dsse'")
    endpoint, prefix = _endpoint(place, called.format("endpoint")), _prefix(place, called.format("prefix"))
    return replace(place, endpoint=endpoint, prefix=prefix)


def make_directory(root: Path) -> None:
    """Make a directory and those above it, durably; one that is there is fine.

    Raises:
        BackendUnavailable: It can't be made.
    """
    missing = [each for each in (root, *root.parents) if not each.is_dir()]
    try:
        for each in reversed(missing):
            posix.make_directory(str(each))
            posix.sync_directory(str(each.parent))
    except OSError as error:
        raise BackendUnavailable(f"the directory of a new bucket can't be made ({error.strerror})") from error


def check_s3_bucket(access: S3Access) -> None:
    """Return when an S3 bucket is there.

    Raises:
        NotFound: It isn't.
        BackendUnavailable: The server doesn't answer, or refuses.
    """
    name = access.location.bucket
    with asking(access, f"look for the S3 bucket {name!r}") as s3:
        try:
            # Not HEAD: its answer doesn't say whether the bucket or the access key is unknown.
            s3.list_objects_v2(Bucket=name, Prefix=access.location.prefix, MaxKeys=1)
        except ClientError as error:
            if code(error) == "NoSuchBucket":
                raise NotFound(
                    f"the S3 server has no bucket {name!r}: with `create` in `s3`, or the flag --make, it is made"
                ) from None
            raise


def make_s3_bucket(access: S3Access) -> None:
    """Make an S3 bucket; one that is there and ours is fine.

    Raises:
        AlreadyExists: It is somebody else's.
        BackendUnavailable: The server doesn't answer, or refuses.
    """
    name, region = access.location.bucket, access.location.region
    with asking(access, f"make the S3 bucket {name!r}") as s3:
        try:
            if region == _DEFAULT_REGION or access.location.endpoint:
                s3.create_bucket(Bucket=name)
            else:
                where = {"LocationConstraint": region}
                s3.create_bucket(Bucket=name, CreateBucketConfiguration=where)  # type: ignore[arg-type]  # any region
        except ClientError as error:
            if code(error) == "BucketAlreadyOwnedByYou":
                return
            if code(error) == "BucketAlreadyExists":
                raise AlreadyExists(f"there is an S3 bucket {name!r}, and it isn't ours: choose another name") from None
            raise


def _endpoint(place: S3Place, name: str) -> str:
    host = ""
    try:
        parts = urlsplit(place.endpoint)
        host = (parts.hostname or "").rstrip(".")
        fine = not place.endpoint or (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and (parts.port or 1) > 0
            and not (parts.username or parts.password or parts.query or parts.fragment)
        )
    except ValueError:
        fine = False
    if not fine:  # not repeated: it may hold a password
        raise InvalidRequest(f"{name} must be a URL such as 'https://s3.example.com:9000', without credentials")
    if not place.path_style and (":" in host or host.rpartition(".")[2].isdigit()):
        msg = (
            f"{name} has an IP address, in front of which the name of an S3 bucket can't stand: give it the name of a "
            "host, or leave the S3 bucket's name in the path of URLs (path_style)"
        )
        raise InvalidRequest(msg)
    return place.endpoint.rstrip("/")


def _prefix(place: S3Place, name: str) -> str:
    prefix = place.prefix.strip("/")
    if prefix:
        try:
            check_key(prefix)
        except FlightserverError as error:
            raise InvalidRequest(f"{name} {place.prefix!r} can't be: {error.message}") from None
    return prefix
