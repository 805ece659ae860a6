"""Writing segments: one directory of Parquet files per write, which never changes afterwards.

Rows are gathered until they make a row group, at most one of which is held in memory, and go to a file until that
is large enough; then the next file begins. Small batches are joined and large ones cut, so neither the number of row
groups nor the memory depends on how a client happens to send its rows. Each file carries the schema of the dataset
without comments and, as its last column, `_rid`: the segment's `row_id_base`, drawn at random, plus the row's place in
the segment. The merge of deltas joins on it, over all segments of a dataset at once.

Nothing of a segment is part of a dataset before a commit names it. Files are durable when `finish` returns, and
`_segment.json`, written last, says what they are; so a crash at any moment leaves at most unnamed files.

Layout follows measurements: zstd level 3; row groups of 131,072 rows; page index; dictionaries for columns whose
values repeat in the first row group of a file, since one of nearly all values is built in vain (for eight columns of
orders it took 0.3 of 0.8 s, and 7 of 23 MB); `_rid` as deltas, which take 406 bytes per row group; bloom filters on key
columns, since point lookups on an unsorted key are 7 times faster with one.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flightserver.catalog.entities import Segment
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import InternalError
from flightserver.storage.discarding import discard
from flightserver.tables.ranges import ColumnRanges
from flightserver.tables.schema import ROW_ID, encode, fingerprint, stored, stored_name
from flightserver.tables.types import leaf_paths

if TYPE_CHECKING:
    from types import TracebackType

    from flightserver.storage.buckets import OpenBucket
    from flightserver.storage.objects import ObjectWriter

MANIFEST = "_segment.json"
"""Name of the object in a segment's directory that lists its files."""

ORIGIN = "_origin.parquet"
"""Name of the object in the directory of a compacted segment that says where its rows were before."""

_ROW_ID_BITS = 62
"""Of the random base of row ids. Two segments of a billion rows meet with a probability of 4e-10."""

_MIB = 1024 * 1024
_NAME_LENGTH = 200
"""Characters of an encoded dataset name in a key. It is there for people; the ULID behind it tells segments apart."""

_JOINED_BATCHES = 256
"""Small batches are joined when there are so many: each array costs some hundred bytes beside its values."""

_FALSE_POSITIVES = 0.05
"""Of bloom filters: half the size of 0.01, and one row group read in vain out of 20 costs less than that."""

_REPEATED = 4
"""A column gets a dictionary when its values occur so often on average. Counting them takes 1 to 10 ms per file."""

_NO_BLOOM_FILTER = (pa.types.is_boolean, pa.types.is_nested)


@dataclass(frozen=True, slots=True)
class Layout:
    """How files are cut.

    Attributes:
        row_group_rows: Rows of a row group, at most.
        row_group_bytes: Bytes of a row group as Arrow arrays, about.
        file_bytes: Written bytes after which the next file begins.
        compression: A Parquet codec.
        compression_level: Of that codec.
    """

    row_group_rows: int = 131_072
    row_group_bytes: int = 64 * _MIB
    file_bytes: int = 256 * _MIB
    compression: str = "zstd"
    compression_level: int = 3


class SegmentFile(msgspec.Struct, frozen=True):
    """One Parquet file of a segment. `size` is in bytes."""

    key: str
    etag: str
    size: int
    rows: int
    row_groups: int


class Origin(msgspec.Struct, frozen=True):
    """A segment whose live rows were rewritten into another: its id, and where its own manifest is."""

    id: str
    bucket: str
    directory: str


class SegmentManifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `_segment.json` says. `schema` is an Arrow IPC message, without `_rid`.

    `origins` are the segments that compaction rewrote into this one; `_origin.parquet` says where each row was.
    """

    segment: Segment
    schema: bytes
    files: tuple[SegmentFile, ...]
    origins: tuple[Origin, ...] = ()


_manifest_decoder = msgspec.json.Decoder(SegmentManifest)


def read_manifest(bucket: OpenBucket, segment: Segment) -> SegmentManifest:
    """What is known of each file of a segment.

    Raises:
        NotFound: The bucket has no such segment.
        InternalError: What it has there is no manifest.
    """
    return manifest_in(bucket, segment.directory)


def manifest_in(bucket: OpenBucket, directory: str) -> SegmentManifest:
    """As `read_manifest`, for a segment of which only the directory is known."""
    key = f"{directory}/{MANIFEST}"
    try:
        return _manifest_decoder.decode(bucket.reading.get(key))
    except msgspec.DecodeError as error:
        msg = f"object {key} of bucket {bucket.name!r} is no segment manifest: {error}"
        raise InternalError(msg) from None


def delete_segment(bucket: OpenBucket, segment: Segment) -> None:
    """Delete the files of a segment that no commit names, as far as the bucket lets us; the rest is garbage."""
    discard(bucket, [f"{segment.directory}/{MANIFEST}", f"{segment.directory}/{ORIGIN}", *segment.object_keys()])


def dataset_directory(name: str) -> str:
    """The prefix of a dataset's objects, without a slash at the end."""
    while len(encoded := quote(name, safe="")) > _NAME_LENGTH:
        name = name[:-1]
    return f"datasets/{encoded}"


class SegmentWriter:
    """Writes one segment. As a context manager it aborts on an exception, and finishes nothing by itself.

    Args:
        bucket: Where to.
        name: The dataset's name.
        schema: Canonical; every batch must have it.
        layout: How files are cut.
        primary_key: Columns to give bloom filters.
    """

    def __init__(
        self,
        bucket: OpenBucket,
        name: str,
        schema: pa.Schema,
        layout: Layout,
        *,
        primary_key: tuple[str, ...] = (),
    ) -> None:
        self._bucket = bucket
        self._id = new_ulid()
        self._directory = f"{dataset_directory(name)}/{self._id}"
        self._schema = schema
        self._stored = stored(schema)
        self._row_id_base = secrets.randbits(_ROW_ID_BITS)
        self._layout = layout
        self._primary_key = [stored_name(schema.field(column)) for column in primary_key]
        self._group = _RowGroup(layout)
        self._ranges = ColumnRanges(self._stored)
        self._part: _Part | None = None
        self._files: list[SegmentFile] = []
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows. Their schema must be the segment's: see `flightserver.tables.schema.conform`."""
        rest = pa.RecordBatch.from_arrays(batch.columns, schema=self._stored)
        while rest.num_rows:
            rest = self._group.take(rest)
            if self._group.full:
                self._flush()

    def finish(self, origins: tuple[Origin, ...] = ()) -> Segment | None:
        """Write what is left and return the segment, durable but not part of a dataset; None when there are no rows."""
        if self._group.rows:
            self._flush()
        self._finish_part()
        if not self._files:
            return None
        segment = Segment(
            id=self._id,
            bucket=self._bucket.name,
            directory=self._directory,
            files=len(self._files),
            rows=self._rows,
            bytes=sum(file.size for file in self._files),
            schema_fingerprint=fingerprint(self._schema),
            columns=dict(self._ranges.result()),
            row_id_base=self._row_id_base,
        )
        manifest = SegmentManifest(segment, encode(self._schema), tuple(self._files), origins)
        self._bucket.objects.put(f"{self._directory}/{MANIFEST}", msgspec.json.encode(manifest))
        return segment

    def abort(self) -> None:
        """Delete what was written, as far as the bucket lets us. Must not be called once a commit may name it."""
        if self._part is not None:
            self._part.abort()
            self._part = None
        discard(self._bucket, [f"{self._directory}/{MANIFEST}", *(file.key for file in self._files)])
        self._files.clear()

    def _flush(self) -> None:
        table = self._group.drain(self._stored)
        first = self._row_id_base + self._rows
        row_ids = pa.arange(first, first + table.num_rows)
        if self._part is None:
            key = f"{self._directory}/part-{len(self._files):05d}.parquet"
            options = self._parquet_options(table)
            self._part = _Part(self._bucket.objects.writer(key), key, _file_schema(self._stored), options)
        self._part.write(table.append_column(pa.field(ROW_ID, pa.int64(), nullable=False), row_ids))
        self._ranges.add_rows(table)
        self._rows += table.num_rows
        if self._part.size >= self._layout.file_bytes:
            self._finish_part()

    def _finish_part(self) -> None:
        if self._part is not None:
            file, metadata = self._part.finish()
            self._part = None
            self._files.append(file)
            self._ranges.add_file(metadata)

    def _parquet_options(self, table: pa.Table) -> dict[str, Any]:
        """Of a file that begins with these rows."""
        keys = [
            name
            for name in self._primary_key
            if not any(check(self._stored.field(name).type) for check in _NO_BLOOM_FILTER)
        ]
        return {
            "compression": self._layout.compression,
            "compression_level": self._layout.compression_level,
            "use_dictionary": [
                path
                for field, column in zip(self._stored, table.columns, strict=True)
                if _repeats(column)
                for path in leaf_paths(field.name, field.type)
            ],
            "column_encoding": {ROW_ID: "DELTA_BINARY_PACKED"},
            "write_page_index": True,
            # Up to 18 digits are read as numbers rather than as bytes: 15 % less CPU for all of TPC-H.
            "store_decimal_as_integer": True,
            # List items are called `item` as in the dataset's schema, so that the engine needs no cast.
            "use_compliant_nested_type": False,
            "bloom_filter_options": {name: {"ndv": table.num_rows, "fpp": _FALSE_POSITIVES} for name in keys} or None,
        }


