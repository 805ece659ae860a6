"""Moving datasets between buckets: what moves, what stays, and who comes in between."""

from __future__ import annotations

import contextlib
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from bucketing import add_bucket
from msgspec.structs import replace
from query.asking import rows, run
from s3server import s3_bucket, s3_server
from tables.moving import TRIPS, before_each_commit, collect, dataset, files, move, operation, trips

from flightserver.catalog.entities import DatasetKey
from flightserver.errors import AlreadyExists, BackendUnavailable, CommitConflict, InvalidRequest, NotFound
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings
from flightserver.tables.moving import Moved, Step

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server

__all__ = ["s3_bucket", "s3_server", "trips"]

# What a move does


def test_a_moved_dataset_has_the_same_rows_and_the_same_files_under_the_same_keys(trips: Lakehouse) -> None:
    run(trips, "COMMENT ON TABLE trips IS 'of taxis'")
    trips.versions.tag(DatasetKey("primary", "trips"), "first", None, operation("tag"))
    before, there = rows(trips, TRIPS), dataset(trips, "trips")
    live = {segment.directory for segment in there.segments} | {delta.key for delta in there.deltas}
    named = {
        key: data for key, data in files(trips, "primary").items() if key in live or key.rpartition("/")[0] in live
    }

    moved = move(trips, "trips", "archive")

    assert rows(trips, TRIPS) == before
    assert rows(trips, 'SELECT count(*) FROM "archive".trips') == [(100,)]
    assert files(trips, "archive") == named
    size = sum(map(len, named.values()))
    assert moved == Moved(DatasetKey("archive", "trips"), "primary", moved.version, len(named), size, already=0)
    assert dataset(trips, "trips", "archive") == replace(
        there,
        bucket="archive",
        version=moved.version,
        segments=tuple(replace(segment, bucket="archive") for segment in there.segments),
        deltas=tuple(replace(delta, bucket="archive") for delta in there.deltas),
    )
    assert DatasetKey("primary", "trips") not in trips.catalog.snapshot().datasets


def test_a_moved_dataset_is_written_to_where_it_is_now(trips: Lakehouse) -> None:
    run(trips, TRIPS)
    move(trips, "trips", "archive")
    at_home = files(trips, "primary")

    run(trips, "INSERT INTO trips VALUES (102, 1)")
    run(trips, "DELETE FROM trips WHERE id < 101")
    list(trips.compactor.compact(DatasetKey("archive", "trips"), operation(), trips.compactor.wanted()))

    assert rows(trips, TRIPS) == [(101, 3), (102, 1)]
    assert files(trips, "primary") == at_home


def test_history_and_earlier_versions_go_on_across_moves(trips: Lakehouse) -> None:
    before = rows(trips, TRIPS)
    version = dataset(trips, "trips").version
    there = move(trips, "trips", "archive").version
    run(trips, "DELETE FROM trips WHERE id > 1")
    run(trips, "ALTER TABLE trips RENAME TO rides")
    back = move(trips, "rides", "primary", "archive").version

    history = trips.catalog.history(dataset(trips, "rides"))

    assert [(entry.kind, entry.rows) for entry in history] == [
        ("move", 1),
        ("alter table", 1),
        ("delete", 1),
        ("move", 100),
        ("update", 100),
        ("insert", 100),
        ("compact", 99),
        ("delete", 99),
        ("create table as", 100),
    ]
    assert (history[0].version, history[3].version) == (back, there)
    assert rows(trips, f"SELECT id, zone FROM rides FOR VERSION AS OF {version} ORDER BY id") == before
    assert rows(trips, f"SELECT id, zone FROM rides FOR VERSION AS OF {there} ORDER BY id") == before
    assert rows(trips, "SELECT id FROM rides") == [(1,)]

    trips.versions.restore(DatasetKey("primary", "rides"), version, operation("restore"))
    assert rows(trips, "SELECT id, zone FROM rides ORDER BY id") == before


def test_progress_is_told_in_bytes_up_to_all_of_them(trips: Lakehouse) -> None:
    there = dataset(trips, "trips")
    total = sum(segment.bytes for segment in there.segments) + sum(delta.bytes for delta in there.deltas)

    *steps, _ = trips.mover.move(there.key, "archive", operation())

    assert {(step.stage, step.total) for step in steps if isinstance(step, Step)} == {("copy", total)}
    done = [step.done for step in steps if isinstance(step, Step)]
    assert done == sorted(done)
    assert done[-1] == total


