"""Iceberg tables, by the `pyiceberg` package, which reads metadata and manifests; the engine reads the files.

A table on a disk without its catalog is the newest metadata file in it: the one that `version-hint.text` names, else
the one with the highest number. All paths in metadata begin with the location that the table had when it was written;
they are read as paths below the place where it is now, so that a copied table works, and nothing but local files
below the allowed directories is ever opened.

Columns have ids, and files know them by these: each file's footer says which of its columns is which. Rows that
delete files remove are not resolved here; a table with such files is refused.

The specification: https://iceberg.apache.org/spec/
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.io.pyarrow import pyarrow_to_schema, schema_to_pyarrow
from pyiceberg.manifest import FileFormat, ManifestContent
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import ListType, MapType, StructType

from flightserver.errors import InvalidRequest, NotFound
from flightserver.tables.external.footers import Footers
from flightserver.tables.external.iceberg_files import TableFiles
from flightserver.tables.external.source import Source, SourceFile, grouped, nullable, number_option
from flightserver.tables.schema import canonical
from flightserver.tables.types import widened

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping
    from pathlib import Path

    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import DataScan, FileScanTask
    from pyiceberg.types import IcebergType, NestedField

    from flightserver.tables.external.locations import Location, Locations

METADATA = "metadata"

_HINT = "version-hint.text"
_NUMBERED = re.compile(r"(?:v([0-9]+)|([0-9]+)-.+?)(?:\.gz)?\.metadata\.json(?:\.gz)?")
"""`v3.metadata.json` of tables without a catalog, `00003-<uuid>.metadata.json` of others."""


class _InFile(NamedTuple):
    """What one file has of a table: names of columns in it, and values of columns that it lacks."""

    columns: dict[str, str]
    values: dict[str, pa.Scalar]


class IcebergReader:
    """See `Reader`. `metadata` pins a metadata file, `snapshot` a snapshot by its id.

    Args:
        locations: Where files may lie.
    """

    options = frozenset({"metadata", "snapshot"})

    def __init__(self, locations: Locations) -> None:
        self._locations = locations
        self._footers = Footers()

    def marker(self, table: Location, options: Mapping[str, str]) -> Hashable:
        """Which metadata file is the newest."""
        path = self._metadata_file(table, options)
        try:
            status = path.stat()
        except OSError as error:
            msg = f"Iceberg table {table.shown!r} has no metadata file {path.name!r} any more"
            raise NotFound(msg) from error
        return path.name, status.st_mtime_ns, status.st_size, options.get("snapshot")

    def describe(self, table: Location, options: Mapping[str, str], known: pa.Schema | None) -> Source:  # noqa: ARG002  # the table has its schema
        """Read metadata and manifests, and the footers of files that are new."""
        path = self._metadata_file(table, options)
        files = TableFiles(self._locations, table)
        snapshot = number_option(options, "snapshot")
        try:
            metadata = FromInputFile.table_metadata(files.new_input(str(path)))
            files.located_at(metadata.location)
            opened = Table(("attached",), metadata, str(path), files, NoopCatalog("attached"))
            scan = opened.scan(snapshot_id=snapshot)
            _check_deletes(scan, files, table)
            fields = scan.projection()
            tasks = list(scan.plan_files())
        except (ValueError, OSError, NotImplementedError) as error:  # pydantic's errors are ValueErrors too
            msg = f"Iceberg table {table.shown!r} can't be read: {_reason(error)}"
            raise InvalidRequest(msg) from error
        schema = nullable(canonical(schema_to_pyarrow(fields, include_field_ids=False)))
        entries = [
            (file, *self._in_file(file, task.file, opened, fields, schema, table))
            for file, task in zip(self._checked(tasks, table, files), tasks, strict=True)
        ]
        current = metadata.current_snapshot_id if snapshot is None else snapshot
        version = "" if current is None else str(current)
        return Source(version, schema, sum(task.file.record_count for task in tasks), grouped(entries))

    def _metadata_file(self, table: Location, options: Mapping[str, str]) -> Path:
        pinned = options.get("metadata")
        return self._locations.file(table, f"{METADATA}/{_newest(table)}" if pinned is None else pinned)

    def _checked(self, tasks: list[FileScanTask], table: Location, files: TableFiles) -> Iterable[SourceFile]:
        for task in tasks:
            if task.file.file_format != FileFormat.PARQUET:
                msg = f"Iceberg table {table.shown!r} has {task.file.file_format.value} files: only Parquet can be read"
                raise InvalidRequest(msg)
            yield SourceFile(files.path(task.file.file_path), task.file.file_size_in_bytes)

    def _in_file(  # what a column of a file depends on
        self, file: SourceFile, data: DataFile, opened: Table, fields: Schema, schema: pa.Schema, table: Location
    ) -> _InFile:
        footer = self._footers.read(file, table)
        try:
            version = opened.metadata.format_version
            in_file = pyarrow_to_schema(footer.schema, opened.name_mapping(), format_version=version)
        except (ValueError, TypeError) as error:
            msg = f"file {file.path.name!r} of Iceberg table {table.shown!r} doesn't say which of its columns is which"
            raise InvalidRequest(msg) from error
        by_id = {field.field_id: field for field in in_file.fields}
        found = _InFile({}, {})
        for field in fields.fields:
            wanted = schema.field(field.name).type
            held = by_id.get(field.field_id)
            if held is not None:
                _check_type(field, held, wanted, footer.schema.field(held.name).type, table)
                found.columns[field.name] = held.name
            else:
                found.values[field.name] = _value_outside(field, data, opened, wanted, table)
        return found


def _newest(table: Location) -> str:
    """The name of the newest metadata file."""
    directory = table.path / METADATA
    try:
        names = [path.name for path in directory.iterdir()]
        hint = (directory / _HINT).read_text(encoding="utf-8").strip() if _HINT in names else ""
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{table.shown!r} is no Iceberg table: it has no metadata, or it has been deleted"
        raise NotFound(msg) from error
    numbered = [(int(found[1] or found[2]), name) for name in names if (found := _NUMBERED.fullmatch(name))]
    if hint and not hint.isdigit():
        return hint if hint.endswith(".json") else f"{hint}.metadata.json"
    highest = int(hint) if hint else max((number for number, _ in numbered), default=None)
    newest = [name for number, name in numbered if number == highest]
    if not newest:
        msg = f"{table.shown!r} is no Iceberg table: it has no metadata file"
        raise NotFound(msg)
    if len(newest) > 1:
        msg = (
            f"Iceberg table {table.shown!r} has {len(newest)} metadata files with the number {highest}, and only its "
            "catalog knows which is the table: attach it with the option 'metadata', or wait for its next commit"
        )
        raise InvalidRequest(msg)
    return newest[0]


def _check_deletes(scan: DataScan, files: TableFiles, table: Location) -> None:
    snapshot = scan.snapshot()
    manifests = [] if snapshot is None else snapshot.manifests(files)
    if any(
        manifest.content == ManifestContent.DELETES and (manifest.has_added_files() or manifest.has_existing_files())
        for manifest in manifests
    ):
        msg = (
            f"Iceberg table {table.shown!r} has delete files, which can't be read here: "
            "let its owner rewrite the data files (rewrite_data_files), or write in copy-on-write mode"
        )
        raise InvalidRequest(msg)


def _check_type(
    field: NestedField, held: NestedField, wanted: pa.DataType, in_file: pa.DataType, table: Location
) -> None:
    nested = not field.field_type.is_primitive
    fits = _shape(field.field_type) == _shape(held.field_type) if nested else widened(wanted, in_file) == wanted
    if not fits:
        msg = (
            f'column "{field.name}" of Iceberg table {table.shown!r} is {field.field_type}, and was {held.field_type} '
            "when some files were written, which can't be read here: let its owner rewrite the data files"
        )
        raise InvalidRequest(msg)


def _shape(kind: IcebergType) -> Any:
    """Ids, names and types of a type, without what doesn't matter to a reader."""
    match kind:
        case StructType():
            return [(field.field_id, field.name, _shape(field.field_type)) for field in kind.fields]
        case ListType():
            return [(kind.element_id, _shape(kind.element_type))]
        case MapType():
            return [(kind.key_id, _shape(kind.key_type)), (kind.value_id, _shape(kind.value_type))]
        case _:
            return str(kind)


def _value_outside(
    field: NestedField, data: DataFile, opened: Table, wanted: pa.DataType, table: Location
) -> pa.Scalar:
    """The value of a column that a file lacks: of its partition, or the column's default, or null."""
    spec = opened.specs()[data.spec_id]
    value = field.initial_default
    for place, part in enumerate(spec.fields):
        if part.source_id == field.field_id and isinstance(part.transform, IdentityTransform):
            value = data.partition[place]
    try:
        return pa.scalar(value, wanted)
    except (pa.ArrowException, TypeError, ValueError) as error:
        msg = (
            f'column "{field.name}" of Iceberg table {table.shown!r} has a value outside of its files that can\'t be '
            f"read as {wanted}: let its owner rewrite the data files"
        )
        raise InvalidRequest(msg) from error


def _reason(error: Exception) -> str:
    """The first line of the library's message, unless it names a path."""
    line = str(error).partition("\n")[0]
    return f"its metadata is missing or damaged ({type(error).__name__})" if "/" in line else line
