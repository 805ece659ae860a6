"""The rescue bucket: what is read from it, and what never is."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from bucketing import add_bucket
from federation.rescuing import lose, make_trips, mirrored, opened
from query.asking import rows, run
from tables.moving import dataset, files

from flightserver.catalog.entities import RESCUE
from flightserver.errors import BackendUnavailable, NotFound
from flightserver.federation.rescue import SERVED, Rescue
from flightserver.storage.buckets import Buckets, OpenBucket, url_scheme
from flightserver.storage.limits import VECTORS
from flightserver.storage.memory import MemoryObjects
from flightserver.tables.segments import read_manifest
from flightserver.telemetry import Events

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server

    from flightserver.lakehouse import Lakehouse

TRIPS = "SELECT id, zone FROM trips ORDER BY id"


def served(lakehouse: Lakehouse) -> list[tuple[str, str]]:
    """Bucket and key of what was told to be read from rescue."""
    return [(one.bucket, json.loads(one.detail)["key"]) for one in lakehouse.events.entries() if one.kind == SERVED]


EXPECTED = [
    (number, 9 if number in {3, 100_000} else 3 if number > 99_999 else number % 7) for number in range(100_002)
]


# Reading


def test_a_bucket_that_lost_everything_is_read_from_rescue_with_the_same_answer(far: Lakehouse) -> None:
    keys = list(files(far, "far"))
    for key in keys:
        lose(far, key)

    assert rows(far, TRIPS) == EXPECTED
    assert rows(far, "SELECT zone FROM trips WHERE id = 3") == [(9,)]

    segment, *_ = dataset(far, "trips", "far").segments
    assert read_manifest(far.buckets.get("far"), segment).segment.id == segment.id
    told = served(far)
    assert len(told) == len(set(told))
    assert set(told) <= {("far", key) for key in keys}
    assert {key for _, key in told} >= {key for key in keys if key.endswith(".parquet")}
    assert files(far, "far") == {}


def test_only_what_is_lost_is_read_from_rescue(far: Lakehouse) -> None:
    big, small, *_ = dataset(far, "trips", "far").segments
    (lost,) = big.object_keys()
    lose(far, lost)

    assert rows(far, TRIPS) == EXPECTED
    assert rows(far, "SELECT count(*) FROM trips WHERE zone = 3") == [(len([1 for _, zone in EXPECTED if zone == 3]),)]

    assert served(far) == [("far", lost)]
    assert small.id != big.id


def test_a_file_that_comes_back_is_read_at_home_again(far: Lakehouse) -> None:
    objects = far.buckets.get("far").objects
    (key,) = dataset(far, "trips", "far").segments[0].object_keys()
    data = objects.get(key)
    objects.delete(key)
    assert rows(far, TRIPS) == EXPECTED
    objects.put(key, data)
    for copy in files(far, RESCUE):
        lose(far, copy, RESCUE)

    assert rows(far, TRIPS) == EXPECTED


def test_a_local_bucket_whose_disk_is_gone_is_read_from_rescue(tmp_path: Path) -> None:
    with opened(tmp_path / "data", check_seconds=0.05) as lakehouse:
        add_bucket(lakehouse, "far")
        add_bucket(lakehouse, RESCUE)
        make_trips(lakehouse, "far")
        mirrored(lakehouse)
    shutil.move(tmp_path / "data" / "buckets" / "far", tmp_path / "elsewhere")

    with opened(tmp_path / "data") as lakehouse:
        assert rows(lakehouse, TRIPS) == EXPECTED
        with pytest.raises(BackendUnavailable, match="bucket 'far' can't be reached"):
            run(lakehouse, "INSERT INTO trips VALUES (-1, 0)")
        before = files(lakehouse, RESCUE)
        assert rows(lakehouse, TRIPS) == EXPECTED
        assert files(lakehouse, RESCUE) == before


def test_an_s3_bucket_whose_server_is_gone_is_read_from_rescue_until_it_is_back(
    tmp_path: Path, s3_server: S3Server, s3_bucket: str
) -> None:
    with opened(tmp_path / "data") as lakehouse:
        add_bucket(lakehouse, s3_server.bucket("far", s3_bucket))
        add_bucket(lakehouse, RESCUE)
        make_trips(lakehouse, "far")
        mirrored(lakehouse)
        copies = files(lakehouse, RESCUE)
        assert copies == files(lakehouse, "far")

    with opened(tmp_path / "data") as lakehouse:
        s3_server.stop()
        try:
            assert rows(lakehouse, TRIPS) == EXPECTED
            assert rows(lakehouse, "SELECT zone FROM trips WHERE id = 3") == [(9,)]
            with pytest.raises(BackendUnavailable):
                run(lakehouse, "INSERT INTO trips VALUES (-1, 0)")
            assert files(lakehouse, RESCUE) == copies
        finally:
            s3_server.start()
        run(lakehouse, "INSERT INTO trips VALUES (-1, 0)")
        assert rows(lakehouse, TRIPS) == [(-1, 0), *EXPECTED]


def test_what_neither_bucket_has_is_an_error_that_names_both(far: Lakehouse) -> None:
    big, small, *_ = dataset(far, "trips", "far").segments
    for key in (*big.object_keys(), *small.object_keys()):
        lose(far, key)
        lose(far, key, RESCUE)

    with pytest.raises(
        BackendUnavailable, match=r"of bucket 'far' is missing: .*; bucket 'rescue' can't serve it either"
    ):
        rows(far, TRIPS)
    with pytest.raises(
        BackendUnavailable, match=r"^file '.*' of bucket 'far' can't be read, nor from bucket 'rescue': restore it"
    ):
        list(far.mirror.mirror("far"))


def test_without_a_rescue_bucket_a_lost_file_is_an_error_that_names_its_bucket_alone(lakehouse: Lakehouse) -> None:
    add_bucket(lakehouse, "far")
    make_trips(lakehouse, "far")
    (key,) = dataset(lakehouse, "trips", "far").segments[0].object_keys()
    lose(lakehouse, key)

    with pytest.raises(
        BackendUnavailable, match=rf"^file '{key}' of bucket 'far' is missing: restore it from a backup$"
    ):
        rows(lakehouse, TRIPS)


class Clock:
    """Seconds that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class FarObjects(MemoryObjects):
    """Objects that can be out of reach, and count how often they were asked for bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.out_of_reach = False
        self.asked = 0

    def get(self, key: str) -> bytes:
        self.asked += 1
        if self.out_of_reach:
            raise BackendUnavailable("no answer")
        return super().get(key)


class Pair:
    """Two buckets in memory, `far` and `rescue`."""

    def __init__(self) -> None:
        self.far, self.rescue, self.events, self.clock = FarObjects(), MemoryObjects(), Events(), Clock()
        buckets = Buckets()
        rescue = Rescue(buckets, self.events, clock=self.clock)
        for name, objects in (("far", self.far), (RESCUE, self.rescue)):
            buckets.add(rescue.beside(OpenBucket(name, objects, url_scheme(name))))
        self.reading = buckets.get("far").reading

    def told(self) -> list[str]:
        return [json.loads(event.detail)["key"] for event in self.events.entries()]


def test_files_of_datasets_and_vectors_are_rescued_and_nothing_else_is() -> None:
    pair = Pair()
    for key in ("datasets/t/a", f"{VECTORS}i/1.idx", "_catalog/commits/1.json", "_staging/u", "datasetsx/a"):
        pair.rescue.put(key, b"copy")

    for key in ("datasets/t/a", f"{VECTORS}i/1.idx"):
        assert pair.reading.get(key) == b"copy"
        with pair.reading.open(key) as file:
            assert file.read() == b"copy"
        found = pair.reading.head(key)
        assert found is not None
        assert found.size == 4
    for key in ("_catalog/commits/1.json", "_staging/u", "datasetsx/a"):
        with pytest.raises(NotFound):
            pair.reading.get(key)
        assert pair.reading.head(key) is None
    assert pair.told() == ["datasets/t/a", f"{VECTORS}i/1.idx"]


def test_a_rescued_object_is_told_once_a_minute_at_most() -> None:
    pair = Pair()
    pair.rescue.put("datasets/t/a", b"copy")

    for wait in (0, 30, 29.9, 0.2, 59):
        pair.clock.now += wait
        pair.reading.get("datasets/t/a")

    assert pair.told() == ["datasets/t/a"] * 2


def test_each_read_that_rescue_serves_counts(far: Lakehouse) -> None:
    (key,) = dataset(far, "trips", "far").segments[0].object_keys()
    rescued = ("flightserver_rescued_reads_total", {"bucket": "far"})
    assert far.metrics.registry.get_sample_value(*rescued) is None
    lose(far, key)

    for reads in (1, 2):
        far.buckets.get("far").reading.get(key)
        assert far.metrics.registry.get_sample_value(*rescued) == reads
    assert served(far) == [("far", key)]


def test_the_home_bucket_comes_first_and_what_no_bucket_has_is_not_found() -> None:
    pair = Pair()
    pair.far.put("datasets/t/a", b"home")
    pair.rescue.put("datasets/t/a", b"copy")

    assert pair.reading.get("datasets/t/a") == b"home"
    with pytest.raises(NotFound, match=r"'datasets/t/b'; bucket 'rescue' can't serve it either"):
        pair.reading.get("datasets/t/b")
    assert pair.reading.head("datasets/t/b") is None
    assert pair.told() == []


def test_a_bucket_that_did_not_answer_is_asked_again_after_a_while_or_for_what_only_it_may_have() -> None:
    pair = Pair()
    for key in ("datasets/t/a", "datasets/t/b"):
        pair.far.put(key, b"home")
    pair.rescue.put("datasets/t/a", b"copy")
    pair.far.out_of_reach = True

    assert [pair.reading.get("datasets/t/a") for _ in range(3)] == [b"copy"] * 3
    assert pair.far.asked == 1
    with pytest.raises(BackendUnavailable, match=r"^no answer; bucket 'rescue' can't serve it either$"):
        pair.reading.get("datasets/t/b")
    assert pair.far.asked == 2

    pair.far.out_of_reach = False
    assert pair.reading.get("datasets/t/a") == b"copy"
    pair.clock.now += 30
    assert pair.reading.get("datasets/t/a") == b"home"
    assert pair.reading.get("datasets/t/b") == b"home"
