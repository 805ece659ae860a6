"""Actions `ingest.*`: files on the server and uploads become datasets."""

from __future__ import annotations

import queue
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.flight.actions.registry import Action, ActionRequest, ActionResponse, Progress
from flightserver.flight.permissions import Ingesting, still_ingests
from flightserver.ingest.service import FileRequest
from flightserver.query.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.flight.middleware import CallContext
    from flightserver.ingest.service import Ingest
    from flightserver.ingest.source import Progress as FileProgress
    from flightserver.query.service import Queries
    from flightserver.tables.writes import WriteResult
    from flightserver.telemetry import Metrics

_Mode = Literal["create", "append", "replace", "create_append", "upsert"]


class IngestFileRequest(ActionRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `ingest.file`.

    `source` is an upload id, a path under an allowed root, or the URL of an object that others put into a bucket.
    """

    source: str
    dataset: str
    mode: _Mode = "create"
    format: str | None = None
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    primary_key: tuple[str, ...] = ()
    evolve: bool = False


class IngestFileResponse(ActionResponse, frozen=True, kw_only=True):
    """Result of `ingest.file`; `unchanged` is true when identical bytes were there already."""

    dataset: str
    bucket: str
    version: int
    rows: int
    bytes: int
    files: int
    unchanged: bool


def visible_buckets(queries: Queries, call: CallContext) -> frozenset[str]:
    """The buckets that exist for a caller."""
    return frozenset(queries.scope(Request(sql="", rights=call.rights)).snapshot.buckets)


def load_file(
    ingest: Ingest, metrics: Metrics, queries: Queries, call: CallContext, request: IngestFileRequest
) -> Iterator[Progress | ActionResponse]:
    """Carries out `ingest.file`."""
    kind = f"ingest {request.mode}"
    key = DatasetKey(call.home(request.bucket), request.dataset)
    job = FileRequest(
        source=request.source,
        dataset=request.dataset,
        bucket=key.bucket,
        mode=request.mode,
        operation=Operation(id=new_ulid(), kind=kind, detail=request.dataset, user=call.user),
        file_format=request.format,
        options=request.options,
        primary_key=request.primary_key,
        evolve=request.evolve,
        buckets=visible_buckets(queries, call),
        confirm=still_ingests(queries, call, key, mode=request.mode, evolve=request.evolve),
    )
    for answer in _with_progress(ingest, job):
        if isinstance(answer, IngestFileResponse):
            metrics.ingested_rows.inc(answer.rows)
            metrics.ingested_bytes.inc(answer.bytes)
        yield answer


def ingest_actions(ingest: Ingest, metrics: Metrics, queries: Queries) -> list[Action]:
    """The family."""

    def ingest_file(call: CallContext, request: IngestFileRequest) -> Iterator[Progress | ActionResponse]:
        return load_file(ingest, metrics, queries, call, request)

    return [
        Action(
            "ingest.file",
            "Load a file (CSV, JSON, Parquet, Arrow; compressed or not) into a dataset.",
            IngestFileRequest,
            IngestFileResponse,
            Ingesting(queries),
            ingest_file,
        )
    ]


def _with_progress(ingest: Ingest, job: FileRequest) -> Iterator[Progress | ActionResponse]:
    """Runs the job on a thread of its own and yields its progress meanwhile.

    A client that goes away stops reading but not the job: what it asked for is finished and committed, or fails.
    """
    reports: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
    outcome: list[WriteResult | BaseException] = []

    def report(progress: FileProgress) -> None:
        reports.put(Progress(progress.stage, progress.done, progress.total))

    def run() -> None:
        try:
            outcome.append(ingest.file(replace(job, progress=report)))
        except BaseException as error:  # noqa: BLE001  # handed to the thread of the call, which raises it
            outcome.append(error)
        finally:
            reports.put(None)

    threading.Thread(target=run, name="ingest-file").start()
    while (progress := reports.get()) is not None:
        yield progress
    result = outcome.pop()
    if isinstance(result, BaseException):
        try:
            raise result
        finally:
            del result  # an error that a frame of its own traceback holds is freed late
    yield IngestFileResponse(
        dataset=result.dataset,
        bucket=result.bucket,
        version=result.version,
        rows=result.rows,
        bytes=result.bytes,
        files=result.files,
        unchanged=result.unchanged,
    )
