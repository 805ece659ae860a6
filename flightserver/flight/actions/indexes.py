"""Actions of vector indexes: `index.create`, `index.refresh`, `index.move` and `index.drop`.

What is said of an index is what the caller sees of it: an index whose dataset the caller may not select doesn't exist,
and its column has the name that it has now. `system.indexes` lists them.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.identities import Privilege
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.flight.actions.registry import Action, ActionRequest, ActionResponse, Progress
from flightserver.flight.permissions import OnDataset, OnIndex
from flightserver.flight.scoping import index_of, scope_of
from flightserver.tables.moving import Step
from flightserver.tables.schema import decode, stored_name

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.indexes import VectorIndex
    from flightserver.flight.middleware import CallContext
    from flightserver.lakehouse import Lakehouse

_T = TypeVar("_T")

_Dimension = Annotated[int, msgspec.Meta(ge=1)]


class CreateRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `index.create`.

    `bucket` is that of the dataset, and `to` the home of the index, the dataset's if absent. `dimension` is that of the
    column's vectors if absent.
    """

    index: str
    dataset: str
    column: str
    metric: Literal["cosine", "l2", "dot"] = "cosine"
    dimension: _Dimension | None = None
    precision: Literal["float32", "float16"] = "float32"
    to: str | None = None


class IndexRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of actions on one index; `bucket` is its home."""

    index: str


class MoveRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `index.move`; `to` is the bucket that becomes the home of the index."""

    index: str
    to: str


class IndexResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `index.create`: what there is now.

    `vectors` are in the index, `skipped` rows have none that fits, and `version` is the commit that last changed it.
    """

    index: str
    bucket: str
    dataset: str
    dataset_bucket: str
    column: str | None
    """Null when the column was dropped."""
    metric: str
    dimension: int
    precision: str
    vectors: int
    skipped: int
    bytes: int
    version: int


class RefreshResponse(IndexResponse, frozen=True, kw_only=True):
    """Result of `index.refresh`; `rebuilt` says whether there was anything to do."""

    rebuilt: bool


class MoveResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `index.move`: `bucket` is the new home and `moved_from` the old one.

    `objects` of `bytes` in all were copied, and `already` more were there.
    """

    index: str
    bucket: str
    moved_from: str
    version: int
    objects: int
    bytes: int
    already: int


class DropResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `index.drop`: what isn't there any more."""

    index: str
    bucket: str


class IndexActions:
    """Handlers."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self._lakehouse = lakehouse

    def actions(self) -> list[Action]:
        """The actions."""
        queries = self._lakehouse.queries
        alter = (Privilege.ALTER,)
        return [
            Action(
                "index.create",
                "Make a vector index over a column of a dataset, so that `vector_search` finds its nearest rows.",
                CreateRequest,
                IndexResponse,
                OnDataset(queries, (Privilege.SELECT, Privilege.ALTER), create_in="to"),
                self._create,
            ),
            Action(
                "index.refresh",
                "Take rows into a vector index that came since it was built, and leave out those that have gone.",
                IndexRequest,
                RefreshResponse,
                OnIndex(queries, alter),
                self._refresh,
            ),
            Action(
                "index.move",
                "Make another bucket the home of a vector index.",
                MoveRequest,
                MoveResponse,
                OnIndex(queries, alter, create_in="to"),
                self._move,
            ),
            Action(
                "index.drop",
                "Drop a vector index; its dataset stays as it is.",
                IndexRequest,
                DropResponse,
                OnIndex(queries, alter),
                self._drop,
            ),
        ]

    def _create(self, call: CallContext, request: CreateRequest) -> Iterator[Progress | ActionResponse]:
        scope = scope_of(self._lakehouse.queries, call, request.bucket)
        dataset = scope.dataset(request.dataset, request.bucket)
        # A name that a bucket had before would lead to it, and the permission was for the name that was given.
        home = dataset.bucket if request.to is None else scope.snapshot.bucket(request.to).name
        key = DatasetKey(home, request.index)
        running = self._lakehouse.indexes.create(
            key,
            dataset,
            request.column,
            _operation(call, "create index", f"{key} on {dataset.key}"),
            metric=request.metric,
            dimension=request.dimension,
            precision=request.precision,
        )
        yield from _told(running, lambda made: IndexResponse(**_facts(made, dataset)))

    def _refresh(self, call: CallContext, request: IndexRequest) -> Iterator[Progress | ActionResponse]:
        index, dataset = index_of(self._lakehouse.queries, call, request)
        operation = _operation(call, "refresh index", f"{index.key} on {dataset.key}")
        running = self._lakehouse.indexes.refresh(index.key, operation)

        def answer(now: VectorIndex) -> ActionResponse:
            return RefreshResponse(**_facts(now, dataset), rebuilt=now.generation.id != index.generation.id)

        yield from _told(running, answer)

    def _move(self, call: CallContext, request: MoveRequest) -> Iterator[Progress | ActionResponse]:
        index, _ = index_of(self._lakehouse.queries, call, request)
        operation = _operation(call, "move index", f"{index.key} to bucket {request.to}")
        running = self._lakehouse.indexes.move(index.key, request.to, operation)
        yield from _told(
            running,
            lambda moved: MoveResponse(
                index=moved.index.name,
                bucket=moved.index.bucket,
                moved_from=moved.source,
                version=moved.index.version,
                objects=moved.objects,
                bytes=moved.bytes,
                already=moved.already,
            ),
        )

    def _drop(self, call: CallContext, request: IndexRequest) -> Iterator[Progress | ActionResponse]:
        index, dataset = index_of(self._lakehouse.queries, call, request)
        self._lakehouse.indexes.drop(index.key, _operation(call, "drop index", f"{index.key} on {dataset.key}"))
        yield DropResponse(index=index.name, bucket=index.bucket)


def _operation(call: CallContext, kind: str, detail: str) -> Operation:
    return Operation(new_ulid(), kind, detail, call.user)


def _told(running: Generator[Step | _T], answer: Callable[[_T], ActionResponse]) -> Iterator[Progress | ActionResponse]:
    """What a long action tells: its steps, and the answer that its result becomes."""
    with closing(running):
        for each in running:
            if isinstance(each, Step):
                yield Progress(each.stage, each.done, each.total)
            else:
                yield answer(each)


def _facts(index: VectorIndex, dataset: Dataset) -> dict[str, Any]:
    """Fields of `IndexResponse`."""
    columns = {stored_name(field): field.name for field in decode(dataset.schema)}
    return {
        "index": index.name,
        "bucket": index.bucket,
        "dataset": dataset.name,
        "dataset_bucket": dataset.bucket,
        "column": columns.get(index.column),
        "metric": index.metric,
        "dimension": index.dimension,
        "precision": index.precision,
        "vectors": index.generation.vectors,
        "skipped": index.generation.skipped,
        "bytes": index.generation.bytes,
        "version": index.version,
    }
