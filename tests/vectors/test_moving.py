"""Moving an index to another bucket: readers find it here or there, never nowhere, and never with another answer."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from bucketing import add_bucket
from msgspec.structs import replace
from query.asking import run
from s3server import s3_bucket, s3_server
from tables.moving import before_each_commit, collect, operation
from vectors.indexed import create, expected, make_docs, move, nearest, objects, refresh

from flightserver.catalog.entities import DatasetKey
from flightserver.errors import AlreadyExists, BackendUnavailable, CommitConflict, InvalidRequest, NotFound
from flightserver.federation.rescue import SERVED
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings
from flightserver.tables.moving import Step
from flightserver.vectors.searching import UNREADABLE
from flightserver.vectors.service import MovedIndex

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server

__all__ = ["s3_bucket", "s3_server"]

KEY = DatasetKey("primary", "directions")
EAST = expected(0, 0, 1, 359)


@pytest.fixture
def docs(lakehouse: Lakehouse) -> Lakehouse:
    """`docs` with the index `directions`, and a bucket `archive`."""
    make_docs(lakehouse)
    add_bucket(lakehouse, "archive")
    create(lakehouse)
    return lakehouse


def unreadable(lakehouse: Lakehouse) -> list[str]:
    """What was told of indexes that couldn't be read: with them answers are right, but not by the index."""
    return [event.detail for event in lakehouse.events.entries() if event.kind == UNREADABLE]


def test_a_moved_index_is_the_same_object_under_the_same_key_in_the_other_bucket(docs: Lakehouse) -> None:
    before, there = docs.catalog.snapshot().index("directions"), objects(docs)
    dataset = docs.catalog.snapshot().dataset("docs")

    moved = move(docs, "archive")

    generation = replace(before.generation, bucket="archive")
    assert moved == MovedIndex(
        replace(before, bucket="archive", generation=generation, version=moved.index.version),
        "primary",
        1,
        generation.bytes,
        already=0,
    )
    assert docs.catalog.snapshot().index("directions") == moved.index
    assert objects(docs, "archive") == there
    assert nearest(docs, 0) == nearest(docs, 0, name='"archive".directions') == EAST
    assert unreadable(docs) == []
    assert docs.catalog.snapshot().dataset("docs") == dataset


def test_an_index_moves_to_a_real_s3_server_and_back(docs: Lakehouse, s3_server: S3Server, s3_bucket: str) -> None:
    add_bucket(docs, s3_server.bucket("cloud", s3_bucket, prefix="lake"))
    there = objects(docs)

    away = move(docs, "cloud")
    assert nearest(docs, 0) == EAST
    collect(docs, "primary")
    assert objects(docs, "cloud") == there
    assert objects(docs) == {}
    run(docs, "INSERT INTO docs VALUES (1000, [1.0, 0.0])")
    refreshed = refresh(docs, bucket="cloud")
    assert refreshed.generation.bucket == "cloud"
    with Lakehouse.open(docs.settings) as another_server:
        assert nearest(another_server, 0, 2) == [(0, 0.0), (1000, 0.0)]
        assert unreadable(another_server) == []
    back = move(docs, "primary", source="cloud")

    assert (away.objects, back.objects, back.bytes) == (1, 1, refreshed.generation.bytes)
    assert objects(docs).keys() == {refreshed.generation.key}
    assert nearest(docs, 0, 2) == [(0, 0.0), (1000, 0.0)]
    assert unreadable(docs) == []


def test_an_earlier_version_finds_the_index_where_it_was(docs: Lakehouse) -> None:
    before = docs.catalog.snapshot().version
    move(docs, "archive")
    run(docs, "DELETE FROM docs WHERE id = 0")

    assert nearest(docs, 0, as_of=before) == EAST
    assert nearest(docs, 0) == expected(0, 1, 359, 2)
    assert unreadable(docs) == []


def test_progress_is_told_in_bytes_up_to_all_of_them(docs: Lakehouse) -> None:
    size = docs.catalog.snapshot().index("directions").generation.bytes

    *steps, _ = docs.indexes.move(KEY, "archive", operation())

    told = [step for step in steps if isinstance(step, Step)]
    assert {(step.stage, step.total) for step in told} == {("copy", size)}
    assert told[-1].done == size


