"""Checkpoints make opening fast and are never needed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pytest
from catalog.making import append, create, dataset, lineage, transaction

from flightserver.catalog import checkpoints
from flightserver.catalog.catalog import Catalog
from flightserver.catalog.checkpoints import CHECKPOINTS, checkpoint_key, decode, encode
from flightserver.catalog.entities import Bucket, ColumnRange
from flightserver.catalog.log import commit_key
from flightserver.catalog.updates import CreateDataset, PutBucket
from flightserver.errors import InternalError, LimitExceeded
from flightserver.storage.memory import MemoryObjects

if TYPE_CHECKING:
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.storage.objects import ObjectMeta, Objects


def filled(objects: Objects, commits: int, *, every: int) -> Snapshot:
    """A catalog of so many commits, whose checkpoints are all written."""
    while commits:
        catalog = Catalog.open(objects, checkpoint_every=every)
        while commits:
            commits -= 1
            version = catalog.commit(transaction(create(f"d{commits}", commits))).version
            if version % every == 0:
                break  # closing waits for the checkpoint, which a faster commit might skip
        catalog.close()
    return catalog.snapshot()


def versions(objects: Objects) -> list[int]:
    return [int(meta.key.removeprefix(CHECKPOINTS).partition(".")[0]) for meta in objects.list(CHECKPOINTS)]


def replace(objects: Objects, version: int, data: bytes) -> None:
    objects.delete(checkpoint_key(version))
    objects.put(checkpoint_key(version), data)


@pytest.fixture
def objects() -> Objects:
    return MemoryObjects()


def test_a_snapshot_is_the_same_after_encoding_and_decoding(objects: Objects) -> None:
    catalog = Catalog.open(objects)
    segment = msgspec.structs.replace(dataset("x", 5).segments[0], columns={"n": ColumnRange("1", None, 2)})
    full = msgspec.structs.replace(
        dataset("people"), segments=(segment,), lineage=(lineage(5, "c"),), primary_key=("n",), comment="ünïcode"
    )
    catalog.commit(transaction(PutBucket(Bucket("archive", "local", "/archive")), CreateDataset(full), rows=5))

    snapshot = catalog.snapshot()

    assert decode(2, encode(snapshot)) == snapshot


def test_every_so_many_commits_a_checkpoint_is_written(objects: Objects) -> None:
    filled(objects, 10, every=4)

    assert versions(objects) == [4, 8]


def test_opening_starts_at_the_newest_checkpoint_and_replays_the_rest(
    objects: Objects, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = filled(objects, 10, every=4)

    with caplog.at_level(logging.INFO, "flightserver.catalog"):
        opened = Catalog.open(objects).snapshot()

    assert opened == snapshot
    [record] = [each for each in caplog.records if each.getMessage() == "catalog opened"]
    assert (vars(record)["version"], vars(record)["replayed"]) == (11, 3)


def damaged(good: bytes) -> list[bytes]:
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    text = pa.CompressedInputStream(pa.BufferReader(good), "zstd").read()
    changed = [
        text.replace(b'"rows":5,', b'"rows":6,', 1),
        text.replace(b'"format":1', b'"format":2', 1),
        text.replace(b'"shape":"', b'"shape":"0', 1),
        text.partition(b"\n")[0],
        text + b" ",
    ]
    assert text not in changed
    return [b"", b"garbage", good[: len(good) // 2], good[:-1], bytes(flipped), *map(compressed, changed)]


def compressed(text: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(text)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("kind", range(10))
def test_a_damaged_checkpoint_is_ignored_and_an_older_one_serves(
    objects: Objects, kind: int, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = filled(objects, 10, every=4)
    replace(objects, 8, damaged(objects.get(checkpoint_key(8)))[kind])

    with caplog.at_level(logging.INFO, "flightserver.catalog"):
        opened = Catalog.open(objects).snapshot()

    assert opened == snapshot
    assert "checkpoint damaged or of another format, ignored" in caplog.messages
    [record] = [each for each in caplog.records if each.getMessage() == "catalog opened"]
    assert vars(record)["replayed"] == 7


def test_the_checkpoint_of_another_version_is_ignored(objects: Objects) -> None:
    snapshot = filled(objects, 10, every=4)
    replace(objects, 8, objects.get(checkpoint_key(4)))

    assert Catalog.open(objects).snapshot() == snapshot


def test_without_any_checkpoint_the_log_alone_gives_the_same_snapshot(objects: Objects) -> None:
    snapshot = filled(objects, 10, every=4)
    for version in versions(objects):
        objects.delete(checkpoint_key(version))

    assert Catalog.open(objects).snapshot() == snapshot


def test_a_log_that_ends_before_a_checkpoint_has_lost_commits(objects: Objects) -> None:
    filled(objects, 10, every=4)
    for version in range(7, 12):
        objects.delete(commit_key(version))

    with pytest.raises(InternalError, match="commit 8 is missing from the catalog's log, but was there once"):
        Catalog.open(objects)


def test_old_checkpoints_are_thinned_and_the_newest_kept(objects: Objects) -> None:
    filled(objects, 100, every=2)

    assert versions(objects) == [32, 64, 94, 96, 98, 100]


def test_any_version_is_the_same_whether_it_is_replayed_from_a_checkpoint_or_not(objects: Objects) -> None:
    filled(objects, 40, every=2)
    with_checkpoints = [Catalog.open(objects).snapshot_at(version) for version in range(1, 42)]
    for version in versions(objects):
        objects.delete(checkpoint_key(version))

    assert [Catalog.open(objects).snapshot_at(version) for version in range(1, 42)] == with_checkpoints


class NoRoomForCheckpoints(MemoryObjects):
    """A bucket that takes commits and nothing else."""

    def put(self, key: str, data: bytes) -> ObjectMeta:
        if key.startswith(CHECKPOINTS):
            msg = "full"
            raise LimitExceeded(msg)
        return super().put(key, data)


def test_a_checkpoint_that_cannot_be_written_is_logged_and_no_commit_fails(caplog: pytest.LogCaptureFixture) -> None:
    objects = NoRoomForCheckpoints()

    snapshot = filled(objects, 6, every=2)

    assert snapshot.version == 7
    assert caplog.messages.count("checkpoint not written") == 3
    assert Catalog.open(objects).snapshot() == snapshot


def test_a_server_that_knows_other_fields_replays_the_log_instead(
    objects: Objects, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = filled(objects, 5, every=4)
    monkeypatch.setattr(checkpoints, "_SHAPE", "of another release")

    assert Catalog.open(objects).snapshot() == snapshot
    assert "checkpoint damaged or of another format, ignored" in caplog.messages


def test_a_commit_that_follows_a_checkpoint_goes_on_with_its_row_ids(objects: Objects) -> None:
    catalog = Catalog.open(objects, checkpoint_every=2)
    catalog.commit(transaction(create("people", 3)))
    catalog.close()

    other = Catalog.open(objects)
    other.commit(transaction(append("people", 4)))

    assert [each.first_row_id for each in other.snapshot().dataset("people").segments] == [0, 3]
