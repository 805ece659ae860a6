"""Actions `dataset.move` and `bucket.mirror`: the files of datasets in other buckets."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

from flightserver.catalog.entities import PRIMARY, DatasetKey
from flightserver.catalog.identities import Privilege
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.federation.mirroring import Mirrored
from flightserver.flight.actions.registry import Action, ActionRequest, ActionResponse, Progress
from flightserver.flight.permissions import ADMIN, OnDataset
from flightserver.flight.scoping import dataset_of, scope_of
from flightserver.tables.moving import Moved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.flight.middleware import CallContext
    from flightserver.lakehouse import Lakehouse


class MoveRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `dataset.move`; `to` is the bucket that becomes the dataset's home."""

    dataset: str
    to: str


class MoveResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `dataset.move`: `bucket` is the new home and `moved_from` the old one.

    `objects` of `bytes` in all were copied, and `already` more were there.
    """

    dataset: str
    bucket: str
    moved_from: str
    version: int
    objects: int
    bytes: int
    already: int


class MirrorRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `bucket.mirror`: of all datasets of the bucket, or of one.

    `continuous` says whether the mirror of that is kept current from now on; null leaves it as it is.
    """

    dataset: str | None = None
    continuous: bool | None = None


class MirrorResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `bucket.mirror`: what was copied to `rescue`, how many more files were there, and what goes on."""

    bucket: str
    objects: int
    bytes: int
    already: int
    continuous: bool


class MovingActions:
    """Handlers."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self._lakehouse = lakehouse

    def actions(self) -> list[Action]:
        """The actions."""
        return [
            Action(
                "dataset.move",
                "Make another bucket the home of a dataset: its files are copied there, with its history kept.",
                MoveRequest,
                MoveResponse,
                OnDataset(self._lakehouse.queries, (Privilege.ALTER,), create_in="to"),
                self._move,
            ),
            Action(
                "bucket.mirror",
                "Copy what bucket rescue lacks of a bucket's datasets, or of one, now or from now on.",
                MirrorRequest,
                MirrorResponse,
                ADMIN,
                self._mirror,
            ),
        ]

    def _move(self, call: CallContext, request: MoveRequest) -> Iterator[Progress | ActionResponse]:
        found = dataset_of(self._lakehouse.queries, call, request)
        operation = Operation(new_ulid(), "move", f"{found.key} to bucket {request.to}", call.user)
        with closing(self._lakehouse.mover.move(found.key, request.to, operation)) as running:
            for answer in running:
                if isinstance(answer, Moved):
                    yield MoveResponse(
                        dataset=answer.key.name,
                        bucket=answer.key.bucket,
                        moved_from=answer.source,
                        version=answer.version,
                        objects=answer.objects,
                        bytes=answer.bytes,
                        already=answer.already,
                    )
                else:
                    yield Progress(answer.stage, answer.done, answer.total)

    def _mirror(self, call: CallContext, request: MirrorRequest) -> Iterator[Progress | ActionResponse]:
        bucket = request.bucket or call.bucket or PRIMARY
        if request.dataset is not None:
            scope = scope_of(self._lakehouse.queries, call, request.bucket)
            bucket = scope.dataset(request.dataset, request.bucket).bucket
        if request.continuous is not None:
            kept = self._keep(call, bucket, request.dataset, continuous=request.continuous)
            if not request.continuous:
                yield MirrorResponse(**asdict(kept))
                return
        with closing(self._lakehouse.mirror.mirror(bucket, request.dataset)) as running:
            for answer in running:
                if isinstance(answer, Mirrored):
                    yield MirrorResponse(**asdict(answer))
                else:
                    yield Progress(answer.stage, answer.done, answer.total)

    def _keep(self, call: CallContext, bucket: str, dataset: str | None, *, continuous: bool) -> Mirrored:
        """Say whether the mirror of a bucket, or of one of its datasets, is kept current."""
        what = f"bucket {bucket}" if dataset is None else f"dataset {DatasetKey(bucket, dataset)}"
        operation = Operation(new_ulid(), "mirror", f"{what}, continuous {'on' if continuous else 'off'}", call.user)
        mirror = self._lakehouse.mirror
        if dataset is None:
            return mirror.keep(bucket, operation, continuous=continuous)
        return mirror.keep_dataset(DatasetKey(bucket, dataset), operation, continuous=continuous)
