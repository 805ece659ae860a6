"""A real S3 server for tests: versitygw over a directory, on a free loopback port.

`s3_server` and `s3_bucket` are fixtures; the conftest.py of a directory whose tests want them imports them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Self

import boto3
import pytest

from flightserver.catalog.entities import S3, Bucket, S3Place
from flightserver.settings import Settings, load_settings
from flightserver.storage.s3_access import S3Access, S3Credentials, S3Location, S3Timeouts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from types_boto3_s3 import S3Client

VERSION = "v1.8.0"
"""`.ci/run` reads this line and builds that version."""
ACCESS_KEY = "test-access"
SECRET_KEY = "test-secret-of-no-use-elsewhere"  # noqa: S105  # of a server that lives as long as a test
CREDENTIALS = "environment:FLIGHTSERVER_TEST_S3"
"""The reference by which buckets find the keys; `S3Server` sets the variables."""


def binary() -> str:
    """Path of versitygw; the test is skipped where there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    candidates = [
        os.environ.get("FLIGHTSERVER_TEST_VERSITYGW"),
        shutil.which("versitygw"),
        cache / "flightserver-ci" / "bin" / VERSION / "versitygw",
        Path.home() / "go" / "bin" / "versitygw",
    ]
    for candidate in candidates:
        if candidate and Path(candidate).is_file():
            return str(candidate)
    message = f"no versitygw: go install github.com/versity/versitygw/cmd/versitygw@{VERSION}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class S3Server:
    """versitygw, ready when made.

    Attributes:
        directory: Where it keeps S3 buckets, as directories.
        endpoint: Its URL.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        self.endpoint = f"http://127.0.0.1:{self._port}"
        os.environ["FLIGHTSERVER_TEST_S3_ACCESS_KEY_ID"] = ACCESS_KEY
        os.environ["FLIGHTSERVER_TEST_S3_SECRET_ACCESS_KEY"] = SECRET_KEY
        self.start()

    def start(self) -> None:
        """Start it; also again, after `stop`, on the same port."""
        environment = {**os.environ, "ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
        self._process = subprocess.Popen(  # our own command
            [binary(), "--port", f"127.0.0.1:{self._port}", "--quiet", "posix", str(self.directory)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(self.endpoint, timeout=1).close()  # noqa: S310  # our own server
            except urllib.error.HTTPError:
                return
            except OSError:
                assert time.monotonic() < deadline, "versitygw doesn't answer"
                assert self._process.poll() is None, "versitygw didn't start"
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Kill it; what it has is kept."""
        self._process.kill()
        self._process.wait()

    def hang(self) -> None:
        """Let it take requests and answer none, until `go_on`."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again, what it was asked meanwhile too."""
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> S3Client:
        """A client of AWS's own library."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
        )

    def make(self, name: str) -> None:
        """Make an S3 bucket."""
        self.client().create_bucket(Bucket=name)

    def place(self, bucket: str, prefix: str = "", endpoint: str | None = None) -> S3Place:
        """How the catalog describes an S3 bucket of this server, or behind another endpoint."""
        return S3Place(bucket, endpoint=endpoint or self.endpoint, prefix=prefix, credentials=CREDENTIALS)

    def bucket(self, name: str, bucket: str, prefix: str = "") -> Bucket:
        """A bucket of the catalog in an S3 bucket of this server."""
        return Bucket(name, S3, s3=self.place(bucket, prefix))

    def access(
        self, bucket: str, prefix: str = "", timeouts: S3Timeouts | None = None, endpoint: str | None = None
    ) -> S3Access:
        """How an S3 bucket of this server is reached, directly or through another endpoint."""
        location = S3Location(bucket, endpoint=endpoint or self.endpoint, prefix=prefix)
        return S3Access(location, S3Credentials(ACCESS_KEY, SECRET_KEY), timeouts or S3Timeouts())

    def settings(
        self, data: Path, bucket: str, endpoint: str | None = None, **sections: Mapping[str, object]
    ) -> Settings:
        """Settings of a server whose catalog is in an S3 bucket of this server."""
        primary = {
            "backend": S3,
            "bucket": bucket,
            "endpoint": endpoint or self.endpoint,
            "prefix": "lakehouse",
            "credentials": CREDENTIALS,
        }
        return load_settings(None, {"server": {"data": data}, "primary": primary, **sections})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


_numbers = count(1)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for all tests of a process; each takes an S3 bucket of its own."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> str:
    """The name of a new S3 bucket."""
    name = f"bucket-{next(_numbers)}"
    s3_server.make(name)
    return name
