"""What becomes of vector indexes when something is done to the bucket that they are in, or to that of their dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bucketing import add_bucket, commit
from federation.rescuing import mirrored, opened
from flightclient import connect
from msgspec.structs import replace
from query.asking import run
from tables import indexing
from tables.indexing import objects
from tables.moving import collect, dataset, files, move, operation

from flightserver.catalog.entities import LOCAL, RESCUE, Bucket, LifecycleRule, PutLimits
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import PutBucket
from flightserver.errors import InvalidRequest, LimitExceeded
from flightserver.federation.expiring import Expiry
from flightserver.federation.mirroring import Mirror, Mirrored
from flightserver.federation.rules import check_rules
from flightserver.federation.service import Dropped
from flightserver.federation.usage import Amount, Usage, measure
from flightserver.storage.limits import MIB, VECTORS
from flightserver.tables.collecting import Collected, Collector
from flightserver.tables.generations import generation_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import RunningServer

    from flightserver.federation.usage import Holding
    from flightserver.lakehouse import Lakehouse


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lakehouse]:
    """`trips` in `primary`, `"far".stops`, and in each bucket an index over each; `trips_there` was refreshed."""
    with opened(tmp_path / "data") as lakehouse:
        add_bucket(lakehouse, "far")
        run(lakehouse, "CREATE TABLE trips AS SELECT 1 AS id")
        run(lakehouse, 'CREATE TABLE "far".stops AS SELECT 1 AS id')
        trips, stops = dataset(lakehouse, "trips"), dataset(lakehouse, "stops", "far")
        indexing.create(lakehouse, "of_trips", trips, data=b"trips, here")
        indexing.create(lakehouse, "of_stops", stops, data=b"stops, here")
        indexing.create(lakehouse, "trips_there", trips, bucket="far", data=b"trips, there, old")
        indexing.create(lakehouse, "stops_there", stops, bucket="far", data=b"stops, there")
        indexing.refresh(lakehouse, "trips_there", bucket="far", data=b"trips, there")
        yield lakehouse


def contents(lakehouse: Lakehouse, bucket: str) -> set[bytes]:
    return set(objects(lakehouse, bucket).values())


def drop(lakehouse: Lakehouse, bucket: str, how: str | None) -> Dropped:
    *_, last = lakehouse.bucket_service.drop(bucket, how, operation("drop bucket"))
    assert isinstance(last, Dropped)
    return last


# Collected


def test_a_moved_index_leaves_garbage_where_it_was_and_is_kept_where_it_is(lake: Lakehouse) -> None:
    moved = indexing.move(lake, "of_trips", "far")
    key = moved.generation.key

    assert collect(lake, "primary").objects == 1
    assert collect(lake, "far").objects == 1, "what was there before the refresh"

    assert contents(lake, "primary") == {b"stops, here"}
    assert objects(lake, "far")[key] == b"trips, here"
    assert contents(lake, "far") == {b"trips, here", b"trips, there", b"stops, there"}


def test_an_index_stays_where_it_is_when_its_dataset_moves(lake: Lakehouse) -> None:
    move(lake, "trips", "far")
    collect(lake, "primary")

    assert contents(lake, "primary") == {b"trips, here", b"stops, here"}
    assert files(lake, "primary") == {}


def test_indexes_that_earlier_versions_name_by_a_former_name_of_their_bucket_are_kept(lake: Lakehouse) -> None:
    lake.bucket_service.rename("far", "near", operation("rename"))
    lake.bucket_service.rename("near", "next", operation("rename"))
    indexing.drop(lake, "stops_there", bucket="next")

    patient = Collector(lake.catalog, lake.buckets, retention_hours=1, grace_hours=0)
    *_, collected = patient.collect("next", operation("collect"))
    assert isinstance(collected, Collected)
    assert (collected.objects, collected.kept) == (0, len(files(lake, "next")) + 3)

    assert collect(lake, "next").objects == 2
    assert contents(lake, "next") == {b"trips, there"}


# Dropped


def test_a_bucket_with_nothing_but_an_index_is_not_empty(lake: Lakehouse) -> None:
    add_bucket(lake, "near")
    indexing.create(lake, "nearby", dataset(lake, "trips"), bucket="near")

    with pytest.raises(
        InvalidRequest, match="bucket 'near' isn't empty, it has vector index nearby: say by `contents`"
    ):
        drop(lake, "near", None)
    with pytest.raises(InvalidRequest, match="has stops, vector index stops_there, vector index trips_there: say by"):
        drop(lake, "far", None)

    assert drop(lake, "near", "keep") == Dropped(datasets=0, objects=0, indexes=1)


def test_with_its_contents_a_bucket_loses_every_generation_that_a_version_names(lake: Lakehouse) -> None:
    root = lake.buckets.get("far").local_root
    assert root is not None
    kept = indexing.index(lake, "trips_there", "far").generation.key
    elsewhere = indexing.index(lake, "of_stops").generation.key
    others = {f"{kept}.bak", f"{VECTORS}trips_there/notes.txt", f"{VECTORS}x.lance/1", generation_key("x", new_ulid())}
    for key in others:
        lake.buckets.get("far").objects.put(key, b"not ours")

    objects_of_ours = len(files(lake, "far")) + 3
    assert drop(lake, "far", "delete") == Dropped(datasets=1, objects=objects_of_ours, indexes=3)

    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} == others
    assert [str(key) for key in lake.catalog.snapshot().indexes] == ['"primary".of_trips']
    assert collect(lake, "primary").examples == (elsewhere,), "the index of a dataset that was in the bucket"


def test_kept_contents_stay_as_files(lake: Lakehouse) -> None:
    root = lake.buckets.get("far").local_root
    assert root is not None

    assert drop(lake, "far", "keep") == Dropped(datasets=1, objects=0, indexes=3)

    assert len(list((root / VECTORS).rglob("*.idx"))) == 3


# Mirrored


def test_a_mirror_has_the_contents_of_the_indexes_of_a_bucket(lake: Lakehouse) -> None:
    add_bucket(lake, RESCUE)
    there = {key: data for key, data in objects(lake, "far").items() if b"old" not in data}
    every = {**there, **files(lake, "far")}

    found = mirrored(lake)

    assert found == Mirrored("far", len(every), sum(map(len, every.values())), already=0, continuous=False)
    assert {**objects(lake, RESCUE), **files(lake, RESCUE)} == every
    assert mirrored(lake).already == len(every)


def test_the_mirror_of_one_dataset_has_its_indexes_in_whatever_bucket_they_are(lake: Lakehouse) -> None:
    add_bucket(lake, RESCUE)

    mirrored(lake, "primary", "trips")

    assert contents(lake, RESCUE) == {b"trips, here", b"trips, there"}
    assert files(lake, RESCUE) == files(lake, "primary")


def test_an_index_that_is_lost_is_read_from_its_mirror_and_the_mirror_is_no_garbage(lake: Lakehouse) -> None:
    add_bucket(lake, RESCUE)
    mirrored(lake)
    key = indexing.index(lake, "trips_there", "far").generation.key
    lake.buckets.get("far").objects.delete(key)

    assert lake.buckets.get("far").reading.get(key) == b"trips, there"
    assert collect(lake, RESCUE).objects == 0

    indexing.drop(lake, "trips_there", bucket="far")
    assert collect(lake, RESCUE).examples == (key,)


def test_indexes_of_a_bucket_that_is_kept_mirrored_are_told_as_events_of_their_datasets(lake: Lakehouse) -> None:
    add_bucket(lake, Bucket(RESCUE, LOCAL, limits=PutLimits(8 * MIB, 8 * MIB)))
    lake.mirror.keep("far", operation(), continuous=True)
    indexing.refresh(lake, "stops_there", bucket="far", data=bytes(8 * MIB + 1))

    Mirror(lake.catalog, lake.buckets, lake.events, 3600).look()

    told = [event for event in lake.events.entries() if "mirror" in event.kind]
    assert [(event.kind, event.bucket, event.dataset) for event in told] == [
        ("mirrored", "far", "stops"),
        ("mirrored", "primary", "trips"),
        ("mirror failed", "far", "stops"),
    ]
    assert '"index": "\\"far\\".trips_there"' in told[1].detail
    assert "bucket.set_limits" in told[2].detail
    assert contents(lake, RESCUE) == {b"trips, there"}
    with pytest.raises(LimitExceeded, match="a put below '_vectors/' may have 8,388,608"):
        mirrored(lake)


# Counted


def usage(lakehouse: Lakehouse, bucket: str) -> Usage:
    *_, last = measure(lakehouse.buckets.get(bucket), lakehouse.catalog.snapshot(), lakehouse.collector)
    assert isinstance(last, Usage)
    return last


def held(found: dict[tuple[str, str], Holding]) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    """Objects and bytes of the newest version, and of earlier ones."""
    return {key: (one.newest.objects, one.newest.bytes, one.past.objects, one.past.bytes) for key, one in found.items()}


def test_contents_of_an_index_are_counted_as_its_own_and_what_it_had_before_as_its_past(lake: Lakehouse) -> None:
    indexing.create(lake, "gone", dataset(lake, "stops", "far"), bucket="far", data=b"1234")
    indexing.drop(lake, "gone", bucket="far")
    indexing.build(lake, "abandoned", "far", b"12")
    lake.buckets.get("far").objects.put(f"{VECTORS}x.lance/1", b"1")

    found = usage(lake, "far")

    assert held(found.indexes) == {
        ("far", "trips_there"): (1, len(b"trips, there"), 1, len(b"trips, there, old")),
        ("far", "stops_there"): (1, len(b"stops, there"), 0, 0),
        ("far", "gone"): (0, 0, 1, 4),
    }
    assert {kind: (one.objects, one.bytes) for kind, one in found.kinds.items() if one.objects} == {
        "datasets": (2, sum(map(len, files(lake, "far").values()))),
        "vectors": (5, len(b"trips, there" + b"trips, there, old" + b"stops, there") + 4 + 1),
        "pending": (1, 2),
    }
    assert list(found.datasets) == [("far", "stops")]


def test_contents_that_no_version_names_are_garbage(tmp_path: Path) -> None:
    with opened(tmp_path) as lakehouse:
        run(lakehouse, "CREATE TABLE trips AS SELECT 1 AS id")
        indexing.create(lakehouse, "i", dataset(lakehouse, "trips"), data=b"12345")
        indexing.drop(lakehouse, "i")
        hasty = Collector(lakehouse.catalog, lakehouse.buckets, retention_hours=0, grace_hours=0)

        *_, found = measure(lakehouse.buckets.get("primary"), lakehouse.catalog.snapshot(), hasty)

        assert isinstance(found, Usage)
        assert found.kinds["garbage"] == Amount(1, 5)
        assert collect(lakehouse, "primary").objects == 1


def test_copies_in_the_rescue_bucket_belong_to_the_indexes_that_they_are_of(lake: Lakehouse) -> None:
    add_bucket(lake, RESCUE)
    mirrored(lake)

    found = usage(lake, RESCUE)

    assert held(found.indexes) == {("far", "trips_there"): (1, 12, 0, 0), ("far", "stops_there"): (1, 12, 0, 0)}


# By age


@pytest.mark.parametrize("prefix", ["", "_", "_vectors/", "_vectors/i/"])
def test_no_rule_may_delete_an_index_by_its_age(prefix: str) -> None:
    with pytest.raises(InvalidRequest, match=r"lifecycle rule 1, of prefix .*: it would delete by age"):
        check_rules([LifecycleRule(prefix, expire_days=1)], local=True)


def test_an_index_is_not_deleted_whatever_a_rule_of_another_release_says(lake: Lakehouse) -> None:
    """The rule is written into the catalog past its checks."""
    rule = LifecycleRule(VECTORS, expire_days=1)
    commit(lake, PutBucket(replace(lake.catalog.snapshot().buckets["far"], lifecycle=(rule,))))
    before = objects(lake, "far")
    later = lake.catalog.snapshot().time.replace(year=2100)

    Expiry(lake.catalog, lake.buckets, lake.events, 3600, clock=lambda: later).look()

    assert objects(lake, "far") == before


# Over the wire


def test_actions_answer_indexes_too(server: RunningServer) -> None:
    lakehouse = server.lakehouse
    add_bucket(lakehouse, "far")
    run(lakehouse, "CREATE TABLE trips AS SELECT 1 AS id")
    indexing.create(lakehouse, "i", dataset(lakehouse, "trips"), bucket="far", data=b"12345")
    with connect(server.uri) as client:
        usage: dict[str, Any] = client.call("bucket.usage", {"name": "far"})
        dropped: dict[str, Any] = client.call("bucket.drop", {"name": "far", "contents": "delete"})

    assert usage["indexes"] == [
        {"index": "i", "bucket": "far", "objects": 1, "bytes": 5, "past_objects": 0, "past_bytes": 0}
    ]
    assert dropped == {"name": "far", "datasets": 0, "objects": 1, "indexes": 1}
