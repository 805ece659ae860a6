"""Attaching tables that others write: what the catalog keeps, what is seen of them later, and what is refused."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables.attaching import Attaching
from tables.foreign import (
    MORE,
    ROWS,
    Foreign,
    delta_column,
    handwritten_delta,
)

from flightserver.catalog.entities import DatasetKey, External
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import (
    AlreadyExists,
    BackendUnavailable,
    FlightserverError,
    InvalidRequest,
    NotFound,
    SchemaDrift,
)
from flightserver.tables.external.attaching import FORMATS, Attached
from flightserver.tables.requests import Mode

if TYPE_CHECKING:
    from pathlib import Path

    from tables.lake import Lake


@pytest.fixture
def attaching(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Attaching:
    """A lake, and an empty directory from which tables may be attached."""
    return Attaching(lake, tmp_path_factory.mktemp("inbox"))


COLUMNS = pa.schema([("id", pa.int64()), ("name", pa.string())])


@pytest.mark.parametrize("table_format", FORMATS)
def test_the_format_is_told_by_what_lies_there(attaching: Attaching, table_format: str) -> None:
    Foreign(table_format, attaching.root / "table")

    attached = attaching.attach()

    assert attached == Attached(DatasetKey("primary", "attached"), 2, table_format, COLUMNS, 3)


@pytest.mark.parametrize("given", ["table", "./table", "absolute"])
def test_the_catalog_keeps_a_pointer_and_nothing_else(attaching: Attaching, given: str) -> None:
    Foreign("delta", attaching.root / "table")

    attaching.attach(str(attaching.root / "table") if given == "absolute" else given, version="0")

    dataset = attaching.lake.dataset("attached")
    assert dataset.external == External("delta", "table", {"version": "0"})
    assert (dataset.segments, dataset.rows, dataset.lineage) == ((), 0, ())
    assert attaching.lake.files() == []


@pytest.mark.parametrize("table_format", FORMATS)
def test_a_table_is_described_again_only_when_its_owner_changed_it(attaching: Attaching, table_format: str) -> None:
    foreign = Foreign(table_format, attaching.root / "table")
    attaching.attach()
    before = attaching.source()

    again = attaching.source()
    foreign.append(MORE)
    after = attaching.source()

    assert again is before
    assert (before.rows, after.rows) == (3, 4)
    assert after.version != before.version or table_format == "parquet"


@pytest.mark.parametrize(("table_format", "option"), [("delta", "version"), ("lance", "version")])
def test_a_pinned_version_stays(attaching: Attaching, table_format: str, option: str) -> None:
    foreign = Foreign(table_format, attaching.root / "table")
    attaching.attach(**{option: "0" if table_format == "delta" else "1"})

    foreign.append(MORE)

    assert attaching.source().rows == 3


def test_a_snapshot_of_an_iceberg_table_stays_when_it_is_pinned(attaching: Attaching) -> None:
    foreign = Foreign("iceberg", attaching.root / "table")
    attaching.attach()
    snapshot = attaching.source().version
    attaching.lake.tables.drop("attached", "primary", Operation(new_ulid(), "drop"))

    attaching.attach(snapshot=snapshot)
    foreign.append(MORE)

    assert (attaching.source().rows, attaching.source().version) == (3, snapshot)


@pytest.mark.parametrize("table_format", ["delta", "parquet"])
def test_a_table_may_get_columns_that_the_dataset_lacks(attaching: Attaching, table_format: str) -> None:
    foreign = Foreign(table_format, attaching.root / "table")
    attaching.attach()

    foreign.append(MORE.append_column("more", pa.array([1])))

    assert attaching.source().schema.names == ["id", "name", "more"]
    assert attaching.source().rows == 4


def test_rows_are_unknown_when_a_delta_log_does_not_say(attaching: Attaching) -> None:
    pq.write_table(ROWS, attaching.root / "part.parquet")
    (attaching.root / "table").mkdir()
    (attaching.root / "part.parquet").rename(attaching.root / "table" / "part.parquet")
    size = (attaching.root / "table" / "part.parquet").stat().st_size
    columns = [delta_column("id"), delta_column("name", "string")]
    protocol = {"minReaderVersion": 1, "minWriterVersion": 2}
    adds = [{"path": "part.parquet", "size": size}]
    handwritten_delta(attaching.root / "table", protocol=protocol, columns=columns, adds=adds)

    assert attaching.attach().rows is None


# What a client may not reach


@pytest.mark.parametrize("location", ["../outside", "/etc", "link", "table\0", "x" * 5000, "missing"])
def test_a_location_outside_of_the_roots_is_as_good_as_none(attaching: Attaching, location: str) -> None:
    outside = attaching.root.parent / "outside"
    outside.mkdir(exist_ok=True)
    pq.write_table(ROWS, outside / "secret.parquet")
    (attaching.root / "link").symlink_to(outside)

    with pytest.raises(NotFound, match=r"there is no table .* under the directories that may be read") as caught:
        attaching.attach(location)

    assert str(attaching.root.parent) not in str(caught.value)


def test_a_file_that_links_out_of_the_roots_is_refused(attaching: Attaching, tmp_path: Path) -> None:
    Foreign("parquet", attaching.root / "table")
    pq.write_table(ROWS, tmp_path / "secret.parquet")
    (attaching.root / "table" / "1.parquet").symlink_to(tmp_path / "secret.parquet")

    with pytest.raises(InvalidRequest, match=r"refers to the file '1\.parquet' outside of the directories") as caught:
        attaching.attach()

    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("path", ["../../secret.parquet", "file:///etc/passwd", "/etc/passwd", "s3://bucket/x.parquet"])
def test_a_delta_log_that_refers_to_files_elsewhere_is_refused(attaching: Attaching, path: str) -> None:
    handwritten_delta(
        attaching.root / "table",
        protocol={"minReaderVersion": 1, "minWriterVersion": 2},
        columns=[delta_column("id")],
        adds=[{"path": path}],
    )

    with pytest.raises(InvalidRequest, match=r"outside of the directories|has files in 's3' storage"):
        attaching.attach()


def test_iceberg_metadata_that_refers_to_files_elsewhere_is_refused(attaching: Attaching, tmp_path: Path) -> None:
    foreign = Foreign("iceberg", tmp_path / "table")
    shutil.copytree(foreign.directory, attaching.root / "table")
    newest = attaching.root / "table" / "metadata" / "00001-test.metadata.json"
    moved = newest.read_text().replace(f'"location":"file://{tmp_path}/table"', '"location":"file:///elsewhere"')
    assert moved != newest.read_text()
    newest.write_text(moved)

    with pytest.raises(InvalidRequest, match=r"refers to the file 'snap-.*' outside of the directories") as caught:
        attaching.attach()

    assert str(tmp_path) not in str(caught.value)


# What is refused when it is asked for


def test_a_name_that_is_taken_is_refused(attaching: Attaching) -> None:
    Foreign("delta", attaching.root / "table")
    attaching.lake.write(Mode.CREATE, ROWS, name="attached")

    with pytest.raises(AlreadyExists, match="exists already"):
        attaching.attach()


def test_an_attached_dataset_is_not_written(attaching: Attaching) -> None:
    Foreign("delta", attaching.root / "table")
    attaching.attach()

    with pytest.raises(InvalidRequest, match=r"is attached \(delta\) and can only be read"):
        attaching.lake.write(Mode.APPEND, MORE, name="attached")


@pytest.mark.parametrize(
    ("table_format", "options", "message"),
    [
        ("orc", {}, "format 'orc' is not known: there are delta, iceberg, lance, parquet"),
        ("parquet", {"deep": "1"}, "option 'deep' is not known for format 'parquet': there are hive"),
        ("parquet", {"hive": "no"}, "option 'hive' is 'no', but must be 'true' or 'false'"),
        ("delta", {"version": "newest"}, "option 'version' is 'newest', but must be a whole number"),
    ],
)
def test_what_is_asked_for_must_be_known(
    attaching: Attaching, table_format: str, options: dict[str, str], message: str
) -> None:
    Foreign("delta", attaching.root / "table")

    with pytest.raises(InvalidRequest, match=message):
        attaching.attach("table", table_format, **options)


@pytest.mark.parametrize(
    ("table_format", "message"),
    [
        ("delta", "'table' is no Delta table"),
        ("iceberg", "'table' is no Iceberg table"),
        ("lance", "'table' is no Lance table"),
        ("parquet", "'table' has no Parquet files"),
    ],
)
def test_a_directory_of_another_format_is_not_found(attaching: Attaching, table_format: str, message: str) -> None:
    (attaching.root / "table").mkdir()
    (attaching.root / "table" / "readme.txt").write_text("nothing here")

    with pytest.raises(NotFound, match=message):
        attaching.attach("table", table_format)


@pytest.mark.parametrize(("table_format", "package"), [("delta", "deltalake"), ("iceberg", "pyiceberg.table")])
def test_a_format_whose_package_is_missing_says_what_to_install(
    attaching: Attaching, monkeypatch: pytest.MonkeyPatch, table_format: str, package: str
) -> None:
    Foreign(table_format, attaching.root / "table")
    monkeypatch.delitem(sys.modules, f"flightserver.tables.external.{table_format}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(InvalidRequest, match=rf"ask the administrator to install flightserver\[{table_format}\]"):
        attaching.attach()


# What happens when the table changes under an attached dataset


def test_a_table_that_lost_a_column_no_longer_fits(attaching: Attaching) -> None:
    foreign = Foreign("parquet", attaching.root / "table")
    attaching.attach()

    pq.write_table(pa.table({"id": ["now", "text"]}), foreign.files()[0])

    with pytest.raises(
        SchemaDrift,
        match=r'column "id": dataset has int64, data has string .*; '
        'column "name": dataset has string, data has no such column: drop the dataset and attach it again',
    ):
        attaching.source()


@pytest.mark.parametrize("table_format", FORMATS)
def test_a_table_that_is_gone_is_said_to_be(attaching: Attaching, table_format: str) -> None:
    foreign = Foreign(table_format, attaching.root / "table")
    attaching.attach()

    shutil.rmtree(foreign.directory)

    with pytest.raises(BackendUnavailable, match="is attached to 'table', which is gone"):
        attaching.source()


@pytest.mark.parametrize("table_format", ["delta", "iceberg"])
def test_a_file_that_is_missing_is_no_file_without_rows(attaching: Attaching, table_format: str) -> None:
    foreign = Foreign(table_format, attaching.root / "table")
    attaching.attach()
    attaching.source()

    foreign.files()[0].unlink()

    with pytest.raises(BackendUnavailable, match=r"file '.*\.parquet' of attached dataset .* is missing"):
        attaching.source()


def test_dropping_the_dataset_leaves_the_table_alone(attaching: Attaching) -> None:
    foreign = Foreign("delta", attaching.root / "table")
    attaching.attach()
    before = foreign.files()

    attaching.lake.tables.drop("attached", "primary", Operation(new_ulid(), "drop"))

    assert foreign.files() == before
    assert attaching.attach().rows == 3


@pytest.mark.parametrize("table_format", ["delta", "iceberg", "lance"])
def test_a_version_that_does_not_exist_is_refused(attaching: Attaching, table_format: str) -> None:
    Foreign(table_format, attaching.root / "table")

    with pytest.raises(FlightserverError, match="can't be read"):
        attaching.attach(**{"snapshot" if table_format == "iceberg" else "version": "77"})
