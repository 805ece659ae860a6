"""What `flightserver doctor` looks at where the settings put `primary`, and with it the catalog, on S3.

The settings are looked at by the same rules as at a start of the server, credentials are found as it finds them, and
the S3 server is asked what it asks. Each step needs the one before, so that the first which fails is the last. An
object is written below `_staging/` and deleted. Nothing is tried for long: whoever asks waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError
from msgspec.structs import replace

from flightserver.cli.probe import Probe, State
from flightserver.errors import AlreadyExists, BackendUnavailable, InvalidRequest, NotFound
from flightserver.federation.aws import refuses
from flightserver.federation.claims import check_unclaimed
from flightserver.federation.configured import configured_primary, configured_timeouts
from flightserver.federation.opening import Opener
from flightserver.federation.places import check_s3_bucket
from flightserver.federation.probing import probe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flightserver.catalog.entities import S3Place
    from flightserver.settings import Settings
    from flightserver.storage.buckets import OpenBucket
    from flightserver.storage.s3_access import S3Access

_RETRY_SECONDS = 5.0
_SETTINGS = "primary settings"
_CREDENTIALS = "primary credentials"
_BUCKET = "primary bucket"
_PLACE = "primary place"
_CONDITIONAL = "primary conditional put"


def probe_primary(settings: Settings) -> Iterator[Probe]:
    """Probe the place of the catalog; nothing is said of a local one, whose disk others look at."""
    try:
        primary = configured_primary(settings.primary)
    except InvalidRequest as error:
        yield Probe(_SETTINGS, State.FAILED, error.message, "mend the section [primary] of flightserver.toml")
        return
    place = primary.s3
    if place is None:
        return
    data, buckets = settings.server.data, settings.buckets
    hasty = replace(buckets, retries=1, retry_seconds=min(buckets.retry_seconds, _RETRY_SECONDS))
    opener = Opener(data, data / buckets.credentials, configured_timeouts(hasty))
    try:
        access, bucket = opener.access(place), opener.open_strictly(primary)
    except BackendUnavailable as error:
        yield Probe(_CREDENTIALS, State.FAILED, error.message, _credentials_mend(place.credentials, opener.credentials))
        return
    yield Probe(_CREDENTIALS, State.OK, f"found by {place.credentials!r}")
    refused = _listing(place, access, opener.credentials)
    if refused is not None:
        yield refused
        return
    yield from _use(place, bucket)


def _listing(place: S3Place, access: S3Access, directory: Path) -> Probe | None:
    """Why the S3 bucket can't be listed, or None."""
    try:
        check_s3_bucket(access)
    except NotFound:
        where = f" --endpoint-url {place.endpoint}" if place.endpoint else ""
        mend = f"aws s3 mb s3://{place.bucket} --region {place.region}{where}"
        return Probe(_BUCKET, State.FAILED, f"the S3 server has no bucket {place.bucket!r}", mend)
    except BackendUnavailable as error:
        cause = error.__cause__
        if not isinstance(cause, ClientError):
            mend = f"curl -sS {access.location.requested or f'https://s3.{place.region}.amazonaws.com'}"
            mend += ", or set primary.endpoint to where the S3 server listens"
        elif refuses(cause):
            mend = _credentials_mend(place.credentials, directory)
        else:
            mend = "set primary.region, primary.path_style and primary.endpoint to what the S3 server has"
        return Probe(_BUCKET, State.FAILED, f"{error.message} ({cause})", mend)
    return None


def _use(place: S3Place, bucket: OpenBucket) -> Iterator[Probe]:
    """Whether objects can be written and read, and a second put of a key is refused."""
    found = probe(bucket)
    where = f"{place.bucket!r} at {place.endpoint or 'AWS'}"
    if found.error is not None or not (found.readable and found.writable):
        detail = f"{where}: {found.error or 'it answers other bytes than were written'}"
        mend = f"let these credentials list, read, write and delete objects of the S3 bucket {place.bucket!r}"
        yield Probe(_BUCKET, State.FAILED, detail, mend)
        return
    yield Probe(_BUCKET, State.OK, f"{where} can be read and written, and answers in {found.latency_ms:,.1f} ms")
    try:
        check_unclaimed(bucket)
    except (AlreadyExists, BackendUnavailable) as error:
        yield Probe(_PLACE, State.FAILED, error.message, "set primary.prefix to one of its own")
        return
    if found.conditional_put:
        yield Probe(_CONDITIONAL, State.OK, "a second put of a key is refused")
        return
    detail = "the S3 server ignores If-None-Match: two servers could overwrite each other's commits"
    mend = "use an S3 server that honours conditional writes, or set primary.backend to 'local'"
    yield Probe(_CONDITIONAL, State.FAILED, detail, mend)


def _credentials_mend(reference: str, directory: Path) -> str:
    """What gives credentials to who refers to them so."""
    kind, _, name = reference.partition(":")
    if kind == "profile":
        return f"aws configure --profile {name}, as the user that runs the server"
    if kind == "file":
        file = directory / f"{name}.json"
        return f'write {{"access_key_id": ..., "secret_access_key": ...}} into {file}, and: chmod 600 {file}'
    if kind == "anonymous":
        return "set primary.credentials to where credentials are found: the catalog has to be written"
    prefix = name or "AWS"
    others = "" if name else ", or: aws configure"
    return f"export {prefix}_ACCESS_KEY_ID=... {prefix}_SECRET_ACCESS_KEY=..., where the server is started{others}"
