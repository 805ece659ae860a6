"""A lakehouse of one local bucket, without a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.tables.schema import ROW_ID, decode
from flightserver.tables.writes import Mode, Tables, WriteRequest, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flightserver.catalog.catalog import Catalog
    from flightserver.catalog.entities import Dataset
    from flightserver.storage.buckets import Buckets, OpenBucket


@dataclass(frozen=True)
class Lake:
    """What the tests of this floor talk to."""

    root: Path
    bucket: OpenBucket
    buckets: Buckets
    catalog: Catalog
    tables: Tables

    def write(self, mode: Mode, table: Any, *, name: str = "flights", **options: Any) -> WriteResult:
        request = WriteRequest(
            name=name,
            bucket="primary",
            mode=mode,
            schema=table.schema,
            operation=options.pop("operation", None) or Operation(new_ulid(), mode.value),
            lineage_system="arrow",
            lineage_source="test",
            **options,
        )
        return self.tables.write(request, table.to_batches())

    def dataset(self, name: str = "flights") -> Dataset:
        return self.catalog.snapshot().dataset(name, "primary")

    def read(self, name: str = "flights") -> Any:
        """All rows of a dataset, in the order of their row ids, as the catalog says they are."""
        dataset = self.dataset(name)
        schema = decode(dataset.schema).remove_metadata()
        parts = [self._read_part(key, schema) for one in dataset.segments for key in one.object_keys()]
        return pa.concat_tables(parts) if parts else schema.empty_table()

    def row_ids(self, name: str = "flights") -> list[int]:
        """Row ids of a dataset, in segment order."""
        found = []
        for segment in self.dataset(name).segments:
            for key in segment.object_keys():
                row_ids = pq.read_table(self.root / key, columns=[ROW_ID]).column(0).to_pylist()
                found += [segment.first_row_id - segment.row_id_base + row_id for row_id in row_ids]
        return found

    def files(self) -> list[str]:
        """Keys of everything that lies under `datasets/`, named by a commit or not."""
        return [meta.key for meta in self.bucket.objects.list("datasets/")]

    def _read_part(self, key: str, schema: Any) -> Any:
        table = pq.ParquetFile(self.root / key).read().drop_columns([ROW_ID])
        columns = [
            table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
            for field in schema
        ]
        return pa.table(columns, schema=schema)


def before_commit(lake: Lake, action: Callable[[], object]) -> Any:
    """Do something once, right before the next commit, as another session would."""
    commit = lake.catalog.commit
    left = [action]

    def interrupted(transaction: Any) -> Any:
        while left:
            left.pop()()
        return commit(transaction)

    return patch.object(lake.catalog, "commit", interrupted)
