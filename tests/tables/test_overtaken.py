"""What a move overtakes: statements, streams, transactions and compactions that were planned for the former home."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

import pyarrow as pa
import pytest
from query.asking import count, many_bound, rows, run
from tables.moving import TRIPS, before_each_commit, dataset, files, move, operation, trips

from flightserver.access.principal import Principal
from flightserver.access.rights import UNRESTRICTED, Rights
from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.identities import AccessState, Grant, Privilege, Role
from flightserver.errors import CommitConflict, Forbidden, NotFound
from flightserver.ingest.service import StreamRequest
from flightserver.query.request import Request
from flightserver.tables.compaction import CompactResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.catalog.draft import Outcome
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.transaction import Transaction
    from flightserver.lakehouse import Lakehouse

__all__ = ["trips"]


def once(lakehouse: Lakehouse) -> Callable[[], None]:
    """Moves `trips` to `archive` the first time that it is called."""
    left = ["archive"]

    def move_once() -> None:
        while left:
            move(lakehouse, "trips", left.pop())

    return move_once


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("INSERT INTO trips SELECT id + 200, zone FROM trips WHERE id <= 2", None),
        ("INSERT INTO trips VALUES ($1, $2)", many_bound([201, 202], [1, 2])),
    ],
)
def test_an_insert_into_a_bare_name_that_is_overtaken_by_a_move_adds_its_rows_once_where_the_dataset_is_now(
    trips: Lakehouse, sql: str, values: pa.RecordBatch | None
) -> None:
    with before_each_commit(trips, "insert", once(trips)):
        assert count(trips, sql, parameters=values) == 2

    assert rows(trips, 'SELECT * FROM "archive".trips WHERE id > 200 ORDER BY id') == [(201, 1), (202, 2)]
    there = dataset(trips, "trips", "archive")
    assert {segment.bucket for segment in there.segments} == {"archive"}
    written = {key.rpartition("/")[0] for key in files(trips, "primary")}
    assert there.segments[-1].directory not in written


def test_an_insert_does_not_follow_where_its_user_may_not_insert(trips: Lakehouse) -> None:
    grant = Grant((Privilege.SELECT, Privilege.INSERT), "primary")
    state = AccessState(1, roles={"own": Role("own", (grant, Grant((Privilege.SELECT,), "archive")))})
    eve = Rights(Principal("eve", frozenset({"own"}), "password"), state)
    before = rows(trips, TRIPS)
    with (
        before_each_commit(trips, "insert", once(trips)),
        pytest.raises(Forbidden, match=r'user \'eve\' may not INSERT on "archive"\.trips'),
    ):
        run(trips, "INSERT INTO trips VALUES (201, 1)", rights=eve)
    assert rows(trips, TRIPS) == before


def test_a_truncate_that_is_overtaken_by_a_move_empties_the_dataset_where_it_is_now(trips: Lakehouse) -> None:
    with before_each_commit(trips, "truncate", once(trips)):
        assert count(trips, "TRUNCATE trips") == 100
    assert rows(trips, 'SELECT count(*) FROM "archive".trips') == [(0,)]


def test_an_insert_that_names_the_former_home_is_told_where_the_dataset_is_now(trips: Lakehouse) -> None:
    before = rows(trips, TRIPS)
    with (
        before_each_commit(trips, "insert", once(trips)),
        pytest.raises(NotFound, match=r'dataset "primary"\.trips is "archive"\.trips by now: nothing was written'),
    ):
        run(trips, 'INSERT INTO "primary".trips VALUES (201, 1)')
    assert rows(trips, TRIPS) == before


@pytest.mark.parametrize("mode", ["append", "create_append"])
def test_a_stream_that_is_overtaken_by_a_move_is_told_where_to_go_and_makes_no_second_dataset(
    trips: Lakehouse, mode: str
) -> None:
    sent = pa.table({"id": [201], "zone": pa.array([1], pa.int64())}).to_reader()
    request = StreamRequest(dataset="trips", bucket="primary", mode=mode, operation=operation("ingest"))
    with (
        before_each_commit(trips, "ingest", once(trips)),
        pytest.raises(NotFound, match=r'dataset "primary"\.trips is "archive"\.trips by now: .* send the rows there'),
    ):
        trips.ingest.stream(request, sent)
    assert [str(key) for key in trips.catalog.snapshot().datasets] == ['"archive".trips']


def test_a_transaction_that_is_overtaken_by_a_move_is_told_where_the_dataset_is_now(trips: Lakehouse) -> None:
    transaction = trips.transactions.get(trips.transactions.begin("ada"))
    run(trips, "INSERT INTO trips VALUES (201, 1)", transaction=transaction)
    move(trips, "trips", "archive")
    with pytest.raises(CommitConflict, match=r'but it was moved and is "archive"\.trips now; nothing was changed'):
        trips.transactions.commit(transaction.id)
    assert rows(trips, "SELECT count(*) FROM trips WHERE id > 200") == [(0,)]


def test_a_compaction_that_is_overtaken_by_a_move_goes_on_where_the_dataset_is_now(trips: Lakehouse) -> None:
    before = rows(trips, TRIPS)
    wanted = trips.compactor.wanted()
    with before_each_commit(trips, "compact", once(trips)):
        *_, done = trips.compactor.compact(DatasetKey("primary", "trips"), operation("compact"), wanted)
    assert isinstance(done, CompactResult)
    assert (done.key, done.files_after, done.starts) == (DatasetKey("archive", "trips"), 1, 2)
    assert rows(trips, TRIPS) == before


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE trips SET zone = 99",
        "DELETE FROM trips WHERE id > 0",
        "MERGE INTO trips USING (SELECT 1 AS id) AS gone ON trips.id = gone.id WHEN MATCHED THEN DELETE",
        "ALTER TABLE trips ADD COLUMN more BIGINT",
        "COMMENT ON TABLE trips IS 'of others'",
        "INSERT INTO trips VALUES (7, 7)",
        "TRUNCATE TABLE trips",
    ],
)
@pytest.mark.parametrize("change", ['DROP TABLE "archive".trips', 'ALTER TABLE "archive".trips RENAME TO trips_old'])
def test_what_is_overtaken_never_changes_another_dataset_that_the_name_means_by_then(
    trips: Lakehouse, sql: str, change: str
) -> None:
    run(trips, 'CREATE TABLE "archive".trips AS SELECT 1 AS id, 2 AS zone')
    before = dataset(trips, "trips")
    planned = trips.queries.plan(Request(sql=sql, rights=UNRESTRICTED, bucket="archive"))

    run(trips, change)
    with pytest.raises((CommitConflict, NotFound)):
        trips.queries.update(planned)

    assert dataset(trips, "trips") == before


class ThereAndBack:
    """Moves `trips` away right before a commit, and home when whoever was refused for it has looked where it is.

    Attributes:
        homes: Where it was then.
    """

    def __init__(self, lakehouse: Lakehouse) -> None:
        self._lakehouse = lakehouse
        self._commit = lakehouse.catalog.commit
        self._snapshot = lakehouse.catalog.snapshot
        self._has_left = self._was_missed = False
        self.homes: list[str] = []

    def commit(self, transaction: Transaction) -> Outcome:
        if self._has_left:
            return self._commit(transaction)
        self._has_left = True
        move(self._lakehouse, "trips", "archive")
        try:
            return self._commit(transaction)
        finally:
            self._was_missed = True

    def snapshot(self) -> Snapshot:
        found = self._snapshot()
        if self._was_missed:
            self._was_missed = False
            self.homes += [key.bucket for key in found.datasets]
            move(self._lakehouse, "trips", "primary", source="archive")
        return found


@pytest.mark.parametrize(("sql", "left"), [("INSERT INTO trips VALUES (201, 3)", 101), ("TRUNCATE trips", 0)])
def test_what_is_overtaken_by_a_move_there_and_back_is_done_at_home(trips: Lakehouse, sql: str, left: int) -> None:
    moving = ThereAndBack(trips)
    with patch.multiple(trips.catalog, commit=moving.commit, snapshot=moving.snapshot):
        run(trips, sql)

    assert moving.homes == ["archive"]
    assert rows(trips, 'SELECT count(*) FROM "primary".trips') == [(left,)]
