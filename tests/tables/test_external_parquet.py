"""Directories of Parquet as attached tables: partitions in the path, and files that differ."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables.attaching import Attaching
from tables.foreign import MORE, ROWS

from flightserver.catalog.entities import DatasetKey
from flightserver.errors import InvalidRequest, SchemaDrift, SchemaMismatch
from flightserver.tables.external.attaching import Attached

if TYPE_CHECKING:
    from pathlib import Path

    from tables.lake import Lake

COLUMNS = pa.schema([("id", pa.int64()), ("name", pa.string())])


@pytest.fixture
def attaching(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Attaching:
    """A lake, and an empty directory from which tables may be attached."""
    return Attaching(lake, tmp_path_factory.mktemp("inbox"))


def _hive(root: Path, *partitions: str, rows: Any = ROWS) -> None:
    for partition in partitions:
        directory = root / "table" / partition
        directory.mkdir(parents=True)
        pq.write_table(rows, directory / "part.parquet")


@pytest.mark.parametrize(
    ("partitions", "expected"),
    [
        (["k=1", "k=-20", "k=__HIVE_DEFAULT_PARTITION__"], pa.int64()),
        (["k=2024-02-29", "k=2023-01-01"], pa.date32()),
        (["k=2023-02-29"], pa.string()),
        (["k=007", "k=7"], pa.string()),
        (["k=1", "k=a%20b"], pa.string()),
        (["k=99999999999999999999"], pa.string()),
        (["k=__HIVE_DEFAULT_PARTITION__"], pa.string()),
    ],
)
def test_types_of_partitions_are_guessed_without_loss(
    attaching: Attaching, partitions: list[str], expected: pa.DataType
) -> None:
    _hive(attaching.root, *partitions)

    assert attaching.attach().schema.field("k").type == expected


def test_a_partition_that_does_not_fit_the_type_of_before_is_drift(attaching: Attaching) -> None:
    _hive(attaching.root, "k=1")
    attaching.attach()

    _hive(attaching.root, "k=one")

    with pytest.raises(SchemaDrift, match='has the directory "k=one", whose values were int64 when it was attached'):
        attaching.source()


def test_a_partition_that_was_text_stays_text(attaching: Attaching) -> None:
    _hive(attaching.root, "k=1", "k=one")
    attaching.attach()

    shutil.rmtree(attaching.root / "table" / "k=one")

    (part,) = attaching.source().parts
    assert part.values == {"k": pa.scalar("1")}


def test_files_that_are_partitioned_in_two_ways_are_refused_unless_paths_mean_nothing(attaching: Attaching) -> None:
    _hive(attaching.root, "k=1", "j=1")

    with pytest.raises(InvalidRequest, match=r"say different columns \(j; k\)"):
        attaching.attach()

    assert attaching.attach(hive="false").schema == COLUMNS


def test_hidden_files_are_not_part_of_the_table(attaching: Attaching) -> None:
    _hive(attaching.root, "k=1", "_temporary", ".cache")
    (attaching.root / "table" / "_SUCCESS").touch()
    (attaching.root / "table" / "k=1" / "._part.parquet").write_text("no Parquet")

    assert attaching.attach().rows == 3


def test_a_single_file_is_a_table(attaching: Attaching) -> None:
    pq.write_table(ROWS, attaching.root / "rows.parquet")

    assert attaching.attach("rows.parquet") == Attached(DatasetKey("primary", "attached"), 2, "parquet", COLUMNS, 3)


def test_columns_are_united_by_name_and_widened(attaching: Attaching) -> None:
    _hive(attaching.root, "a", rows=pa.table({"id": pa.array([1], pa.int16()), "x": [1.5]}))
    _hive(attaching.root, "b", rows=pa.table({"y": ["y"], "id": pa.array([1], pa.int32())}))

    assert attaching.attach().schema == pa.schema([("id", pa.int32()), ("x", pa.float64()), ("y", pa.string())])


@pytest.mark.parametrize("other", [pa.array(["1"]), pa.array([{"x": 1}]), pa.array([1.5])])
def test_columns_that_no_type_holds_are_refused(attaching: Attaching, other: Any) -> None:
    _hive(attaching.root, "a", rows=pa.table({"id": pa.array([1], pa.int64())}))
    _hive(attaching.root, "b", rows=pa.table({"id": other}))

    with pytest.raises(SchemaMismatch, match=r'column "id" is int64 in some files of table .* which no type holds'):
        attaching.attach()


def test_a_file_that_is_no_parquet_is_named(attaching: Attaching) -> None:
    _hive(attaching.root, "a")
    (attaching.root / "table" / "b.parquet").write_text("something else entirely")

    with pytest.raises(InvalidRequest, match=r"file 'b\.parquet' of table 'table' is missing, or no Parquet file"):
        attaching.attach()


def test_a_file_that_was_replaced_is_read_anew(attaching: Attaching) -> None:
    _hive(attaching.root, "a")
    attaching.attach()
    before = attaching.source()
    file = attaching.root / "table" / "a" / "part.parquet"

    pq.write_table(MORE, file)
    os.utime(file, ns=(1, 1))

    assert (before.rows, attaching.source().rows) == (3, 1)
