"""The story of two buckets, told through real clients: `testing` in a local directory, and on a real S3 server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from bucketing import add_bucket, commit, homes, parquet_files
from flightclient import connect
from flightclient.errors import NotFound
from msgspec.structs import replace
from s3server import S3Server

from flightserver.catalog.entities import LOCAL, Bucket
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import CreateDataset, DropDataset, PutBucket
from flightserver.tables.collecting import Collected, Collector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import RunningServer

PEOPLE = "name,role\nAda,analyst\nGrace,admiral\nEdsger,professor\n"
ANIMALS = "species,legs\ncat,4\nostrich,2\nant,6\n"
CROSS = "SELECT p.name, p.role, a.species FROM people_test p CROSS JOIN animals a LIMIT 5"
REFUSED = "bucket 'tasting'.*there are:? primary, testing"
HEADER = "adbc.flight.sql.rpc.call_header.x-lakehouse-bucket"


@pytest.fixture(params=["local", "s3"])
def testing(request: pytest.FixtureRequest, server: RunningServer, tmp_path: Path) -> Iterator[Path]:
    """Makes the bucket `testing`; the directory where its objects lie in the end."""
    if request.param == "local":
        root = add_bucket(server.lakehouse, "testing").local_root
        assert root is not None
        yield root
        return
    with S3Server(tmp_path / "s3") as s3:
        s3.make("lake")
        add_bucket(server.lakehouse, s3.bucket("testing", "lake", "testing-data"))
        yield s3.directory / "lake" / "testing-data"


def ingest(server: RunningServer, directory: Path, dataset: str, text: str, bucket: str | None) -> dict[str, Any]:
    file = directory / f"{dataset}.csv"
    file.write_text(text)
    with connect(server.uri, bucket=bucket) as client:
        upload = client.upload(file)
        return client.call("ingest.file", {"source": upload, "dataset": dataset})


def test_rows_go_where_the_header_says_and_one_query_joins_both(
    server: RunningServer, testing: Path, tmp_path: Path
) -> None:
    primary = server.lakehouse.settings.server.data / "primary"

    there = ingest(server, tmp_path, "people_test", PEOPLE, "testing")
    here = ingest(server, tmp_path, "animals", ANIMALS, None)
    with pytest.raises(NotFound, match=REFUSED):
        ingest(server, tmp_path, "lost", PEOPLE, "tasting")

    assert [(there["bucket"], there["rows"]), (here["bucket"], here["rows"])] == [("testing", 3), ("primary", 3)]
    names = ["people_test", "animals", "lost"]
    assert homes(server.lakehouse, names) == {"people_test": {"testing"}, "animals": {"primary"}, "lost": set()}
    assert [len(parquet_files(testing, name)) for name in names] == [1, 0, 0]
    assert [len(parquet_files(primary, name)) for name in names] == [0, 1, 0]
    with connect(server.uri) as client:
        joined = client.query(CROSS)
        assert (joined.num_rows, joined.column_names) == (5, ["name", "role", "species"])
        whole = client.query(CROSS.removesuffix(" LIMIT 5"))
        found = {tuple(row.values()) for row in whole.to_pylist()}
        people = [line.split(",") for line in PEOPLE.split()[1:]]
        assert found == {(*person, line.split(",")[0]) for person in people for line in ANIMALS.split()[1:]}
    with flightsql.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        assert len(cursor.execute(CROSS).fetchall()) == 5
    with fl.connect(server.uri) as plain:
        info = plain.get_flight_info(fl.FlightDescriptor.for_path("testing", "people_test"))
        assert plain.do_get(info.endpoints[0].ticket).read_all().num_rows == 3


def test_every_driver_is_refused_an_unknown_bucket_with_the_list_of_those_there_are(
    server: RunningServer, testing: Path
) -> None:
    rows = pa.table({"name": ["Ada"]})
    with (
        flightsql.connect(server.uri, autocommit=True, db_kwargs={HEADER: "tasting"}) as connection,
        connection.cursor() as cursor,
    ):
        with pytest.raises(flightsql.Error, match=REFUSED):
            cursor.adbc_ingest("lost", rows, mode="create")
        with pytest.raises(flightsql.Error, match=REFUSED):
            cursor.execute("CREATE TABLE lost AS SELECT 1 AS a")

    assert parquet_files(testing, "lost") == []
    assert list(server.lakehouse.catalog.snapshot().datasets) == []


def old_catalog(server: RunningServer) -> dict[str, int]:
    """Twelve datasets in the bucket `data` and two in `primary`: rows of each by name."""
    commit(server.lakehouse, PutBucket(Bucket("data", LOCAL)))
    sizes = {f"old_{number}": number + 1 for number in range(12)} | {"new_0": 20, "new_1": 21}
    with connect(server.uri) as client:
        for name, size in sizes.items():
            client.ingest(pa.table({"n": range(size)}), name)
    for name in sizes:
        if name.startswith("old"):
            found = server.lakehouse.catalog.snapshot().dataset(name)
            segments = tuple(replace(segment, bucket="data") for segment in found.segments)
            old = replace(found, bucket="data", segments=segments)
            commit(server.lakehouse, DropDataset("primary", name), CreateDataset(old))
    return sizes


def counted(server: RunningServer, names: list[str]) -> dict[str, int]:
    with connect(server.uri) as client:
        return {name: client.query(f"SELECT count(*) AS n FROM {name}")["n"][0].as_py() for name in names}


@pytest.mark.usefixtures("testing")
def test_fourteen_references_become_canonical_and_a_second_time_none_changes(
    server: RunningServer, tmp_path: Path
) -> None:
    sizes = old_catalog(server)
    ingest(server, tmp_path, "people_test", PEOPLE, "testing")
    version = server.lakehouse.catalog.snapshot().version
    assert counted(server, list(sizes)) == sizes

    with connect(server.uri) as client:
        dry = client.call("catalog.migrate_buckets", {"dry_run": True})
        assert server.lakehouse.catalog.snapshot().version == version
        first = client.call("catalog.migrate_buckets")
        again = client.call("catalog.migrate_buckets")
        tables = sorted((one.bucket, one.name) for one in client.tables())
        [past] = client.query(f"SELECT count(*) AS n FROM old_3 FOR VERSION AS OF {version}")["n"].to_pylist()
        history = client.call("dataset.history", {"dataset": "old_3"})["versions"]

    assert first == dry == {"renamed": 12, "unchanged": 2, "duplicates": []}
    assert again == {"renamed": 0, "unchanged": 14, "duplicates": []}
    assert server.lakehouse.catalog.snapshot().version == version + 1
    assert tables == [*sorted(("primary", name) for name in sizes), ("testing", "people_test")]
    assert homes(server.lakehouse, list(sizes)) == {name: {"primary"} for name in sizes}
    assert counted(server, list(sizes)) == sizes
    assert past == 4
    assert [(one["kind"], one["rows"]) for one in history] == [("migrate buckets", 4), ("test", 4)]


def test_of_two_datasets_with_one_name_the_newest_stays_and_an_event_tells_of_the_other(server: RunningServer) -> None:
    old_catalog(server)
    with connect(server.uri) as client:
        client.ingest(pa.table({"n": [1, 2, 3]}), "old_0")

        done = client.call("catalog.migrate_buckets")

        assert done["duplicates"] == [{"kept": '"primary".old_0', "dropped": ['"data".old_0']}]
        assert (done["renamed"], done["unchanged"]) == (11, 3)
        assert counted(server, ["old_0"]) == {"old_0": 3}
        events = client.query("SELECT bucket, dataset FROM system.events WHERE kind = 'duplicate name dropped'")
        assert events.to_pylist() == [{"bucket": "data", "dataset": "old_0"}]


@pytest.mark.parametrize("bucket", ["primary", "data"])
def test_collecting_garbage_spares_what_old_references_name_before_and_after(
    bucket: str, server: RunningServer
) -> None:
    sizes = old_catalog(server)
    lakehouse = server.lakehouse
    collector = Collector(lakehouse.catalog, lakehouse.buckets, retention_hours=0, grace_hours=0)

    def collect() -> int:
        *_, last = collector.collect(bucket, Operation(new_ulid(), "collect"))
        assert isinstance(last, Collected)
        return last.objects

    assert collect() == 0
    with connect(server.uri) as client:
        client.call("catalog.migrate_buckets")
    assert collect() == 0
    assert counted(server, list(sizes)) == sizes
