"""Tables as others write them: Delta Lake, Iceberg, Lance, and Parquet in directories."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import lance
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO, schema_to_pyarrow
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import update_table_metadata
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, NestedField, StringType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROWS = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "name": ["a", "b", None]})
MORE = pa.table({"id": pa.array([4], pa.int64()), "name": ["d"]})


class DirectoryCatalog(NoopCatalog):
    """Keeps one Iceberg table as its newest metadata file, as a catalog does."""

    table: Table
    commits = 0

    def create(self, directory: Path, schema: Schema, spec: PartitionSpec | None = None) -> Table:
        spec = PartitionSpec() if spec is None else spec
        metadata = new_table_metadata(schema, spec, UNSORTED_SORT_ORDER, f"file://{directory}")
        return self._store(("tests", directory.name), metadata)

    def load_table(self, identifier: Any) -> Table:  # noqa: ARG002  # there is one
        return self.table

    def commit_table(self, table: Table, requirements: Any, updates: Any) -> CommitTableResponse:  # noqa: ARG002  # nobody else writes
        stored = self._store(table.name(), update_table_metadata(self.table.metadata, updates))
        return CommitTableResponse.model_validate(
            {"metadata": stored.metadata, "metadata-location": stored.metadata_location}
        )

    def _store(self, name: Any, metadata: TableMetadata) -> Table:
        location = f"{metadata.location}/metadata/{self.commits:05d}-test.metadata.json"
        files = PyArrowFileIO()
        ToOutputFile.table_metadata(metadata, files.new_output(location))
        self.commits += 1
        self.table = Table(name, metadata, location, files, self)
        return self.table


class _DeletesWriter(ManifestWriterV2):
    """A manifest of delete files, which pyiceberg reads but does not write."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return super()._meta | {"content": "deletes"}


def add_iceberg_deletes(table: Table, content: DataFileContent) -> None:
    """Make the newest snapshot of an Iceberg table say that it has a delete file."""
    snapshot = table.metadata.current_snapshot()
    assert snapshot is not None
    output = table.io.new_output(f"{table.metadata.location}/metadata/deletes.avro")
    deletes = _DeletesWriter(table.spec(), table.schema(), output, snapshot.snapshot_id, "deflate")
    file = DataFile.from_args(
        content=content,
        file_path=f"{table.metadata.location}/data/deletes.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=1,
        file_size_in_bytes=1,
        equality_ids=[1] if content == DataFileContent.EQUALITY_DELETES else None,
    )
    entry = ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=snapshot.snapshot_id, data_file=file)
    with deletes as writer:
        writer.add_entry(entry)
    manifests = [*snapshot.manifests(table.io), deletes.to_manifest_file()]
    listed = table.io.new_output(snapshot.manifest_list)
    with write_manifest_list(2, listed, snapshot.snapshot_id, None, snapshot.sequence_number, "deflate") as writer:
        writer.add_manifests(manifests)


def iceberg_rows(table: Table, rows: Sequence[dict[str, Any]]) -> Any:
    """Rows with exactly the types of an Iceberg table."""
    return pa.Table.from_pylist(list(rows), schema=schema_to_pyarrow(table.schema(), include_field_ids=False))


class Foreign:
    """`ROWS` in a table of one format, which its owner can append to."""

    def __init__(self, table_format: str, directory: Path) -> None:
        self.format = table_format
        self.directory = directory
        self._iceberg: Table | None = None
        self._parts = 0
        self.append(ROWS)

    def append(self, rows: Any) -> None:
        match self.format:
            case "delta":
                write_deltalake(self.directory.as_uri(), rows, mode="append", schema_mode="merge")
            case "lance":
                mode = "append" if self.directory.exists() else "create"
                lance.write_dataset(rows, str(self.directory), mode=mode)
            case "iceberg":
                if self._iceberg is None:
                    fields = (NestedField(1, "id", LongType()), NestedField(2, "name", StringType()))
                    self._iceberg = DirectoryCatalog("tests").create(self.directory, Schema(*fields))
                self._iceberg.append(iceberg_rows(self._iceberg, rows.to_pylist()))
            case "parquet":
                self.directory.mkdir(exist_ok=True)
                pq.write_table(rows, self.directory / f"{self._parts}.parquet")
                self._parts += 1

    def files(self) -> list[Path]:
        """The files with rows, apart from metadata."""
        suffix = "lance" if self.format == "lance" else "parquet"
        return sorted(self.directory.rglob(f"*.{suffix}"))


def handwritten_delta(directory: Path, *, protocol: dict[str, Any], columns: list[dict[str, Any]], **rest: Any) -> None:
    """A Delta log by the letter of the protocol, for features that no Python package writes.

    Args:
        directory: Where the files of `adds` lie already, if they do.
        protocol: The action `protocol`.
        columns: Fields of the schema.
        rest: `configuration`, `partition_columns`, and `adds`: more of each action `add` besides the usual.
    """
    schema = json.dumps({"type": "struct", "fields": columns})
    metadata = {
        "id": "00000000-0000-0000-0000-000000000001",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema,
        "partitionColumns": rest.get("partition_columns", []),
        "configuration": rest.get("configuration", {}),
        "createdTime": 1,
    }
    usual = {"partitionValues": {}, "size": 1, "modificationTime": 1, "dataChange": True}
    actions = [{"protocol": protocol}, {"metaData": metadata}, *({"add": usual | add} for add in rest.get("adds", []))]
    (directory / "_delta_log").mkdir(parents=True)
    (directory / "_delta_log" / f"{0:020}.json").write_text("\n".join(map(json.dumps, actions)))


def delta_column(name: str, kind: str = "long", **metadata: Any) -> dict[str, Any]:
    """A field of a Delta schema."""
    return {"name": name, "type": kind, "nullable": True, "metadata": metadata}
