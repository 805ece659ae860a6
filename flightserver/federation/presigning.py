"""URLs by which somebody without credentials may read or write one object of an S3 bucket for a while.

Theory of operation: a URL is signed here, with the bucket's credentials, and nothing is sent; the S3 server checks the
signature and the time when the URL is used. A plain PUT can neither be limited in size nor be conditional, so it is
allowed only below `UPLOADS`, which nothing but uploads lies in. The catalog isn't handed out: it names every dataset.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from flightserver.errors import BackendUnavailable, InvalidRequest, NotFound
from flightserver.federation.opening import reachable
from flightserver.federation.prefixes import CATALOG
from flightserver.storage.limits import unlimited
from flightserver.storage.objects import UPLOADS, check_key
from flightserver.storage.s3 import S3Objects

if TYPE_CHECKING:
    from flightserver.storage.buckets import OpenBucket

LONGEST_SECONDS = 604_800
"""A week: S3 takes no signature of version 4 that is valid for longer."""

Method = Literal["GET", "PUT"]


@dataclass(frozen=True, slots=True)
class Presigned:
    """A URL and when it ends, UTC. Credentials that end earlier end it with them."""

    url: str
    expires_at: datetime


def presign(bucket: OpenBucket, method: Method, key: str, expires_seconds: int) -> Presigned:
    """Sign a URL.

    Args:
        bucket: An S3 bucket.
        method: What the URL is for.
        key: Of the object; one that is to be read must be there.
        expires_seconds: How long the URL is valid.

    Raises:
        InvalidRequest: The bucket is local or anonymous, the key or the period isn't allowed.
        NotFound: No object to be read has the key.
        BackendUnavailable: The bucket can't be reached.
    """
    _check(method, check_key(key), expires_seconds)
    reason = reachable(bucket.objects)
    if reason is not None:
        raise BackendUnavailable(f"bucket {bucket.name!r} can't be reached: {reason}")
    objects = unlimited(bucket.objects)
    if bucket.s3 is None or not isinstance(objects, S3Objects):
        msg = (
            f"bucket {bucket.name!r} is a local directory, which serves no URLs: read it by a query or a ticket, "
            "and upload to the Flight server by DoPut; only buckets of backend 's3' have presigned URLs"
        )
        raise InvalidRequest(msg)
    if not bucket.s3.credentials.access_key_id:
        msg = f"bucket {bucket.name!r} is reached without credentials, and nothing can be signed without them"
        raise InvalidRequest(msg)
    if method == "GET" and bucket.objects.head(key) is None:
        raise NotFound(f"bucket {bucket.name!r} has no object {key!r}: a URL to read it would lead nowhere")
    expires = timedelta(seconds=expires_seconds)
    now = datetime.now(UTC)
    return Presigned(objects.presign(method, key, expires), now + expires)


def _check(method: Method, key: str, expires_seconds: int) -> None:
    if not 1 <= expires_seconds <= LONGEST_SECONDS:
        raise InvalidRequest(f"expires_seconds is {expires_seconds}: expected 1 to {LONGEST_SECONDS}, which is a week")
    if method == "PUT" and not key.startswith(UPLOADS):
        raise InvalidRequest(f"can't sign a PUT of {key!r}: objects can be put below {UPLOADS!r} only")
    if method == "GET" and key.startswith(CATALOG):
        raise InvalidRequest(f"can't sign a GET of {key!r}: what lies below {CATALOG!r} is not handed out")
