"""How the engine reaches the objects of a bucket: a store of its own, under the bucket's URL scheme.

The engine's binding takes of an S3 store only its name, region, endpoint and keys; the rest it finds in `AWS_...`
variables, when a store is made (`AmazonS3Builder::from_env` of the crate object_store). So a store is made under
variables that say what belongs to this bucket and nothing else (`flightserver.storage.environment`).

How often the engine's store tries again can't be set: 10 times, within 180 s (`RetryConfig::default` of object_store
0.13). So that a server that stops answering in the middle of a query costs `retry_seconds`, and not less than 11 s,
each try may take an eleventh of what the pauses between them leave of it. That is no limit to how long a body may take:
one that breaks off is asked for again from where it broke off (measured: 4 MB at 1 MB/s arrive by tries of 0.5 s). A
server that doesn't answer from the start is noticed before, by `flightserver.query.scan`, which looks for the files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datafusion.object_store import AmazonS3, LocalFileSystem

from flightserver.catalog.entities import PRIMARY
from flightserver.storage.buckets import OLD_SCHEME
from flightserver.storage.environment import only_variables

if TYPE_CHECKING:
    from datafusion import SessionContext

    from flightserver.storage.buckets import OpenBucket
    from flightserver.storage.s3_access import S3Access, S3Timeouts

_ENGINE_RETRIES = 10
_PAUSES_SECONDS = 5.0
"""Between the tries, together, on average: they are random."""
_LEAST_SECONDS = 0.5
"""Of one try: a server that is well may take that long to begin an answer."""

URL_HOST = "data"
"""Host part of `lakehouse-<bucket>://data/<key>`."""


def register_store(context: SessionContext, bucket: OpenBucket) -> None:
    """Make a bucket known to the engine, in the place of one of its name; one that can't be reached isn't."""
    if bucket.s3 is not None:
        store: Any = _s3_store(bucket.s3)
    elif bucket.local_root is not None:
        store = LocalFileSystem(str(bucket.local_root))
    else:
        return
    context.register_object_store(f"{bucket.url_scheme}://", store, URL_HOST)
    if bucket.name == PRIMARY:
        context.register_object_store(f"{OLD_SCHEME}://", store, URL_HOST)


def _s3_store(access: S3Access) -> AmazonS3:
    location, credentials, timeouts = access.location, access.credentials, access.timeouts
    variables = {
        "AWS_TIMEOUT": f"{_try_seconds(timeouts):g}s",
        "AWS_CONNECT_TIMEOUT": f"{timeouts.connect_seconds:g}s",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": str(not location.path_style).lower(),
    }
    if not credentials.access_key_id:
        variables["AWS_SKIP_SIGNATURE"] = "true"
    with only_variables(variables):
        return AmazonS3(
            bucket_name=location.bucket,
            region=location.region,
            access_key_id=credentials.access_key_id or None,
            secret_access_key=credentials.secret_access_key or None,
            session_token=credentials.session_token or None,
            endpoint=location.requested or None,
            allow_http=location.endpoint.startswith("http://"),
        )


def _try_seconds(timeouts: S3Timeouts) -> float:
    """How long one of the engine's tries may take."""
    share = (timeouts.retry_seconds - _PAUSES_SECONDS) / (_ENGINE_RETRIES + 1)
    return min(timeouts.request_seconds, max(share, _LEAST_SECONDS))
