"""Actions on buckets: `bucket.list`, `create`, `check`, `drop`, `rename` and `set_limits`.

A request names its bucket by `name`; the header and the field `bucket`, which say where datasets are, mean nothing.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it makes the JSON schema
from typing import TYPE_CHECKING, Literal

import msgspec

from flightserver.catalog.bucket_rules import bucket_url
from flightserver.catalog.entities import Bucket, S3Place
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import InvalidRequest
from flightserver.federation.service import Dropped
from flightserver.flight.actions.registry import Action, ActionResponse, Progress, ServerRequest
from flightserver.flight.permissions import ADMIN, CALLER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.flight.middleware import CallContext
    from flightserver.lakehouse import Lakehouse


class ListRequest(ServerRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `bucket.list`: nothing."""


class BucketFacts(msgspec.Struct, frozen=True):
    """One bucket. `reachable` and `checked` are null until it was looked at first."""

    name: str
    backend: str
    url: str
    datasets: int
    reachable: bool | None
    error: str | None
    checked: datetime | None


class BucketList(ActionResponse, frozen=True, kw_only=True):
    """Result of `bucket.list`."""

    buckets: list[BucketFacts]


class S3Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where an S3 bucket is, as `S3Place` has it; with `create` it is made unless it is there."""

    bucket: str
    endpoint: str = ""
    region: str = "us-east-1"
    prefix: str = ""
    path_style: bool = True
    credentials: str = "environment"
    encryption: str = ""
    kms_key: str = ""
    create: bool = False

    def place(self) -> S3Place:
        """As the catalog describes it."""
        fields = msgspec.structs.asdict(self)
        del fields["create"]
        return S3Place(**fields)


class CreateRequest(ServerRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `bucket.create`: `root` goes with the backend local, `s3` with s3."""

    name: str
    backend: Literal["local", "s3"]
    root: str | None = None
    s3: S3Request | None = None


class Created(ActionResponse, frozen=True, kw_only=True):
    """Result of `bucket.create` and `bucket.rename`."""

    name: str
    backend: str
    url: str


class NameRequest(ServerRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of actions on one bucket."""

    name: str


class Checked(ActionResponse, frozen=True, kw_only=True):
    """Result of `bucket.check`."""

    name: str
    reachable: bool
    readable: bool
    writable: bool
    conditional_put: bool
    latency_ms: float
    error: str | None


class DropRequest(ServerRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `bucket.drop`: `contents` says what becomes of the files of its datasets and vector indexes."""

    name: str
    contents: Literal["keep", "delete"] | None = None


class BucketDropped(ActionResponse, frozen=True, kw_only=True):
    """Result of `bucket.drop`: how many datasets and vector indexes went with it, and how many objects were deleted."""

    name: str
    datasets: int
    objects: int
    indexes: int


class RenameRequest(ServerRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `bucket.rename`."""

    name: str
    to: str


class LimitsRequest(ServerRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `bucket.set_limits`: a limit that isn't given stays."""

    name: str
    put_bytes: int | None = None
    vector_put_bytes: int | None = None


class Limited(ActionResponse, frozen=True, kw_only=True):
    """Result of `bucket.set_limits`: both limits as they are now."""

    name: str
    put_bytes: int
    vector_put_bytes: int


class BucketActions:
    """Handlers."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self._lakehouse = lakehouse
        self._service = lakehouse.bucket_service

    def actions(self) -> list[Action]:
        """The actions."""
        return [
            Action(
                "bucket.list", "The buckets, and which can be reached.", ListRequest, BucketList, CALLER, self._list
            ),
            Action(
                "bucket.create",
                "Create a bucket: a local directory, or an S3 bucket that is attached or made.",
                CreateRequest,
                Created,
                ADMIN,
                self._create,
            ),
            Action("bucket.check", "Find out what a bucket can do, now.", NameRequest, Checked, ADMIN, self._check),
            Action("bucket.drop", "Drop a bucket.", DropRequest, BucketDropped, ADMIN, self._drop),
            Action("bucket.rename", "Call a bucket by another name.", RenameRequest, Created, ADMIN, self._rename),
            Action(
                "bucket.set_limits", "Change how large puts may be.", LimitsRequest, Limited, ADMIN, self._set_limits
            ),
        ]

    def _list(self, call: CallContext, _request: ListRequest) -> Iterator[Progress | ActionResponse]:
        newest = self._lakehouse.catalog.snapshot()
        snapshot = call.rights.at(newest.access).visible(newest, newest)
        homes = [key.bucket for key in snapshot.datasets]
        facts = []
        for one in snapshot.buckets.values():
            seen = self._lakehouse.keeper.health(one.name)
            known = (None, None, None) if seen is None else (seen.reachable, seen.error, seen.checked)
            facts.append(BucketFacts(one.name, one.backend, bucket_url(one), homes.count(one.name), *known))
        yield BucketList(buckets=facts)

    def _create(self, call: CallContext, request: CreateRequest) -> Iterator[Progress | ActionResponse]:
        other = "s3" if request.backend == "local" else "root"
        if getattr(request, other) is not None:
            raise InvalidRequest(f"`{other}` doesn't go with the backend {request.backend!r}: leave it out")
        if request.root is not None and not request.root.strip():
            raise InvalidRequest("`root` is empty: leave it out for the usual one")
        place = None if request.s3 is None else request.s3.place()
        wanted = Bucket(request.name, request.backend, request.root or "", s3=place)
        make = request.s3 is not None and request.s3.create
        yield _created(self._service.create(wanted, _operation(call, "create bucket", request.name), make=make))

    def _check(self, _call: CallContext, request: NameRequest) -> Iterator[Progress | ActionResponse]:
        found = self._service.check(request.name)
        yield Checked(
            name=request.name,
            reachable=found.reachable,
            readable=found.readable,
            writable=found.writable and found.deletable,
            conditional_put=found.conditional_put,
            latency_ms=found.latency_ms,
            error=found.error,
        )

    def _drop(self, call: CallContext, request: DropRequest) -> Iterator[Progress | ActionResponse]:
        operation = _operation(call, "drop bucket", request.name)
        for answer in self._service.drop(request.name, request.contents, operation):
            if isinstance(answer, Dropped):
                yield BucketDropped(
                    name=request.name, datasets=answer.datasets, objects=answer.objects, indexes=answer.indexes
                )
            else:
                yield Progress(answer.stage, answer.done, answer.total)

    def _rename(self, call: CallContext, request: RenameRequest) -> Iterator[Progress | ActionResponse]:
        operation = _operation(call, "rename bucket", f"{request.name} -> {request.to}")
        yield _created(self._service.rename(request.name, request.to, operation))

    def _set_limits(self, call: CallContext, request: LimitsRequest) -> Iterator[Progress | ActionResponse]:
        limits = self._service.set_limits(
            request.name, request.put_bytes, request.vector_put_bytes, _operation(call, "limit bucket", request.name)
        )
        yield Limited(name=request.name, put_bytes=limits.put_bytes, vector_put_bytes=limits.vector_put_bytes)


def _operation(call: CallContext, kind: str, detail: str) -> Operation:
    return Operation(id=new_ulid(), kind=kind, detail=detail, user=call.user)


def _created(bucket: Bucket) -> Created:
    return Created(name=bucket.name, backend=bucket.backend, url=bucket_url(bucket))
