"""Finding datasets by name, and remembering operations."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from catalog.making import NOON, create

from flightserver.catalog.draft import OPERATIONS_KEPT, OPERATIONS_KEPT_FOR
from flightserver.catalog.entities import PRIMARY, Bucket
from flightserver.catalog.log import Commit, Operation, Recorded
from flightserver.catalog.snapshot import Snapshot
from flightserver.catalog.updates import DropDataset, PutBucket, Update
from flightserver.errors import InternalError, InvalidRequest, NotFound


def after(base: Snapshot, *updates: Update, time: datetime = NOON, operations: tuple[str, ...] = ("op",)) -> Snapshot:
    recorded = [Recorded(Operation(each, "test")) for each in operations[:-1]]
    last = Recorded(Operation(operations[-1], "test"), updates)
    return base.apply(Commit(base.version + 1, time, "", (*recorded, last)))


@pytest.fixture
def snapshot() -> Snapshot:
    """Buckets primary, a and b."""
    return after(
        Snapshot(),
        *(PutBucket(Bucket(name, "local")) for name in (PRIMARY, "a", "b")),
        create("people", 1),
        create("people", 2, bucket="a"),
        create("only_a", 3, bucket="a"),
        create("twice", 4, bucket="a"),
        create("twice", 5, bucket="b"),
        create("Big Cats", 6, bucket="a"),
        create("Big Cats", 7, bucket="b"),
        create("Small Cats", 8, bucket="a"),
    )


def test_a_bare_name_means_the_primary_bucket_first(snapshot: Snapshot) -> None:
    assert snapshot.dataset("people").rows == 1
    assert snapshot.dataset("people", "a").rows == 2


def test_a_bare_name_means_the_only_other_bucket_that_has_it(snapshot: Snapshot) -> None:
    assert snapshot.dataset("only_a").rows == 3


def test_a_bare_name_in_several_other_buckets_is_ambiguous(snapshot: Snapshot) -> None:
    with pytest.raises(InvalidRequest, match=r"'twice' is in several buckets: say which of \"a\".twice, \"b\".twice"):
        snapshot.dataset("twice")
    with pytest.raises(InvalidRequest, match=r'say which of "a"."Big Cats", "b"."Big Cats"$'):
        snapshot.dataset("Big Cats")


@pytest.mark.parametrize(
    ("name", "bucket", "message"),
    [
        ("peopel", None, "there is no dataset 'peopel'; similar: people"),
        ("PEOPLE", None, "there is no dataset 'PEOPLE'; similar: people"),
        ("only_a", "b", "there is no dataset 'only_a' in bucket 'b'; similar: \"a\".only_a$"),
        ("people", "b", "there is no dataset 'people' in bucket 'b'; similar: \"primary\".people, \"a\".people$"),
        ("peopel", "a", "there is no dataset 'peopel' in bucket 'a'; similar: people$"),
        ("only_b", None, "there is no dataset 'only_b'; similar: \"a\".only_a$"),
        ("small cats", "a", "there is no dataset 'small cats' in bucket 'a'; similar: \"Small Cats\"$"),
        ("big cats", None, 'there is no dataset \'big cats\'; similar: "a"."Big Cats", "b"."Big Cats"$'),
        ("zzz", None, "there is no dataset 'zzz'$"),
        ("people", "c", "there is no bucket 'c'; there are: a, b, primary"),
    ],
)
def test_a_name_that_nothing_has_is_not_found_and_near_ones_are_named(
    snapshot: Snapshot, name: str, bucket: str | None, message: str
) -> None:
    with pytest.raises(NotFound, match=message):
        snapshot.dataset(name, bucket)


def test_a_snapshot_does_not_change_when_commits_follow(snapshot: Snapshot) -> None:
    later = after(snapshot, DropDataset(PRIMARY, "people"), create("new"))

    assert snapshot.dataset("people", PRIMARY).rows == 1
    assert [key.name for key in later.datasets if key.bucket == PRIMARY] == ["new"]
    with pytest.raises(TypeError):
        snapshot.datasets[next(iter(snapshot.datasets))] = None  # type: ignore[index]  # that it can't is the point


def test_a_commit_that_is_not_the_next_one_is_refused(snapshot: Snapshot) -> None:
    with pytest.raises(InternalError, match="commit 3 can't follow version 1"):
        snapshot.apply(Commit(3, NOON, "", ()))


def test_a_commit_that_does_not_fit_is_a_damaged_log(snapshot: Snapshot) -> None:
    with pytest.raises(InternalError, match="commit 2 of the catalog doesn't fit the commits before it: there is no"):
        after(snapshot, DropDataset(PRIMARY, "nobody"))


def test_an_operation_is_forgotten_after_a_day_of_commit_time() -> None:
    first = after(Snapshot(), time=NOON, operations=("old",))
    day = after(first, time=NOON + OPERATIONS_KEPT_FOR, operations=("middle",))
    later = after(day, time=NOON + OPERATIONS_KEPT_FOR + timedelta(seconds=1), operations=("new",))

    assert list(day.operations) == ["old", "middle"]
    assert list(later.operations) == ["middle", "new"]
    assert later.operations["middle"].version == 2


def test_the_oldest_operations_are_forgotten_when_there_are_too_many() -> None:
    first = after(Snapshot(), operations=tuple(f"a{number}" for number in range(OPERATIONS_KEPT)))

    second = after(first, operations=("b0", "b1"))

    assert len(second.operations) == OPERATIONS_KEPT
    assert next(iter(second.operations)) == "a2"
    assert list(second.operations)[-2:] == ["b0", "b1"]
