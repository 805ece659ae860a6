"""A server is killed with SIGKILL between making the place of a bucket and committing it."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
from s3server import CREDENTIALS, S3Server

from flightserver.catalog.entities import LOCAL, S3, Bucket, S3Place
from flightserver.catalog.log import Operation
from flightserver.federation.claims import CLAIM
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

VICTIM = """
import os, signal, sys
import msgspec
from flightserver.catalog.catalog import Catalog
from flightserver.catalog.entities import Bucket
from flightserver.catalog.log import Operation
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings

data, description = sys.argv[1:]
with Lakehouse.open(load_settings(None, {"server": {"data": data}})) as lakehouse:
    Catalog.commit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    bucket = msgspec.json.decode(description, type=Bucket)
    lakehouse.bucket_service.create(bucket, Operation(id="killed", kind="test"), make=bucket.s3 is not None)
"""


def create_and_be_killed(data: Path, bucket: Bucket) -> None:
    description = msgspec.json.encode(bucket).decode()
    victim = subprocess.run([sys.executable, "-c", VICTIM, str(data), description], check=False)
    assert victim.returncode == -signal.SIGKILL


def create_after_all(data: Path, bucket: Bucket) -> None:
    with Lakehouse.open(load_settings(None, {"server": {"data": data}})) as again:
        assert set(again.catalog.snapshot().buckets) == {"primary"}
        again.bucket_service.create(bucket, Operation(id="again", kind="test"), make=bucket.s3 is not None)
        assert set(again.catalog.snapshot().buckets) == {"primary", bucket.name}


def test_a_local_bucket_that_was_not_committed_is_a_directory_with_a_claim(tmp_path: Path) -> None:
    bucket = Bucket("testing", LOCAL)

    create_and_be_killed(tmp_path, bucket)

    assert [path.name for path in (tmp_path / "buckets" / "testing").rglob("*") if path.is_file()] == [CLAIM]
    create_after_all(tmp_path, bucket)


def test_a_bucket_on_s3_that_was_not_committed_is_an_s3_bucket_with_a_claim(tmp_path: Path) -> None:
    with S3Server(tmp_path / "s3") as s3:
        bucket = Bucket("cloud", S3, s3=S3Place("lake", endpoint=s3.endpoint, credentials=CREDENTIALS))

        create_and_be_killed(tmp_path / "data", bucket)

        assert [each["Name"] for each in s3.client().list_buckets()["Buckets"]] == ["lake"]
        assert [each["Key"] for each in s3.client().list_objects_v2(Bucket="lake")["Contents"]] == [CLAIM]
        create_after_all(tmp_path / "data", bucket)
