"""Exports: a dataset at one version as plain Parquet files that every tool reads, with a manifest.

An export is a directory with `manifest.json` and `data/`, which holds the files and nothing else, so that tools that
take every file in a directory for Parquet can be pointed there.

Rows are read from segments without those that deltas removed, in their order, and written anew without the column
`_rid`. Files become durable one by one; the manifest is the last, so that a directory with a manifest is whole, and
one without isn't. A directory that holds anything is never written to, and what a failed or abandoned export wrote is
deleted again.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from flightserver.errors import AlreadyExists, FlightserverError, InvalidRequest
from flightserver.tables.export_files import ExportedFile, ExportFiles
from flightserver.tables.plan import refuse_external
from flightserver.tables.reading import read_segment
from flightserver.tables.schema import decode, visible

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from flightserver.catalog.entities import Dataset
    from flightserver.storage.buckets import Buckets
    from flightserver.storage.objects import Objects
    from flightserver.tables.deltas import DeadRows
    from flightserver.tables.segments import Layout

MANIFEST = "manifest.json"
"""Name of the manifest in the directory of an export."""

_DIRECTORY_KINDS = (pa.types.is_integer, pa.types.is_string, pa.types.is_boolean, pa.types.is_date)
_MIN_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ExportRoot:
    """A directory below which exports may be written: where it is, and its objects."""

    path: Path
    objects: Objects


class ExportedColumn(msgspec.Struct, frozen=True):
    """A column of an export; `partition` says that it stands in the names of directories. `type` is Arrow's name."""

    name: str
    type: str
    nullable: bool
    partition: bool


class ExportManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What `manifest.json` says.

    Format rule: fields of a released manifest are never renamed or removed; new ones come last.
    """

    dataset: str
    bucket: str
    version: int
    exported: datetime
    rows: int
    bytes: int
    columns: tuple[ExportedColumn, ...]
    files: tuple[ExportedFile, ...]


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export where.

    Attributes:
        dataset: At the version that is wanted.
        destination: A directory that is new or empty: relative to the first root, or absolute and below one of them.
        partition_by: Columns that become directories `name=value`.
        file_bytes: Written bytes after which the next file begins; None as in datasets.
    """

    dataset: Dataset
    destination: str
    partition_by: tuple[str, ...] = ()
    file_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """An export that is whole; `manifest` is its path relative to the root."""

    files: int
    rows: int
    bytes: int
    manifest: str