def test_a_dataset_moves_to_a_real_s3_server_and_back(trips: Lakehouse, s3_server: S3Server, s3_bucket: str) -> None:
    add_bucket(trips, s3_server.bucket("cloud", s3_bucket, prefix="lake"))
    before, at_home = rows(trips, TRIPS), files(trips, "primary")

    away = move(trips, "trips", "cloud")
    assert rows(trips, TRIPS) == before
    assert files(trips, "cloud").items() <= at_home.items()
    collect(trips, "primary")
    back = move(trips, "trips", "primary", "cloud")

    assert (back.objects, back.bytes, back.already) == (away.objects, away.bytes, 0)
    assert rows(trips, TRIPS) == before
    assert files(trips, "primary") == files(trips, "cloud")


# What is refused


def test_a_move_is_refused_where_it_makes_no_sense_and_nothing_is_copied(trips: Lakehouse) -> None:
    run(trips, 'CREATE TABLE "archive".taken (id BIGINT)')
    run(trips, "CREATE TABLE taken AS SELECT 1 AS id")
    run(trips, 'CREATE VIEW "archive".shown AS SELECT 1 AS id')
    run(trips, "CREATE TABLE shown AS SELECT 1 AS id")
    before = trips.catalog.snapshot().version

    with pytest.raises(NotFound, match="there is no bucket 'nowhere'; there are: archive, primary"):
        move(trips, "trips", "nowhere")
    with pytest.raises(NotFound, match="there is no dataset 'trips' in bucket 'archive'"):
        move(trips, "trips", "primary", "archive")
    with pytest.raises(InvalidRequest, match=r'"primary"\.trips can\'t be moved to bucket \'primary\': it is there'):
        move(trips, "trips", "primary")
    with pytest.raises(AlreadyExists, match="to bucket 'archive', which has a dataset of the name: rename one"):
        move(trips, "taken", "archive")
    with pytest.raises(AlreadyExists, match="to bucket 'archive', which has a view of the name: rename one"):
        move(trips, "shown", "archive")

    assert trips.catalog.snapshot().version == before
    assert files(trips, "archive") == {}


def test_a_dataset_of_which_a_file_is_lost_stays_where_it_is(trips: Lakehouse) -> None:
    lost = dataset(trips, "trips").segments[0].object_keys()[0]
    trips.buckets.get("primary").objects.delete(lost)

    with pytest.raises(BackendUnavailable, match=rf"file '{lost}' of bucket 'primary' can't be read: restore it"):
        move(trips, "trips", "archive")

    assert dataset(trips, "trips").bucket == "primary"


# Who comes in between


def test_what_others_commit_meanwhile_is_copied_too(trips: Lakehouse) -> None:
    running = trips.mover.move(DatasetKey("primary", "trips"), "archive", operation("move"))
    next(running)
    run(trips, "INSERT INTO trips VALUES (102, 1)")
    run(trips, "DELETE FROM trips WHERE id = 1")
    expected = rows(trips, TRIPS)
    *_, moved = running

    assert isinstance(moved, Moved)
    assert rows(trips, TRIPS) == expected
    now = dataset(trips, "trips", "archive")
    assert {segment.bucket for segment in now.segments} == {delta.bucket for delta in now.deltas} == {"archive"}


def test_a_move_that_always_comes_too_late_gives_up_and_no_writer_has_failed(trips: Lakehouse) -> None:
    inserted: list[int] = []

    def insert() -> None:
        inserted.append(200 + len(inserted))
        run(trips, f"INSERT INTO trips VALUES ({inserted[-1]}, 0)")

    with (
        before_each_commit(trips, "move", insert),
        pytest.raises(CommitConflict, match="nothing was changed and a retry is safe"),
    ):
        move(trips, "trips", "archive")

    assert dataset(trips, "trips").bucket == "primary"
    assert rows(trips, "SELECT id FROM trips WHERE id >= 200 ORDER BY id") == [(number,) for number in inserted]


def test_a_statement_that_is_overtaken_by_a_move_changes_the_dataset_where_it_is_now(trips: Lakehouse) -> None:
    left = ["archive"]

    def move_once() -> None:
        while left:
            move(trips, "trips", left.pop())

    with before_each_commit(trips, "delete", move_once):
        run(trips, "DELETE FROM trips WHERE id = 2")

    assert rows(trips, 'SELECT count(*) FROM "archive".trips WHERE id <= 2') == [(1,)]