def test_a_move_is_refused_where_it_makes_no_sense_and_nothing_is_copied(docs: Lakehouse) -> None:
    create(docs, "taken")
    create(docs, "taken", bucket="archive")
    before, there = docs.catalog.snapshot().version, objects(docs, "archive")

    with pytest.raises(NotFound, match="there is no bucket 'nowhere'; there are: archive, primary"):
        move(docs, "nowhere")
    with pytest.raises(NotFound, match="there is no vector index 'directions' in bucket 'archive'"):
        move(docs, "primary", source="archive")
    with pytest.raises(InvalidRequest, match="directions can't be moved to bucket 'primary': it is there"):
        move(docs, "primary")
    with pytest.raises(AlreadyExists, match="to bucket 'archive', which has one of the name: drop one of them"):
        move(docs, "archive", "taken")

    assert docs.catalog.snapshot().version == before
    assert objects(docs, "archive") == there


def test_an_index_whose_object_is_lost_stays_where_it_is(docs: Lakehouse) -> None:
    lost = docs.catalog.snapshot().index("directions").generation.key
    docs.buckets.get("primary").objects.delete(lost)

    with pytest.raises(BackendUnavailable, match=rf"file '{lost}' of bucket 'primary' can't be read"):
        move(docs, "archive")

    assert docs.catalog.snapshot().index("directions").bucket == "primary"
    assert nearest(docs, 0) == EAST


def test_what_a_refresh_commits_meanwhile_is_copied_too(docs: Lakehouse) -> None:
    running = docs.indexes.move(KEY, "archive", operation("move index"))
    next(running)
    run(docs, "INSERT INTO docs VALUES (1000, [1.0, 0.0])")
    refreshed = refresh(docs)
    *_, moved = running

    assert isinstance(moved, MovedIndex)
    assert moved.index.generation == replace(refreshed.generation, bucket="archive")
    assert refreshed.generation.key in objects(docs, "archive")
    assert nearest(docs, 0, 2) == [(0, 0.0), (1000, 0.0)]


def test_a_move_that_has_to_commit_again_has_copied_once(docs: Lakehouse) -> None:
    left = [True]

    def collect_something() -> None:
        """The horizon moves, so that the commit has to look again at what it relies upon."""
        if left:
            left.pop()
            run(docs, "UPDATE docs SET id = id")
            assert collect(docs, "primary").objects

    with before_each_commit(docs, "move index", collect_something):
        moved = move(docs, "archive")

    assert (left, moved.objects, moved.already) == ([], 1, 0)
    assert nearest(docs, 0) == EAST


def test_a_move_that_always_comes_too_late_gives_up(docs: Lakehouse) -> None:
    numbers = itertools.count(1000)

    def refresh_again() -> None:
        run(docs, f"INSERT INTO docs VALUES ({next(numbers)}, [0.0, 1.0])")
        refresh(docs)

    with (
        before_each_commit(docs, "move index", refresh_again),
        pytest.raises(CommitConflict, match="nothing was changed and a retry is safe"),
    ):
        move(docs, "archive")

    assert docs.catalog.snapshot().index("directions").bucket == "primary"
    assert nearest(docs, 0) == EAST


def test_under_readers_and_writers_no_search_finds_the_index_nowhere_or_answers_otherwise(docs: Lakehouse) -> None:
    done = threading.Event()
    answers: list[list[tuple[int, float]]] = []

    def search() -> None:
        while not done.is_set():
            answers.append(nearest(docs, 0))

    def write() -> None:
        for number in itertools.takewhile(lambda _: not done.wait(0.01), itertools.count(1000)):
            run(docs, f"INSERT INTO docs VALUES ({number}, [0.0, -1.0])")

    with ThreadPoolExecutor() as pool:
        running = [pool.submit(search), pool.submit(search), pool.submit(write)]
        try:
            for source, target in itertools.islice(
                itertools.cycle((("primary", "archive"), ("archive", "primary"))), 12
            ):
                moved = move(docs, target, source=source)
                # What a search may be about to read is gone at once.
                docs.buckets.get(source).objects.delete(moved.index.generation.key)
        finally:
            done.set()
        for each in running:
            each.result()

    assert answers
    assert [answer for answer in answers if answer != EAST] == []


