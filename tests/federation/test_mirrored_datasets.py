"""Datasets that are kept mirrored by themselves, and mirrors of what old catalogs refer to by old names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bucketing import add_bucket, commit
from federation.rescuing import mirrored
from flightclient import connect
from flightclient.places import Mirrored as Answer
from msgspec.structs import replace
from query.asking import run
from tables import indexing
from tables.moving import dataset, files, move, operation

from flightserver.catalog.entities import LOCAL, RESCUE, Bucket, DatasetKey
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import CreateDataset, DropDataset, PutBucket
from flightserver.errors import InvalidRequest, NotFound
from flightserver.federation.mirroring import Mirror, Mirrored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import RunningServer
    from flightclient import Client

    from flightserver.lakehouse import Lakehouse


@pytest.fixture
def lake(lakehouse: Lakehouse) -> Lakehouse:
    """Buckets `far` and `rescue`; `trips` and `stops` in `far`, and an index over `trips` in `primary`."""
    add_bucket(lakehouse, "far")
    add_bucket(lakehouse, RESCUE)
    for name in ("trips", "stops"):
        run(lakehouse, f'CREATE TABLE "far".{name} AS SELECT 1 AS id')
    indexing.create(lakehouse, "near", dataset(lakehouse, "trips", "far"))
    return lakehouse


def look(lakehouse: Lakehouse) -> None:
    """What the thread does at one look, as if it had just been started."""
    Mirror(lakehouse.catalog, lakehouse.buckets, lakehouse.events, 3600).look()


def keep(lakehouse: Lakehouse, name: str, bucket: str, *, continuous: bool = True) -> Mirrored:
    return lakehouse.mirror.keep_dataset(DatasetKey(bucket, name), operation("mirror"), continuous=continuous)


def of(lakehouse: Lakehouse, name: str, bucket: str) -> set[str]:
    """Keys of the files of the newest version of a dataset; it has no deltas."""
    directories = {segment.directory for segment in dataset(lakehouse, name, bucket).segments}
    return {key for key in files(lakehouse, bucket) if key.rpartition("/")[0] in directories}


def copies(lakehouse: Lakehouse) -> set[str]:
    return files(lakehouse, RESCUE).keys() | indexing.objects(lakehouse, RESCUE).keys()


# Kept mirrored


def test_a_dataset_is_kept_mirrored_with_its_indexes_until_that_ends(lake: Lakehouse) -> None:
    assert keep(lake, "trips", "far") == Mirrored("far", 0, 0, 0, continuous=True)
    look(lake)
    contents = indexing.objects(lake).keys()
    assert copies(lake) == of(lake, "trips", "far") | contents

    run(lake, "INSERT INTO trips VALUES (2)")
    look(lake)
    there = copies(lake)
    assert there == of(lake, "trips", "far") | contents

    assert keep(lake, "trips", "far", continuous=False) == Mirrored("far", 0, 0, 0, continuous=False)
    run(lake, "INSERT INTO trips VALUES (3)")
    look(lake)
    assert copies(lake) == there


def test_a_dataset_stays_mirrored_wherever_it_is_moved_and_whatever_it_is_called(lake: Lakehouse) -> None:
    keep(lake, "trips", "far")
    move(lake, "trips", "primary", "far")
    run(lake, "ALTER TABLE trips RENAME TO rides")
    run(lake, "INSERT INTO rides VALUES (2)")

    look(lake)

    assert copies(lake) == of(lake, "rides", "primary") | indexing.objects(lake).keys()
    assert mirrored(lake, "primary", "rides").continuous


def test_a_dataset_and_its_bucket_are_mirrored_independently(lake: Lakehouse) -> None:
    keep(lake, "trips", "far")
    lake.mirror.keep("far", operation("mirror"), continuous=True)
    assert mirrored(lake, "far", "stops").continuous

    assert keep(lake, "trips", "far", continuous=False).continuous, "its bucket still is"
    look(lake)
    assert copies(lake) >= of(lake, "trips", "far") | of(lake, "stops", "far")

    keep(lake, "trips", "far")
    lake.mirror.keep("far", operation("mirror"), continuous=False)
    for name in ("trips", "stops"):
        run(lake, f"INSERT INTO {name} VALUES (2)")
    look(lake)
    assert of(lake, "trips", "far") <= copies(lake)
    assert not of(lake, "stops", "far") <= copies(lake)


def test_saying_again_what_is_so_commits_nothing(lake: Lakehouse) -> None:
    keep(lake, "trips", "far")
    before = lake.catalog.snapshot()

    keep(lake, "trips", "far")
    keep(lake, "stops", "far", continuous=False)

    assert lake.catalog.snapshot() == before


def test_a_dataset_that_lies_in_rescue_needs_no_mirror_and_may_be_told_so(lake: Lakehouse) -> None:
    keep(lake, "trips", "far")
    move(lake, "trips", RESCUE, "far")
    there = files(lake, RESCUE)

    look(lake)

    assert files(lake, RESCUE) == there
    with pytest.raises(InvalidRequest, match="bucket 'rescue' can't be mirrored"):
        keep(lake, "trips", RESCUE)
    assert not keep(lake, "trips", RESCUE, continuous=False).continuous
    assert not dataset(lake, "trips", RESCUE).mirrored


def test_a_dataset_is_not_kept_mirrored_where_there_is_no_rescue_bucket_or_no_dataset(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE a AS SELECT 1 AS id")

    with pytest.raises(NotFound, match=r"there is no bucket 'rescue', .* `flightserver buckets create rescue`"):
        keep(lakehouse, "a", "primary")
    with pytest.raises(NotFound, match="there is no dataset 'b' in bucket 'primary'"):
        keep(lakehouse, "b", "primary")


# Old names of primary


@pytest.fixture
def old(lakehouse: Lakehouse) -> Lakehouse:
    """A catalog as of before buckets had names: what `old` refers to as `data` lies in `primary`, as `new` does."""
    add_bucket(lakehouse, RESCUE)
    for name in ("old", "new"):
        run(lakehouse, f"CREATE TABLE {name} AS SELECT 1 AS id")
    found = dataset(lakehouse, "old")
    segments = tuple(replace(segment, bucket="data") for segment in found.segments)
    referred = replace(found, id=new_ulid(), bucket="data", segments=segments)
    commit(lakehouse, PutBucket(Bucket("data", LOCAL)), DropDataset("primary", "old"), CreateDataset(referred))
    return lakehouse


def test_what_old_references_mean_is_mirrored_with_primary(old: Lakehouse) -> None:
    there = files(old, "primary")

    found = mirrored(old, "primary")

    assert found == Mirrored("primary", len(there), sum(map(len, there.values())), already=0, continuous=False)
    assert files(old, RESCUE) == there
    assert mirrored(old, "data") == Mirrored("primary", 0, 0, already=len(there), continuous=False)


def test_what_old_references_mean_is_kept_mirrored_with_primary(old: Lakehouse) -> None:
    old.mirror.keep("primary", operation("mirror"), continuous=True)

    look(old)

    assert files(old, RESCUE) == files(old, "primary")
    assert mirrored(old, "data", "old").continuous


# Over the wire


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with connect(server.uri) as connected:
        yield connected


def test_clients_keep_a_dataset_mirrored_wherever_it_is_and_see_that_it_is(
    server: RunningServer, client: Client
) -> None:
    for name in ("far", "rescue"):
        client.buckets.create(name)
    client.query('CREATE TABLE "far".trips AS SELECT 1 AS id')
    there = of(server.lakehouse, "trips", "far")

    def state() -> Any:
        return client.call("dataset.describe", {"dataset": "trips"})["mirrored"]

    assert state() is False
    last = client.call("bucket.mirror", {"dataset": "trips", "continuous": True})
    assert (last["bucket"], last["objects"], last["already"], last["continuous"]) == ("far", len(there), 0, True)
    assert state() is True
    assert client.call("dataset.history", {"dataset": "trips"})["versions"][0]["kind"] == "mirror"

    client.buckets.move("trips", "primary")
    answer = client.buckets.mirror("primary", "trips")
    assert answer == Answer("primary", 0, 0, len(there), continuous=True)
    assert client.buckets.mirror("primary").continuous is False
    assert client.buckets.mirror("primary", "trips", continuous=False) == Answer("primary", 0, 0, 0, continuous=False)
    assert state() is False
