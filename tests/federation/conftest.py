"""Fixtures of the tests that need an S3 server: a real one, and one that simulates lifecycle configurations."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import boto3
import pytest
from bucketing import add_bucket
from federation.rescuing import make_trips, mirrored, opened
from moto.server import ThreadedMotoServer
from s3server import CREDENTIALS, s3_bucket, s3_server

from flightserver.catalog.entities import RESCUE, S3, Bucket, S3Place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from types_boto3_s3 import S3Client

    from flightserver.lakehouse import Lakehouse

__all__ = ["s3_bucket", "s3_server"]

_numbers = count(1)


class Moto:
    """A simulated S3 server that has lifecycle configurations.

    Attributes:
        endpoint: Its URL.
    """

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self._client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="any",
            aws_secret_access_key="any",  # noqa: S106  # the simulation takes any
            region_name="us-east-1",
        )

    def client(self) -> S3Client:
        """A client of AWS's own library."""
        return self._client

    def make(self) -> str:
        """The name of a new S3 bucket."""
        name = f"simulated-{next(_numbers)}"
        self.client().create_bucket(Bucket=name)
        return name

    def bucket(self, name: str, s3_bucket: str, prefix: str = "") -> Bucket:
        """A bucket of the catalog in an S3 bucket of this server."""
        place = S3Place(s3_bucket, endpoint=self.endpoint, prefix=prefix, credentials=CREDENTIALS)
        return Bucket(name, S3, s3=place)

    def stop(self) -> None:
        """End it."""
        self._client.close()
        self._server.stop()


@pytest.fixture(scope="session")
def _moto() -> Iterator[Moto]:
    moto = Moto()
    yield moto
    moto.stop()


@pytest.fixture
def moto(_moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Moto:
    """One for all tests of a process; each makes S3 buckets of its own."""
    name = CREDENTIALS.partition(":")[2]
    monkeypatch.setenv(f"{name}_ACCESS_KEY_ID", "test-access")
    monkeypatch.setenv(f"{name}_SECRET_ACCESS_KEY", "test-secret-of-no-use-elsewhere")
    return _moto


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Lakehouse]:
    """`trips` in bucket `far`, a mirror of it in `rescue`, and a process that has read none of it yet."""
    with opened(tmp_path / "data") as lakehouse:
        add_bucket(lakehouse, "far")
        add_bucket(lakehouse, RESCUE)
        make_trips(lakehouse, "far")
        mirrored(lakehouse)
    with opened(tmp_path / "data") as lakehouse:
        yield lakehouse
