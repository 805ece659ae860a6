"""What `flightserver doctor` looks at where the settings put `primary`, and with it the catalog, on S3.

The settings are looked at by the same rules as at a start of the server, credentials are found as it finds them, and
the S3 server is asked what it asks. Each step needs the one before, so that the first which fails is the last. An
object is written below `_staging/` and deleted. Nothing is tried for long: whoever asks waits.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flightserver.cli.probe import Probe, State
from flightserver.cli.remedies import able, remedies_of, where, why
from flightserver.errors import AlreadyExists, BackendUnavailable, FlightserverError
from flightserver.federation.claims import check_unclaimed
from flightserver.federation.places import check_s3_bucket
from flightserver.federation.probing import tried

if TYPE_CHECKING:
    from collections.abc import Generator

    from flightserver.catalog.entities import Bucket, S3Place
    from flightserver.federation.opening import Opener
    from flightserver.storage.buckets import OpenBucket

_CREDENTIALS = "primary credentials"
_BUCKET = "primary bucket"
_PLACE = "primary place"
_CONDITIONAL = "primary conditional put"


def probe_primary(primary: Bucket, place: S3Place, opener: Opener) -> Generator[Probe, None, OpenBucket | None]:
    """Probe the place of the catalog on S3; returns the bucket if it can be read and written."""
    remedies = remedies_of(primary, opener)
    try:
        bucket = opener.open_strictly(primary)
    except BackendUnavailable as error:
        yield Probe(_CREDENTIALS, State.FAILED, error.message, remedies.of_opening(error))
        return None
    yield Probe(_CREDENTIALS, State.OK, f"found by {place.credentials!r}")
    try:
        check_s3_bucket(opener.access(place))
        began = time.monotonic()
        check_unclaimed(bucket)
        found = tried(bucket, time.monotonic() - began)
        if found.failure is not None:
            raise found.failure
    except AlreadyExists as error:
        yield Probe(_PLACE, State.FAILED, error.message, "set primary.prefix to one of its own")
        return None
    except FlightserverError as error:
        yield Probe(_BUCKET, State.FAILED, why(error, primary), remedies.of(error))
        return None
    yield Probe(_BUCKET, State.OK, f"{where(primary, opener)} {able(found)}")
    if found.conditional_put:
        yield Probe(_CONDITIONAL, State.OK, "a second put of a key is refused")
    else:
        detail = "the S3 server ignores If-None-Match: two servers could overwrite each other's commits"
        mend = "use an S3 server that honours conditional writes, or set primary.backend to 'local'"
        yield Probe(_CONDITIONAL, State.FAILED, detail, mend)
    return bucket
