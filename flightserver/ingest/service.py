"""Ingest: rows from files, uploads and Arrow streams into datasets.

Theory of operation: a file is hashed first. When the dataset has those very bytes, read in the same way, nothing
else happens. Otherwise its source is opened, which settles the schema, and the batches are handed to
`Tables.write`, which commits all or nothing. An upload is discarded when its rows are committed, and kept after a
failure so that it can be tried again.

Invariant: what is committed is what was hashed; a file that changes while it is read fails the write.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.transaction import Confirmed
from flightserver.errors import InvalidRequest
from flightserver.ingest.formats import check_format, open_source
from flightserver.ingest.source import File, Limits, Progress, no_progress, reading
from flightserver.ingest.uploads import is_upload_id
from flightserver.tables.requests import Mode, WriteRequest, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.log import Operation
    from flightserver.catalog.transaction import Commits
    from flightserver.ingest.fetching import Fetcher
    from flightserver.ingest.roots import Roots
    from flightserver.ingest.source import Source
    from flightserver.ingest.uploads import Uploads
    from flightserver.tables.requests import Writes

_HASH_BYTES = 4 << 20
_APPENDS = frozenset({Mode.APPEND, Mode.CREATE_APPEND})


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRequest:
    """A file to ingest.

    Args:
        source: An upload id, a path under an allowed root, or the URL of an object that others put into a bucket.
        dataset: Where the rows go.
        bucket: Its bucket.
        mode: `create`, `append`, `replace`, `create_append` or `upsert`.
        operation: Who does what.
        file_format: One of `flightserver.ingest.formats.FORMATS`, or None to find out.
        options: What the user knows of the file.
        primary_key: Columns that identify a row of a new dataset.
        evolve: Whether an append may add columns and widen types.
        progress: Is told how far each stage has come.
        buckets: Those that objects may be fetched from; None for all.
        confirm: Asked when all is written, right before the commit; what it raises calls it off. None for nothing.
    """

    source: str
    dataset: str
    bucket: str
    mode: str
    operation: Operation
    file_format: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    primary_key: tuple[str, ...] = ()
    evolve: bool = False
    progress: Callable[[Progress], None] = no_progress
    buckets: frozenset[str] | None = None
    confirm: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """An Arrow stream to ingest; fields as in `FileRequest`."""

    dataset: str
    bucket: str
    mode: str
    operation: Operation
    primary_key: tuple[str, ...] = ()
    evolve: bool = False


class Ingest:
    """Brings rows into datasets. Methods may be called from any thread.

    Args:
        writes: Writes them.
        catalog: Knows which bytes a dataset has already.
        uploads: Files that clients sent.
        roots: Directories of the server that files may be read from.
        limits: Bounds of reading one file.
        fetcher: Fetches objects from buckets.
    """

    def __init__(  # what it writes to, and where files come from
        self, writes: Writes, catalog: Catalog, uploads: Uploads, roots: Roots, limits: Limits, fetcher: Fetcher
    ) -> None:
        self._fetcher = fetcher
        self._writes = writes
        self._catalog = catalog
        self._uploads = uploads
        self._roots = roots
        self._limits = limits

    def file(self, request: FileRequest) -> WriteResult:
        """Ingest a file.

        Raises:
            NotFound: No such upload, file, bucket or (mode append) dataset.
            InvalidRequest: The file can't be read as rows, or the request isn't valid.
            LimitExceeded: The file unfolds to more than the limits allow.
            AlreadyExists: Mode create, and the dataset is there.
            SchemaDrift: The rows don't fit the dataset.
        """
        self.check_bucket(request.bucket)
        mode_named(request.mode)
        fetched = self._fetcher.fetch(request.source, request.progress, request.operation.user, request.buckets)
        if fetched is None:
            return self._file(request, "upload" if is_upload_id(request.source) else "file")
        try:
            return self._file(replace(request, source=fetched), "object")
        finally:
            self._uploads.discard(fetched)

    def _file(self, request: FileRequest, system: str) -> WriteResult:
        mode = mode_named(request.mode)
        uploaded = is_upload_id(request.source)
        path = self._find(request.source, request.operation.user)
        name = path.name if uploaded else PurePath(request.source).name
        file = File(path, name, self._limits, request.progress)
        stamp = _stamp(file)
        content = _content(file, request)
        result = self._known(request, mode, content)
        if result is None:
            source = open_source(
                path, request.file_format, request.options, name, limits=self._limits, progress=request.progress
            )
            write = WriteRequest(
                name=request.dataset,
                bucket=request.bucket,
                mode=mode,
                schema=source.schema,
                operation=request.operation,
                lineage_system=system,
                lineage_source=name,
                content=content,
                evolve=request.evolve,
                primary_key=request.primary_key,
            )
            writes = self._writes
            if request.confirm is not None:
                writes = writes.within(Confirmed(self._catalog, request.confirm))
            result = writes.write(write, _steady(file, source, stamp))
        if uploaded:
            self._uploads.discard(request.source)
        return result

    def rows(self, source: str, file_format: str | None, options: Mapping[str, object], user: str) -> Source:
        """The rows of a file that goes into no dataset, such as keys.

        Raises:
            NotFound: No such upload or file.
            InvalidRequest: The file can't be read as rows.
        """
        path = self._find(source, user)
        name = path.name if is_upload_id(source) else PurePath(source).name
        return open_source(path, file_format, options, name, limits=self._limits, progress=no_progress)

    def _find(self, source: str, user: str) -> Path:
        return self._uploads.open(source, user) if is_upload_id(source) else self._roots.find(source)

    def stream(
        self,
        request: StreamRequest,
        reader: Any,
        transaction: Commits | None = None,
        confirm: Callable[[], None] | None = None,
    ) -> WriteResult:
        """Ingest an Arrow stream, as a part of a transaction if one is given.

        Args:
            request: Where the rows go.
            reader: Has a `schema` and yields record batches, as `pyarrow.RecordBatchReader` does.
            transaction: The transaction of several statements that it is part of, or None.
            confirm: Asked when all is written, right before the commit; what it raises calls it off.

        Raises:
            InvalidRequest: A batch isn't valid Arrow data, or the request isn't valid.
            NotFound: No such bucket or (mode append) dataset.
            AlreadyExists: Mode create, and the dataset is there.
            SchemaDrift: The rows don't fit the dataset.
        """
        self.check_bucket(request.bucket)
        write = WriteRequest(
            name=request.dataset,
            bucket=request.bucket,
            mode=mode_named(request.mode),
            schema=reader.schema,
            operation=request.operation,
            lineage_system="arrow",
            lineage_source="stream",
            evolve=request.evolve,
            primary_key=request.primary_key,
            fill_missing=True,
            validate=True,
        )
        commits = transaction if transaction is not None else self._catalog
        writes = self._writes.within(commits if confirm is None else Confirmed(commits, confirm))
        return writes.write(write, reader)

    def check_bucket(self, name: str) -> None:
        """Return when rows can go into a bucket of this name: asked before any of them is read.

        Raises:
            NotFound: There is none; the message lists those that there are.
        """
        self._catalog.snapshot().bucket(name)

    def _known(self, request: FileRequest, mode: Mode, content: str) -> WriteResult | None:
        """The answer to an append of bytes that the dataset has; other modes need the schema to tell."""
        dataset = self._catalog.snapshot().datasets.get(DatasetKey(request.bucket, request.dataset))
        if dataset is None or mode not in _APPENDS or all(entry.content != content for entry in dataset.lineage):
            return None
        return WriteResult(dataset=request.dataset, bucket=request.bucket, version=dataset.version, unchanged=True)


def mode_named(name: str) -> Mode:
    """Return the mode of that name.

    Raises:
        InvalidRequest: There is none.
    """
    known = ", ".join(mode.value for mode in Mode)
    try:
        return Mode(name)
    except ValueError as error:
        msg = f"mode {name!r} isn't known; use one of {known}"
        raise InvalidRequest(msg) from error


def _content(file: File, request: FileRequest) -> str:
    """Hash the file's bytes together with how they are to be read."""
    digest = hashlib.sha256()
    total = file.size()
    done = 0
    with reading(file), file.path.open("rb", buffering=0) as stream:
        while data := stream.read(_HASH_BYTES):
            digest.update(data)
            done += len(data)
            file.progress(Progress("hash", min(done, total), total))
    file_format = None if request.file_format is None else check_format(request.file_format)
    how = {"format": file_format, "options": dict(request.options)}
    digest.update(json.dumps(how, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def _stamp(file: File) -> tuple[int, int, int]:
    with reading(file):
        status = file.path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _steady(file: File, source: Source, stamp: tuple[int, int, int]) -> Iterator[Any]:
    """The batches of `source`, and at their end a proof that the file is still the one that was hashed."""
    yield from source.batches()
    if _stamp(file) != stamp:
        msg = f"{file.name} changed while it was read, so nothing was ingested; ingest it again when it is complete"
        raise InvalidRequest(msg)
