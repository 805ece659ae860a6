"""Action `dataset.compact`: files of a good size, without deltas."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from flightserver.catalog.identities import Privilege
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.flight.actions.registry import Action, ActionRequest, ActionResponse, Progress
from flightserver.flight.permissions import OnDataset
from flightserver.flight.scoping import dataset_of
from flightserver.tables.compaction import CompactResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.flight.middleware import CallContext
    from flightserver.lakehouse import Lakehouse


class CompactRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `dataset.compact`: with `sort_by` or `z_order` all rows are put into that order."""

    dataset: str
    target_bytes: int | None = None
    sort_by: tuple[str, ...] = ()
    z_order: tuple[str, ...] = ()


class Compacted(ActionResponse, frozen=True, kw_only=True):
    """Result of `dataset.compact`; `unchanged` is true when there was nothing to do."""

    dataset: str
    bucket: str
    version: int
    files_before: int
    files_after: int
    deltas_folded: int
    rows: int
    unchanged: bool


class MaintenanceActions:
    """Handlers."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self._lakehouse = lakehouse

    def actions(self) -> list[Action]:
        """The actions."""
        return [
            Action(
                "dataset.compact",
                "Fold deltas into new files of a good size, and sort the rows if asked to.",
                CompactRequest,
                Compacted,
                OnDataset(self._lakehouse.queries, (Privilege.ALTER,)),
                self._compact,
            )
        ]

    def _compact(self, call: CallContext, request: CompactRequest) -> Iterator[Progress | ActionResponse]:
        lakehouse = self._lakehouse
        found = dataset_of(lakehouse.queries, call, request)
        wanted = lakehouse.compactor.wanted(request.target_bytes)
        ordered = lakehouse.sorting.ordered(request.sort_by, request.z_order)
        operation = Operation(id=new_ulid(), kind="compact", detail=str(found.key), user=call.user)
        # A client that goes away gives it up, and must not leave that to the garbage collector.
        with closing(lakehouse.compactor.compact(found.key, operation, wanted, ordered)) as running:
            for answer in running:
                if isinstance(answer, CompactResult):
                    yield _response(answer)
                else:
                    yield Progress(answer.stage, answer.done, answer.total)


def _response(result: CompactResult) -> Compacted:
    return Compacted(
        dataset=result.key.name,
        bucket=result.key.bucket,
        version=result.version,
        files_before=result.files_before,
        files_after=result.files_after,
        deltas_folded=result.deltas_folded,
        rows=result.rows,
        unchanged=result.unchanged,
    )
