"""Actions `dataset.attach` and `dataset.export`: tables that others write, and copies that others read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from flightserver.catalog.identities import Privilege
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.flight.actions.datasets import Column
from flightserver.flight.actions.registry import Action, ActionRequest, ActionResponse, Progress
from flightserver.flight.permissions import Creating, OnDataset
from flightserver.flight.scoping import scope_of
from flightserver.tables.exporting import ExportRequest
from flightserver.tables.external.attaching import AttachRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.flight.middleware import CallContext
    from flightserver.lakehouse import Lakehouse
    from flightserver.tables.exporting import Exports
    from flightserver.tables.external.attaching import ExternalTables


class AttachBody(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `dataset.attach`: `location` is a path under an allowed root; `format` can be guessed."""

    dataset: str
    location: str
    format: Literal["delta", "iceberg", "lance", "parquet"] | None = None
    options: dict[str, str] = msgspec.field(default_factory=dict)


class AttachedResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `dataset.attach`; `rows` is null where the table doesn't say how many it has."""

    dataset: str
    bucket: str
    version: int
    format: str
    columns: list[Column]
    rows: int | None


class ExportBody(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `dataset.export`: `destination` is a new or empty directory under an allowed root."""

    dataset: str
    destination: str
    version: int | None = None
    format: Literal["parquet"] = "parquet"
    partition_by: tuple[str, ...] = ()
    file_bytes: int | None = None


class ExportedResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `dataset.export`; `manifest` is relative to the root."""

    dataset: str
    bucket: str
    version: int
    files: int
    rows: int
    bytes: int
    manifest: str


class InteropActions:
    """Handlers.

    Args:
        lakehouse: Whose datasets.
        external: Attaches tables.
        exports: Writes copies.
    """

    def __init__(self, lakehouse: Lakehouse, external: ExternalTables, exports: Exports) -> None:
        self._lakehouse = lakehouse
        self._external = external
        self._exports = exports

    def actions(self) -> list[Action]:
        """The actions."""
        return [
            Action(
                "dataset.attach",
                "Register a Delta Lake, Iceberg or Lance table, or a directory of Parquet, to be read.",
                AttachBody,
                AttachedResponse,
                Creating(),
                self._attach,
            ),
            Action(
                "dataset.export",
                "Write a dataset as plain Parquet files with a manifest.",
                ExportBody,
                ExportedResponse,
                OnDataset(
                    self._lakehouse.queries,
                    (
                        Privilege.SELECT,
                        Privilege.ALTER,
                    ),
                ),
                self._export,
            ),
        ]

    def _attach(self, call: CallContext, request: AttachBody) -> Iterator[Progress | ActionResponse]:
        bucket = call.home(request.bucket)
        operation = Operation(id=new_ulid(), kind="attach", detail=request.dataset, user=call.user)
        asked = AttachRequest(
            name=request.dataset,
            bucket=bucket,
            location=request.location,
            format=request.format,
            options=request.options,
            operation=operation,
        )
        attached = self._external.attach(asked, self._lakehouse.catalog)
        yield AttachedResponse(
            dataset=attached.key.name,
            bucket=attached.key.bucket,
            version=attached.version,
            format=attached.format,
            columns=[Column(field.name, str(field.type), field.nullable) for field in attached.schema],
            rows=attached.rows,
        )

    def _export(self, call: CallContext, request: ExportBody) -> Iterator[Progress | ActionResponse]:
        scope = scope_of(self._lakehouse.queries, call, request.bucket, request.version)
        dataset = scope.dataset(request.dataset, request.bucket)
        # At another version the name may mean a dataset that is called otherwise now.
        scope.rights.require((Privilege.SELECT, Privilege.ALTER), scope.key_now(dataset), scope.now(dataset))
        export = self._exports.export(
            ExportRequest(dataset, request.destination, request.partition_by, request.file_bytes)
        )
        while True:
            try:
                yield Progress("rows", next(export), dataset.rows)
            except StopIteration as end:
                exported = end.value
                break
        yield ExportedResponse(
            dataset=dataset.name,
            bucket=dataset.bucket,
            version=dataset.version,
            files=exported.files,
            rows=exported.rows,
            bytes=exported.bytes,
            manifest=exported.manifest,
        )
