"""The files of an export: rows in, finished Parquet files out, a bounded part of which is in memory or open.

Rows of a partition are gathered until they make a row group; when all partitions together hold too many bytes, the
largest is written before it is full. A partition whose file was closed, because too many were open or because it was
large enough, goes on in another. With many small partitions that come in no order, files therefore have small row
groups; they are right all the same.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flightserver.tables.hive import path_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.storage.objects import Objects, ObjectWriter
    from flightserver.tables.segments import Layout

DATA = "data"
"""Name of the directory that holds an export's files and nothing else: some tools read all that they find."""

_GATHERED_BYTES = 256 * 1024 * 1024
_OPEN_FILES = 64

Values = tuple[Any, ...]
"""Of the partition columns, as Python objects."""


class ExportedFile(msgspec.Struct, frozen=True):
    """One file of an export; `path` is relative to its directory, `sha256` in hexadecimal."""

    path: str
    rows: int
    bytes: int
    sha256: str


class _Hashed:
    """A writer that hashes what passes through it."""

    def __init__(self, writer: ObjectWriter) -> None:
        self.writer = writer
        self.sha256 = hashlib.sha256()

    @property
    def closed(self) -> bool:
        return self.writer.closed

    def write(self, data: bytes | memoryview) -> int:
        self.sha256.update(data)
        return self.writer.write(data)

    def tell(self) -> int:
        return self.writer.tell()

    def flush(self) -> None:
        """Do nothing, see `ObjectWriter`."""

    def close(self) -> None:
        """Do nothing, see `ObjectWriter`."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return not self.closed

    def seekable(self) -> bool:
        return False


class _Open:
    """A file that is being written."""

    def __init__(self, objects: Objects, key: str, schema: pa.Schema, layout: Layout) -> None:
        self.key = key
        self._file = _Hashed(objects.writer(key))
        self._parquet = pq.ParquetWriter(
            self._file,
            schema,
            compression=layout.compression,
            compression_level=layout.compression_level,
            write_page_index=True,
        )
        self._rows = 0

    @property
    def size(self) -> int:
        return self._file.tell()

    def write(self, table: pa.Table) -> None:
        self._parquet.write_table(table, row_group_size=max(1, table.num_rows))
        self._rows += table.num_rows

    def finish(self, directory: str) -> ExportedFile:
        self._parquet.close()
        size = self._file.writer.commit().size
        return ExportedFile(self.key.removeprefix(f"{directory}/"), self._rows, size, self._file.sha256.hexdigest())

    def abort(self) -> None:
        # pyarrow would write the footer when the writer is collected, into an object that is gone by then.
        self._parquet.is_open = False
        self._file.writer.abort()


class _Gathered:
    """Rows of one partition that are not written yet."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.rows = 0
        self.bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self.batches.append(batch)
        self.rows += batch.num_rows
        self.bytes += batch.nbytes


class ExportFiles:
    """Writes the files of one export.

    Args:
        objects: Where to.
        directory: Prefix of all keys, without a slash at the end.
        schema: Of the rows.
        partition_by: Columns that become directories, see `path_text`; the others stand in the files.
        layout: How files are cut.
    """

    def __init__(
        self, objects: Objects, directory: str, schema: pa.Schema, partition_by: tuple[str, ...], layout: Layout
    ) -> None:
        self._objects = objects
        self._directory = directory
        self._partition_by = partition_by
        self._layout = layout
        self._schema = pa.schema([field for field in schema if field.name not in partition_by])
        self._gathered: dict[Values, _Gathered] = {}
        self._gathered_bytes = 0
        self._open: OrderedDict[Values, _Open] = OrderedDict()
        self._finished: list[ExportedFile] = []
        self._begun = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        for values, rows in _split(batch, self._partition_by):
            gathered = self._gathered.setdefault(values, _Gathered())
            gathered.add(rows.select(self._schema.names))
            self._gathered_bytes += gathered.batches[-1].nbytes
            if gathered.rows >= self._layout.row_group_rows or gathered.bytes >= self._layout.row_group_bytes:
                self._flush(values)
        while self._gathered_bytes > _GATHERED_BYTES:
            self._flush(max(self._gathered, key=lambda values: self._gathered[values].bytes))

    def finish(self) -> tuple[ExportedFile, ...]:
        """Write what is left; the files are durable on return. Without rows there is one file, unless partitioned."""
        if not self._partition_by and not self._begun and not self._gathered:
            self._gathered[()] = _Gathered()
        for values in list(self._gathered):
            self._flush(values)
        for values in list(self._open):
            self._close(values)
        return tuple(sorted(self._finished, key=lambda file: file.path))

    def abort(self) -> list[str]:
        """Discard what is not finished; returns the keys of files that are, which are the caller's to delete."""
        for file in self._open.values():
            file.abort()
        self._open.clear()
        return [f"{self._directory}/{file.path}" for file in self._finished]

    def _flush(self, values: Values) -> None:
        gathered = self._gathered.pop(values)
        self._gathered_bytes -= gathered.bytes
        table = pa.Table.from_batches(gathered.batches, self._schema)
        for first in range(0, max(1, table.num_rows), self._layout.row_group_rows):
            file = self._opened(values)
            file.write(table.slice(first, self._layout.row_group_rows))
            if file.size >= self._layout.file_bytes:
                self._close(values)

    def _opened(self, values: Values) -> _Open:
        if values not in self._open:
            if len(self._open) >= _OPEN_FILES:
                self._close(next(iter(self._open)))
            self._open[values] = _Open(self._objects, self._next_key(values), self._schema, self._layout)
        self._open.move_to_end(values)
        return self._open[values]

    def _close(self, values: Values) -> None:
        self._finished.append(self._open[values].finish(self._directory))
        del self._open[values]

    def _next_key(self, values: Values) -> str:
        named = zip(self._partition_by, values, strict=True)
        directories = [f"{quote(name, safe='')}={path_text(value, name)}/" for name, value in named]
        key = f"{self._directory}/{DATA}/{''.join(directories)}part-{self._begun:05d}.parquet"
        self._begun += 1
        return key


def _split(batch: pa.RecordBatch, columns: tuple[str, ...]) -> Iterator[tuple[Values, pa.RecordBatch]]:
    """The rows by their values of some columns."""
    if not columns:
        yield (), batch
        return
    encoded = [batch.column(name).dictionary_encode(null_encoding="encode") for name in columns]
    codes = np.stack([one.indices.to_numpy() for one in encoded])
    distinct, which = np.unique(codes, axis=1, return_inverse=True)
    for number in range(distinct.shape[1]):
        values = tuple(
            one.dictionary[int(code)].as_py() for one, code in zip(encoded, distinct[:, number], strict=True)
        )
        yield values, batch.take(pa.array(np.flatnonzero(which == number)))
