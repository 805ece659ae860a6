"""A server some of whose buckets can't be reached: it starts, says so, serves the rest, and picks them up again."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any

import flightclient
import pytest
from faults.serving import ServerProcess
from flightclient.errors import FlightclientError
from msgspec.structs import replace
from s3server import CREDENTIALS, S3Server

from flightserver.cli.process import Server
from flightserver.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flightclient import Client


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A server that looks at its buckets often, and gives up on S3 soon."""
    buckets = {"check_seconds": 0.1, "connect_seconds": 1, "request_seconds": 5, "retry_seconds": 5, "retries": 0}
    server = {"data": tmp_path / "data", "port": 0, "http_port": 0, "grace_seconds": 5}
    return load_settings(None, {"server": server, "buckets": buckets})


@pytest.fixture
def patient(settings: Settings) -> Settings:
    """A server that doesn't give S3 up as long as a test may last."""
    return replace(settings, buckets=replace(settings.buckets, request_seconds=300, retry_seconds=300))


@pytest.fixture
def start(settings: Settings) -> Iterator[Callable[..., Server]]:
    """Starts the server; one that runs is stopped before."""
    running: list[Server] = []

    def again(by: Settings = settings) -> Server:
        while running:
            running.pop().stop()
        running.append(Server.start(by))
        return running[-1]

    yield again
    while running:
        running.pop().stop()


def readiness(server: Server) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.url}/readyz", timeout=30) as answer:  # noqa: S310  # our own server
        return dict(json.load(answer))


def in_flight(web: str) -> float:
    """How many calls the server is answering."""
    with urllib.request.urlopen(f"{web}/metrics", timeout=30) as answer:  # noqa: S310  # our own server
        metrics = answer.read().decode()
    (calls,) = re.findall(r"^flightserver_calls_in_flight (\S+)$", metrics, re.MULTILINE)
    return float(calls)


def told(client: Client, name: str) -> tuple[bool | None, str | None]:
    """What `system.buckets` says of a bucket."""
    (row,) = client.query(f"SELECT reachable, error FROM system.buckets WHERE name = '{name}'").to_pylist()
    return row["reachable"], row["error"]


def checked(client: Client, name: str) -> datetime:
    """When `system.buckets` says that a bucket was looked at."""
    when = client.query(f"SELECT checked FROM system.buckets WHERE name = '{name}'")["checked"][0].as_py()
    assert isinstance(when, datetime)
    return when


def events(client: Client, name: str) -> list[str]:
    """What `system.events` has of whether a bucket can be reached."""
    kinds = client.query(f"SELECT kind FROM system.events WHERE bucket = '{name}' ORDER BY time")["kind"].to_pylist()
    return [kind for kind in kinds if kind in {"bucket unreachable", "bucket reachable"}]


