"""One SQL over buckets of different kinds: what it answers, what it reads, and that nothing works less on S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bucketing import add_bucket, commit, homes, parquet_files
from counting_proxy import CountingProxy
from datafusion import SessionContext
from flightclient import connect
from query.asking import count, rows
from s3server import S3Server

from flightserver.catalog.entities import LOCAL, S3, Bucket
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import PutBucket
from flightserver.lakehouse import Lakehouse
from flightserver.query.stores import register_store
from flightserver.settings import load_settings
from flightserver.tables.writes import Mode, WriteRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import RunningServer

MIB = 2**20
GROUP = 131_072
"""Rows of a row group, by default."""
SLACK = 1.5 * MIB
"""The engine asks for the last 512 KiB of a file to find its footer, and reads over gaps of less than 1 MiB."""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server with an S3 bucket `lake`."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        server.make("lake")
        yield server


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[CountingProxy]:
    """What counts the bytes of answers."""
    with CountingProxy(s3.endpoint) as running:
        yield running


@pytest.fixture
def federated(tmp_path: Path, s3: S3Server, proxy: CountingProxy) -> Iterator[Lakehouse]:
    """A lakehouse without a cache, with a local bucket `near` and a bucket `far` on S3, behind the counter."""
    settings = load_settings(None, {"server": {"data": tmp_path / "data"}, "cache": {"max_bytes": 0}})
    with Lakehouse.open(settings) as opened:
        add_bucket(opened, Bucket("near", LOCAL))
        add_bucket(opened, Bucket("far", S3, s3=s3.place("lake", new_ulid(), proxy.endpoint)))
        yield opened


def write(lakehouse: Lakehouse, bucket: str, name: str, table: pa.Table) -> None:
    request = WriteRequest(
        name=name,
        bucket=bucket,
        mode=Mode.CREATE_APPEND,
        schema=table.schema,
        operation=Operation(new_ulid(), "test"),
        lineage_system="arrow",
        lineage_source="test",
    )
    lakehouse.tables.write(request, table.to_batches())


def column_bytes(lakehouse: Lakehouse, name: str, columns: set[str], groups: set[int]) -> int:
    """What the footer says that columns take in row groups of a dataset of one file."""
    dataset = lakehouse.catalog.snapshot().dataset(name)
    bucket = lakehouse.buckets.get(dataset.bucket)
    with bucket.objects.open(dataset.segments[0].object_keys()[0]) as stream:
        found = pq.read_metadata(stream)
    chunks = (found.row_group(group).column(place) for group in groups for place in range(found.num_columns))
    return sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema in columns)


def noise(columns: int, length: int) -> pa.Table:
    """Numbers that nothing compresses."""
    random = np.random.default_rng(7)
    return pa.table({f"c{place}": random.integers(0, 2**62, length) for place in range(columns)})


def test_a_join_reads_each_bucket_from_its_own_store(federated: Lakehouse, proxy: CountingProxy) -> None:
    write(federated, "near", "people", pa.table({"id": [1, 2, 3], "name": ["Ada", "Grace", "Edsger"]}))
    write(federated, "far", "visits", pa.table({"person": [3, 1, 3], "place": ["x", "y", "z"]}))
    proxy.taken()

    found = rows(
        federated,
        'SELECT p.name, v.place FROM "near".people p JOIN "far".visits v ON p.id = v.person ORDER BY v.place',
    )

    assert found == [("Edsger", "x"), ("Ada", "y"), ("Edsger", "z")]
    assert proxy.taken() > 0
    assert rows(federated, 'SELECT count(*) FROM "near".people') == [(3,)]
    assert proxy.taken() == 0


def test_two_buckets_of_one_s3_server_are_two_stores(federated: Lakehouse, s3: S3Server) -> None:
    add_bucket(federated, Bucket("farther", S3, s3=s3.place("lake", new_ulid())))
    write(federated, "far", "t", pa.table({"a": [1]}))
    write(federated, "farther", "t", pa.table({"a": [2]}))

    assert rows(federated, "SELECT f.a, g.a FROM far.t f CROSS JOIN farther.t g") == [(1, 2)]


def test_only_the_columns_that_are_asked_for_are_fetched(federated: Lakehouse, proxy: CountingProxy) -> None:
    table = noise(20, 2 * GROUP)
    write(federated, "far", "wide", table)
    whole = column_bytes(federated, "wide", set(table.column_names), {0, 1})
    needed = column_bytes(federated, "wide", {"c2", "c15"}, {0, 1})
    proxy.taken()

    found = rows(federated, "SELECT max(c2), min(c15) FROM wide WHERE c2 > c15")

    kept = table.to_pandas()
    kept = kept[kept.c2 > kept.c15]
    assert found == [(kept.c2.max(), kept.c15.min())]
    assert needed < whole / 9
    assert needed <= proxy.taken() <= needed + SLACK


def test_only_row_groups_that_may_have_rows_are_fetched(federated: Lakehouse, proxy: CountingProxy) -> None:
    table = noise(2, 6 * GROUP).append_column("id", pa.array(np.arange(6 * GROUP) * 1_000_003))
    write(federated, "far", "sorted", table)
    needed = column_bytes(federated, "sorted", {"id", "c0"}, {3})
    low, high = 3 * GROUP + 10, 3 * GROUP + 19
    proxy.taken()

    sql = f"SELECT sum(CAST(c0 AS DOUBLE)) FROM sorted WHERE id BETWEEN {low * 1_000_003} AND {high * 1_000_003}"
    [(found,)] = rows(federated, sql)

    taken = proxy.taken()
    assert found == pytest.approx(table["c0"].to_numpy()[low : high + 1].astype(float).sum())
    assert 0 < taken <= needed + SLACK
    assert taken < column_bytes(federated, "sorted", {"id", "c0"}, set(range(6))) / 2


@pytest.fixture
def remote(server: RunningServer, s3: S3Server) -> RunningServer:
    """A server that has a bucket `far` on S3 beside its local ones."""
    add_bucket(server.lakehouse, Bucket("near", LOCAL))
    add_bucket(server.lakehouse, Bucket("far", S3, s3=s3.place("lake", new_ulid())))
    return server


PEOPLE = pa.table({"id": pa.array(range(1000), pa.int64()), "name": [f"n{number}" for number in range(1000)]})


@pytest.mark.parametrize("bucket", ["near", "far"])
def test_rows_are_changed_compacted_and_read_as_they_were(bucket: str, remote: RunningServer) -> None:
    lakehouse = remote.lakehouse
    table = f'"{bucket}".people'
    write(lakehouse, bucket, "people", PEOPLE)
    first = lakehouse.catalog.snapshot().version
    assert count(lakehouse, f"UPDATE {table} SET name = 'changed' WHERE id < 10") == 10
    assert count(lakehouse, f"DELETE FROM {table} WHERE id >= 990") == 10
    assert count(lakehouse, f"INSERT INTO {table} VALUES (5000, 'new')") == 1
    merge = f"MERGE INTO {table} AS t USING (SELECT 5000 AS id) AS s ON t.id = s.id"
    assert count(lakehouse, f"{merge} WHEN MATCHED THEN UPDATE SET name = 'merged'") == 1
    expected = {number: "changed" if number < 10 else f"n{number}" for number in range(990)} | {5000: "merged"}

    def now() -> dict[Any, Any]:
        return dict(rows(lakehouse, f"SELECT id, name FROM {table}"))

    assert now() == expected
    with connect(remote.uri, bucket=bucket) as client:
        done = client.call("dataset.compact", {"dataset": "people"})
    assert (done["bucket"], done["rows"], done["files_after"]) == (bucket, 991, 1)
    assert now() == expected
    assert homes(lakehouse, ["people"]) == {"people": {bucket}}
    then = rows(lakehouse, f"SELECT id, name FROM {table} FOR VERSION AS OF {first} ORDER BY id")
    assert then == list(zip(PEOPLE["id"].to_pylist(), PEOPLE["name"].to_pylist(), strict=True))
    with connect(remote.uri, bucket=bucket) as client:
        client.call("dataset.restore", {"dataset": "people", "version": first})
    assert sorted(now().items()) == then


@pytest.mark.parametrize("bucket", ["near", "far"])
def test_a_dataset_is_exported_and_held_in_memory(bucket: str, remote: RunningServer) -> None:
    lakehouse = remote.lakehouse
    write(lakehouse, bucket, "people", PEOPLE)
    with connect(remote.uri, bucket=bucket) as client:
        client.call("dataset.export", {"dataset": "people", "destination": "copy"})
        held = client.call("cache.pin", {"dataset": "people"})["entries"]
        answers = [client.query("SELECT sum(id) AS s FROM people") for _ in range(2)]

    exports = lakehouse.settings.server.data / "exports" / "copy"
    files = sorted(exports.rglob("*.parquet"))
    assert pa.concat_tables([pq.read_table(file) for file in files]).sort_by("id") == PEOPLE
    assert [(one["dataset"], one["bucket"]) for one in held] == [("people", bucket)]
    assert [answer["s"].to_pylist() for answer in answers] == [[499_500], [499_500]]


def test_drivers_and_data_frames_see_no_difference(remote: RunningServer) -> None:
    header = {"adbc.flight.sql.rpc.call_header.x-lakehouse-bucket": "far"}
    frame = pd.DataFrame({"id": [1, 2], "name": ["a", "b"]})
    with flightsql.connect(remote.uri, autocommit=True, db_kwargs=header) as connection:
        frame.to_sql("things", connection, index=False)
        found = pd.read_sql("SELECT * FROM things ORDER BY id", connection)
        with connection.cursor() as cursor:
            cursor.execute('SELECT name FROM "far".things WHERE id = 2')
            one = cursor.fetch_arrow_table()

    pd.testing.assert_frame_equal(found, frame)
    assert one.to_pydict() == {"name": ["b"]}
    assert homes(remote.lakehouse, ["things"]) == {"things": {"far"}}


def test_the_old_url_still_means_primary(lakehouse: Lakehouse) -> None:
    write(lakehouse, "primary", "people", PEOPLE)
    [key] = lakehouse.catalog.snapshot().dataset("people").segments[0].object_keys()
    context = SessionContext()
    add_bucket(lakehouse, Bucket("near", LOCAL))
    for name in ("primary", "near"):
        register_store(context, lakehouse.buckets.get(name))

    for url in (f"lakehouse://data/{key}", f"lakehouse-primary://data/{key}"):
        assert context.read_parquet(url).count() == 1000


@pytest.mark.parametrize("name", ["data", "local"])
def test_datasets_of_an_old_catalog_are_read_and_written_in_the_root_of_primary(
    name: str, lakehouse: Lakehouse
) -> None:
    commit(lakehouse, PutBucket(Bucket(name, LOCAL)))
    lakehouse.keeper.refresh()
    write(lakehouse, name, "people", PEOPLE)
    data = lakehouse.settings.server.data

    assert count(lakehouse, "DELETE FROM people WHERE id < 500") == 500

    assert rows(lakehouse, f'SELECT count(*), min(id) FROM "{name}".people') == [(500, 500)]
    assert len(parquet_files(data / "primary", "people")) == 2
    assert not (data / "buckets").exists()