class Exports:
    """Writes exports. All methods may be called from any thread.

    Args:
        roots: Where exports may be written.
        buckets: Where segments lie.
        dead: Knows the dead rows of datasets.
        layout: How files are cut.
    """

    def __init__(self, roots: tuple[ExportRoot, ...], buckets: Buckets, dead: DeadRows, layout: Layout) -> None:
        self._roots = roots
        self._buckets = buckets
        self._dead = dead
        self._layout = layout

    def export(self, request: ExportRequest) -> Generator[int, None, Exported]:
        """Write an export.

        Yields:
            How many rows are written so far.

        Returns:
            What was written. A generator that is closed before its end deletes what it wrote.

        Raises:
            InvalidRequest: The destination, or a partition column, is not allowed; or the dataset is attached.
            AlreadyExists: The destination holds something.
            BackendUnavailable: A file of the dataset is gone, or the disk fails.
            LimitExceeded: The disk is full.
        """
        dataset = request.dataset
        refuse_external(dataset)
        schema = visible(decode(dataset.schema)).remove_metadata()
        schema = pa.schema([field.remove_metadata() for field in schema])
        _check_partition_columns(schema, request.partition_by)
        root, directory = self._destination(request.destination)
        layout = replace(self._layout, file_bytes=_file_bytes(request, self._layout))
        files = ExportFiles(root.objects, directory, schema, request.partition_by, layout)
        try:
            rows = 0
            for batch in self._rows(dataset, schema):
                files.write(batch)
                rows += batch.num_rows
                yield rows
            return _with_manifest(root, directory, request, schema, files.finish())
        except BaseException:
            _delete(root, files.abort())
            raise

    def _rows(self, dataset: Dataset, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        stored = decode(dataset.schema)
        dead = self._dead.of(dataset)
        for segment in dataset.segments:
            bucket = self._buckets.get(segment.bucket)
            for batch, _ in read_segment(bucket, segment, stored, dead.get(segment.id)):
                if batch.num_rows:
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

    def _destination(self, destination: str) -> tuple[ExportRoot, str]:
        """The root and the prefix of keys that a destination means."""
        found = next(filter(None, (_below(root, destination) for root in self._roots)), None)
        if found is None:
            names = ", ".join(repr(root.path.name) for root in self._roots)
            msg = (
                f"{destination!r} is no directory below those that may be exported to ({names}): "
                "give a path relative to one of them"
            )
            raise InvalidRequest(msg)
        root, path = found
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            msg = f"{destination!r} exists and is not an empty directory: export to a new one"
            raise AlreadyExists(msg)
        return root, path.relative_to(root.path.resolve()).as_posix()


def _below(root: ExportRoot, destination: str) -> tuple[ExportRoot, Path] | None:
    try:
        base = root.path.resolve()
        path = (base / destination).resolve()
        path.exists()  # as far as the file system can say: it raises for names that are too long
    except (OSError, ValueError, RuntimeError):
        # A name too long, a zero byte, a loop of links: no such directory.
        return None
    if path == base or not path.is_relative_to(base):
        return None
    return root, path


def _check_partition_columns(schema: pa.Schema, partition_by: tuple[str, ...]) -> None:
    has = ", ".join(f'"{name}"' for name in schema.names)
    for name in partition_by:
        if name not in schema.names:
            raise InvalidRequest(f'partition column "{name}" is not among the columns {has}')
        kind = schema.field(name).type
        if not any(check(kind) for check in _DIRECTORY_KINDS):
            msg = f'partition column "{name}" is {kind}: only integers, strings, booleans and dates name directories'
            raise InvalidRequest(msg)
    if len(set(partition_by)) != len(partition_by) or len(partition_by) >= len(schema):
        msg = f"partition_by names {', '.join(partition_by)}: name each once, and leave a column for the files ({has})"
        raise InvalidRequest(msg)


def _file_bytes(request: ExportRequest, layout: Layout) -> int:
    if request.file_bytes is None:
        return layout.file_bytes
    if request.file_bytes < _MIN_FILE_BYTES:
        raise InvalidRequest(f"file_bytes is {request.file_bytes:,}, but must be at least {_MIN_FILE_BYTES:,}")
    return request.file_bytes


def _with_manifest(
    root: ExportRoot, directory: str, request: ExportRequest, schema: pa.Schema, files: tuple[ExportedFile, ...]
) -> Exported:
    dataset = request.dataset
    manifest = ExportManifest(
        dataset=dataset.name,
        bucket=dataset.bucket,
        version=dataset.version,
        exported=datetime.now(UTC),
        rows=sum(file.rows for file in files),
        bytes=sum(file.bytes for file in files),
        columns=tuple(
            ExportedColumn(field.name, str(field.type), field.nullable, field.name in request.partition_by)
            for field in schema
        ),
        files=files,
    )
    key = f"{directory}/{MANIFEST}"
    try:
        root.objects.put(key, msgspec.json.format(msgspec.json.encode(manifest)))
    except AlreadyExists:
        raise
    except FlightserverError:
        _delete(root, [key])  # it may be there for all that
        raise
    return Exported(len(files), manifest.rows, manifest.bytes, key)


def _delete(root: ExportRoot, keys: list[str]) -> None:
    for key in keys:
        with contextlib.suppress(FlightserverError):
            root.objects.delete(key)