def test_under_writers_and_readers_nothing_acknowledged_is_lost_and_nobody_sees_the_dataset_nowhere(
    trips: Lakehouse,
) -> None:
    run(trips, "TRUNCATE TABLE trips")
    done = threading.Event()
    acknowledged: list[int] = []
    seen: list[tuple[int, int]] = []

    def write() -> None:
        for number in itertools.takewhile(lambda _: not done.wait(0.01), itertools.count()):
            with contextlib.suppress(NotFound, CommitConflict):  # planned for the home before
                run(trips, f"INSERT INTO trips VALUES ({number}, 0)")
                acknowledged.append(number)

    def read() -> None:
        while not done.is_set():
            least = len(acknowledged)
            seen.append((least, rows(trips, "SELECT count(DISTINCT id) FROM trips")[0][0]))

    with ThreadPoolExecutor() as pool:
        running = [pool.submit(write), pool.submit(read)]
        try:
            for source, target in itertools.islice(
                itertools.cycle((("primary", "archive"), ("archive", "primary"))), 8
            ):
                move(trips, "trips", target, source)
        finally:
            done.set()
        for each in running:
            each.result()

    assert rows(trips, "SELECT id FROM trips ORDER BY id") == [(number,) for number in acknowledged]
    assert seen
    assert [one for one in seen if one[1] < one[0]] == []


def test_a_move_that_was_interrupted_goes_on_with_what_it_has_copied(trips: Lakehouse) -> None:
    before = rows(trips, TRIPS)
    with closing(trips.mover.move(DatasetKey("primary", "trips"), "archive", operation("move"))) as running:
        next(running)
        next(running)
    assert dataset(trips, "trips").bucket == "primary"
    left = files(trips, "archive")
    assert left

    moved = move(trips, "trips", "archive")

    assert moved.already == len(left)
    assert moved.objects == len(files(trips, "archive")) - len(left)
    assert rows(trips, TRIPS) == before


# Garbage


def test_collecting_right_after_a_move_keeps_what_is_live_in_both_buckets(trips: Lakehouse) -> None:
    run(trips, "CREATE TABLE stays AS SELECT 1 AS id")
    before = rows(trips, TRIPS)
    moved = move(trips, "trips", "archive")
    there = files(trips, "archive")

    assert collect(trips, "archive").objects == 0
    assert collect(trips, "primary").objects >= moved.objects

    assert files(trips, "archive") == there
    (stays,) = dataset(trips, "stays").segments
    assert {key.rpartition("/")[0] for key in files(trips, "primary")} == {stays.directory}
    assert rows(trips, TRIPS) == before
    assert rows(trips, "SELECT id FROM stays") == [(1,)]


def test_copies_that_a_readable_version_names_are_used_again(trips: Lakehouse) -> None:
    away = move(trips, "trips", "archive")

    back = move(trips, "trips", "primary", "archive")

    assert (back.objects, back.already) == (0, away.objects)


def test_a_copy_that_is_collected_before_the_commit_is_copied_again(trips: Lakehouse) -> None:
    """It was relied upon because a readable version named it; a collection has given that version up since."""
    before = rows(trips, TRIPS)
    away = move(trips, "trips", "archive")
    move(trips, "trips", "primary", "archive")
    left = ["archive"]

    def collect_once() -> None:
        while left:
            assert collect(trips, left.pop()).objects == away.objects

    with before_each_commit(trips, "move", collect_once):
        moved = move(trips, "trips", "archive")

    assert (moved.objects, moved.already) == (away.objects, 0)
    assert rows(trips, TRIPS) == before
    assert len(files(trips, "archive")) == away.objects


def test_copies_that_may_be_collected_at_any_moment_are_in_the_way_until_they_are(tmp_path: Path) -> None:
    settings = load_settings(
        None, {"server": {"data": tmp_path}, "catalog": {"collect_grace_hours": 0, "retention_hours": 0}}
    )
    with Lakehouse.open(settings) as lakehouse:
        add_bucket(lakehouse, "archive")
        run(lakehouse, "CREATE TABLE trips AS SELECT 1 AS id")
        with closing(lakehouse.mover.move(DatasetKey("primary", "trips"), "archive", operation("move"))) as running:
            next(running)
            next(running)
        assert files(lakehouse, "archive")

        with pytest.raises(AlreadyExists, match=r"is in the way: .* run bucket.collect on bucket 'archive', and then"):
            move(lakehouse, "trips", "archive")
        assert dataset(lakehouse, "trips").bucket == "primary"
        collect(lakehouse, "archive")

        assert move(lakehouse, "trips", "archive").already == 0


def test_an_object_of_another_size_is_never_taken_for_a_copy(trips: Lakehouse) -> None:
    key = dataset(trips, "trips").segments[0].object_keys()[0]
    trips.buckets.get("archive").objects.put(key, b"other")

    with pytest.raises(AlreadyExists, match=rf"object '{key}' of bucket 'archive' is in the way: it has 5 bytes"):
        move(trips, "trips", "archive")