class _RowGroup:
    """Rows that are not written yet, at most one row group of them."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._batches: list[Any] = []
        self._small: list[Any] = []
        self._bytes = 0
        self.rows = 0

    @property
    def full(self) -> bool:
        return self.rows >= self._layout.row_group_rows or self._bytes >= self._layout.row_group_bytes

    def take(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Add the first rows of a batch, as many as there is room for, and return the others."""
        row_bytes = max(1, batch.nbytes // batch.num_rows)
        room = min(self._layout.row_group_rows - self.rows, (self._layout.row_group_bytes - self._bytes) // row_bytes)
        head = batch.slice(0, max(1, room))
        self._small.append(head)
        if len(self._small) >= _JOINED_BATCHES:
            self._join()
        self.rows += head.num_rows
        self._bytes += head.nbytes
        return batch.slice(head.num_rows)

    def drain(self, schema: pa.Schema) -> pa.Table:
        """All rows; afterwards there are none."""
        table = pa.Table.from_batches([*self._batches, *self._small], schema)
        self._batches.clear()
        self._small.clear()
        self.rows = self._bytes = 0
        return table

    def _join(self) -> None:
        self._batches.append(pa.concat_batches(self._small))
        self._small.clear()


class _Part:
    """One file of a segment while it is written."""

    def __init__(self, writer: ObjectWriter, key: str, schema: pa.Schema, options: dict[str, Any]) -> None:
        self._writer = writer
        self._key = key
        self._metadata: list[Any] = []
        self._parquet = pq.ParquetWriter(writer, schema, metadata_collector=self._metadata, **options)
        self._rows = 0
        self._row_groups = 0

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._writer.tell()

    def write(self, table: pa.Table) -> None:
        """Write the rows as one row group."""
        self._parquet.write_table(table, row_group_size=table.num_rows)
        self._rows += table.num_rows
        self._row_groups += 1

    def finish(self) -> tuple[SegmentFile, Any]:
        """Make the file durable and return what it is, and its Parquet metadata."""
        self._parquet.close()
        meta = self._writer.commit()
        file = SegmentFile(self._key, meta.etag, meta.size, self._rows, self._row_groups)
        return file, self._metadata[0]

    def abort(self) -> None:
        """Discard the file."""
        # pyarrow would write the footer when the writer is collected, into an object that is gone by then.
        self._parquet.is_open = False
        self._writer.abort()


def _repeats(column: pa.ChunkedArray) -> bool:
    """Whether a dictionary of a column's values is much shorter than the column; nested ones always get one."""
    return pa.types.is_nested(column.type) or bool(_REPEATED * pc.count_distinct(column).as_py() <= len(column))


def _file_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([*schema, pa.field(ROW_ID, pa.int64(), nullable=False)])
