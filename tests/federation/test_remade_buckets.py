"""A bucket that was dropped and made again elsewhere, or whose name is another's: nothing is written to the old place.

What was acknowledged is where readers look, on the server that made the change and on every other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from bucketing import parquet_files
from query.asking import count, rows, run
from tables.moving import before_each_commit, dataset, operation
from vectors.indexed import create, expected, make_docs, move, nearest

from flightserver.catalog.entities import LOCAL, Bucket, DatasetKey
from flightserver.errors import CommitConflict
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings
from flightserver.tables.moving import Moved
from flightserver.tables.requests import Mode, WriteRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REFUSED = "requires that bucket 'archive' is the one that files were written to, but another bucket has its name now"


def make(lakehouse: Lakehouse, name: str, root: str = "") -> None:
    lakehouse.bucket_service.create(Bucket(name, LOCAL, root), operation("create bucket"))


def drop(lakehouse: Lakehouse, name: str) -> None:
    list(lakehouse.bucket_service.drop(name, "keep", operation("drop bucket")))


def make_again(lakehouse: Lakehouse, name: str = "archive", root: str = "elsewhere") -> None:
    drop(lakehouse, name)
    make(lakehouse, name, root)


def place(lakehouse: Lakehouse, root: str) -> Path:
    return lakehouse.settings.server.data / "buckets" / root


@pytest.fixture
def here(lakehouse: Lakehouse) -> Lakehouse:
    """Has `trips` in `primary`, and an empty bucket `archive`."""
    make(lakehouse, "archive")
    run(lakehouse, "CREATE TABLE trips AS SELECT value AS id FROM generate_series(1, 100)")
    return lakehouse


@pytest.fixture
def there(here: Lakehouse) -> Iterator[Lakehouse]:
    """Another server of the catalog, which has used `archive` and looks at buckets once an hour."""
    sections: dict[str, dict[str, object]] = {
        "server": {"data": here.settings.server.data},
        "buckets": {"check_seconds": 3600},
    }
    with Lakehouse.open(load_settings(None, sections)) as opened:
        run(opened, "CREATE TABLE archive.old AS SELECT 1 AS id")
        yield opened


# On another server


def test_another_server_writes_into_the_bucket_that_has_the_name_now(here: Lakehouse, there: Lakehouse) -> None:
    make_again(here)

    run(there, "CREATE TABLE archive.new AS SELECT 7 AS id")

    assert rows(there, "SELECT id FROM archive.new") == rows(here, "SELECT id FROM archive.new") == [(7,)]
    assert len(parquet_files(place(here, "elsewhere"), "new")) == 1
    assert parquet_files(place(here, "archive"), "new") == []


def test_another_server_reads_and_changes_what_a_bucket_brought_under_the_name(
    here: Lakehouse, there: Lakehouse
) -> None:
    make(here, "second")
    run(here, "CREATE TABLE second.old AS SELECT value AS id FROM generate_series(1, 3)")
    drop(here, "archive")
    here.bucket_service.rename("second", "archive", operation("rename bucket"))

    assert rows(there, "SELECT id FROM archive.old ORDER BY id") == [(1,), (2,), (3,)]
    assert count(there, "UPDATE archive.old SET id = 4 WHERE id = 1") == 1
    assert count(there, "INSERT INTO archive.old VALUES (5)") == 1

    for lakehouse in (here, there):
        assert rows(lakehouse, "SELECT id FROM archive.old ORDER BY id") == [(2,), (3,), (4,), (5,)]


# While files are written


def test_a_dataset_is_not_moved_into_a_place_that_is_the_buckets_no_more(here: Lakehouse) -> None:
    running = here.mover.move(DatasetKey("primary", "trips"), "archive", operation("move"))
    with before_each_commit(here, "move", lambda: make_again(here)), pytest.raises(CommitConflict, match=REFUSED):
        list(running)

    assert dataset(here, "trips").bucket == "primary"
    assert rows(here, "SELECT count(*), max(id) FROM trips") == [(100, 100)]
    *_, moved = here.mover.move(DatasetKey("primary", "trips"), "archive", operation("move"))
    assert isinstance(moved, Moved)
    assert rows(here, "SELECT count(*), max(id) FROM archive.trips") == [(100, 100)]
    assert len(parquet_files(place(here, "elsewhere"), "trips")) == 1


def test_rows_that_came_while_the_bucket_was_made_again_are_refused(here: Lakehouse) -> None:
    schema = pa.schema([("id", pa.int64())])

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([pa.array([1])], schema=schema)
        make_again(here)
        yield pa.record_batch([pa.array([2])], schema=schema)

    request = WriteRequest(
        name="new",
        bucket="archive",
        mode=Mode.CREATE,
        schema=schema,
        operation=operation("ingest"),
        lineage_system="test",
        lineage_source="test",
    )
    with pytest.raises(CommitConflict, match=REFUSED):
        here.tables.write(request, batches())

    assert DatasetKey("archive", "new") not in here.catalog.snapshot().datasets
    assert parquet_files(place(here, "archive"), "new") == []


def test_what_a_transaction_has_written_is_refused_when_the_bucket_was_made_again(here: Lakehouse) -> None:
    began = here.transactions.begin("")
    opened = here.transactions.get(began)
    run(here, "CREATE TABLE archive.new (id BIGINT)", transaction=opened)
    run(here, "INSERT INTO archive.new VALUES (1), (2)", transaction=opened)
    run(here, "DELETE FROM archive.new WHERE id = 1", transaction=opened)
    make_again(here)

    with pytest.raises(CommitConflict, match=REFUSED):
        here.transactions.commit(began)

    assert DatasetKey("archive", "new") not in here.catalog.snapshot().datasets


def test_an_index_is_neither_made_nor_moved_into_such_a_place(here: Lakehouse) -> None:
    make_docs(here)
    again = before_each_commit(here, "create index", lambda: make_again(here))
    with again, pytest.raises(CommitConflict, match=REFUSED):
        create(here, bucket="archive")
    assert not here.catalog.snapshot().indexes

    create(here)
    again = before_each_commit(here, "move index", lambda: make_again(here, root="third"))
    with again, pytest.raises(CommitConflict, match=REFUSED):
        move(here, "archive")

    assert here.catalog.snapshot().index("directions").bucket == "primary"
    assert nearest(here, 0, 1) == expected(0, 0)


def test_a_bucket_that_gets_other_limits_is_the_same(here: Lakehouse) -> None:
    running = here.mover.move(DatasetKey("primary", "trips"), "archive", operation("move"))

    def limit() -> None:
        here.bucket_service.set_limits("archive", 2**25, None, operation("limit bucket"))

    with before_each_commit(here, "move", limit):
        *_, moved = running

    assert isinstance(moved, Moved)
    assert rows(here, "SELECT count(*) FROM archive.trips") == [(100,)]
