"""Bringing back what lies in a bucket that can't serve it: moves and mirrors by the copies in `rescue`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from bucketing import add_bucket
from federation.rescuing import lose, make_trips, mirrored, opened
from query.asking import rows, run
from tables import indexing
from tables.moving import dataset, files, move, operation

from flightserver.catalog.entities import RESCUE, DatasetKey
from flightserver.errors import BackendUnavailable, FlightserverError
from flightserver.federation.mirroring import Mirrored
from flightserver.tables.segments import MANIFEST, ORIGIN, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3server import S3Server

    from flightserver.lakehouse import Lakehouse

TRIPS = "SELECT count(*), sum(id), sum(zone) FROM trips"
BESIDE = (ORIGIN, MANIFEST)


def make_compacted_trips(lakehouse: Lakehouse) -> None:
    """`trips` in bucket `far`: the first segment has `_origin.parquet`, and the second a delta."""
    make_trips(lakehouse, "far")
    list(lakehouse.compactor.compact(DatasetKey("far", "trips"), operation("compact"), lakehouse.compactor.wanted()))
    run(lakehouse, "INSERT INTO trips VALUES (100002, 4), (100003, 5)")
    run(lakehouse, "UPDATE trips SET zone = 8 WHERE id = 100003")
    there = dataset(lakehouse, "trips", "far")
    has_origins = [bool(read_manifest(lakehouse.buckets.get("far"), one).origins) for one in there.segments]
    assert (has_origins[0], any(has_origins[1:]), len(there.deltas)) == (True, False, 1)


def beside(lakehouse: Lakehouse, name: str, bucket: str = "far") -> str:
    """Key of what lies beside the compacted segment."""
    return f"{dataset(lakehouse, 'trips', bucket).segments[0].directory}/{name}"


def beside_in(lakehouse: Lakehouse, bucket: str) -> set[str]:
    """Names of all but rows that lie in the directories of segments."""
    names = {key.rpartition("/")[2] for key in files(lakehouse, bucket) if "/deltas/" not in key}
    return {name for name in names if not name.startswith("part-")}


@pytest.fixture
def compacted(tmp_path: Path) -> Iterator[Lakehouse]:
    """Compacted `trips` in the local bucket `far`, and no bucket `rescue`."""
    with opened(tmp_path / "data") as lakehouse:
        add_bucket(lakehouse, "far")
        make_compacted_trips(lakehouse)
        yield lakehouse


@pytest.fixture
def unanswered(tmp_path: Path, s3_server: S3Server, s3_bucket: str) -> Iterator[Lakehouse]:
    """Compacted `trips` with an index, mirrored, in a bucket of an S3 server that doesn't answer."""
    with opened(tmp_path / "data") as lakehouse:
        add_bucket(lakehouse, s3_server.bucket("far", s3_bucket))
        add_bucket(lakehouse, RESCUE)
        make_compacted_trips(lakehouse)
        indexing.create(lakehouse, "near", dataset(lakehouse, "trips", "far"), bucket="far")
        mirrored(lakehouse)
    with opened(tmp_path / "data") as lakehouse:
        s3_server.stop()
        try:
            yield lakehouse
        finally:
            s3_server.start()


# A store that doesn't answer


def test_a_dataset_moves_out_of_a_store_that_does_not_answer_with_all_of_its_files(unanswered: Lakehouse) -> None:
    before, copies = rows(unanswered, TRIPS), files(unanswered, RESCUE)

    moved = move(unanswered, "trips", "primary", "far")

    assert (moved.objects, moved.already) == (len(copies), 0)
    assert files(unanswered, "primary") == copies
    assert beside(unanswered, ORIGIN, "primary") in copies
    assert rows(unanswered, TRIPS) == before
    run(unanswered, "UPDATE trips SET zone = 1 WHERE id = 7")
    assert rows(unanswered, "SELECT zone FROM trips WHERE id = 7") == [(1,)]


def test_a_vector_index_moves_out_of_a_store_that_does_not_answer(unanswered: Lakehouse) -> None:
    copies = indexing.objects(unanswered, RESCUE)

    list(unanswered.indexes.move(DatasetKey("far", "near"), "primary", operation("move index")))

    assert indexing.objects(unanswered) == copies
    assert indexing.index(unanswered, "near").generation.bucket == "primary"


