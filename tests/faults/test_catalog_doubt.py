"""Storage fails while a commit is written, before or after the commit has become visible."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from catalog.making import append, create, transaction

from flightserver.catalog.catalog import Catalog
from flightserver.catalog.entities import PRIMARY
from flightserver.catalog.requirements import DatasetAbsent
from flightserver.errors import AlreadyExists, BackendUnavailable, LimitExceeded
from flightserver.storage import posix
from flightserver.storage.local import LocalObjects
from flightserver.storage.memory import MemoryObjects

if TYPE_CHECKING:
    from pathlib import Path

    from flightserver.storage.objects import ObjectMeta


class Failing:
    """A system call that fails the next `times` times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: str, times: int, number: int = errno.EIO) -> None:
        self.times = times
        self._number = number
        self._call = getattr(posix, step)
        monkeypatch.setattr(posix, step, self)

    def __call__(self, *arguments: object) -> object:
        if self.times:
            self.times -= 1
            raise OSError(self._number, os.strerror(self._number))
        return self._call(*arguments)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog.open(LocalObjects(tmp_path))
    catalog.commit(transaction(create("people")))
    return catalog


@pytest.mark.parametrize("step", ["create_file", "sync_file", "link"])
@pytest.mark.parametrize(
    ("number", "error"), [(errno.EIO, BackendUnavailable), (errno.ENOSPC, LimitExceeded)], ids=["broken", "full"]
)
def test_a_failure_before_the_commit_is_visible_changes_nothing(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, step: str, number: int, error: type[Exception]
) -> None:
    before = catalog.snapshot()
    Failing(monkeypatch, step, 1, number)

    with pytest.raises(error, match="can't write '_catalog/commits/"):
        catalog.commit(transaction(append("people", 1)))

    assert catalog.snapshot() == before
    assert catalog.commit(transaction(append("people", 1))).version == 3


def test_a_commit_that_is_visible_when_the_disk_fails_is_acknowledged_once_the_disk_confirms_it(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Failing(monkeypatch, "sync_directory", 1)

    outcome = catalog.commit(transaction(append("people", 1), rows=1))

    assert (outcome.version, outcome.rows) == (3, 1)
    assert Catalog.open(LocalObjects(tmp_path)).snapshot() == catalog.snapshot()


def test_a_commit_that_the_disk_does_not_confirm_is_not_acknowledged_until_it_does(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Failing(monkeypatch, "sync_directory", 10**9)
    unsure = transaction(append("people", 1), operation="unsure", rows=1)
    message = "commit 3 was written, and doesn't confirm yet that it will last: ask again with the same operation id"

    for each in (unsure, unsure, transaction(append("people", 10))):
        with pytest.raises(BackendUnavailable, match=message):
            catalog.commit(each)

    disk.times = 0
    assert catalog.commit(unsure).version == 3
    assert catalog.snapshot().dataset("people").rows == 1
    assert catalog.commit(transaction(append("people", 10))).version == 4


class LostAnswers(MemoryObjects):
    """A remote store: a put may succeed and its answer get lost, or another writer be faster."""

    def __init__(self) -> None:
        super().__init__()
        self.lose_answer_of: str = ""
        self.error: Exception = BackendUnavailable("timeout")
        self.put_instead = b""

    def put(self, key: str, data: bytes) -> ObjectMeta:
        if key.endswith(self.lose_answer_of) and self.lose_answer_of:
            self.lose_answer_of = ""
            super().put(key, self.put_instead or data)
            raise self.error
        return super().put(key, data)


@pytest.mark.parametrize("error", [BackendUnavailable("timeout"), AlreadyExists("412 after a retry of the client")])
def test_a_commit_whose_answer_was_lost_is_recognized_as_ours(error: Exception) -> None:
    objects = LostAnswers()
    catalog = Catalog.open(objects)
    objects.lose_answer_of = "2.json"
    objects.error = error

    outcome = catalog.commit(transaction(create("people", 3), requires=(DatasetAbsent(PRIMARY, "people"),), rows=3))

    assert (outcome.version, outcome.rows) == (2, 3)
    assert catalog.snapshot().version == 2


@pytest.mark.parametrize("error", [BackendUnavailable("timeout"), AlreadyExists("taken")])
def test_a_number_that_another_writer_took_while_ours_failed_is_theirs(error: Exception) -> None:
    objects = LostAnswers()
    catalog = Catalog.open(objects)
    Catalog.open(objects).commit(transaction(create("theirs", 1)))
    theirs = objects.get("_catalog/commits/00000000000000000002.json")
    objects.delete("_catalog/commits/00000000000000000002.json")
    objects.lose_answer_of = "2.json"
    objects.error = error
    objects.put_instead = theirs

    outcome = catalog.commit(transaction(create("ours", 3)))

    assert outcome.version == 3
    assert sorted(key.name for key in catalog.snapshot().datasets) == ["ours", "theirs"]


def test_creating_the_catalog_survives_a_lost_answer() -> None:
    objects = LostAnswers()
    objects.lose_answer_of = "1.json"

    assert Catalog.open(objects).snapshot().version == 1


class DeliversLate(MemoryObjects):
    """A remote store behind a network that holds a write back, says that it failed, and delivers it later."""

    may_write_late = True

    def __init__(self) -> None:
        super().__init__()
        self.hold_back: str = ""
        self._held: tuple[str, bytes] | None = None

    def put(self, key: str, data: bytes) -> ObjectMeta:
        if self.hold_back and key.endswith(self.hold_back):
            self.hold_back = ""
            self._held = (key, data)
            msg = "timeout"
            raise BackendUnavailable(msg)
        return super().put(key, data)

    def deliver(self) -> bool:
        """Whether what was held back has found its key free."""
        assert self._held is not None
        try:
            super().put(*self._held)
        except AlreadyExists:
            return False
        return True


def test_a_commit_that_was_said_to_have_failed_never_comes_after_all() -> None:
    objects = DeliversLate()
    catalog = Catalog.open(objects)
    objects.hold_back = "2.json"

    with pytest.raises(BackendUnavailable, match="timeout"):
        catalog.commit(transaction(create("people", 3)))

    assert not objects.deliver()
    assert not catalog.snapshot().datasets
    assert catalog.commit(transaction(create("people", 5))).version == 3
    assert Catalog.open(objects).snapshot().dataset("people").rows == 5
    assert [len(commit.transactions) for commit in catalog.commits()] == [1, 0, 1]


def test_the_first_commit_may_come_late() -> None:
    objects = DeliversLate()
    objects.hold_back = "1.json"

    with pytest.raises(BackendUnavailable, match="timeout"):
        Catalog.open(objects)

    assert objects.deliver()
    assert PRIMARY in Catalog.open(objects).snapshot().buckets
