"""The pages of a server whose storage doesn't answer: they are what an administrator has then, and answer at once."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import flightclient
import pytest
from faults.serving import ServerProcess
from prometheus_client.parser import text_string_to_metric_families
from s3server import CREDENTIALS, S3Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS = 60
"""For what takes no time."""
PATIENT = 600
"""Seconds after which the server gives its S3 server up: far more than is waited for a page."""


def asked(url: str) -> tuple[int, str]:
    """Status and body of a page."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310  # our own server
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metrics(serving: ServerProcess) -> dict[str, float]:
    """What `/metrics` says, those of buckets with the bucket's name behind theirs."""
    status, body = asked(f"{serving.web}/metrics")
    assert status == 200
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def until(holds: Callable[[], bool]) -> None:
    """Wait for a background thread of the server."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it doesn't come true"
        time.sleep(0.05)


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    with S3Server(tmp_path / "s3") as server:
        server.make("lake")
        yield server


@pytest.fixture
def serving(s3: S3Server, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server with its catalog on S3, which it waits for as long as a test may last."""
    settings = {
        "PRIMARY_BACKEND": "s3",
        "PRIMARY_BUCKET": "lake",
        "PRIMARY_PREFIX": "lakehouse",
        "PRIMARY_ENDPOINT": s3.endpoint,
        "PRIMARY_CREDENTIALS": CREDENTIALS,
        "BUCKETS_REQUEST_SECONDS": PATIENT,
        "BUCKETS_RETRY_SECONDS": PATIENT,
        "BUCKETS_RETRIES": 0,
        "BUCKETS_CHECK_SECONDS": 0.1,
    }
    environment = {f"FLIGHTSERVER_{name}": str(value) for name, value in settings.items()}
    with ServerProcess(tmp_path / "data", environment=environment) as process:
        yield process


@pytest.mark.parametrize("fault", [S3Server.hang, S3Server.stop])
def test_every_page_answers_while_the_storage_of_the_catalog_does_not(
    s3: S3Server, serving: ServerProcess, fault: Callable[[S3Server], None]
) -> None:
    with flightclient.connect(serving.uri) as client:
        client.query("CREATE TABLE pets AS SELECT value AS id FROM generate_series(1, 3)")
    until(lambda: metrics(serving).get("flightserver_bucket_reachable primary") == 1)
    page = asked(serving.web)
    assert "<th>rows</th><td>3</td>" in page[1]
    version = metrics(serving)["flightserver_catalog_version"]

    fault(s3)

    for _ in range(2):
        assert asked(serving.web) == page
        assert metrics(serving)["flightserver_catalog_version"] == version
        assert asked(f"{serving.web}/healthz") == (200, "ok\n")
        status, body = asked(f"{serving.web}/readyz")
        ready: dict[str, Any] = json.loads(body)
        assert (status, ready["ready"], ready["checks"]["accepting"]) == (503, False, "ok")
        until(lambda: metrics(serving)["flightserver_bucket_reachable primary"] == 0)


def test_a_bucket_has_a_metric_until_it_is_dropped(s3: S3Server, serving: ServerProcess) -> None:
    cloud = "flightserver_bucket_reachable cloud"
    with flightclient.connect(serving.uri) as client:
        place = {"bucket": "lake", "prefix": "cloud", "endpoint": s3.endpoint, "credentials": CREDENTIALS}
        client.call("bucket.create", {"name": "cloud", "backend": "s3", "s3": place})
        assert metrics(serving)[cloud] == 1

        client.call("bucket.drop", {"name": "cloud"})

        assert cloud not in metrics(serving)
