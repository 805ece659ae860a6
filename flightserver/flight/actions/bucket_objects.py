"""Actions on the objects of a bucket: `bucket.usage`, `presign`, `set_lifecycle` and `get_lifecycle`."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it makes the JSON schema
from typing import TYPE_CHECKING, Literal

import msgspec

from flightserver.catalog.entities import PRIMARY, LifecycleRule
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.federation.lifecycle import AppliedBy, applied_by, described, set_rules
from flightserver.federation.presigning import presign
from flightserver.federation.usage import Amount, Holding, Usage, measure
from flightserver.flight.actions.registry import Action, ActionRequest, ActionResponse, BucketName, Progress
from flightserver.flight.permissions import ADMIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.flight.middleware import CallContext
    from flightserver.lakehouse import Lakehouse
    from flightserver.storage.buckets import OpenBucket


class BucketRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of actions on one bucket: `name`, else `bucket` or the header, else `primary`."""

    name: BucketName | None = None


class PresignRequest(BucketRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `bucket.presign`: PUT below `_staging/uploads/` only, GET not below `_catalog/`."""

    method: Literal["GET", "PUT"]
    key: str
    expires_seconds: int = 3600


class RuleFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One lifecycle rule; a period that isn't given isn't applied."""

    prefix: str
    expire_days: int | None = None
    abort_upload_days: int | None = None
    transition_days: int | None = None
    storage_class: str = ""


class SetLifecycleRequest(BucketRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `bucket.set_lifecycle`: all rules that the bucket is to have; none takes those that it has away."""

    rules: tuple[RuleFields, ...]


class KindUsage(msgspec.Struct, frozen=True):
    """What there is of one kind."""

    kind: str
    objects: int
    bytes: int


class DatasetUsage(msgspec.Struct, frozen=True):
    """What one dataset has in the bucket: `past_` counts what only earlier versions name."""

    dataset: str
    bucket: str
    objects: int
    bytes: int
    past_objects: int
    past_bytes: int


class IndexUsage(msgspec.Struct, frozen=True):
    """What one vector index has in the bucket: `past_` counts what only earlier versions name."""

    index: str
    bucket: str
    objects: int
    bytes: int
    past_objects: int
    past_bytes: int


class UsageResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `bucket.usage`."""

    name: str
    objects: int
    bytes: int
    kinds: list[KindUsage]
    datasets: list[DatasetUsage]
    indexes: list[IndexUsage]


class PresignResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `bucket.presign`."""

    url: str
    expires_at: datetime


class LifecycleResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `bucket.get_lifecycle` and `bucket.set_lifecycle`: who applies the rules is "s3" or "server"."""

    name: str
    rules: list[RuleFields]
    applied_by: AppliedBy


class BucketObjectActions:
    """Handlers."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self._lakehouse = lakehouse

    def actions(self) -> list[Action]:
        """The actions."""
        return [
            Action(
                "bucket.usage",
                "Objects and bytes in a bucket, by kind, by dataset and by vector index.",
                BucketRequest,
                UsageResponse,
                ADMIN,
                self._usage,
            ),
            Action(
                "bucket.presign",
                "A URL that reads or writes one object of an S3 bucket for a while, without credentials.",
                PresignRequest,
                PresignResponse,
                ADMIN,
                self._presign,
            ),
            Action(
                "bucket.set_lifecycle",
                "Set the rules by which objects of a bucket expire or change their storage class.",
                SetLifecycleRequest,
                LifecycleResponse,
                ADMIN,
                self._set_lifecycle,
            ),
            Action(
                "bucket.get_lifecycle",
                "The lifecycle rules of a bucket, and who applies them.",
                BucketRequest,
                LifecycleResponse,
                ADMIN,
                self._get_lifecycle,
            ),
        ]

    def _bucket(self, call: CallContext, request: BucketRequest) -> OpenBucket:
        return self._lakehouse.buckets.get(request.name or request.bucket or call.bucket or PRIMARY)

    def _usage(self, call: CallContext, request: BucketRequest) -> Iterator[Progress | ActionResponse]:
        lakehouse, bucket = self._lakehouse, self._bucket(call, request)
        for answer in measure(bucket, lakehouse.catalog.snapshot(), lakehouse.collector):
            if isinstance(answer, Usage):
                yield _usage_response(bucket.name, answer)
            else:
                yield Progress("list", answer, 0)

    def _presign(self, call: CallContext, request: PresignRequest) -> Iterator[Progress | ActionResponse]:
        signed = presign(self._bucket(call, request), request.method, request.key, request.expires_seconds)
        yield PresignResponse(url=signed.url, expires_at=signed.expires_at)

    def _set_lifecycle(self, call: CallContext, request: SetLifecycleRequest) -> Iterator[Progress | ActionResponse]:
        bucket = self._bucket(call, request)
        rules = [LifecycleRule(**msgspec.structs.asdict(rule)) for rule in request.rules]
        operation = Operation(id=new_ulid(), kind="set lifecycle", detail=bucket.name, user=call.user)
        by = set_rules(self._lakehouse.catalog, bucket, rules, operation)
        yield LifecycleResponse(name=bucket.name, rules=list(request.rules), applied_by=by)

    def _get_lifecycle(self, call: CallContext, request: BucketRequest) -> Iterator[Progress | ActionResponse]:
        bucket = self._bucket(call, request)
        found = described(self._lakehouse.catalog, bucket.name)
        rules = [RuleFields(**msgspec.structs.asdict(rule)) for rule in found.lifecycle]
        yield LifecycleResponse(name=bucket.name, rules=rules, applied_by=applied_by(bucket, found))


def _usage_response(name: str, usage: Usage) -> UsageResponse:
    return UsageResponse(
        name=name,
        objects=usage.total.objects,
        bytes=usage.total.bytes,
        kinds=[_kind_usage(kind, amount) for kind, amount in usage.kinds.items()],
        datasets=[
            DatasetUsage(dataset, bucket, *_numbers(found))
            for (bucket, dataset), found in sorted(usage.datasets.items())
        ],
        indexes=[
            IndexUsage(index, bucket, *_numbers(found)) for (bucket, index), found in sorted(usage.indexes.items())
        ],
    )


def _numbers(found: Holding) -> tuple[int, int, int, int]:
    return found.newest.objects, found.newest.bytes, found.past.objects, found.past.bytes


def _kind_usage(kind: str, amount: Amount) -> KindUsage:
    return KindUsage(kind, amount.objects, amount.bytes)
