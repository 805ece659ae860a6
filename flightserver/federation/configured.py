"""What the settings say of buckets: where `primary` is, and how all of them are reached.

The place of every other bucket is in the catalog, where `bucket.create` has put it after looking at it. That of
`primary` can't be, since the catalog lies in it; so it is looked at here by the same rules, each time. A prefix that
the libraries which read and write take differently would let writes succeed that nobody can ever read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from flightserver.catalog.entities import LOCAL, PRIMARY, Bucket, S3Place
from flightserver.errors import InvalidRequest
from flightserver.federation.places import check_s3_place
from flightserver.storage.s3_access import S3Timeouts

if TYPE_CHECKING:
    from flightserver.settings import BucketSettings, PrimarySettings


def configured_timeouts(settings: BucketSettings) -> S3Timeouts:
    """How long S3 servers are waited for."""
    return S3Timeouts(settings.connect_seconds, settings.request_seconds, settings.retry_seconds, settings.retries)


def configured_primary(settings: PrimarySettings) -> Bucket:
    """The bucket `primary`.

    Raises:
        InvalidRequest: A setting can't be, or belongs to the other backend.
    """
    fields = msgspec.structs.asdict(settings)
    backend = fields.pop("backend")
    if backend == LOCAL:
        _check_nothing_of_s3(settings)
        return Bucket(PRIMARY, LOCAL)
    if not settings.bucket:
        raise InvalidRequest("primary.backend is 's3' and primary.bucket is empty: name the S3 bucket")
    return Bucket(PRIMARY, backend, s3=check_s3_place(S3Place(**fields), "primary.{}"))


def _check_nothing_of_s3(settings: PrimarySettings) -> None:
    """A forgotten backend would begin an empty lakehouse in a directory, beside the one that is on S3."""
    usual = type(settings)()
    said = [
        f"primary.{name}"
        for name in settings.__struct_fields__
        if name != "backend" and getattr(settings, name) != getattr(usual, name)
    ]
    if said:
        msg = (
            f"primary.backend is 'local', but {' and '.join(said)} would be of an S3 bucket: set primary.backend to "
            "'s3', or leave the others out"
        )
        raise InvalidRequest(msg)
