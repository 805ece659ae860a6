"""Garbage among vector indexes: a generation lives as long as a version within retention names it."""

from __future__ import annotations

import pytest
from catalog import making
from tables import indexing
from tables.archive import Archive, before_commit, operation
from tables.indexing import objects

from flightserver.catalog.entities import PRIMARY
from flightserver.catalog.index_updates import CreateIndex
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import DropDataset, RenameDataset
from flightserver.tables.collecting import Collected, place_of
from flightserver.tables.generations import generation_key


@pytest.fixture
def archive() -> Archive:
    """Dataset `t`, and an index `i` over it, whose second generation is three days younger."""
    archive = Archive.open()
    archive.write(1, 2)
    indexing.create(archive, "i", archive.dataset())
    archive.clock.wait(72)
    indexing.refresh(archive, "i")
    return archive


def current(archive: Archive) -> set[str]:
    """Keys of the generations that indexes have now."""
    return {one.generation.key for one in archive.catalog.snapshot().indexes.values()}


def test_a_generation_that_another_has_replaced_is_deleted_when_its_time_is_over(archive: Archive) -> None:
    (old,) = set(objects(archive)) - current(archive)
    archive.clock.wait(47)
    assert archive.collect().objects == 0

    archive.clock.wait(2)
    told = archive.collect(dry_run=True)
    collected = archive.collect()

    expected = Collected(PRIMARY, objects=1, bytes=len(b"vectors"), kept=3, horizon=4, examples=(old,))
    assert (told, collected) == (expected, expected)
    assert objects(archive) == dict.fromkeys(current(archive), b"newer")
    assert archive.rows(archive.dataset()) == [1, 2]


@pytest.mark.parametrize("how", ["the index", "its dataset"])
def test_what_is_dropped_leaves_nothing_when_its_time_is_over(archive: Archive, how: str) -> None:
    if how == "the index":
        indexing.drop(archive, "i")
    else:
        archive.catalog.commit(Transaction(operation("drop"), (DropDataset(PRIMARY, "t"),)))
    archive.clock.wait(47)
    assert archive.collect().objects == 0

    archive.clock.wait(2)
    archive.collect()

    assert objects(archive) == {}
    assert bool(archive.files()) == (how == "the index")


def test_a_generation_that_was_never_committed_is_deleted_after_the_grace_period(archive: Archive) -> None:
    abandoned = indexing.build(archive, "other")
    archive.clock.wait(3)

    assert archive.collect(retention_hours=1000, grace_hours=4).objects == 0
    archive.clock.wait(1)
    assert archive.collect(retention_hours=1000, grace_hours=4).examples == (abandoned.key,)


def test_a_generation_that_is_about_to_be_committed_is_kept(archive: Archive) -> None:
    before = current(archive)

    with before_commit(archive, lambda: archive.collect(retention_hours=0)):
        refreshed = indexing.refresh(archive, "i", data=b"newest")

    assert set(objects(archive)) == {*before, refreshed.generation.key}


def test_an_index_made_while_garbage_is_looked_for_is_kept(archive: Archive) -> None:
    """Its generation is older than the grace period by then: what the commits in between name is spared."""
    archive.clock.wait(49)
    late = indexing.build(archive, "late")
    archive.clock.wait(2)
    made = Transaction(operation(), (CreateIndex(making.index("late", archive.dataset().id, late)),))

    with before_commit(archive, lambda: archive.catalog.commit(made)):
        assert archive.collect(grace_hours=1).objects == 1

    assert set(objects(archive)) == current(archive)
    assert late.key in current(archive)


def test_a_tag_keeps_no_generation_and_an_index_follows_a_renamed_dataset(archive: Archive) -> None:
    archive.tag("first", 2)
    archive.catalog.commit(Transaction(operation(), (RenameDataset(PRIMARY, "t", "renamed"),)))
    archive.clock.wait(1000)

    assert archive.collect().objects == 1

    assert archive.rows_at("first", "renamed") == [1, 2]
    assert set(objects(archive)) == current(archive) != set()


@pytest.mark.parametrize(
    "key",
    [
        "_vectors/i.lance/data/01ARZ3NDEKTSV4RRFFQ69G5FAV.lance",
        "_vectors/i/trials/01ARZ3NDEKTSV4RRFFQ69G5FAV.jsonl",
        "_vectors/i/trials/01ARZ3NDEKTSV4RRFFQ69G5FAV.idx",
        "_vectors/i/01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "_vectors/i/01ARZ3NDEKTSV4RRFFQ69G5FAV.idx.bak",
        "_vectors/i/current.idx",
        "_vectors/01ARZ3NDEKTSV4RRFFQ69G5FAV.idx",
        "_vectorsx/i/01ARZ3NDEKTSV4RRFFQ69G5FAV.idx",
        "a/_vectors/i/01ARZ3NDEKTSV4RRFFQ69G5FAV.idx",
        "datasets/i/01ARZ3NDEKTSV4RRFFQ69G5FAV.idx",
    ],
)
def test_what_does_not_look_like_a_generation_is_never_deleted(archive: Archive, key: str) -> None:
    archive.bucket.objects.put(key, b"somebody else's")
    archive.clock.wait(1000)

    archive.collect()

    assert archive.bucket.objects.get(key) == b"somebody else's"


@pytest.mark.parametrize("name", ["i", "by meaning", "größe 100%", "x.lance", "_", "n" * 255, "字" * 85, "a#?&=+b"])
def test_the_key_of_a_generation_is_recognized_whatever_the_index_is_called(name: str) -> None:
    key = generation_key(name, new_ulid())

    assert key.startswith("_vectors/")
    assert key.isascii()
    assert len(key) < 250
    assert place_of(key) == key
