"""What is dropped is what was meant, and views that followed it look its name up again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bucketing import add_bucket
from query.asking import rows, run
from tables.moving import dataset, move, operation

from flightserver.errors import CommitConflict, NotFound

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse


@pytest.fixture
def lake(lakehouse: Lakehouse) -> Lakehouse:
    """`trips` in `primary` and a bucket `archive`."""
    add_bucket(lakehouse, "archive")
    run(lakehouse, "CREATE TABLE trips AS SELECT 1 AS id")
    return lakehouse


def test_a_transaction_drops_the_table_that_it_saw_and_no_other_of_the_name(lake: Lakehouse) -> None:
    began = lake.transactions.begin("ada")
    run(lake, "DROP TABLE trips", transaction=lake.transactions.get(began))
    run(lake, "DROP TABLE trips")
    run(lake, "CREATE TABLE trips AS SELECT 2 AS id")

    with pytest.raises(
        CommitConflict, match=r'"primary"\.trips is the one that this was about, but it was dropped and created again'
    ):
        lake.transactions.commit(began)

    assert rows(lake, "SELECT id FROM trips") == [(2,)]


def test_a_transaction_drops_a_table_whatever_rows_and_columns_it_has_by_then(lake: Lakehouse) -> None:
    began = lake.transactions.begin("ada")
    run(lake, "DROP TABLE trips", transaction=lake.transactions.get(began))
    run(lake, "INSERT INTO trips VALUES (2)")
    run(lake, "ALTER TABLE trips ADD COLUMN zone BIGINT")

    lake.transactions.commit(began)

    with pytest.raises(NotFound):
        dataset(lake, "trips")


def test_a_view_that_has_followed_into_a_bucket_looks_its_name_up_again_when_the_bucket_is_dropped(
    lake: Lakehouse,
) -> None:
    run(lake, 'CREATE VIEW ids AS SELECT id FROM "primary".trips')
    move(lake, "trips", "archive")
    list(lake.bucket_service.drop("archive", "keep", operation("drop bucket")))

    run(lake, "CREATE TABLE trips AS SELECT 2 AS id")

    assert rows(lake, "SELECT id FROM ids") == [(2,)]


def test_a_view_of_a_view_that_was_dropped_looks_its_name_up_again(lake: Lakehouse) -> None:
    add_bucket(lake, "second")
    run(lake, "CREATE VIEW archive.ids AS SELECT 1 AS id")
    run(lake, "CREATE VIEW outer_ids AS SELECT id FROM ids")
    run(lake, "CREATE TABLE second.other AS SELECT 2 AS id")
    run(lake, "ALTER TABLE second.other RENAME TO ids")
    assert rows(lake, "SELECT id FROM outer_ids") == [(1,)]

    run(lake, "DROP VIEW archive.ids")

    assert rows(lake, "SELECT id FROM outer_ids") == [(2,)]
