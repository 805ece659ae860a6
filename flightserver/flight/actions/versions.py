"""Actions on versions: `dataset.restore`, `dataset.tag`, `dataset.diff`, `bucket.collect`.

A version is written as its number, as a tag, or as a time in ISO 8601 (UTC where it has no zone).
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import msgspec

from flightserver.catalog.entities import PRIMARY
from flightserver.catalog.identities import Privilege
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import InvalidRequest
from flightserver.flight.actions.registry import Action, ActionRequest, ActionResponse, Progress
from flightserver.flight.permissions import ADMIN, OnDataset
from flightserver.flight.scoping import dataset_of, scope_of
from flightserver.query.diff import RowCounts, counted
from flightserver.query.following import following
from flightserver.query.language.changes import TableName
from flightserver.query.request import Request
from flightserver.tables.collecting import MOST_HOURS, Step
from flightserver.tables.versions import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flightserver.catalog.entities import Dataset
    from flightserver.flight.middleware import CallContext
    from flightserver.flight.scoping import OfDataset
    from flightserver.lakehouse import Lakehouse
    from flightserver.query.diff import Diff
    from flightserver.query.namespace import Scope

_Hours = Annotated[float, msgspec.Meta(ge=0, le=MOST_HOURS)]


class RestoreRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `dataset.restore`."""

    dataset: str
    version: int | str


class TagRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `dataset.tag`: names a version, by default the one that the dataset has now; or takes the name away."""

    dataset: str
    tag: str
    version: int | str | None = None
    delete: bool = False


class VersionResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `dataset.restore`: the version that the dataset has now; of `dataset.tag`: the one that is named."""

    dataset: str
    bucket: str
    version: int


class DiffRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `dataset.diff`; without `to`, the dataset as it is now."""

    dataset: str
    from_: int | str = msgspec.field(name="from")
    to: int | str | None = None


class ChangedColumn(msgspec.Struct, frozen=True):
    """A column that both versions have, but called otherwise, or of another type or nullability."""

    column: str
    was: str
    type: str
    type_was: str
    nullable: bool
    nullable_was: bool


class DiffResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `dataset.diff`.

    `rows_changed` counts rows of the same primary key and other values, which neither of the others counts; it is null
    where the versions have no primary key in common. Segments are those of `to` and of `from`.
    """

    dataset: str
    bucket: str
    from_: int = msgspec.field(name="from")
    to: int
    rows_added: int
    rows_removed: int
    rows_changed: int | None
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    columns_changed: tuple[ChangedColumn, ...]
    segments_shared: int
    segments_added: int
    segments_removed: int


class CollectRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `bucket.collect`; `older_than_hours` is a retention other than the configured one."""

    dry_run: bool = False
    older_than_hours: _Hours | None = None


class CollectResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `bucket.collect`: what was deleted, or would be; how many objects stay; the oldest readable version."""

    bucket: str
    objects: int
    bytes: int
    kept: int
    horizon: int
    examples: tuple[str, ...]


