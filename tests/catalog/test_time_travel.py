"""The catalog as it was, by version and by time, and what happened to a dataset."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from catalog.making import NOON, append, create, segment, transaction

from flightserver.catalog.catalog import Catalog, DatasetVersion
from flightserver.catalog.entities import PRIMARY
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import DropDataset, ReplaceSegments, Update
from flightserver.errors import NotFound
from flightserver.storage.memory import MemoryObjects


class Hours:
    """A clock that advances one hour each time it is read."""

    def __init__(self) -> None:
        self.time = NOON - timedelta(hours=2)

    def __call__(self) -> datetime:
        self.time += timedelta(hours=1)
        return self.time


@pytest.fixture
def catalog() -> Catalog:
    """Version n was committed n hours after 10:00 and has n - 1 datasets."""
    catalog = Catalog.open(MemoryObjects(), clock=Hours())
    for name in "abcdefghijklmnop":
        catalog.commit(transaction(create(name)))
    return catalog


def hour(number: float) -> datetime:
    return NOON + timedelta(hours=number - 2)


def test_each_version_is_the_snapshot_that_it_was(catalog: Catalog) -> None:
    for version in [*range(1, 18), 3, 16, 1]:
        snapshot = catalog.snapshot_at(version)
        assert snapshot.version == version
        assert len(snapshot.datasets) == version - 1
        assert snapshot.time == hour(version)


def test_a_time_is_the_newest_version_that_was_there(catalog: Catalog) -> None:
    for version in range(1, 18):
        assert catalog.snapshot_at(hour(version)).version == version
        assert catalog.snapshot_at(hour(version + 0.5)).version == version
        assert catalog.snapshot_at(hour(version + 1) - timedelta(microseconds=1)).version == version


def test_a_time_in_the_future_is_the_newest_version(catalog: Catalog) -> None:
    assert catalog.snapshot_at(hour(1_000)) == catalog.snapshot()


def test_a_time_without_zone_is_utc_and_any_zone_is_understood(catalog: Catalog) -> None:
    assert catalog.snapshot_at(hour(5).replace(tzinfo=None)).version == 5
    assert catalog.snapshot_at(hour(5).astimezone(timezone(timedelta(hours=-7)))).version == 5


def test_of_several_commits_of_one_moment_the_last_counts() -> None:
    catalog = Catalog.open(MemoryObjects(), clock=lambda: NOON)
    for name in "abc":
        catalog.commit(transaction(create(name)))

    assert catalog.snapshot_at(NOON).version == 4


@pytest.mark.parametrize("version", [0, -1, 18, 10**30])
def test_a_version_that_does_not_exist_is_not_found_and_the_message_says_which_do(
    catalog: Catalog, version: int
) -> None:
    with pytest.raises(NotFound, match=f"the catalog has no version {version}; there are 1 to 17"):
        catalog.snapshot_at(version)


def test_a_time_before_the_catalog_is_not_found_and_the_message_says_how_old_it_is(catalog: Catalog) -> None:
    with pytest.raises(
        NotFound,
        match=r"didn't exist at 2026-01-01T10:30:00\+00:00; its versions are from 2026-01-01T11:00:00\+00:00 to "
        r"2026-01-02T03:00:00\+00:00",
    ):
        catalog.snapshot_at(hour(0.5))


def named(kind: str, *updates: Update) -> Transaction:
    return Transaction(Operation(f"{kind}-id", kind, f"about {kind}", "anna"), updates)


def test_the_history_of_a_dataset_is_the_commits_that_changed_it_newest_first() -> None:
    catalog = Catalog.open(MemoryObjects(), clock=Hours())
    catalog.commit(named("create", create("people", 3), create("other", 100)))
    catalog.commit(named("elsewhere", append("other", 1)))
    catalog.commit(named("append", append("people", 4)))
    catalog.commit(named("replace", ReplaceSegments(PRIMARY, "people", (segment(2),), b"", "f")))
    catalog.commit(named("last", append("other", 1)))

    assert catalog.history(catalog.snapshot().dataset("people")) == [
        DatasetVersion(5, hour(5), "replace", "about replace", "anna", 2),
        DatasetVersion(4, hour(4), "append", "about append", "anna", 7),
        DatasetVersion(2, hour(2), "create", "about create", "anna", 3),
    ]


def test_the_history_of_an_earlier_version_ends_there() -> None:
    catalog = Catalog.open(MemoryObjects())
    catalog.commit(named("create", create("people", 3)))
    earlier = catalog.snapshot().dataset("people")
    catalog.commit(named("append", append("people", 4)))

    assert [each.kind for each in catalog.history(earlier)] == ["create"]


def test_a_dataset_that_was_dropped_and_created_again_has_a_history_of_its_own() -> None:
    catalog = Catalog.open(MemoryObjects())
    catalog.commit(named("create", create("people", 3)))
    catalog.commit(named("append", append("people", 4)))
    catalog.commit(named("recreate", DropDataset(PRIMARY, "people"), create("people", 10)))
    catalog.commit(named("append more", append("people", 1)))

    history = catalog.history(catalog.snapshot().dataset("people"))

    assert [(each.kind, each.rows) for each in history] == [("append more", 11), ("recreate", 10)]
    before = catalog.history(catalog.snapshot_at(3).dataset("people"))
    assert [(each.kind, each.rows) for each in before] == [("append", 7), ("create", 3)]
