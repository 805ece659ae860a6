"""Exports: plain Parquet that other tools read, with a manifest that says whether it is whole."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables.attaching import Attaching
from tables.foreign import Foreign

from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import AlreadyExists, BackendUnavailable, InvalidRequest
from flightserver.storage.local import LocalObjects
from flightserver.tables.exporting import Exported, ExportRequest, ExportRoot, Exports
from flightserver.tables.requests import Mode
from flightserver.tables.segments import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from tables.lake import Lake

PEOPLE = pa.table(
    {
        "id": pa.array(range(6), pa.int64()),
        "team": ["a/b", "ü", "a/b", None, "007", "a/b"],
        "born": pa.array([date(1990 + n % 2, 1, 1) for n in range(6)]),
        "tags": [["x", None], None, [], ["y"], ["z"], ["x"]],
    }
)


class Exporting:
    """Exports the dataset `flights` of a lake below one directory."""

    def __init__(self, lake: Lake, root: Path) -> None:
        self.lake = lake
        self.root = root
        roots = (ExportRoot(root, LocalObjects(root)),)
        self.exports = Exports(roots, lake.buckets, lake.tables.dead, Layout(row_group_rows=1000))

    def __call__(self, destination: str, **options: Any) -> Exported:
        dataset = options.pop("dataset", None) or self.lake.dataset()
        steps = self.exports.export(ExportRequest(dataset, destination, **options))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                exported: Exported = end.value
                return exported

    def manifest(self, destination: str) -> Any:
        return json.loads((self.root / destination / "manifest.json").read_text())

    def left(self) -> list[str]:
        """Files below the root, but for the directory of unfinished writes."""
        found = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        return sorted(path for path in found if not path.startswith("_staging/"))


@pytest.fixture
def export(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Exporting:
    """A lake with `PEOPLE`, and an empty directory to export to."""
    lake.write(Mode.CREATE, PEOPLE)
    return Exporting(lake, tmp_path_factory.mktemp("exports"))


def _remove(lake: Lake, places: list[int], added: Any = None) -> None:
    """Remove rows of the first segment, and add others, in one change."""
    snapshot = lake.catalog.snapshot()
    dataset = snapshot.dataset("flights", "primary")
    with lake.tables.change(dataset, snapshot) as change:
        change.remove(np.array(places) + dataset.segments[0].row_id_base)
        for batch in [] if added is None else added.to_batches():
            change.add(batch)
        change.commit(Operation(new_ulid(), "update", rows=len(places)))


def test_an_export_is_the_rows_in_their_order_and_a_manifest(export: Exporting) -> None:
    exported = export("people")

    file = export.root / "people" / "data" / "part-00000.parquet"
    size = file.stat().st_size
    assert exported == Exported(files=1, rows=6, bytes=size, manifest="people/manifest.json")
    assert pq.read_table(file).equals(PEOPLE)
    manifest = export.manifest("people")
    assert datetime.fromisoformat(manifest.pop("exported")) <= datetime.now(UTC)
    assert manifest == {
        "dataset": "flights",
        "bucket": "primary",
        "version": 2,
        "rows": 6,
        "bytes": size,
        "columns": [
            {"name": "id", "type": "int64", "nullable": True, "partition": False},
            {"name": "team", "type": "string", "nullable": True, "partition": False},
            {"name": "born", "type": "date32[day]", "nullable": True, "partition": False},
            {"name": "tags", "type": "list<item: string>", "nullable": True, "partition": False},
        ],
        "files": [
            {
                "path": "data/part-00000.parquet",
                "rows": 6,
                "bytes": size,
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            }
        ],
    }


def test_changed_rows_are_exported_as_they_are_now(export: Exporting) -> None:
    changed = PEOPLE.slice(1, 1).set_column(1, "team", pa.array(["new"]))
    _remove(export.lake, [1, 4], changed)

    export("people")

    rows = pq.read_table(export.root / "people" / "data").to_pylist()
    assert rows == [*PEOPLE.take([0, 2, 3, 5]).to_pylist(), *changed.to_pylist()]


def test_an_older_version_is_exported_as_it_was(export: Exporting) -> None:
    before = export.lake.dataset()
    _remove(export.lake, [0])
    export.lake.write(Mode.APPEND, PEOPLE)

    export("before", dataset=before)

    assert pq.read_table(export.root / "before" / "data").equals(PEOPLE)
    assert export.manifest("before")["version"] == before.version


def test_a_column_that_came_later_is_null_in_older_rows(export: Exporting) -> None:
    export.lake.write(Mode.APPEND, pa.table({"id": pa.array([9], pa.int64()), "more": [1.5]}), evolve=True)

    export("people")

    more = pq.read_table(export.root / "people" / "data").column("more").to_pylist()
    assert more == [None] * 6 + [1.5]


def test_partitions_become_directories_that_other_tools_read(export: Exporting) -> None:
    export("people", partition_by=("born", "team"))

    data = export.root / "people" / "data"
    assert sorted(path.parent.relative_to(data).as_posix() for path in data.rglob("*.parquet")) == [
        "born=1990-01-01/team=007",
        "born=1990-01-01/team=a%2Fb",
        "born=1991-01-01/team=%C3%BC",
        "born=1991-01-01/team=__HIVE_DEFAULT_PARTITION__",
        "born=1991-01-01/team=a%2Fb",
    ]
    teams = PEOPLE.sort_by("id").column("team").to_pylist()
    options = {"hive_partitioning": True}
    polars = pl.read_parquet(data, hive_schema={"born": pl.Date, "team": pl.String}, **options).sort("id")
    assert polars["team"].to_list() == teams
    assert polars["born"].to_list() == PEOPLE.column("born").to_pylist()
    query = f"SELECT id, born, team FROM read_parquet('{data}/**/*.parquet', hive_partitioning = true) ORDER BY id"
    assert duckdb.sql(query).fetchall() == list(zip(range(6), PEOPLE.column("born").to_pylist(), teams, strict=True))
    assert [column["partition"] for column in export.manifest("people")["columns"]] == [False, True, True, False]


def test_pandas_polars_and_duckdb_read_the_directory(export: Exporting) -> None:
    export("people")
    data = export.root / "people" / "data"

    assert pd.read_parquet(data)["id"].tolist() == list(range(6))
    assert pl.read_parquet(data)["id"].to_list() == list(range(6))
    assert duckdb.sql(f"SELECT id FROM '{data}/*.parquet'").fetchall() == [(n,) for n in range(6)]


def test_an_export_can_be_attached(export: Exporting) -> None:
    export("people", partition_by=("born",))
    attaching = Attaching(export.lake, export.root)

    attached = attaching.attach("people")

    assert attached.rows == 6
    assert attached.schema.field("born").type == pa.date32()


def test_files_are_cut_by_size_and_name_all_rows(export: Exporting) -> None:
    many = 40_000
    rows = pa.table({"id": range(many), "noise": np.random.default_rng(1).bytes(many * 100).hex(" ", 100).split(" ")})
    export.lake.write(Mode.CREATE, rows, name="many")

    exported = export("many", dataset=export.lake.dataset("many"), file_bytes=1024 * 1024)

    files = export.manifest("many")["files"]
    assert exported.files == len(files) > 2
    assert sum(file["rows"] for file in files) == many
    assert all(file["bytes"] < 2 * 1024 * 1024 for file in files)
    assert pq.read_table(export.root / "many" / "data").equals(rows)


def test_more_partitions_than_files_may_be_open_are_whole(export: Exporting) -> None:
    rows = pa.table({"id": range(3000), "bin": [n % 150 for n in range(3000)]})
    export.lake.write(Mode.CREATE, rows, name="bins")

    exported = export("bins", dataset=export.lake.dataset("bins"), partition_by=("bin",))

    assert exported.rows == 3000
    read = pq.read_table(export.root / "bins" / "data").sort_by("id")
    assert read.column("id").to_pylist() == list(range(3000))
    assert [int(str(value)) for value in read.column("bin").to_pylist()] == rows.column("bin").to_pylist()


def test_a_dataset_without_rows_has_one_file_with_its_columns(export: Exporting) -> None:
    export.lake.tables.clear("flights", "primary", Operation(new_ulid(), "delete"))

    exported = export("nothing")

    assert (exported.files, exported.rows) == (1, 0)
    assert pl.read_parquet(export.root / "nothing" / "data").columns == PEOPLE.column_names


# Where nothing is written


@pytest.mark.parametrize("destination", ["../elsewhere", "/tmp/elsewhere", "", ".", "link/in", "x\0", "a" * 5000])  # noqa: S108  # nothing is written there
def test_a_destination_outside_of_the_roots_is_refused(
    export: Exporting, tmp_path_factory: pytest.TempPathFactory, destination: str
) -> None:
    (export.root / "link").symlink_to(tmp_path_factory.mktemp("outside"))

    with pytest.raises(InvalidRequest) as caught:
        export(destination)

    assert str(export.root) not in str(caught.value)
    assert export.left() == []


def test_a_directory_that_holds_something_is_left_alone(export: Exporting) -> None:
    (export.root / "taken").mkdir()
    (export.root / "taken" / "mine.txt").write_text("mine")

    with pytest.raises(AlreadyExists, match="'taken' exists and is not an empty directory"):
        export("taken")

    assert export.left() == ["taken/mine.txt"]


def test_an_empty_directory_is_as_good_as_a_new_one(export: Exporting) -> None:
    (export.root / "empty").mkdir()

    assert export("empty").rows == 6


def test_an_export_that_is_abandoned_leaves_nothing(export: Exporting) -> None:
    export.lake.write(Mode.APPEND, PEOPLE)
    steps = export.exports.export(ExportRequest(export.lake.dataset(), "half"))
    assert next(steps) == 6

    steps.close()

    assert export.left() == []


def test_an_export_that_fails_leaves_nothing(export: Exporting) -> None:
    export.lake.write(Mode.APPEND, PEOPLE)
    (last,) = export.lake.dataset().segments[1].object_keys()
    (export.lake.root / last).unlink()

    with pytest.raises(BackendUnavailable, match="can't be read: restore it from a backup"):
        export("half", partition_by=("born",))

    assert export.left() == []


def test_of_two_exports_to_one_directory_one_is_whole(export: Exporting) -> None:
    first = export.exports.export(ExportRequest(export.lake.dataset(), "both"))
    next(first)

    export("both")

    with pytest.raises(AlreadyExists):
        list(first)
    assert pq.read_table(export.root / "both" / "data").equals(PEOPLE)
    assert export.left() == ["both/data/part-00000.parquet", "both/manifest.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition_by": ("nowhere",)}, 'partition column "nowhere" is not among the columns "id", "team"'),
        ({"partition_by": ("tags",)}, 'partition column "tags" is list<item: string>: only integers, strings'),
        ({"partition_by": ("id", "id")}, "name each once"),
        ({"file_bytes": 1}, "file_bytes is 1, but must be at least 1,048,576"),
    ],
)
def test_what_cannot_be_is_refused(export: Exporting, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        export("people", **options)

    assert export.left() == []


@pytest.mark.parametrize("team", ["", "__HIVE_DEFAULT_PARTITION__"])
def test_text_that_would_read_as_null_is_refused(export: Exporting, team: str) -> None:
    export.lake.write(Mode.APPEND, PEOPLE.slice(0, 1).set_column(1, "team", pa.array([team])))

    with pytest.raises(InvalidRequest, match="which reads as null in the name of a directory"):
        export("people", partition_by=("team",))

    assert export.left() == []


def test_an_attached_dataset_is_not_exported(export: Exporting, tmp_path_factory: pytest.TempPathFactory) -> None:
    inbox = tmp_path_factory.mktemp("inbox")
    Foreign("parquet", inbox / "table")
    Attaching(export.lake, inbox).attach()

    with pytest.raises(InvalidRequest, match="can only be read: copy it with CREATE TABLE"):
        export("copy", dataset=export.lake.dataset("attached"))
