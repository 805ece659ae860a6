"""Looking whether a bucket is there: the place that the catalog means, and not only something that answers.

Theory of operation: a bucket that was deleted answers to each key that there is no such object, and so does a web
server in the place of the S3 server, unless it answers each request with a page; an empty directory is what is left of
a disk that isn't mounted. So a look reads what only this lakehouse has written there: the claim
(`flightserver.federation.claims`), which is small, so that a look costs one request. `primary` has none: there it is
the first commit of the catalog. Where there is no claim, as in buckets that are older than claims, a file that the
catalog names is looked for, and then anything at all: an empty bucket is well unless the catalog names files in it.

Invariants: a look writes nothing. It asks the bucket and nobody else, so that a `primary` that hangs delays no look at
another bucket; what it has to know of the catalog was read before.
"""

from __future__ import annotations

import logging
from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations
from typing import TYPE_CHECKING

import msgspec

from flightserver.catalog.entities import PRIMARY
from flightserver.catalog.log import COMMITS, commit_key
from flightserver.catalog.migration import home
from flightserver.errors import BackendUnavailable, FlightserverError, NotFound
from flightserver.federation.claims import check_lakehouse, lakehouse_of, read_claim
from flightserver.federation.opening import EMPTY, unreachable
from flightserver.storage.s3_errors import answer
from flightserver.tables.moving import parts_of, parts_of_index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.storage.buckets import OpenBucket

_log = logging.getLogger(__name__)


class _First(msgspec.Struct, frozen=True):
    """As much of the first commit as tells one catalog from another."""

    time: datetime
    id: str = ""


_decoder = msgspec.json.Decoder(_First)
_NO_BUCKET = "the S3 bucket isn't there"


class Looks:
    """Looks at buckets of a catalog. All methods may be called from any thread.

    Args:
        catalog: Whose buckets they are; its first commit is read at once.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lakehouse: str | None = None
        try:
            self._lakehouse = lakehouse_of(catalog)
        except FlightserverError:  # the look at `primary` will tell, and find it when it is back
            _log.warning("the first commit of the catalog can't be read", exc_info=True)

    def look(self, bucket: OpenBucket) -> str | None:
        """Why a bucket isn't there as the catalog knows it, or None when it is."""
        reason = unreachable(bucket)
        if reason is not None:
            return reason
        try:
            if bucket.name == PRIMARY:
                self._look_at_primary(bucket)
            else:
                self._look_at(bucket)
        except FlightserverError as error:
            return _NO_BUCKET if _lacks_bucket(error) else error.message
        return None

    def _look_at_primary(self, bucket: OpenBucket) -> None:
        key = commit_key(1)
        try:
            first = _decoder.decode(bucket.objects.get(key))
        except NotFound:
            if next(bucket.objects.list(COMMITS), None) is None:
                raise BackendUnavailable(_empty(bucket)) from None
            return  # every reader of the log will tell
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BackendUnavailable(f"what it answers for {key!r} isn't what was written there") from None
        found = first.id or first.time.isoformat()
        if self._lakehouse is None:
            self._lakehouse = found
        elif found != self._lakehouse:
            raise BackendUnavailable("another lakehouse has its catalog there")

    def _look_at(self, bucket: OpenBucket) -> None:
        found = read_claim(bucket)
        if found is not None:
            if self._lakehouse is not None:
                check_lakehouse(bucket, found, self._lakehouse)
            return
        named = next(_keys_in(self._catalog.known, bucket.name), None)
        if named is not None and bucket.objects.head(named) is not None:
            return
        # Listing fails where there is no S3 bucket.
        if next(bucket.objects.list(""), None) is None and named is not None:
            raise BackendUnavailable(_empty(bucket))

    def has_files(self, name: str) -> bool:
        """Whether the newest version that was read names files in a bucket. `primary` has the catalog."""
        return name == PRIMARY or next(_keys_in(self._catalog.known, name), None) is not None


def answers(bucket: OpenBucket) -> str | None:
    """Why a place that needn't have anything of the catalog yet doesn't answer as a bucket does, or None."""
    reason = unreachable(bucket)
    if reason is None:
        try:
            read_claim(bucket)
        except FlightserverError as error:
            return error.message
    return reason


def _lacks_bucket(error: FlightserverError) -> bool:
    """Whether an S3 server has said that it has no such bucket."""
    found = answer(error.__cause__) if isinstance(error.__cause__, Exception) else None
    return found is not None and found.code == "NoSuchBucket"


def _empty(bucket: OpenBucket) -> str:
    """Why a bucket in which nothing lies isn't there, and what to look at."""
    if bucket.s3 is None:
        return EMPTY
    below = " below its prefix" if bucket.s3.location.prefix else ""
    return f"nothing of it is there: the S3 bucket is empty{below}"


def _keys_in(snapshot: Snapshot, bucket: str) -> Iterator[str]:
    """Keys of files in a bucket that the newest version names."""
    for dataset in snapshot.datasets.values():
        if dataset.external is None:
            for part in parts_of(dataset):
                if home(snapshot.buckets, part.bucket) == bucket:
                    yield from part.keys
    for index in snapshot.indexes.values():
        part = parts_of_index(index)
        if home(snapshot.buckets, part.bucket) == bucket:
            yield from part.keys
