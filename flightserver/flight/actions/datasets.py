"""Actions `dataset.describe`, `dataset.history` and `dataset.drop`: datasets without SQL."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it makes the JSON schema
from typing import TYPE_CHECKING

import msgspec

from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.flight.actions.registry import Action, ActionRequest, ActionResponse, Progress
from flightserver.query.request import Request
from flightserver.tables.schema import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.catalog.entities import Dataset
    from flightserver.flight.middleware import CallContext
    from flightserver.lakehouse import Lakehouse


class DatasetRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of actions on one dataset."""

    dataset: str


class Column(msgspec.Struct, frozen=True):
    """One column of a dataset; `type` is Arrow's name of the type."""

    name: str
    type: str
    nullable: bool


class Described(ActionResponse, frozen=True, kw_only=True):
    """Result of `dataset.describe`."""

    dataset: str
    bucket: str
    id: str
    version: int
    rows: int
    bytes: int
    segments: int
    created: datetime
    primary_key: tuple[str, ...]
    comment: str
    columns: list[Column]
    deltas: int = 0
    dead_rows: int = 0
    tags: dict[str, int] = msgspec.field(default_factory=dict)
    format: str | None = None
    """Of an attached dataset."""


class Version(msgspec.Struct, frozen=True):
    """One version of a dataset: the commit that made it, and the tags that name it."""

    version: int
    time: datetime
    kind: str
    detail: str
    user: str
    rows: int
    tags: tuple[str, ...] = ()


class History(ActionResponse, frozen=True, kw_only=True):
    """Result of `dataset.history`, newest first."""

    dataset: str
    bucket: str
    versions: list[Version]


class Done(ActionResponse, frozen=True, kw_only=True):
    """Result of actions that answer nothing more."""


class DatasetActions:
    """Handlers that look at or change whole datasets."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self._lakehouse = lakehouse

    def actions(self) -> list[Action]:
        """The families."""
        return [
            Action("dataset.describe", "Columns and facts of a dataset.", DatasetRequest, Described, self._describe),
            Action("dataset.history", "Versions of a dataset, newest first.", DatasetRequest, History, self._history),
            Action("dataset.drop", "Drop a dataset.", DatasetRequest, Done, self._drop),
        ]

    def _dataset(self, call: CallContext, request: ActionRequest, name: str) -> Dataset:
        bucket = request.bucket or call.bucket
        scope = self._lakehouse.queries.scope(Request(sql="", bucket=bucket, schema=call.schema))
        return scope.dataset(name, request.bucket)

    def _describe(self, call: CallContext, request: DatasetRequest) -> Iterator[Progress | ActionResponse]:
        one = self._dataset(call, request, request.dataset)
        yield Described(
            dataset=one.name,
            bucket=one.bucket,
            id=one.id,
            version=one.version,
            rows=one.rows,
            bytes=one.bytes,
            segments=len(one.segments),
            created=one.created,
            primary_key=one.primary_key,
            comment=one.comment,
            columns=[Column(field.name, str(field.type), field.nullable) for field in decode(one.schema)],
            deltas=len(one.deltas),
            dead_rows=sum(segment.dead for segment in one.segments),
            tags=one.tags,
            format=None if one.external is None else one.external.format,
        )

    def _history(self, call: CallContext, request: DatasetRequest) -> Iterator[Progress | ActionResponse]:
        one = self._dataset(call, request, request.dataset)
        tags: dict[int, list[str]] = {}
        for tag, version in sorted(one.tags.items()):
            tags.setdefault(version, []).append(tag)
        versions = [
            Version(
                entry.version,
                entry.time,
                entry.kind,
                entry.detail,
                entry.user,
                entry.rows,
                tuple(tags.get(entry.version, ())),
            )
            for entry in self._lakehouse.catalog.history(one)
        ]
        yield History(dataset=one.name, bucket=one.bucket, versions=versions)

    def _drop(self, call: CallContext, request: DatasetRequest) -> Iterator[Progress | ActionResponse]:
        one = self._dataset(call, request, request.dataset)
        operation = Operation(id=new_ulid(), kind="drop table", detail=str(one.key), user=call.user)
        self._lakehouse.tables.drop(one.name, one.bucket, operation)
        yield Done()
