"""Mirrors in the rescue bucket: how copies come there, stay current, and go again."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pyarrow.flight as fl
import pytest
from bucketing import add_bucket
from federation.rescuing import lose, make_trips, mirrored, opened
from query.asking import run
from tables.moving import collect, dataset, files, operation

from flightserver.catalog.entities import LOCAL, RESCUE, Bucket
from flightserver.errors import InvalidRequest, NotFound
from flightserver.federation.mirroring import Mirror, Mirrored
from flightserver.tables.moving import Step

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunningServer

    from flightserver.lakehouse import Lakehouse


def test_a_mirror_has_what_the_newest_versions_name_and_is_brought_up_to_date(lakehouse: Lakehouse) -> None:
    add_bucket(lakehouse, "far")
    add_bucket(lakehouse, RESCUE)
    make_trips(lakehouse, "far")
    run(lakehouse, 'CREATE TABLE "far".stops AS SELECT 1 AS id')
    run(lakehouse, "CREATE TABLE elsewhere AS SELECT 1 AS id")
    there = files(lakehouse, "far")
    size = sum(map(len, there.values()))

    assert mirrored(lakehouse) == Mirrored("far", len(there), size, already=0, continuous=False)
    assert files(lakehouse, RESCUE) == there
    assert mirrored(lakehouse) == Mirrored("far", 0, 0, already=len(there), continuous=False)

    run(lakehouse, "INSERT INTO stops VALUES (2)")
    added = set(files(lakehouse, "far")) - set(there)
    again = mirrored(lakehouse)
    assert (again.objects, again.already) == (len(added), len(there))
    assert files(lakehouse, RESCUE) == files(lakehouse, "far")


def test_one_dataset_alone_can_be_mirrored(lakehouse: Lakehouse) -> None:
    add_bucket(lakehouse, RESCUE)
    run(lakehouse, "CREATE TABLE a AS SELECT 1 AS id")
    run(lakehouse, "CREATE TABLE b AS SELECT 1 AS id")

    mirrored(lakehouse, "primary", "a")

    (segment,) = dataset(lakehouse, "a").segments
    assert {key.rpartition("/")[0] for key in files(lakehouse, RESCUE)} == {segment.directory}


def test_progress_of_a_mirror_is_told_in_bytes(far: Lakehouse) -> None:
    *steps, _ = far.mirror.mirror("far")
    there = dataset(far, "trips", "far")
    total = sum(segment.bytes for segment in there.segments) + sum(delta.bytes for delta in there.deltas)

    assert steps[-1] == Step("copy", total, total)


def test_mirrors_that_make_no_sense_are_refused(lakehouse: Lakehouse) -> None:
    with pytest.raises(NotFound, match=r"there is no bucket 'rescue', .* `flightserver buckets create rescue`"):
        mirrored(lakehouse, "primary")
    add_bucket(lakehouse, RESCUE)
    with pytest.raises(NotFound, match="there is no bucket 'nowhere'; there are: primary, rescue"):
        mirrored(lakehouse, "nowhere")
    with pytest.raises(InvalidRequest, match="bucket 'rescue' can't be mirrored"):
        mirrored(lakehouse, RESCUE)
    with pytest.raises(InvalidRequest, match="bucket 'rescue' can't be mirrored"):
        lakehouse.mirror.keep(RESCUE, operation(), continuous=True)


def test_a_bucket_that_is_kept_mirrored_is_looked_at_until_that_ends(lakehouse: Lakehouse) -> None:
    add_bucket(lakehouse, RESCUE)
    keeper = Mirror(lakehouse.catalog, lakehouse.buckets, lakehouse.events, 3600)
    run(lakehouse, "CREATE TABLE a AS SELECT 1 AS id")
    keeper.look()
    assert files(lakehouse, RESCUE) == {}

    lakehouse.mirror.keep("primary", operation(), continuous=True)
    keeper.look()
    assert files(lakehouse, RESCUE) == files(lakehouse, "primary")
    run(lakehouse, "INSERT INTO a VALUES (2)")
    keeper.look()
    assert files(lakehouse, RESCUE) == files(lakehouse, "primary")

    lakehouse.mirror.keep("primary", operation(), continuous=False)
    run(lakehouse, "INSERT INTO a VALUES (3)")
    keeper.look()
    assert len(files(lakehouse, RESCUE)) == 4
    assert [event.kind for event in lakehouse.events.entries() if "mirror" in event.kind] == ["mirrored"] * 2


def test_a_dataset_that_cannot_be_mirrored_is_told_and_keeps_nobody_from_it(lakehouse: Lakehouse) -> None:
    add_bucket(lakehouse, RESCUE)
    run(lakehouse, "CREATE TABLE a AS SELECT 1 AS id")
    run(lakehouse, "CREATE TABLE b AS SELECT 1 AS id")
    (key,) = dataset(lakehouse, "a").segments[0].object_keys()
    lose(lakehouse, key, "primary")
    lakehouse.mirror.keep("primary", operation(), continuous=True)

    Mirror(lakehouse.catalog, lakehouse.buckets, lakehouse.events, 3600).look()

    told = [(event.kind, event.dataset) for event in lakehouse.events.entries() if "mirror" in event.kind]
    assert told == [("mirror failed", "a"), ("mirrored", "b")]
    assert set(files(lakehouse, RESCUE)) >= set(dataset(lakehouse, "b").segments[0].object_keys())


def test_a_mirror_is_as_old_as_the_last_look_that_found_it_whole(lakehouse: Lakehouse) -> None:
    now = 1000.0
    keeper = Mirror(lakehouse.catalog, lakehouse.buckets, lakehouse.events, 3600, clock=lambda: now)
    add_bucket(lakehouse, RESCUE)
    add_bucket(lakehouse, "far")
    run(lakehouse, "CREATE TABLE a AS SELECT 1 AS id")
    run(lakehouse, "CREATE TABLE far.b AS SELECT 1 AS id")
    keeper.look()
    assert (keeper.ages(), keeper.failures()) == ({}, {})

    lakehouse.mirror.keep("primary", operation(), continuous=True)
    lakehouse.mirror.keep_dataset(dataset(lakehouse, "b", "far").key, operation(), continuous=True)
    keeper.look()
    now += 60
    assert (keeper.ages(), keeper.failures()) == ({"primary": 60, "far": 60}, {})

    run(lakehouse, "INSERT INTO far.b VALUES (2)")
    (lost,) = dataset(lakehouse, "b", "far").segments[1].object_keys()
    lose(lakehouse, lost)
    for _ in range(2):
        keeper.look()
        now += 60
    assert (keeper.ages(), keeper.failures()) == ({"primary": 60, "far": 180}, {"far": 2})

    lakehouse.mirror.keep("primary", operation(), continuous=False)
    keeper.look()
    assert keeper.ages() == {"far": 180}


def test_the_thread_keeps_a_mirror_by_itself(tmp_path: Path) -> None:
    with opened(tmp_path, mirror_seconds=0.05) as lakehouse:
        add_bucket(lakehouse, RESCUE)
        lakehouse.mirror.keep("primary", operation(), continuous=True)
        run(lakehouse, "CREATE TABLE a AS SELECT 1 AS id")
        while not any(event.kind == "mirrored" for event in lakehouse.events.entries()):
            time.sleep(0.01)
        assert files(lakehouse, RESCUE) == files(lakehouse, "primary")


def test_collecting_the_rescue_bucket_keeps_every_mirror_and_deletes_what_no_version_names(far: Lakehouse) -> None:
    copies = files(far, RESCUE)
    assert collect(far, RESCUE).objects == 0
    assert files(far, RESCUE) == copies

    run(far, 'CREATE TABLE "rescue".own AS SELECT 1 AS id')
    run(far, "DROP TABLE trips")
    assert collect(far, RESCUE).objects == len(copies)
    assert {key.split("/")[1] for key in files(far, RESCUE)} == {"own"}


# Over the wire


def act(client: fl.FlightClient, kind: str, **body: Any) -> list[dict[str, Any]]:
    results = client.do_action(fl.Action(kind, json.dumps(body).encode()))
    return [json.loads(result.body.to_pybytes()) for result in results]


def test_actions_mirror_and_move_and_tell_what_they_did(server: RunningServer, flight_client: fl.FlightClient) -> None:
    add_bucket(server.lakehouse, "far")
    add_bucket(server.lakehouse, Bucket(RESCUE, LOCAL))
    make_trips(server.lakehouse, "primary")
    there = files(server.lakehouse, "primary")
    size = sum(map(len, there.values()))

    *progress, last = act(flight_client, "bucket.mirror", bucket="primary", continuous=True)
    result = {"bucket": "primary", "objects": len(there), "bytes": size, "already": 0, "continuous": True}
    assert last == {"result": result}
    assert progress[-1]["progress"]["done"] == progress[-1]["progress"]["total"] > 0
    assert server.lakehouse.catalog.snapshot().buckets["primary"].mirrored

    *progress, last = act(flight_client, "dataset.move", dataset="trips", to="far")
    version = dataset(server.lakehouse, "trips", "far").version
    assert last["result"] == {
        "dataset": "trips",
        "bucket": "far",
        "moved_from": "primary",
        "version": version,
        "objects": len(there),
        "bytes": size,
        "already": 0,
    }
    assert progress[-1]["progress"]["done"] == progress[-1]["progress"]["total"] > 0

    assert act(flight_client, "bucket.mirror", bucket="primary", continuous=False) == [
        {"result": {"bucket": "primary", "objects": 0, "bytes": 0, "already": 0, "continuous": False}}
    ]
    assert not server.lakehouse.catalog.snapshot().buckets["primary"].mirrored
