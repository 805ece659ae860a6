"""Which buckets can be beside each other, and by which names a bucket is known.

Two buckets never share a name, the scheme of their URLs, or a place: whoever deletes from one would delete from the
other. A bucket that was renamed keeps its former names, since versions before its renaming know it by them.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from flightserver.catalog.entities import OLD_PRIMARY, PRIMARY, check_bucket_name
from flightserver.errors import AlreadyExists, InvalidRequest
from flightserver.storage.buckets import url_scheme

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from flightserver.catalog.entities import Bucket

_SCHEMAS = frozenset({"public", "system", "information_schema"})
"""A bucket is a schema of SQL, and these are others."""

LOCAL_BUCKETS = "buckets"
"""Directory of the data directory in which local buckets are that have no root of their own."""


def check_new_name(name: str) -> str:
    """Return `name` when a new bucket may have it.

    Raises:
        InvalidRequest: It can't name a bucket, or means something else.
    """
    check_bucket_name(name)
    if name in OLD_PRIMARY:
        msg = f"{name!r} can't name a bucket: references of old catalogs mean {PRIMARY!r} by it"
        raise InvalidRequest(msg)
    if name in _SCHEMAS:
        msg = f"{name!r} can't name a bucket: it is a schema of SQL, as each bucket is one"
        raise InvalidRequest(msg)
    return name


def check_free_name(name: str, others: Iterable[Bucket]) -> None:
    """Return when a bucket beside others can have a name.

    Raises:
        AlreadyExists: One of them has the name, had it, or has the same URL scheme.
    """
    for other in others:
        if other.name == name:
            msg = f"bucket {name!r} exists already"
        elif name in other.former:
            msg = f"{name!r} was the name of bucket {other.name!r}, and earlier versions know it by that"
        elif url_scheme(other.name) == url_scheme(name):
            msg = (
                f"bucket {name!r} would have the URL scheme {url_scheme(name)!r} of bucket {other.name!r}: "
                "':' and '_' are the same as '-' there"
            )
        else:
            continue
        raise AlreadyExists(msg)


def check_beside(bucket: Bucket, others: Collection[Bucket]) -> None:
    """Return when a bucket can be beside others.

    Raises:
        AlreadyExists: One of them has its name or had it, its URL scheme, or a place inside or above its own.
    """
    check_free_name(bucket.name, others)
    for other in others:
        if _overlap(place_of(bucket), place_of(other)):
            what = "root" if bucket.s3 is None else "place on S3"
            msg = f"bucket {bucket.name!r} can't be there: the {what} of {other.name!r} is the same, inside or above"
            raise AlreadyExists(msg)


def local_root(bucket: Bucket) -> str:
    """The directory of a local bucket, relative to the data directory unless it is absolute."""
    if bucket.root:
        return bucket.root
    return PRIMARY if bucket.name == PRIMARY else f"{LOCAL_BUCKETS}/{bucket.name}"


def identity(bucket: Bucket) -> str:
    """What tells a bucket from others that have or had its name: when it was made, and where. Empty for `primary`.

    It stays the same when the bucket is renamed or its limits and rules are changed.
    """
    if bucket.name == PRIMARY:
        return ""
    place = local_root(bucket) if bucket.s3 is None else repr(bucket.s3)
    return f"{bucket.created} {place}"


def bucket_url(bucket: Bucket) -> str:
    """The URL under which the engine finds the objects of a bucket, whether it can be reached or not."""
    prefix = f"{bucket.s3.prefix}/" if bucket.s3 is not None and bucket.s3.prefix else ""
    return f"{url_scheme(bucket.name)}://data/{quote(prefix)}"


def place_of(bucket: Bucket) -> tuple[str, ...]:
    """Where objects lie: the backend and, from the outside in, the parts of the path."""
    if bucket.s3 is None:
        return (bucket.backend, *PurePosixPath(local_root(bucket)).parts)
    return (
        bucket.backend,
        bucket.s3.endpoint.rstrip("/").lower(),
        bucket.s3.bucket,
        *PurePosixPath(bucket.s3.prefix).parts,
    )


def _overlap(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
