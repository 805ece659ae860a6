"""Segments: what lies in the files, how they are cut, what a failure leaves."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafusion import SessionConfig, SessionContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tables.arrow_types import batches, schemas

from flightserver.catalog.entities import ColumnRange, Segment
from flightserver.errors import BackendUnavailable, InternalError
from flightserver.storage.buckets import OpenBucket
from flightserver.storage.local import LocalObjects
from flightserver.storage.memory import MemoryObjects
from flightserver.tables.schema import ROW_ID, canonical, conform, fingerprint
from flightserver.tables.segments import Layout, SegmentWriter, delete_segment, read_manifest

SMALL = Layout(row_group_rows=1000)


@pytest.fixture
def bucket(tmp_path: Path) -> OpenBucket:
    """A local bucket."""
    return OpenBucket("primary", LocalObjects(tmp_path), "lakehouse-primary", tmp_path)


def _write(bucket: OpenBucket, table: Any, layout: Layout = SMALL, **options: Any) -> Segment:
    with SegmentWriter(bucket, "flights", table.schema, layout, **options) as writer:
        for batch in table.to_batches():
            writer.write(batch)
        segment = writer.finish()
    assert segment is not None
    return segment


def _read(bucket: OpenBucket, segment: Segment) -> Any:
    parts = []
    for key in segment.object_keys():
        with bucket.objects.open(key) as file:
            parts.append(pq.ParquetFile(file).read())
    return pa.concat_tables(parts)


def _metadata(bucket: OpenBucket, segment: Segment) -> Any:
    with bucket.objects.open(segment.object_keys()[0]) as file:
        return pq.ParquetFile(file).metadata


def _range_of(bucket: OpenBucket, values: Any) -> ColumnRange:
    return _write(bucket, pa.table({"c": values})).columns["c"]


def _flights(rows: int) -> Any:
    numbers = np.arange(rows)
    return pa.table(
        {
            "id": numbers,
            "carrier": pa.array(np.array(["AA", "UA", "DL"])[numbers % 3]),
            "delay": numbers % 97 * 0.5,
            "at": pa.array(numbers * 60_000_000, pa.timestamp("us", "UTC")),
        }
    )


def test_rows_come_back_in_order_with_their_places(bucket: OpenBucket) -> None:
    table = _flights(3500)

    segment = _write(bucket, table)
    rows = _read(bucket, segment)

    assert rows.drop_columns([ROW_ID]).equals(table)
    assert rows.column_names[-1] == ROW_ID
    assert rows.schema.field(ROW_ID).nullable is False
    assert [row_id - segment.row_id_base for row_id in rows[ROW_ID].to_pylist()] == list(range(3500))


def test_files_split_at_their_size_and_places_go_on(bucket: OpenBucket) -> None:
    segment = _write(bucket, _flights(5000), Layout(row_group_rows=1000, file_bytes=10_000))

    assert segment.files > 1
    assert [Path(key).name for key in segment.object_keys()][:2] == ["part-00000.parquet", "part-00001.parquet"]
    first = segment.row_id_base
    assert _read(bucket, segment)[ROW_ID].to_pylist() == list(range(first, first + 5000))


@pytest.mark.parametrize(
    "sizes", [[1] * 2500, [2500], [999, 2, 1499], [0, 2500, 0]], ids=["tiny", "one", "odd", "empty"]
)
def test_row_groups_do_not_depend_on_how_rows_are_sent(bucket: OpenBucket, sizes: list[int]) -> None:
    table = _flights(2500)
    with SegmentWriter(bucket, "flights", table.schema, SMALL) as writer:
        start = 0
        for size in sizes:
            writer.write(table.combine_chunks().to_batches()[0].slice(start, size))
            start += size
        segment = writer.finish()

    assert segment is not None
    metadata = _metadata(bucket, segment)
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [1000, 1000, 500]
    assert _read(bucket, segment).drop_columns([ROW_ID]).equals(table)


def test_row_groups_are_cut_by_bytes_too(bucket: OpenBucket) -> None:
    table = pa.table({"c": [f"{number:01000d}" for number in range(1000)]})

    segment = _write(bucket, table, Layout(row_group_bytes=100_000))

    assert read_manifest(bucket, segment).files[0].row_groups == 10


def test_files_have_page_index_bloom_filters_and_small_row_ids(bucket: OpenBucket) -> None:
    table = pa.table({"id": range(1000), "tags": [["x", "y"]] * 1000, "at": pa.array(range(1000), pa.date32())})

    segment = _write(bucket, table, primary_key=("id",))

    group = _metadata(bucket, segment).row_group(0)
    columns = {group.column(number).path_in_schema: group.column(number) for number in range(group.num_columns)}
    assert all(column.has_column_index and column.has_offset_index for column in columns.values())
    assert columns["id"].bloom_filter_offset is not None
    assert columns["at"].bloom_filter_offset is None
    assert "DELTA_BINARY_PACKED" in columns[ROW_ID].encodings
    assert columns[ROW_ID].total_compressed_size < 200
    assert "RLE_DICTIONARY" in columns["tags.list.item"].encodings
    assert {column.compression for column in columns.values()} == {"ZSTD"}


def test_the_manifest_lists_the_files_and_the_schema(bucket: OpenBucket) -> None:
    table = _flights(5000)

    segment = _write(bucket, table, Layout(row_group_rows=1000, file_bytes=10_000))

    manifest = read_manifest(bucket, segment)
    assert manifest.segment == segment
    assert pa.ipc.read_schema(pa.py_buffer(manifest.schema)) == table.schema
    assert [file.key for file in manifest.files] == segment.object_keys()
    for file in manifest.files:
        meta = bucket.objects.head(file.key)
        assert meta is not None
        assert (file.size, file.etag) == (meta.size, meta.etag)
    assert sum(file.rows for file in manifest.files) == segment.rows == 5000
    assert sum(file.size for file in manifest.files) == segment.bytes
    assert segment.schema_fingerprint == fingerprint(table.schema)


def test_a_damaged_manifest_is_our_fault() -> None:
    bucket = OpenBucket("primary", MemoryObjects(), "lakehouse-primary")
    bucket.objects.put("datasets/a/X/_segment.json", b"{")
    segment = Segment("X", "primary", "datasets/a/X", files=1, rows=1, bytes=1, schema_fingerprint="")

    with pytest.raises(
        InternalError, match=r"object datasets/a/X/_segment.json of bucket 'primary' is no segment manifest"
    ):
        read_manifest(bucket, segment)


def test_no_rows_are_no_segment_and_no_files(bucket: OpenBucket) -> None:
    with SegmentWriter(bucket, "flights", _flights(0).schema, SMALL) as writer:
        assert writer.finish() is None

    assert list(bucket.objects.list("")) == []


@pytest.mark.parametrize(
    ("name", "directory"),
    [("flights", "flights"), ("a b/ü%", "a%20b%2F%C3%BC%25"), ("é" * 100, "%C3%A9" * 33)],
    ids=["plain", "encoded", "long"],
)
def test_the_directory_is_the_encoded_name_and_a_new_ulid(bucket: OpenBucket, name: str, directory: str) -> None:
    with SegmentWriter(bucket, name, _flights(1).schema, SMALL) as writer:
        writer.write(_flights(1).to_batches()[0])
        segment = writer.finish()

    assert segment is not None
    assert segment.directory == f"datasets/{directory}/{segment.id}"
    assert segment.rows == _read(bucket, segment).num_rows


def test_an_exception_in_the_block_leaves_nothing(bucket: OpenBucket) -> None:
    def write_and_fail() -> None:
        with SegmentWriter(bucket, "flights", _flights(1).schema, Layout(row_group_rows=1000, file_bytes=1)) as writer:
            writer.write(_flights(2500).combine_chunks().to_batches()[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()

    assert list(bucket.objects.list("")) == []
    assert [path for path in bucket.local_root.rglob("*") if path.is_file()] == []  # type: ignore[union-attr]  # it is a local bucket


def test_a_full_disk_is_told_as_it_is_and_leaves_nothing(bucket: OpenBucket) -> None:
    full = BackendUnavailable("the disk says no")

    with (
        patch("flightserver.storage.local._LocalWriter.commit", side_effect=full),
        pytest.raises(BackendUnavailable, match="the disk says no"),
    ):
        _write(bucket, _flights(10))

    assert list(bucket.objects.list("")) == []


def test_deleting_a_segment_deletes_its_files_only(bucket: OpenBucket) -> None:
    doomed, other = _write(bucket, _flights(10)), _write(bucket, _flights(10))

    delete_segment(bucket, doomed)

    assert {Path(meta.key).parent.name for meta in bucket.objects.list("")} == {other.id}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([3, None, -1]), ColumnRange("-1", "3", 1)),
        (pa.array([2**64 - 1, 1], pa.uint64()), ColumnRange("1", "18446744073709551615")),
        (pa.array([0.5, -2.0]), ColumnRange("-2.0", "0.5")),
        (pa.array([0.5, float("nan")]), ColumnRange("0.5", None)),
        (pa.array([float("nan")]), ColumnRange()),
        (pa.array([True, False]), ColumnRange("false", "true")),
        (pa.array(["b", "a", None]), ColumnRange("a", "b", 1)),
        (pa.array(["a" * 70, "b" * 70]), ColumnRange("a" * 64, None)),
        (pa.array(["a", "b" * 5000]), ColumnRange()),
        (pa.array([Decimal("1.50"), Decimal("-0.25")]), ColumnRange("-0.25", "1.50")),
        (pa.array([dt.date(2026, 1, 2), dt.date(1, 1, 1)]), ColumnRange("0001-01-01", "2026-01-02")),
        (pa.array([1, 2**60], pa.timestamp("ms")), ColumnRange("1970-01-01T00:00:00.001", None)),
        (
            pa.array([1], pa.timestamp("ns")),
            ColumnRange("1970-01-01T00:00:00.000000001", "1970-01-01T00:00:00.000000001"),
        ),
        (
            pa.array([1], pa.timestamp("us", "Asia/Tokyo")),
            ColumnRange("1970-01-01T00:00:00.000001Z", "1970-01-01T00:00:00.000001Z"),
        ),
        (pa.array([dt.time(1, 2, 3)]), ColumnRange("01:02:03.000000", "01:02:03.000000")),
        (pa.array([None, None], pa.int8()), ColumnRange(nulls=2)),
        (pa.array([[1], None, []]), ColumnRange(nulls=1)),
        (pa.array([b"x"]), ColumnRange()),
    ],
    ids=str,
)
def test_column_ranges_hold_for_every_value(bucket: OpenBucket, values: Any, expected: ColumnRange) -> None:
    assert _range_of(bucket, values) == expected


def test_ranges_of_columns_behind_nested_ones_are_theirs(bucket: OpenBucket) -> None:
    nested = pa.array(
        [{"x": 1, "y": [("k", 9)]}], pa.struct([("x", pa.int8()), ("y", pa.map_(pa.string(), pa.int8()))])
    )

    segment = _write(bucket, pa.table({"s": nested, "n": [5]}))

    assert segment.columns["n"] == ColumnRange("5", "5")


def test_ranges_span_row_groups_and_files(bucket: OpenBucket) -> None:
    segment = _write(bucket, _flights(5000), Layout(row_group_rows=1000, file_bytes=10_000))

    assert segment.columns["id"] == ColumnRange("0", "4999")
    assert segment.columns["carrier"] == ColumnRange("AA", "UA")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_engine_reads_what_was_written(bucket: OpenBucket, data: st.DataObject) -> None:
    sent = data.draw(batches(data.draw(schemas())))
    schema = canonical(sent.schema)
    with SegmentWriter(bucket, "any", schema, SMALL) as writer:
        writer.write(conform(sent, schema))
        segment = writer.finish()
    if segment is None:
        return
    config = SessionConfig({"datafusion.execution.parquet.schema_force_view_types": "false"})

    frame = SessionContext(config).read_parquet(str(bucket.local_root / segment.object_keys()[0]))  # type: ignore[operator]  # it is a local bucket
    read = pa.table(frame)

    assert read.drop_columns([ROW_ID]).to_pylist() == sent.to_pylist()
    assert read.schema.remove(read.schema.get_field_index(ROW_ID)) == schema
    assert [row_id - segment.row_id_base for row_id in read[ROW_ID].to_pylist()] == list(range(sent.num_rows))


def test_memory_stays_at_one_row_group(bucket: OpenBucket) -> None:
    layout = Layout(row_group_rows=20_000)
    schema = _flights(1).schema
    group_bytes = _flights(20_000).nbytes
    peak = 0
    before = pa.total_allocated_bytes()

    with SegmentWriter(bucket, "flights", schema, layout) as writer:
        for _ in range(200):
            for batch in _flights(5_000).to_batches():
                writer.write(batch)
            peak = max(peak, pa.total_allocated_bytes() - before)
        segment = writer.finish()

    assert segment is not None
    assert segment.rows == 1_000_000
    assert peak < 3 * group_bytes


def test_memory_stays_at_one_row_group_when_rows_come_one_by_one(bucket: OpenBucket) -> None:
    batch = _flights(1).to_batches()[0]
    before = pa.total_allocated_bytes()
    peak = 0

    with SegmentWriter(bucket, "flights", batch.schema, Layout(row_group_rows=20_000)) as writer:
        for number in range(30_000):
            writer.write(
                pa.RecordBatch.from_pydict(batch.to_pydict(), schema=batch.schema) if number % 50 == 0 else batch
            )
            peak = max(peak, pa.total_allocated_bytes() - before)
        writer.finish()

    assert peak < 3 * _flights(20_000).nbytes
