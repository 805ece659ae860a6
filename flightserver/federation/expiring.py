"""Deletes what has expired in buckets that nobody else does it for: local ones, and S3 servers without lifecycle rules.

Theory of operation: one thread per process looks at the buckets that have rules, from time to time. A bucket whose S3
server applies them is left to it. Of the others each rule's prefix is listed, and what is older than the rule says is
deleted; on S3 uploads in parts that were begun too long ago are given up. Memory doesn't grow with the number of
objects.

It also deletes temporary files in local buckets whose processes have died, rules or not.

Several servers may do this on the same buckets: deleting what another has deleted is fine, and each records what it
believes to have deleted. What the catalog names is never deleted, whatever a rule says.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from flightserver.catalog.catalog import utc_now
from flightserver.errors import FlightserverError
from flightserver.federation.aws import asking
from flightserver.federation.lifecycle import applied_by
from flightserver.federation.prefixes import NAMED
from flightserver.periodic import STOP_SECONDS, Periodic
from flightserver.storage.limits import unlimited
from flightserver.storage.local import LocalObjects
from flightserver.telemetry import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Bucket, LifecycleRule
    from flightserver.storage.buckets import Buckets, OpenBucket
    from flightserver.storage.s3_access import S3Access
    from flightserver.telemetry import Events

_log = logging.getLogger(__name__)

EXPIRED = "objects expired"
"""Kind of the event that objects were deleted because of their age."""
ABORTED = "uploads aborted"
"""Kind of the event that unfinished uploads were given up."""
FAILED = Trouble("expiry failed")
"""Kind of the event that a bucket's rules couldn't be honoured; the next look tries again."""

_SPREAD = 0.25
"""Share of the interval by which looks are earlier or later, so that several servers seldom look at once."""


class Expiry:
    """Honours the lifecycle rules of buckets; `start` begins, `stop` ends.

    Args:
        catalog: Has the rules.
        buckets: Have the objects.
        events: Told what was deleted.
        seconds: Between two looks.
        clock: Tells the time, UTC.
    """

    def __init__(
        self,
        catalog: Catalog,
        buckets: Buckets,
        events: Events,
        seconds: float,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._catalog = catalog
        self._buckets = buckets
        self._events = events
        self._clock = clock
        self._looks = Periodic("bucket-expiry", self.look, seconds, spread=_SPREAD)

    def start(self) -> None:
        """Begin."""
        self._looks.start()

    def stop(self) -> None:
        """End; a bucket that hangs isn't waited for."""
        self._looks.stop(STOP_SECONDS)

    def look(self) -> None:
        """Delete what has expired, and what dead processes left, once."""
        for open_bucket in self._buckets:
            self._clean(open_bucket)
        try:
            described = [bucket for bucket in self._catalog.snapshot().buckets.values() if bucket.lifecycle]
        except FlightserverError:
            _log.warning("the lifecycle rules can't be read", exc_info=True)
            return
        for bucket in described:
            try:
                self._honour(self._buckets.get(bucket.name), bucket)
            except FlightserverError as error:
                self._events.record(FAILED, bucket.name, error=error.message, code=error.code)

    def _clean(self, bucket: OpenBucket) -> None:
        objects = unlimited(bucket.objects)
        if isinstance(objects, LocalObjects):
            try:
                objects.clean()
            except FlightserverError:
                _log.warning("temporary files can't be deleted", extra={"bucket": bucket.name}, exc_info=True)

    def _honour(self, bucket: OpenBucket, described: Bucket) -> None:
        if applied_by(bucket, described) == "s3":
            return
        for rule in described.lifecycle:
            if rule.expire_days is not None:
                self._expire(bucket, rule, self._clock() - timedelta(days=rule.expire_days))
            if rule.abort_upload_days is not None and bucket.s3 is not None:
                self._abort(bucket, bucket.s3, rule, self._clock() - timedelta(days=rule.abort_upload_days))

    def _expire(self, bucket: OpenBucket, rule: LifecycleRule, until: datetime) -> None:
        objects = size = 0
        try:
            for meta in bucket.objects.list(rule.prefix):
                if self._looks.stopped.is_set():
                    break
                if meta.modified > until or meta.key.startswith(NAMED):
                    continue
                bucket.objects.delete(meta.key)
                objects += 1
                size += meta.size
        finally:
            if objects:
                prefix, days = rule.prefix, rule.expire_days
                self._events.record(EXPIRED, bucket.name, prefix=prefix, days=days, objects=objects, bytes=size)

    def _abort(self, bucket: OpenBucket, access: S3Access, rule: LifecycleRule, until: datetime) -> None:
        where, prefix = access.location.bucket, access.location.full_key(rule.prefix)
        aborted = 0
        with asking(access, f"abort uploads to bucket {bucket.name!r}") as s3:
            for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=where, Prefix=prefix):
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] <= until and upload["Key"].startswith(prefix):
                        s3.abort_multipart_upload(Bucket=where, Key=upload["Key"], UploadId=upload["UploadId"])
                        aborted += 1
        if aborted:
            days = rule.abort_upload_days
            self._events.record(ABORTED, bucket.name, prefix=rule.prefix, days=days, uploads=aborted)