def until(holds: Callable[[], bool]) -> None:
    """Wait for a background thread of the server."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it doesn't come true"
        time.sleep(0.02)


def fill(client: Client, bucket: str) -> None:
    client.query(f"CREATE TABLE {bucket}.pets AS SELECT value AS id FROM generate_series(1, 3)")


def count(client: Client, bucket: str) -> int:
    return int(client.query(f"SELECT count(*) AS n FROM {bucket}.pets")["n"][0].as_py())


def test_a_server_whose_s3_is_down_starts_and_takes_the_bucket_up_when_s3_is_back(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    with S3Server(tmp_path / "s3") as s3:
        s3.make("lake")
        with flightclient.connect(start().uri) as client:
            place = {"bucket": "lake", "endpoint": s3.endpoint, "credentials": CREDENTIALS}
            client.call("bucket.create", {"name": "cloud", "backend": "s3", "s3": place})
            for bucket in ("cloud", '"primary"'):
                fill(client, bucket)
        s3.stop()

        server = start()
        with flightclient.connect(server.uri) as client:
            until(lambda: told(client, "cloud")[0] is False)
            assert count(client, '"primary"') == 3
            with pytest.raises(FlightclientError, match="S3 server of this bucket doesn't answer") as caught:
                count(client, "cloud")
            assert s3.endpoint not in str(caught.value)
            health = readiness(server)
            assert (health["ready"], list(health["unreachable_buckets"])) == (True, ["cloud"])
            assert "doesn't answer" in health["unreachable_buckets"]["cloud"]
            assert "doesn't answer" in str(told(client, "cloud")[1])
            assert client.call("bucket.check", {"name": "cloud"})["reachable"] is False

            s3.start()

            until(lambda: told(client, "cloud") == (True, None))
            assert count(client, "cloud") == 3
            assert "unreachable_buckets" not in readiness(server)
            assert events(client, "cloud") == ["bucket unreachable", "bucket reachable"]


def test_s3_that_hangs_is_told_while_it_is_waited_for_and_delays_no_look_at_another_bucket(
    start: Callable[..., Server], patient: Settings, tmp_path: Path
) -> None:
    clouds = [f"cloud{number}" for number in range(10)]
    with S3Server(tmp_path / "s3") as s3:
        s3.make("lake")
        with flightclient.connect(start(patient).uri) as client:
            for name in clouds:
                place = {"bucket": "lake", "prefix": name, "endpoint": s3.endpoint, "credentials": CREDENTIALS}
                client.call("bucket.create", {"name": name, "backend": "s3", "s3": place})
        s3.hang()

        server = start(patient)
        with flightclient.connect(server.uri) as client:
            # So long a wait is an answer in itself, though nobody has given the requests up.
            until(lambda: sorted(readiness(server).get("unreachable_buckets", {})) == clouds)
            reasons = readiness(server)["unreachable_buckets"].values()
            assert all(re.fullmatch(r"it has not answered for \d+ s", reason) for reason in reasons)
            reachable, error = told(client, "cloud9")
            assert (reachable, "has not answered" in str(error)) == (False, True)
            before = checked(client, "primary")
            until(lambda: checked(client, "primary") > before)
            until(lambda: events(client, "cloud0") == ["bucket unreachable"])

            s3.go_on()

            until(lambda: "unreachable_buckets" not in readiness(server))
            assert [told(client, name) for name in clouds] == [(True, None)] * len(clouds)
            assert events(client, "cloud0") == ["bucket unreachable", "bucket reachable"]


@pytest.mark.parametrize("waiting", ["nobody", "a statement"])
def test_a_server_ends_when_it_is_told_to_while_a_bucket_hangs(tmp_path: Path, waiting: str) -> None:
    waits = {"REQUEST_SECONDS": "300", "RETRY_SECONDS": "300", "CHECK_SECONDS": "0.1"}
    environment = {f"FLIGHTSERVER_BUCKETS_{name}": value for name, value in waits.items()}
    environment["FLIGHTSERVER_SERVER_GRACE_SECONDS"] = "1"
    with (
        S3Server(tmp_path / "s3") as s3,
        ServerProcess(tmp_path / "data", environment=environment) as serving,
        flightclient.connect(serving.uri) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        s3.make("lake")
        place = {"bucket": "lake", "endpoint": s3.endpoint, "credentials": CREDENTIALS}
        client.call("bucket.create", {"name": "cloud", "backend": "s3", "s3": place})
        fill(client, "cloud")
        s3.hang()
        until(lambda: told(client, "cloud")[0] is False)
        asked = threads.submit(count, client, "cloud") if waiting == "a statement" else None
        if asked is not None:
            until(lambda: in_flight(serving.web) == 1)

        assert serving.stop()[0] == 0

        if asked is not None:
            with pytest.raises(FlightclientError):
                asked.result()


def test_a_bucket_that_hangs_is_forgotten_when_it_is_dropped(
    start: Callable[..., Server], patient: Settings, tmp_path: Path
) -> None:
    with S3Server(tmp_path / "s3") as s3:
        s3.make("lake")
        server = start(patient)
        with flightclient.connect(server.uri) as client:
            place = {"bucket": "lake", "endpoint": s3.endpoint, "credentials": CREDENTIALS}
            client.call("bucket.create", {"name": "cloud", "backend": "s3", "s3": place})
            s3.hang()
            until(lambda: told(client, "cloud")[0] is False)

            client.call("bucket.drop", {"name": "cloud"})

            assert "unreachable_buckets" not in readiness(server)
            s3.stop()  # which ends the look
            before = checked(client, "primary")
            until(lambda: checked(client, "primary") > before)
            assert "unreachable_buckets" not in readiness(server)


def test_a_server_whose_disk_is_not_mounted_starts_and_takes_the_bucket_up_when_it_is(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    root, away = tmp_path / "data" / "buckets" / "testing", tmp_path / "away"
    with flightclient.connect(start().uri) as client:
        client.call("bucket.create", {"name": "testing", "backend": "local"})
        for bucket in ("testing", '"primary"'):
            fill(client, bucket)
    root.rename(away)

    server = start()
    with flightclient.connect(server.uri) as client:
        until(lambda: told(client, "testing")[0] is False)
        message = "the directory of bucket 'testing' isn't there: is its disk mounted?"
        assert told(client, "testing")[1] == message
        assert readiness(server)["unreachable_buckets"] == {"testing": message}
        assert count(client, '"primary"') == 3
        with pytest.raises(FlightclientError, match=r"bucket 'testing' can't be reached: .* is its disk mounted"):
            client.query("CREATE TABLE testing.more AS SELECT 1 AS id")
        assert not root.exists()

        away.rename(root)

        until(lambda: told(client, "testing") == (True, None))
        assert count(client, "testing") == 3


def test_a_disk_that_is_taken_away_from_a_running_server_is_noticed(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    root, away = tmp_path / "data" / "buckets" / "testing", tmp_path / "away"
    with flightclient.connect(start().uri) as client:
        client.call("bucket.create", {"name": "testing", "backend": "local"})
        fill(client, "testing")

        root.rename(away)

        until(lambda: told(client, "testing")[0] is False)
        with pytest.raises(FlightclientError, match=r"."):
            client.query("INSERT INTO testing.pets VALUES (9)")
        assert not root.exists()
        away.rename(root)
        until(lambda: told(client, "testing")[0] is True)
        client.query("INSERT INTO testing.pets VALUES (4)")
        assert count(client, "testing") == 4


def test_an_s3_bucket_that_was_deleted_is_unreachable_until_it_is_there_again(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    with S3Server(tmp_path / "s3") as s3, flightclient.connect((server := start()).uri) as client:
        s3.make("lake")
        place = {"bucket": "lake", "endpoint": s3.endpoint, "credentials": CREDENTIALS}
        client.call("bucket.create", {"name": "cloud", "backend": "s3", "s3": place})
        fill(client, "cloud")
        message = "the S3 bucket isn't there"

        (tmp_path / "s3" / "lake").rename(tmp_path / "away")

        until(lambda: told(client, "cloud") == (False, message))
        assert readiness(server)["unreachable_buckets"] == {"cloud": message}
        assert events(client, "cloud") == ["bucket unreachable"]
        found = client.call("bucket.check", {"name": "cloud"})
        assert (found["reachable"], found["readable"], found["error"]) == (False, False, message)
        for action in ("bucket.usage", "bucket.collect"):
            with pytest.raises(FlightclientError, match=f"bucket 'cloud' can't be reached: {message}"):
                client.call(action, {"bucket": "cloud"})
        with pytest.raises(FlightclientError, match=f"bucket 'cloud' can't be reached: {message}"):
            count(client, "cloud")

        (tmp_path / "away").rename(tmp_path / "s3" / "lake")

        until(lambda: told(client, "cloud") == (True, None))
        assert count(client, "cloud") == 3


def test_a_mount_point_that_is_left_empty_is_unreachable(start: Callable[..., Server], tmp_path: Path) -> None:
    root, away = tmp_path / "data" / "buckets" / "testing", tmp_path / "away"
    with flightclient.connect(start().uri) as client:
        client.call("bucket.create", {"name": "testing", "backend": "local"})
        fill(client, "testing")
    root.rename(away)
    root.mkdir()

    server = start()
    with flightclient.connect(server.uri) as client:
        message = "nothing of it is there: is its disk mounted?"
        until(lambda: told(client, "testing") == (False, message))
        assert readiness(server)["unreachable_buckets"] == {"testing": message}
        for sql in ("SELECT count(*) FROM testing.pets", "INSERT INTO testing.pets VALUES (4)"):
            with pytest.raises(FlightclientError, match="bucket 'testing' can't be reached: nothing of it is there"):
                client.query(sql)
        assert list(root.iterdir()) == []

        root.rmdir()
        away.rename(root)

        until(lambda: told(client, "testing") == (True, None))
        assert count(client, "testing") == 3
