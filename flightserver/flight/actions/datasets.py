"""Actions `dataset.describe`, `dataset.history` and `dataset.drop`: datasets without SQL."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it makes the JSON schema
from typing import TYPE_CHECKING

import msgspec

from flightserver.catalog.identities import Privilege
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.flight.actions.registry import Action, ActionRequest, ActionResponse, Progress
from flightserver.flight.permissions import OnDataset
from flightserver.flight.scoping import dataset_of, scope_of
from flightserver.query.information_schema import placements
from flightserver.query.keys import foreign_keys
from flightserver.tables.schema import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.catalog.entities import Dataset
    from flightserver.flight.middleware import CallContext
    from flightserver.lakehouse import Lakehouse
    from flightserver.query.namespace import Scope


class DatasetRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of actions on one dataset."""

    dataset: str


class Column(msgspec.Struct, frozen=True):
    """One column of a dataset; `type` is Arrow's name of the type."""

    name: str
    type: str
    nullable: bool


class ForeignKey(msgspec.Struct, frozen=True):
    """One foreign key of a dataset; `bucket` and `referenced_dataset` are what the other is called now."""

    name: str
    columns: tuple[str, ...]
    bucket: str
    referenced_dataset: str
    referenced_columns: tuple[str, ...]
    on_update: str
    on_delete: str


class Described(ActionResponse, frozen=True, kw_only=True):
    """Result of `dataset.describe`."""

    dataset: str
    bucket: str
    id: str
    version: int
    rows: int | None
    bytes: int | None
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
    foreign_keys: list[ForeignKey] = msgspec.field(default_factory=list)
    mirrored: bool = False
    """Whether `rescue` is kept a mirror of it, by itself: that of its bucket says nothing here."""


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
            Action(
                "dataset.describe",
                "Columns and facts of a dataset.",
                DatasetRequest,
                Described,
                OnDataset(self._lakehouse.queries, (Privilege.SELECT,)),
                self._describe,
            ),
            Action(
                "dataset.history",
                "Versions of a dataset, newest first.",
                DatasetRequest,
                History,
                OnDataset(self._lakehouse.queries, (Privilege.SELECT,)),
                self._history,
            ),
            Action(
                "dataset.drop",
                "Drop a dataset.",
                DatasetRequest,
                Done,
                OnDataset(self._lakehouse.queries, (Privilege.ALTER,)),
                self._drop,
            ),
        ]

    def _describe(self, call: CallContext, request: DatasetRequest) -> Iterator[Progress | ActionResponse]:
        scope = scope_of(self._lakehouse.queries, call, request.bucket)
        one = scope.dataset(request.dataset, request.bucket)
        hides = scope.hides(one)
        yield Described(
            dataset=one.name,
            bucket=one.bucket,
            id=one.id,
            version=one.version,
            rows=None if hides else one.rows,
            bytes=None if hides else one.bytes,
            segments=len(one.segments),
            created=one.created,
            primary_key=one.primary_key,
            comment=one.comment,
            columns=[Column(field.name, str(field.type), field.nullable) for field in decode(one.schema)],
            deltas=len(one.deltas),
            dead_rows=0 if hides else sum(segment.dead for segment in one.segments),
            tags=one.tags,
            format=None if one.external is None else one.external.format,
            foreign_keys=_foreign_keys(one, scope),
            mirrored=one.mirrored,
        )

    def _history(self, call: CallContext, request: DatasetRequest) -> Iterator[Progress | ActionResponse]:
        scope = scope_of(self._lakehouse.queries, call, request.bucket)
        one = scope.dataset(request.dataset, request.bucket)
        scope.rights.require_unprotected(one.key, one)
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
        one = dataset_of(self._lakehouse.queries, call, request)
        operation = Operation(id=new_ulid(), kind="drop table", detail=str(one.key), user=call.user)
        self._lakehouse.tables.drop(one.name, one.bucket, operation)
        yield Done()


def _foreign_keys(dataset: Dataset, scope: Scope) -> list[ForeignKey]:
    """Those that refer to a dataset which the client may know of."""
    return [
        ForeignKey(
            name=key.name,
            columns=key.columns,
            bucket=other.schema,
            referenced_dataset=other.table,
            referenced_columns=key.referenced,
            on_update=key.on_update,
            on_delete=key.on_delete,
        )
        for schema, table, key, other in foreign_keys(list(placements(scope)))
        if (schema, table) == dataset.key
    ]
