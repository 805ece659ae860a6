"""Attached datasets in SQL: rows of other formats, read at their newest version, with filters that reach the files."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import lance
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafusion import SessionConfig, SessionContext
from deltalake import DeltaTable, write_deltalake
from pyiceberg.schema import Schema
from pyiceberg.types import DateType, IntegerType, ListType, LongType, NestedField, StringType, StructType
from tables.attaching import Attaching
from tables.foreign import MORE, ROWS, DirectoryCatalog, Foreign, delta_column, handwritten_delta, iceberg_rows
from tables.lake import Lake

from flightserver.catalog.catalog import Catalog
from flightserver.errors import InvalidRequest
from flightserver.query.attached import AttachedTables
from flightserver.storage.buckets import Buckets, OpenBucket, url_scheme
from flightserver.storage.local import LocalObjects
from flightserver.tables.external.attaching import FORMATS
from flightserver.tables.segments import Layout
from flightserver.tables.writes import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Sql:
    """Runs SQL over the dataset `attached`, which is looked up anew for each statement."""

    def __init__(self, attaching: Attaching) -> None:
        self.attaching = attaching
        self.root = attaching.root
        self._tables = AttachedTables(attaching.external)
        options = {
            "datafusion.execution.parquet.schema_force_view_types": "false",
            "datafusion.execution.target_partitions": "2",
        }
        self.context = SessionContext(SessionConfig(options))

    def attach(self, location: str = "table") -> None:
        self.attaching.attach(location)

    def __call__(self, sql: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.table(sql).to_pylist()
        return rows

    def table(self, sql: str) -> Any:
        table = self._tables.table(self.attaching.lake.dataset("attached"), self.context)
        self.context.deregister_table("attached")
        self.context.register_table("attached", table)
        return self.context.sql(sql).to_arrow_table()

    def plan(self, sql: str) -> str:
        """The physical plan of a query."""
        return str(self(f"EXPLAIN {sql}")[1]["plan"])


@pytest.fixture
def sql(tmp_path: Path) -> Iterator[Sql]:
    """A lake in one directory, and another one to attach from."""
    root = tmp_path / "lake"
    objects = LocalObjects(root)
    buckets = Buckets()
    bucket = OpenBucket("primary", objects, url_scheme("primary"), root)
    buckets.add(bucket)
    catalog = Catalog.open(objects)
    inbox = tmp_path / "in box"
    inbox.mkdir()
    yield Sql(Attaching(Lake(root, bucket, buckets, catalog, Tables(catalog, buckets, Layout())), inbox))
    catalog.close()


@pytest.mark.parametrize("table_format", FORMATS)
def test_a_statement_reads_the_newest_version(sql: Sql, table_format: str) -> None:
    foreign = Foreign(table_format, sql.root / "table")
    sql.attach()

    before = sql("SELECT * FROM attached ORDER BY id")
    foreign.append(MORE)
    after = sql("SELECT * FROM attached ORDER BY id")

    assert before == ROWS.to_pylist()
    assert after == [*ROWS.to_pylist(), *MORE.to_pylist()]


@pytest.mark.parametrize("table_format", FORMATS)
def test_a_planned_statement_reads_the_version_that_it_was_planned_with(sql: Sql, table_format: str) -> None:
    foreign = Foreign(table_format, sql.root / "table")
    sql.attach()
    sql("SELECT 1 FROM attached")
    planned = sql.context.sql("SELECT one.id FROM attached one JOIN attached other ON one.id = other.id ORDER BY 1")

    foreign.append(MORE)

    assert planned.to_arrow_table().column("id").to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("table_format", FORMATS)
def test_a_filter_and_a_projection_reach_the_files(sql: Sql, table_format: str) -> None:
    Foreign(table_format, sql.root / "table")
    sql.attach()

    found = sql("SELECT name FROM attached WHERE id = 2")
    plan = sql.plan("SELECT name FROM attached WHERE id = 2")

    assert found == [{"name": "b"}]
    pushed = "FilteredReadExec" if table_format == "lance" else "predicate=id@0 = 2"
    assert pushed in plan
    assert str(sql.root) not in plan


@pytest.mark.parametrize("table_format", FORMATS)
def test_every_column_may_be_null_whatever_its_rows_are(sql: Sql, table_format: str) -> None:
    Foreign(table_format, sql.root / "table")
    sql.attach()

    schema = sql.table("SELECT * FROM attached").schema

    assert [(field.name, field.type, field.nullable) for field in schema] == [
        ("id", pa.int64(), True),
        ("name", pa.string(), True),
    ]


def test_counting_and_joining_with_itself_work_over_many_partitions(sql: Sql) -> None:
    for number in range(300):
        directory = sql.root / "table" / f"k={number}"
        directory.mkdir(parents=True)
        pq.write_table(pa.table({"v": [number, -number]}), directory / "part.parquet")
    sql.attach()

    counted = sql("SELECT count(*) AS n, sum(v) AS total, count(DISTINCT k) AS k FROM attached")
    joined = sql("SELECT count(*) AS n FROM attached one JOIN attached other ON one.k = other.k WHERE one.k >= 298")

    assert counted == [{"n": 600, "total": 0, "k": 300}]
    assert joined == [{"n": 8}]


@pytest.mark.parametrize(
    ("table_format", "path"),
    [("lance", "50%20off, ü #1?"), ("parquet", "50%20off, ü #1?"), ("iceberg", "50%20off, ü"), ("delta", "ü #1?")],
)
def test_a_path_may_have_any_character(sql: Sql, table_format: str, path: str) -> None:
    Foreign(table_format, sql.root / path)
    sql.attach(path)

    assert sql("SELECT * FROM attached ORDER BY id") == ROWS.to_pylist()


def test_a_path_that_deltalake_would_misread_is_refused(sql: Sql) -> None:
    foreign = Foreign("delta", sql.root / "table")
    foreign.directory.rename(sql.root / "50%20off")

    with pytest.raises(InvalidRequest, match="has a '%' in its path, which deltalake can't open"):
        sql.attach("50%20off")


# Delta Lake


TYPED = pa.table(
    {
        "id": [0, 1, 2],
        "day": pa.array([date(2024, 1, 1), None, date(2024, 1, 2)]),
        "text": ["a b/ü%", "x", "x"],
        "price": pa.array([Decimal("1.50"), Decimal("2.50"), None]),
        "at": pa.array([datetime(2024, 1, 1, 10, 30, tzinfo=UTC)] * 2 + [None], pa.timestamp("us", "UTC")),
        "flag": [True, False, None],
    }
)


def test_partition_values_of_a_delta_table_are_columns(sql: Sql) -> None:
    write_deltalake((sql.root / "table").as_uri(), TYPED, partition_by=["day", "text", "price", "at", "flag"])
    sql.attach()

    read = sql.table("SELECT * FROM attached ORDER BY id")

    assert read.to_pylist() == TYPED.to_pylist()
    assert read.schema.types == [column.type for column in TYPED.columns]


def test_a_filter_on_a_partition_column_leaves_out_whole_files(sql: Sql) -> None:
    write_deltalake((sql.root / "table").as_uri(), TYPED, partition_by=["day"])
    sql.attach()

    plan = sql.plan("SELECT text FROM attached WHERE day = DATE '2024-01-02'")
    none = sql.plan("SELECT text FROM attached WHERE day IS NOT NULL AND day > DATE '2030-01-01'")

    assert "day=2024-01-02" in plan
    assert "day=2024-01-01" not in plan
    assert none.strip() == "EmptyExec"


def test_rows_that_a_delta_table_no_longer_has_are_not_read(sql: Sql) -> None:
    foreign = Foreign("delta", sql.root / "table")
    sql.attach()

    DeltaTable(foreign.directory.as_uri()).delete("id = 2")

    assert sql("SELECT id FROM attached ORDER BY id") == [{"id": 1}, {"id": 3}]
    assert len(foreign.files()) == 2


def test_a_delta_table_may_map_names(sql: Sql) -> None:
    table = sql.root / "table"
    table.mkdir()
    pq.write_table(pa.table({"col-1": [7, 8], "id": ["of another column", "that was dropped"]}), table / "f.parquet")
    handwritten_delta(
        table,
        protocol={"minReaderVersion": 2, "minWriterVersion": 5},
        configuration={"delta.columnMapping.mode": "name"},
        columns=[
            delta_column(name, kind, **{"delta.columnMapping.id": number, "delta.columnMapping.physicalName": physical})
            for number, (name, kind, physical) in enumerate([("id", "long", "col-1"), ("day", "date", "col-2")], 1)
        ],
        partition_columns=["day"],
        adds=[
            {
                "path": "f.parquet",
                "size": (table / "f.parquet").stat().st_size,
                "partitionValues": {"col-2": "2024-01-01"},
            }
        ],
    )
    sql.attach()

    day = date(2024, 1, 1)
    assert sql("SELECT * FROM attached WHERE id > 6") == [{"id": 7, "day": day}, {"id": 8, "day": day}]


def test_a_delta_table_may_widen_types(sql: Sql) -> None:
    table = sql.root / "table"
    table.mkdir()
    pq.write_table(pa.table({"id": pa.array([7], pa.int32())}), table / "narrow.parquet")
    pq.write_table(pa.table({"id": pa.array([2**40], pa.int64())}), table / "wide.parquet")
    features = ["typeWidening"]
    handwritten_delta(
        table,
        protocol={"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features},
        columns=[delta_column("id")],
        adds=[{"path": path.name, "size": path.stat().st_size} for path in sorted(table.glob("*.parquet"))],
    )
    sql.attach()

    assert sql("SELECT id FROM attached WHERE id > 6 ORDER BY id") == [{"id": 7}, {"id": 2**40}]


# Iceberg


def test_columns_of_an_iceberg_table_are_found_by_their_ids(sql: Sql) -> None:
    table = DirectoryCatalog("tests").create(
        sql.root / "table",
        Schema(
            NestedField(1, "id", IntegerType(), required=True),
            NestedField(2, "day", DateType()),
            NestedField(3, "place", StructType(NestedField(4, "x", IntegerType()))),
            NestedField(5, "tags", ListType(6, StringType(), element_required=False)),
        ),
    )
    table.append(iceberg_rows(table, [{"id": 1, "day": date(2024, 1, 1), "place": {"x": 1}, "tags": ["t", None]}]))
    with table.update_schema() as update:
        update.update_column("id", LongType())
        update.rename_column("id", "number")
    with table.update_schema() as update:
        update.add_column("id", StringType())
    with table.update_spec() as spec:
        spec.add_identity("day")
    table.append(iceberg_rows(table, [{"number": 2**40, "day": date(2024, 1, 2), "place": {"x": 2}, "id": "new"}]))
    sql.attach()

    rows = sql("SELECT * FROM attached WHERE number > 0 ORDER BY number")

    assert rows == [
        {"number": 1, "day": date(2024, 1, 1), "place": {"x": 1}, "tags": ["t", None], "id": None},
        {"number": 2**40, "day": date(2024, 1, 2), "place": {"x": 2}, "tags": None, "id": "new"},
    ]


def test_an_iceberg_table_without_files_is_empty(sql: Sql) -> None:
    DirectoryCatalog("tests").create(sql.root / "table", Schema(NestedField(1, "id", LongType())))
    sql.attach()

    assert sql("SELECT count(*) AS n, max(id) AS id FROM attached") == [{"n": 0, "id": None}]


def test_a_copied_iceberg_table_is_read_where_it_is(sql: Sql, tmp_path: Path) -> None:
    foreign = Foreign("iceberg", tmp_path / "before")
    shutil.move(foreign.directory, sql.root / "table")
    sql.attach()

    assert sql("SELECT * FROM attached ORDER BY id") == ROWS.to_pylist()


def test_an_iceberg_table_whose_nested_column_changed_is_refused(sql: Sql) -> None:
    table = DirectoryCatalog("tests").create(
        sql.root / "table", Schema(NestedField(1, "place", StructType(NestedField(2, "x", IntegerType()))))
    )
    table.append(iceberg_rows(table, [{"place": {"x": 1}}]))
    with table.update_schema() as update:
        update.add_column(("place", "y"), IntegerType())

    with pytest.raises(InvalidRequest, match=r'column "place" of Iceberg table .* let its owner rewrite'):
        sql.attach()


# Lance


def test_a_lance_table_is_read_without_the_rows_that_were_deleted(sql: Sql) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([0.0] * 12, pa.float32()), 4)
    rows = pa.table({"id": [1, 2, 3], "kind": pa.array(["a", "b", "a"]).dictionary_encode(), "vector": vectors})
    lance.write_dataset(rows, str(sql.root / "table"))
    sql.attach()

    lance.dataset(str(sql.root / "table")).delete("id = 2")

    assert sql("SELECT id, kind, vector FROM attached WHERE kind = 'a' AND id > 1") == [
        {"id": 3, "kind": "a", "vector": [0.0] * 4}
    ]


# Directories of Parquet


def test_partitions_in_paths_are_columns_with_types(sql: Sql) -> None:
    for path, value in (("day=2024-01-01/n=1/s=a%20b%2Fc", 1), ("day=__HIVE_DEFAULT_PARTITION__/n=2/s=%C3%BC", 2)):
        directory = sql.root / "table" / path
        directory.mkdir(parents=True)
        pq.write_table(pa.table({"v": [value]}), directory / "part 1.parquet")
    sql.attach()

    assert sql("SELECT * FROM attached ORDER BY v") == [
        {"v": 1, "day": date(2024, 1, 1), "n": 1, "s": "a b/c"},
        {"v": 2, "day": None, "n": 2, "s": "ü"},
    ]
    assert sql("SELECT v FROM attached WHERE day IS NULL AND s = 'ü'") == [{"v": 2}]
    assert "day=2024-01-01" not in sql.plan("SELECT v FROM attached WHERE n = 2")


def test_files_that_differ_are_read_as_one_table(sql: Sql) -> None:
    (sql.root / "table").mkdir()
    nested = pa.table({"id": pa.array([1], pa.int16()), "m": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32()))})
    pq.write_table(nested, sql.root / "table" / "a.parquet")
    other = pa.table({'odd "name"': pa.array(["x"]).dictionary_encode(), "id": pa.array([2**40], pa.int64())})
    pq.write_table(other, sql.root / "table" / "b.parquet")
    sql.attach()

    assert sql("SELECT * FROM attached WHERE id > 0 ORDER BY id") == [
        {"id": 1, "m": [("k", 1)], 'odd "name"': None},
        {"id": 2**40, "m": None, 'odd "name"': "x"},
    ]


def test_files_that_only_have_columns_of_the_path_count_their_rows(sql: Sql) -> None:
    for key in (1, 2):
        (sql.root / "table" / f"k={key}").mkdir(parents=True)
        pq.write_table(pa.table({"k": [0] * key}), sql.root / "table" / f"k={key}" / "part.parquet")
    sql.attach()

    assert sql("SELECT k, count(*) AS n FROM attached GROUP BY k ORDER BY k") == [{"k": 1, "n": 1}, {"k": 2, "n": 2}]