def test_an_index_and_its_dataset_move_at_the_same_time(docs: Lakehouse) -> None:
    running = docs.indexes.move(KEY, "archive", operation("move index"))
    next(running)
    list(docs.mover.move(DatasetKey("primary", "docs"), "archive", operation("move")))
    *_, moved = running

    assert isinstance(moved, MovedIndex)
    assert nearest(docs, 0) == EAST


def test_a_move_that_was_interrupted_leaves_the_index_and_works_the_next_time(docs: Lakehouse) -> None:
    with closing(docs.indexes.move(KEY, "archive", operation("move index"))) as running:
        next(running)
    assert docs.catalog.snapshot().index("directions").bucket == "primary"

    moved = move(docs, "archive")

    assert moved.objects + moved.already == 1
    assert nearest(docs, 0) == EAST


def test_collecting_right_after_a_move_keeps_the_index_in_its_new_home(docs: Lakehouse) -> None:
    there = objects(docs)
    move(docs, "archive")

    assert collect(docs, "archive").objects == 0
    assert collect(docs, "primary").objects == 1

    assert (objects(docs), objects(docs, "archive")) == ({}, there)
    assert nearest(docs, 0) == EAST
    assert unreadable(docs) == []


def test_a_copy_that_a_readable_version_names_is_used_again(docs: Lakehouse) -> None:
    move(docs, "archive")

    back = move(docs, "primary", source="archive")

    assert (back.objects, back.already) == (0, 1)


def test_a_copy_that_is_collected_before_the_commit_is_copied_again(docs: Lakehouse) -> None:
    """It was relied upon because a readable version named it; a collection has given that version up since."""
    there = objects(docs)
    move(docs, "archive")
    move(docs, "primary", source="archive")
    left = ["archive"]

    def collect_once() -> None:
        while left:
            assert collect(docs, left.pop()).objects == 1

    with before_each_commit(docs, "move index", collect_once):
        moved = move(docs, "archive")

    assert (moved.objects, moved.already) == (1, 0)
    assert objects(docs, "archive") == there
    assert nearest(docs, 0) == EAST
    assert unreadable(docs) == []


def test_a_copy_that_may_be_collected_at_any_moment_is_in_the_way_until_it_is(tmp_path: Path) -> None:
    settings = load_settings(
        None, {"server": {"data": tmp_path}, "catalog": {"collect_grace_hours": 0, "retention_hours": 0}}
    )
    with Lakehouse.open(settings) as lakehouse:
        make_docs(lakehouse)
        add_bucket(lakehouse, "archive")
        key = create(lakehouse).generation.key
        lakehouse.buckets.get("archive").objects.put(key, objects(lakehouse)[key])

        with pytest.raises(AlreadyExists, match=r"is in the way: .* run bucket.collect on bucket 'archive', and then"):
            move(lakehouse, "archive")
        assert lakehouse.catalog.snapshot().index("directions").bucket == "primary"
        collect(lakehouse, "archive")

        assert move(lakehouse, "archive").already == 0


def test_an_index_that_its_home_can_not_serve_is_read_from_rescue(docs: Lakehouse) -> None:
    add_bucket(docs, "rescue")
    move(docs, "archive")
    list(docs.mirror.mirror("archive"))
    key = docs.catalog.snapshot().index("directions").generation.key
    assert objects(docs, "rescue").keys() == {key}
    docs.buckets.get("archive").objects.delete(key)

    with Lakehouse.open(docs.settings) as restarted:
        assert nearest(restarted, 0) == EAST
        assert unreadable(restarted) == []
        (event,) = [event for event in restarted.events.entries() if event.kind == SERVED]
    assert event.bucket == "archive"
    assert key in event.detail
