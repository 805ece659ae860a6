"""Garbage: what is deleted, what is kept, and what happens to those who come in between."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tables.archive import Archive, before_commit, operation

from flightserver.catalog.entities import PRIMARY
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import DropDataset, RenameDataset
from flightserver.errors import InvalidRequest, NotFound
from flightserver.tables.collecting import Collected, Collector, Step
from flightserver.tables.writes import Mode


@pytest.fixture
def archive() -> Archive:
    """Version 2 of `t` has 1 and 2, version 3 lacks 1, version 4 has 5 alone, in a file that is three days younger."""
    archive = Archive.open()
    archive.write(1, 2)
    archive.clock.wait(1)
    archive.remove(1)
    archive.clock.wait(72)
    archive.write(5, mode=Mode.REPLACE)
    return archive


def drop(archive: Archive, name: str = "t") -> int:
    return archive.catalog.commit(Transaction(operation("drop"), (DropDataset(PRIMARY, name),))).version


# What is deleted


def test_files_that_no_version_within_retention_names_are_deleted(archive: Archive) -> None:
    (live,) = archive.dataset().segments
    old = sorted(archive.files() - {f"{live.directory}/_segment.json", *live.object_keys()})
    size = sum(meta.size for meta in archive.bucket.objects.list("datasets/") if meta.key in old)
    archive.clock.wait(49)

    collected = archive.collect(retention_hours=48)

    assert collected == Collected(PRIMARY, objects=3, bytes=size, kept=2, horizon=4, examples=tuple(old))
    assert archive.files() == {f"{live.directory}/_segment.json", *live.object_keys()}
    assert archive.rows(archive.dataset()) == [5]


def test_what_was_the_newest_version_when_retention_began_is_kept(archive: Archive) -> None:
    archive.clock.wait(47)
    before = archive.files()

    collected = archive.collect(retention_hours=48)

    assert (collected.objects, collected.kept, collected.horizon) == (0, 5, 1)
    assert archive.files() == before
    assert (archive.rows_at(2), archive.rows_at(3)) == ([1, 2], [2])


def test_versions_before_the_horizon_are_not_found_and_the_message_says_what_is(archive: Archive) -> None:
    archive.clock.wait(49)
    archive.collect()

    with pytest.raises(
        NotFound,
        match=r"version 3 of dataset \"primary\"\.t is older than files are kept \(bucket\.collect\): "
        r"it can be read from version 4 on$",
    ):
        archive.rows_at(3)
    with pytest.raises(NotFound, match=r"version 2 of .* is older than files are kept"):
        archive.rows_at(archive.clock.now - timedelta(hours=122))
    with pytest.raises(NotFound, match="the catalog has no version 3: it is older than files are kept"):
        archive.catalog.snapshot_at(3)


def test_collecting_again_finds_nothing_and_commits_nothing(archive: Archive) -> None:
    archive.clock.wait(49)
    first = archive.collect()
    version = archive.catalog.snapshot().version

    again = archive.collect()

    assert again == Collected(PRIMARY, objects=0, bytes=0, kept=first.kept, horizon=first.horizon, examples=())
    assert archive.catalog.snapshot().version == version


def test_a_dry_run_says_what_would_be_deleted_and_changes_nothing(archive: Archive) -> None:
    archive.clock.wait(49)
    before, version = archive.files(), archive.catalog.snapshot().version

    told = archive.collect(dry_run=True)

    assert (archive.files(), archive.catalog.snapshot().version) == (before, version)
    assert archive.collect() == told


def test_another_retention_can_be_asked_for(archive: Archive) -> None:
    archive.clock.wait(2)

    assert archive.collect(retention_hours=1000).objects == 0
    assert archive.collect(retention_hours=1000, older_than_hours=1).objects == 3


def test_files_of_dropped_datasets_are_deleted_when_their_time_is_over(archive: Archive) -> None:
    drop(archive)
    archive.clock.wait(47)
    assert archive.collect().objects == 0

    archive.clock.wait(2)
    assert (archive.collect().objects, archive.files()) == (5, set())


def test_files_that_were_never_committed_are_deleted_after_the_grace_period(archive: Archive) -> None:
    archive.abandon()
    archive.clock.wait(3)

    assert archive.collect(retention_hours=1000, grace_hours=4).objects == 0
    archive.clock.wait(1)
    assert archive.collect(retention_hours=1000, grace_hours=4).objects == 2
    assert (archive.catalog.snapshot().version, archive.catalog.snapshot().horizon) == (4, 1)


def test_what_a_compaction_has_rewritten_is_not_kept_for_being_an_origin(archive: Archive) -> None:
    archive.write(6)
    rewritten = {key for segment in archive.dataset().segments for key in segment.object_keys()}
    archive.rewrite()
    archive.clock.wait(49)

    archive.collect()

    (segment,) = archive.dataset().segments
    has = {f"{segment.directory}/{name}" for name in ("_segment.json", "_origin.parquet", "part-00000.parquet")}
    assert archive.files() == has
    assert rewritten.isdisjoint(has)
    assert archive.rows(archive.dataset()) == [5, 6]


def test_a_delta_lives_as_long_as_a_row_that_it_removes_could_be_read() -> None:
    archive = Archive.open()
    archive.write(1, 2)
    archive.remove(1)
    archive.clock.wait(100)

    assert archive.collect().objects == 0
    assert archive.rows(archive.dataset()) == [2]


@pytest.mark.parametrize(
    "key",
    [
        "datasets/t/notes.txt",
        "datasets/t/part-00000.parquet",
        "datasets/part-00000.parquet",
        "datasets/t/01JDEADBEEF/part-00000.parquet",
        "datasets/t/01ARZ3NDEKTSV4RRFFQ69G5FAV/part-00000.parquet.bak",
        "datasets/t/01ARZ3NDEKTSV4RRFFQ69G5FAV/sub/part-00000.parquet",
        "datasets/t/01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "datasets/t/deltas/readme.parquet",
        "_staging/01ARZ3NDEKTSV4RRFFQ69G5FAV/upload.csv",
        "elsewhere/t/01ARZ3NDEKTSV4RRFFQ69G5FAV/part-00000.parquet",
    ],
)
def test_what_does_not_look_like_ours_is_never_deleted(archive: Archive, key: str) -> None:
    archive.bucket.objects.put(key, b"somebody else's")
    archive.clock.wait(1000)

    archive.collect()

    assert archive.bucket.objects.get(key) == b"somebody else's"


# Tags, renamed datasets, and contents that did not change


def test_a_tagged_version_is_kept_and_can_be_read_and_restored(archive: Archive) -> None:
    archive.tag("first", 2)
    archive.clock.wait(1000)

    collected = archive.collect()

    assert (collected.objects, collected.horizon) == (1, 5), "the delta of version 3"
    for at in ("first", 2, archive.clock.now - timedelta(hours=1072.5)):
        assert archive.rows_at(at) == [1, 2]
    with pytest.raises(NotFound, match=r"it can be read from version 5 on, or as 'first'$"):
        archive.rows_at(3)
    archive.restore("first")
    assert archive.rows(archive.dataset()) == [1, 2]


def test_a_version_is_kept_as_long_after_its_tag_as_any_other(archive: Archive) -> None:
    archive.tag("first", 2)
    archive.clock.wait(100)
    archive.untag("first")
    archive.clock.wait(47)
    assert archive.collect().objects == 1, "the delta of version 3"

    archive.tag("first again", 2)
    archive.untag("first again")
    archive.clock.wait(49)
    assert archive.collect().objects == 2
    with pytest.raises(NotFound, match=r"version 2 of .* is older than files are kept"):
        archive.tag("too late", 2)


def test_a_tag_follows_its_dataset_to_another_name(archive: Archive) -> None:
    archive.tag("first", 2)
    archive.catalog.commit(Transaction(operation(), (RenameDataset(PRIMARY, "t", "renamed"),)))
    archive.write(7, name="t")
    archive.clock.wait(1000)

    archive.collect()

    assert archive.rows_at("first", "renamed") == [1, 2]


def test_the_tags_of_a_dropped_dataset_end_with_it(archive: Archive) -> None:
    archive.tag("first", 2)
    drop(archive)
    archive.clock.wait(49)

    archive.collect()

    assert archive.files() == set()


def test_contents_that_a_dataset_still_had_at_the_horizon_are_found_under_their_old_version(archive: Archive) -> None:
    archive.write(1, name="other")
    archive.clock.wait(1000)
    archive.write(2, name="other")
    archive.clock.wait(49)

    archive.collect()

    assert archive.catalog.snapshot().horizon == 6
    assert archive.rows_at(4) == archive.rows_at(archive.clock.now - timedelta(hours=500)) == [5]
    assert archive.tag("five", 4) == 4


# Those who come in between


def test_a_restore_after_the_horizon_was_moved_is_refused(archive: Archive) -> None:
    archive.clock.wait(49)
    steps = archive.collecting()

    assert next(steps) == Step("delete", 0, 3)
    with pytest.raises(NotFound, match="older than files are kept"):
        archive.restore(2)
    *_, last = steps
    assert isinstance(last, Collected)
    assert last.objects == 3


def test_a_restore_before_the_horizon_was_moved_keeps_its_files(archive: Archive) -> None:
    archive.clock.wait(49)

    with before_commit(archive, lambda: archive.restore(2)):
        collected = archive.collect()

    assert collected.objects == 1, "the delta of version 3"
    assert archive.rows(archive.dataset()) == [1, 2]


def test_files_are_kept_that_were_back_for_one_version_before_the_horizon_was_moved(archive: Archive) -> None:
    archive.clock.wait(49)

    def restored_and_dropped() -> None:
        archive.restore(3)
        drop(archive)

    with before_commit(archive, restored_and_dropped):
        assert archive.collect().objects == 0

    was = archive.catalog.snapshot_at(5).dataset("t", PRIMARY)
    assert archive.rows(was) == [2]


def test_a_tag_before_the_horizon_was_moved_keeps_its_files(archive: Archive) -> None:
    archive.clock.wait(49)

    with before_commit(archive, lambda: archive.tag("in time", 3)):
        assert archive.collect().objects == 0

    assert archive.rows_at("in time") == [2]


@pytest.mark.parametrize("step", ["restore", "tag"])
def test_a_collection_between_look_and_commit_refuses_who_brings_old_files_back(archive: Archive, step: str) -> None:
    archive.clock.wait(49)

    with before_commit(archive, archive.collect), pytest.raises(NotFound, match="older than files are kept"):
        archive.restore(2) if step == "restore" else archive.tag("too late", 2)

    assert archive.rows(archive.dataset()) == [5]
    assert archive.dataset().tags == {}


def test_a_collection_between_look_and_commit_spares_who_needs_no_old_file(archive: Archive) -> None:
    archive.clock.wait(49)

    with before_commit(archive, archive.collect):
        assert archive.tag("now") == 4

    assert archive.rows_at("now") == [5]


def test_a_write_that_is_about_to_commit_keeps_its_files(archive: Archive) -> None:
    with before_commit(archive, lambda: archive.collect(retention_hours=0)):
        archive.write(6)

    assert archive.rows(archive.dataset()) == [5, 6]


def test_a_collection_that_dies_leaves_garbage_for_the_next(archive: Archive) -> None:
    archive.clock.wait(49)
    steps = archive.collecting()
    next(steps)
    del steps
    assert len(archive.files()) == 5

    assert archive.collect().objects == 3


def test_two_collections_at_once_share_the_work(archive: Archive) -> None:
    archive.clock.wait(49)
    first, second = archive.collecting(), archive.collecting()

    next(first)
    next(second)
    *_, one = first
    *_, other = second

    assert one == other
    assert archive.rows(archive.dataset()) == [5]


def test_a_longer_retention_does_not_bring_back_what_was_given_up(archive: Archive) -> None:
    archive.clock.wait(49)
    archive.collect()
    archive.abandon()
    archive.clock.wait(2)

    assert archive.collect(retention_hours=1000).horizon == 4
    with pytest.raises(NotFound, match="older than files are kept"):
        archive.rows_at(2)


# Progress, limits


def test_a_long_collection_reports_what_it_has_looked_at_and_deleted() -> None:
    archive = Archive.open()
    for number in range(2001):
        archive.bucket.objects.put(f"datasets/t/01ARZ3NDEKTSV4RRFFQ69G5FAV/part-{number:05d}.parquet", b"x")
    archive.clock.wait(2)

    *steps, collected = archive.collecting()

    assert steps == [
        Step("list", 1000, 0),
        Step("list", 2000, 0),
        Step("delete", 0, 2001),
        Step("delete", 1000, 2001),
        Step("delete", 2000, 2001),
    ]
    assert isinstance(collected, Collected)
    assert (collected.objects, collected.bytes, len(collected.examples)) == (2001, 2001, 20)


def test_a_bucket_that_does_not_exist_is_not_found(archive: Archive) -> None:
    collector = Collector(archive.catalog, archive.buckets, retention_hours=1, grace_hours=1)

    with pytest.raises(NotFound, match="there is no bucket 'nowhere'; there are: primary"):
        list(collector.collect("nowhere", operation()))


@pytest.mark.parametrize("hours", [-1, 1e300, float("nan"), float("inf")])
def test_a_period_that_no_clock_can_count_is_refused(archive: Archive, hours: float) -> None:
    with pytest.raises(InvalidRequest, match=r"catalog\.retention_hours is .*: expected 0 to 876000 hours"):
        archive.collect(retention_hours=hours)
    with pytest.raises(InvalidRequest, match=r"catalog\.collect_grace_hours is"):
        archive.collect(grace_hours=hours)
    with pytest.raises(InvalidRequest, match="older_than_hours is"):
        archive.collect(older_than_hours=hours)


def test_the_commit_says_who_has_collected(archive: Archive) -> None:
    archive.clock.wait(49)
    collector = Collector(archive.catalog, archive.buckets, retention_hours=48, grace_hours=1, clock=archive.clock)

    list(collector.collect(PRIMARY, Operation("an id", "collect", "bucket primary", "anna")))

    (commit,) = archive.catalog.commits(after=4)
    (transaction,) = commit.transactions
    assert (transaction.operation.kind, transaction.operation.user) == ("collect", "anna")
