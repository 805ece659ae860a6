"""Files that others put into a bucket by presigned URLs, fetched to be ingested.

Such a file is named by the URL of its bucket, as `system.buckets` shows it, and its key: only what lies where uploads
go can be ingested, since everything else in a bucket is the lakehouse's own. It becomes an upload of this server, which
is read as any other and then discarded; the object stays, for a lifecycle rule to expire.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from flightserver.catalog.entities import PRIMARY
from flightserver.errors import InvalidRequest, NotFound
from flightserver.ingest.source import Progress
from flightserver.storage.buckets import OLD_SCHEME
from flightserver.storage.objects import UPLOADS

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.ingest.uploads import Upload, Uploads
    from flightserver.storage.buckets import Buckets, OpenBucket

_CHUNK_BYTES = 8 * 2**20


class Fetcher:
    """Fetches objects. Methods may be called from any thread.

    Args:
        buckets: Where they lie.
        uploads: What they become.
    """

    def __init__(self, buckets: Buckets, uploads: Uploads) -> None:
        self._buckets = buckets
        self._uploads = uploads

    def fetch(
        self, source: str, progress: Callable[[Progress], None], user: str, buckets: frozenset[str] | None = None
    ) -> str | None:
        """Fetch an object; returns the id of the upload, or None when the source isn't a URL.

        Args:
            source: What may be the URL of an object.
            progress: Is told how much has come.
            user: Who asks, whose upload it becomes.
            buckets: Those that exist for this user; None for all.

        Raises:
            NotFound: No bucket has such URLs, or there is no such object.
            InvalidRequest: It doesn't lie where uploads go.
            LimitExceeded: It is larger than an upload may be, or the disk is full.
            BackendUnavailable: The bucket doesn't answer.
        """
        if "://" not in source:
            return None
        bucket, key = self._place(source, buckets)
        if not key.startswith(UPLOADS):
            msg = f"{source!r} can't be ingested: only objects below {UPLOADS!r} of a bucket are files that others put"
            raise InvalidRequest(msg)
        found = bucket.objects.head(key)
        if found is None:
            msg = f"there is no object {key!r} in bucket {bucket.name!r}"
            raise NotFound(msg)
        done = 0
        with bucket.objects.open(key) as file, self._start(key, found.size, user) as upload:
            while chunk := file.read(_CHUNK_BYTES):
                upload.write(chunk)
                done += len(chunk)
                progress(Progress("fetch", done, found.size))
            return upload.finish().id

    def _start(self, key: str, size: int, user: str) -> Upload:
        return self._uploads.start(PurePosixPath(key).name, size, user)

    def _place(self, source: str, buckets: frozenset[str] | None) -> tuple[OpenBucket, str]:
        seen = [bucket for bucket in self._buckets if buckets is None or bucket.name in buckets]
        for bucket in seen:
            for beginning in _beginnings(bucket):
                if source.startswith(beginning):
                    return bucket, source[len(beginning) :]
        known = ", ".join(bucket.url("") for bucket in seen)
        msg = f"{source!r} is no URL of an object in a bucket; those of the buckets begin with {known}"
        raise NotFound(msg)


def _beginnings(bucket: OpenBucket) -> list[str]:
    """What the URLs of a bucket's objects begin with; those of `primary` also as they did when it was the only one."""
    url = bucket.url("")
    return [url, url.replace(bucket.url_scheme, OLD_SCHEME, 1)] if bucket.name == PRIMARY else [url]
