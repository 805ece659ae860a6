"""Power is cut, or the process dies, at every step of creating a catalog and committing to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from catalog.making import append, create, transaction
from faults.power import Disk, PowerCut

from flightserver.catalog.catalog import Catalog
from flightserver.catalog.entities import PRIMARY
from flightserver.catalog.requirements import DatasetAbsent
from flightserver.storage.local import LocalObjects

if TYPE_CHECKING:
    from pathlib import Path

    from flightserver.catalog.transaction import Transaction


def story() -> list[Transaction]:
    """Three commits; with a checkpoint every two, there is one in the middle."""
    return [
        transaction(create("people", 1), requires=(DatasetAbsent(PRIMARY, "people"),), operation="first", rows=1),
        transaction(append("people", 10), operation="second", rows=10),
        transaction(append("people", 100), operation="third", rows=100),
    ]


def live(root: Path) -> list[str]:
    """Commit the story and return the operations that were acknowledged."""
    acknowledged: list[str] = []
    catalog = None
    try:
        catalog = Catalog.open(LocalObjects(root), checkpoint_every=2)
        for each in story():
            catalog.commit(each)
            acknowledged.append(each.operation.id)
    except PowerCut:
        pass
    finally:
        if catalog is not None:
            catalog.close()
    return acknowledged


@pytest.mark.parametrize("loses", [False, True], ids=["the process dies", "the machine loses power"])
def test_at_every_step_what_was_acknowledged_is_kept_and_the_rest_is_whole_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, loses: bool
) -> None:
    cut = 0
    while True:
        root = tmp_path / str(cut)
        disk = Disk(cut)
        with monkeypatch.context() as patched:
            disk.attach(patched)
            acknowledged = live(root)
        if not disk.is_off:
            break
        if loses:
            disk.truncate_unsynced(root)
            disk.lose()

        survived = Catalog.open(LocalObjects(root), checkpoint_every=2)

        logged = [each.operation.id for commit in survived.commits(after=1) for each in commit.transactions]
        told = ["first", "second", "third"]
        assert logged in (told[: len(acknowledged)], told[: len(acknowledged) + 1]), f"step {cut}: {disk.steps}"
        rows = [1, 11, 111]
        if logged:
            assert survived.snapshot().dataset("people").rows == rows[len(logged) - 1]

        for each in story():  # the client asks again for everything that it wasn't told of, and for all the rest
            survived.commit(each)
        assert survived.snapshot().version == 4
        assert survived.snapshot().dataset("people").rows == 111
        survived.close()
        cut += 1
    assert acknowledged == ["first", "second", "third"]
    assert cut > 30
    assert {"create_file", "sync_file", "link", "sync_directory", "unlink", "make_directory"} == set(disk.steps)


def test_a_write_that_is_not_synced_is_lost_by_this_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation can fail: a bucket that forgot its syncs loses what it acknowledged."""
    disk = Disk(cut=10**9)
    with monkeypatch.context() as patched:
        patched.setattr("flightserver.storage.posix.sync_directory", lambda _: None)
        patched.setattr("flightserver.storage.posix.sync_file", lambda _: None)
        objects = LocalObjects(tmp_path / "bucket")
        disk.attach(patched)
        patched.setattr("flightserver.storage.posix.sync_directory", lambda _: None)
        patched.setattr("flightserver.storage.posix.sync_file", lambda _: None)
        objects.put("a/b", b"1")

    disk.truncate_unsynced(tmp_path)
    assert objects.get("a/b") == b""
    disk.lose()
    assert objects.head("a/b") is None
