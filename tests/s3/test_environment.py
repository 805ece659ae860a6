"""A server whose environment has `AWS_...` variables of somebody else: writes, reads and URLs go to the right place."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

import flightclient
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults.serving import ServerProcess
from flightclient import S3Place
from s3server import CREDENTIALS, S3Server

from flightserver.federation.claims import CLAIM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = 300_000


@pytest.fixture
def wrong(tmp_path: Path) -> Iterator[S3Server]:
    """The S3 server that the variables name: the same keys are known there."""
    with S3Server(tmp_path / "wrong") as server:
        yield server


def hostile(wrong: S3Server) -> dict[str, str]:
    """Variables as somebody has them who works with another server and account."""
    return {
        "AWS_CONDITIONAL_PUT": "disabled",
        "AWS_ENDPOINT": wrong.endpoint,
        "AWS_ENDPOINT_URL": wrong.endpoint,
        "AWS_ENDPOINT_URL_S3": wrong.endpoint,
        "AWS_PROFILE": "no-such-profile",
        "AWS_REGION": "mars-south-1",
        "AWS_SESSION_TOKEN": "token-of-another-account",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    }


def names(server: S3Server, bucket: str) -> set[str]:
    """First two parts of the keys in an S3 bucket."""
    found = server.client().list_objects_v2(Bucket=bucket).get("Contents", [])
    return {"/".join(each["Key"].split("/")[:2]) for each in found}


def fetched(url: str, data: bytes | None = None) -> bytes:
    """What a URL answers to somebody without credentials."""
    request = urllib.request.Request(url, data=data, method="GET" if data is None else "PUT")  # noqa: S310  # our own server
    with urllib.request.urlopen(request) as answer:  # noqa: S310  # our own server
        return bytes(answer.read())


def test_writes_reads_and_urls_of_a_bucket_agree(
    s3_server: S3Server, s3_bucket: str, wrong: S3Server, tmp_path: Path
) -> None:
    wrong.make(s3_bucket)
    place = S3Place(s3_bucket, endpoint=s3_server.endpoint, prefix="here", credentials=CREDENTIALS)
    with (
        ServerProcess(tmp_path / "data", environment=hostile(wrong)) as server,
        flightclient.connect(server.uri) as client,
    ):
        client.buckets.create_on_s3("cloud", place)
        client.query(f'CREATE TABLE "cloud".t AS SELECT value AS a FROM generate_series(1, {ROWS}) AS s(value)')
        answer = client.query('SELECT count(*) AS n, sum(a) AS s, max(a) AS m FROM "cloud".t WHERE a > 10').to_pylist()
        found = client.buckets.check("cloud")
        objects = s3_server.client().list_objects_v2(Bucket=s3_bucket, Prefix="here/datasets/")["Contents"]
        [key] = [each["Key"].removeprefix("here/") for each in objects if each["Key"].endswith(".parquet")]
        parquet = fetched(client.buckets.presign("cloud", key).url)
        upload = client.buckets.presign("cloud", "_staging/uploads/x", "PUT").url
        fetched(upload, b"sent")
        usage = client.buckets.usage("cloud")

    assert answer == [{"n": ROWS - 10, "s": sum(range(11, ROWS + 1)), "m": ROWS}]
    assert (found.readable, found.writable, found.conditional_put, found.error) == (True, True, True, None)
    assert pq.read_table(pa.BufferReader(parquet)).num_rows == ROWS
    assert "token" not in upload.lower()
    assert s3_server.client().get_object(Bucket=s3_bucket, Key="here/_staging/uploads/x")["Body"].read() == b"sent"
    assert [(each.dataset, each.objects) for each in usage.datasets] == [("t", len(objects))]
    assert names(s3_server, s3_bucket) == {"here/datasets", "here/_staging", f"here/{CLAIM}"}
    assert names(wrong, s3_bucket) == set()


def test_a_bucket_is_made_and_a_catalog_opened_where_they_belong(
    s3_server: S3Server, s3_bucket: str, wrong: S3Server, tmp_path: Path
) -> None:
    wrong.make(s3_bucket)
    config = tmp_path / "settings.toml"
    config.write_text(
        f"""
        [primary]
        backend = "s3"
        bucket = "{s3_bucket}"
        endpoint = "{s3_server.endpoint}"
        credentials = "{CREDENTIALS}"
        """,
        encoding="utf-8",
    )
    for expected in ([], [{"n": 1}]):
        with (
            ServerProcess(tmp_path / "data", "--config", str(config), environment=hostile(wrong)) as server,
            flightclient.connect(server.uri) as client,
        ):
            client.query("CREATE TABLE IF NOT EXISTS t (n BIGINT)")
            assert client.query("SELECT n FROM t").to_pylist() == expected
            client.query("INSERT INTO t VALUES (1)")
            if expected:
                made = {"bucket": f"{s3_bucket}-made", "endpoint": s3_server.endpoint, "credentials": CREDENTIALS}
                client.call("bucket.create", {"name": "made", "backend": "s3", "s3": {**made, "create": True}})

    assert f"{s3_bucket}-made" in {each["Name"] for each in s3_server.client().list_buckets()["Buckets"]}
    assert [each["Name"] for each in wrong.client().list_buckets()["Buckets"]] == [s3_bucket]
    assert names(s3_server, s3_bucket) >= {"_catalog/commits", "datasets/t"}
    assert names(wrong, s3_bucket) == set()