class VersionActions:
    """Handlers that look at, name, bring back and give up versions."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self._lakehouse = lakehouse

    def actions(self) -> list[Action]:
        """The family."""
        return [
            Action(
                "dataset.restore",
                "Give a dataset the rows, schema and key that it had at a version.",
                RestoreRequest,
                VersionResponse,
                OnDataset(self._lakehouse.queries, (Privilege.ALTER,)),
                self._restore,
            ),
            Action(
                "dataset.tag",
                "Name a version of a dataset.",
                TagRequest,
                VersionResponse,
                OnDataset(self._lakehouse.queries, (Privilege.ALTER,)),
                self._tag,
            ),
            Action(
                "dataset.diff",
                "What differs between two versions.",
                DiffRequest,
                DiffResponse,
                OnDataset(self._lakehouse.queries, (Privilege.SELECT,)),
                self._diff,
            ),
            Action(
                "bucket.collect",
                "Delete files that no version within retention names.",
                CollectRequest,
                CollectResponse,
                ADMIN,
                self._collect,
            ),
        ]

    def _restore(self, call: CallContext, request: RestoreRequest) -> Iterator[Progress | ActionResponse]:
        def restore(one: Dataset) -> VersionResponse:
            operation = Operation(new_ulid(), "restore", f"{one.key} to {request.version}", call.user)
            version = self._lakehouse.versions.restore(one.key, moment(one, request.version), operation)
            return VersionResponse(dataset=one.name, bucket=one.bucket, version=version)

        yield self._following(call, request, restore)

    def _tag(self, call: CallContext, request: TagRequest) -> Iterator[Progress | ActionResponse]:
        if request.delete and request.version is not None:
            raise InvalidRequest("dataset.tag deletes a tag by its name: leave `version` out, or `delete`")

        def tag(one: Dataset) -> VersionResponse:
            versions = self._lakehouse.versions
            kind = "delete tag" if request.delete else "tag"
            operation = Operation(new_ulid(), kind, f"{one.key} {request.tag}", call.user)
            if request.delete:
                version = versions.untag(one.key, request.tag, operation)
            else:
                at = None if request.version is None else moment(one, request.version)
                version = versions.tag(one.key, request.tag, at, operation)
            return VersionResponse(dataset=one.name, bucket=one.bucket, version=version)

        yield self._following(call, request, tag)

    def _following(
        self, call: CallContext, request: OfDataset, act: Callable[[Dataset], VersionResponse]
    ) -> VersionResponse:
        """Do it with the dataset that a request names, and again when that is moved meanwhile."""
        catalog = self._lakehouse.catalog

        def permitted(one: Dataset, scope: Scope) -> VersionResponse:
            scope.rights.require((Privilege.ALTER,), one.key, one)
            return act(one)

        scope = scope_of(self._lakehouse.queries, call, request.bucket)
        return following(TableName(request.dataset, request.bucket), scope, catalog, permitted)

    def _diff(self, call: CallContext, request: DiffRequest) -> Iterator[Progress | ActionResponse]:
        one = dataset_of(self._lakehouse.queries, call, request)
        end = None if request.to is None else moment(one, request.to)
        diff = self._lakehouse.diffs.between(one, moment(one, request.from_), end)
        rows = self._rows(call, diff)
        yield DiffResponse(
            dataset=one.name,
            bucket=one.bucket,
            from_=diff.then.version,
            to=diff.now.version,
            rows_added=rows.added,
            rows_removed=rows.removed,
            rows_changed=rows.changed,
            columns_added=diff.columns_added,
            columns_removed=diff.columns_removed,
            columns_changed=tuple(ChangedColumn(**asdict(change)) for change in diff.columns_changed),
            segments_shared=diff.segments_shared,
            segments_added=len(diff.after.segments),
            segments_removed=len(diff.before.segments),
        )

    def _rows(self, call: CallContext, diff: Diff) -> RowCounts:
        if not diff.before.segments and not diff.after.segments:
            return RowCounts(0, 0, 0 if diff.primary_key else None)
        request = Request(
            sql=f"dataset.diff of {diff.now.key} from version {diff.then.version} to {diff.now.version}",
            timeout_seconds=call.session.options.query_timeout,
            rights=call.rights,
            operation=new_ulid(),
            is_cancelled=call.is_cancelled,
        )
        with closing(self._lakehouse.queries.stream(self._lakehouse.diffs.tally(diff, request))) as rows:
            return counted(diff, rows)

    def _collect(self, call: CallContext, request: CollectRequest) -> Iterator[Progress | ActionResponse]:
        bucket = request.bucket or call.bucket or PRIMARY
        operation = Operation(new_ulid(), "collect", f"bucket {bucket}", call.user)
        self._lakehouse.bucket_service.check_own(bucket)
        for one in self._lakehouse.collector.collect(
            bucket, operation, older_than_hours=request.older_than_hours, dry_run=request.dry_run
        ):
            yield Progress(one.stage, one.done, one.total) if isinstance(one, Step) else CollectResponse(**asdict(one))