def test_a_mirror_of_a_store_that_does_not_answer_is_current_while_nothing_was_added(unanswered: Lakehouse) -> None:
    copies = {**files(unanswered, RESCUE), **indexing.objects(unanswered, RESCUE)}

    assert mirrored(unanswered) == Mirrored("far", 0, 0, already=len(copies), continuous=False)


@pytest.mark.parametrize("name", BESIDE)
def test_a_file_of_which_only_the_lost_store_may_have_a_copy_is_never_left_behind(
    unanswered: Lakehouse, name: str
) -> None:
    key = beside(unanswered, name)
    lose(unanswered, key, RESCUE)

    with pytest.raises(BackendUnavailable, match=rf"{key}.* doesn't answer: .*; bucket 'rescue' can't serve it"):
        move(unanswered, "trips", "primary", "far")
    with pytest.raises(BackendUnavailable, match=rf"{key}.* doesn't answer: .*; bucket 'rescue' can't serve it"):
        mirrored(unanswered)

    assert dataset(unanswered, "trips", "far").bucket == "far"


# A disk that isn't mounted


def test_a_file_that_may_be_on_a_disk_that_is_not_mounted_is_never_left_behind(
    compacted: Lakehouse, tmp_path: Path
) -> None:
    add_bucket(compacted, RESCUE)
    mirrored(compacted)
    for name in BESIDE:
        lose(compacted, beside(compacted, name), RESCUE)
    shutil.move(tmp_path / "data" / "buckets" / "far", tmp_path / "elsewhere")

    with pytest.raises(BackendUnavailable):
        move(compacted, "trips", "primary", "far")

    assert dataset(compacted, "trips", "far").bucket == "far"
    shutil.move(tmp_path / "elsewhere", tmp_path / "data" / "buckets" / "far")
    move(compacted, "trips", "primary", "far")
    assert beside_in(compacted, "primary") == set(BESIDE)


# A bucket that answers


def test_a_segment_whose_manifest_is_lost_moves_with_what_else_there_is(compacted: Lakehouse) -> None:
    lose(compacted, beside(compacted, MANIFEST))
    before = rows(compacted, TRIPS)

    move(compacted, "trips", "primary", "far")

    there = files(compacted, "primary")
    assert rows(compacted, TRIPS) == before
    assert there.items() <= files(compacted, "far").items()
    assert beside(compacted, ORIGIN, "primary") in there


def test_a_segment_whose_manifest_is_damaged_moves_with_all_there_is(compacted: Lakehouse) -> None:
    key = beside(compacted, MANIFEST)
    lose(compacted, key)
    compacted.buckets.get("far").objects.put(key, b"{")

    move(compacted, "trips", "primary", "far")

    there = files(compacted, "primary")
    assert there[key] == b"{"
    assert beside(compacted, ORIGIN, "primary") in there


def test_a_file_that_the_manifest_says_there_is_and_no_bucket_has_is_an_error(compacted: Lakehouse) -> None:
    add_bucket(compacted, RESCUE)
    key = beside(compacted, ORIGIN)
    lose(compacted, key)

    expected = rf"^file '{key}' of bucket 'far' can't be read, nor from bucket 'rescue': restore it from a backup"
    with pytest.raises(BackendUnavailable, match=expected):
        move(compacted, "trips", "primary", "far")
    with pytest.raises(BackendUnavailable, match=expected):
        mirrored(compacted)


def test_a_lost_manifest_that_a_rescue_bucket_may_have_is_waited_for(
    compacted: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    add_bucket(compacted, s3_server.bucket(RESCUE, s3_bucket))
    mirrored(compacted)
    lose(compacted, beside(compacted, MANIFEST))
    s3_server.stop()
    try:
        with pytest.raises(FlightserverError, match="doesn't answer: it refuses connections"):
            move(compacted, "trips", "primary", "far")
        assert dataset(compacted, "trips", "far").bucket == "far"
    finally:
        s3_server.start()

    move(compacted, "trips", "primary", "far")

    assert beside_in(compacted, "primary") == set(BESIDE)
