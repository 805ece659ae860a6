"""`flightserver serve` in a process of its own: how it starts, refuses to start, and stops."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import flightclient
import pytest
from faults.serving import ServerProcess
from flightclient.errors import Cancelled, ConnectionFailed

if TYPE_CHECKING:
    from pathlib import Path

SERVE = [sys.executable, "-m", "flightserver.cli.main", "serve"]
LONG = "SELECT value, repeat('x', 100) AS text FROM generate_series(1, 3000000)"
"""Some 300 MB: more than the network buffers of a client that reads slowly."""


class Serving(ServerProcess):
    """A running `flightserver serve` with a grace of its own."""

    def __init__(self, data: Path, *flags: str, grace_seconds: float = 10) -> None:
        super().__init__(data, *flags, environment={"FLIGHTSERVER_SERVER_GRACE_SECONDS": str(grace_seconds)})

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, and wait until it has been received: the port is closed then."""
        self.process.send_signal(number)
        host, port = self.uri.removeprefix("grpc://").split(":")
        while self.process.poll() is None:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
            except OSError:
                return
            time.sleep(0.01)


def refused(*flags: str, environment: dict[str, str] | None = None) -> str:
    """The one line that a server which does not start writes."""
    finished = subprocess.run(
        [*SERVE, *flags], capture_output=True, text=True, timeout=30, check=False, env=os.environ | (environment or {})
    )
    assert finished.returncode == 1, finished
    assert not finished.stdout
    (line,) = [line for line in finished.stderr.splitlines() if " INFO " not in line]
    assert line.startswith("error: ")
    return line


def test_an_empty_directory_becomes_a_lakehouse_that_answers(tmp_path: Path) -> None:
    with Serving(tmp_path / "new" / "lakehouse") as serving:
        with flightclient.connect(serving.uri) as client:
            assert client.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]
        with urllib.request.urlopen(f"{serving.web}/readyz") as answer:  # noqa: S310  # our own address
            assert json.load(answer) == {"ready": True, "checks": {"accepting": "ok", "catalog": "ok"}}
        with urllib.request.urlopen(serving.web) as answer:  # noqa: S310  # our own address
            assert serving.uri in answer.read().decode()


def test_it_warns_that_it_is_open(tmp_path: Path) -> None:
    with Serving(tmp_path / "data", "--log-format", "json") as serving:
        serving.signal(signal.SIGTERM)

        _, log = serving.finish()

    lines = [json.loads(line) for line in log.splitlines()]
    [warning] = [line["event"] for line in lines if line["level"] == "warning"]
    assert warning.startswith("there are no users: whoever reaches this address can read and change everything")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_refuses_new_calls_and_lets_running_streams_end(tmp_path: Path, number: signal.Signals) -> None:
    with Serving(tmp_path / "data", grace_seconds=60) as serving, flightclient.connect(serving.uri) as client:
        stream = client.stream(LONG)
        rows = next(stream).num_rows
        serving.signal(number)

        with flightclient.connect(serving.uri) as late, pytest.raises(ConnectionFailed):
            late.tables()
        with pytest.raises(ConnectionFailed):
            client.tables()
        rows += sum(batch.num_rows for batch in stream)

        assert rows == 3_000_000
        assert serving.finish()[0] == 0


def test_a_stream_that_goes_on_beyond_the_grace_is_cancelled(tmp_path: Path) -> None:
    with Serving(tmp_path / "data", grace_seconds=0.2) as serving, flightclient.connect(serving.uri) as client:
        stream = client.stream("SELECT value FROM generate_series(1, 1000000000)")
        next(stream)
        serving.signal(signal.SIGTERM)

        with pytest.raises((Cancelled, ConnectionFailed)):
            for _ in stream:
                pass

        status, log = serving.finish()
        assert status == 0
        assert "calls went on beyond the grace and are cut off" in log


def test_a_client_that_does_not_read_cannot_keep_the_server_up(tmp_path: Path) -> None:
    with Serving(tmp_path / "data", grace_seconds=0.2) as serving, flightclient.connect(serving.uri) as client:
        stream = client.stream(LONG)
        next(stream)
        serving.signal(signal.SIGTERM)

        assert serving.finish()[0] == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with Serving(tmp_path / "data", grace_seconds=60) as serving, flightclient.connect(serving.uri) as client:
        stream = client.stream(LONG)
        next(stream)
        serving.signal(signal.SIGTERM)
        serving.process.send_signal(signal.SIGTERM)

        assert serving.finish()[0] == 128 + signal.SIGTERM


def test_a_crash_tells_where_every_thread_was(tmp_path: Path) -> None:
    with Serving(tmp_path / "data") as serving:
        status, log = serving.stop(signal.SIGABRT)

    assert status == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in log
    assert 'flightserver/cli/serve.py", line' in log


def test_what_was_written_is_there_when_it_is_started_again(tmp_path: Path) -> None:
    for expected in ([], [{"n": 1}]):
        with Serving(tmp_path / "data") as serving, flightclient.connect(serving.uri) as client:
            client.query("CREATE TABLE IF NOT EXISTS t (n BIGINT)")
            assert client.query("SELECT * FROM t").to_pylist() == expected
            client.query("INSERT INTO t VALUES (1)")
            serving.signal(signal.SIGTERM)
            assert serving.finish()[0] == 0


def test_two_servers_share_a_directory(tmp_path: Path) -> None:
    with (
        Serving(tmp_path / "data") as one,
        Serving(tmp_path / "data") as two,
        flightclient.connect(one.uri) as writing,
        flightclient.connect(two.uri) as reading,
    ):
        writing.query("CREATE TABLE t AS SELECT 1 AS n")

        assert reading.query("SELECT n FROM t").to_pylist() == [{"n": 1}]
        assert len(reading.pages("SELECT n FROM t", page_rows=1)) == 1


def test_a_root_of_ingestion_may_be_read_from(tmp_path: Path) -> None:
    inbox = tmp_path / "given"
    inbox.mkdir()
    (inbox / "people.csv").write_text("id\n1\n")
    flags = ("--ingest-root", str(inbox), "--ingest-root", str(tmp_path / "other"))
    with Serving(tmp_path / "data", *flags) as serving, flightclient.connect(serving.uri) as client:
        result = client.call("ingest.file", {"source": "people.csv", "dataset": "people"})

    assert result["rows"] == 1


def test_a_file_of_settings_is_read_and_flags_go_before_it(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('[server]\ndata = "/nowhere/at/all"\n[query]\nmax_running = 3\n')
    with Serving(tmp_path / "data", "--config", str(config)) as serving, flightclient.connect(serving.uri) as client:
        found = client.query("SELECT value FROM system.settings WHERE name = 'query.max_running'").to_pylist()

    assert found == [{"value": "3"}]


@pytest.fixture
def taken_port() -> Any:
    """A port on which something listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield str(taken.getsockname()[1])


@pytest.mark.parametrize("flag", ["--port", "--http-port"])
def test_a_port_in_use_is_named(tmp_path: Path, taken_port: str, flag: str) -> None:
    other = {"--port": "--http-port", "--http-port": "--port"}[flag]

    line = refused("--data", str(tmp_path / "data"), flag, taken_port, other, "0")

    assert f"can't listen on 127.0.0.1 port {taken_port}: Address already in use" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--host", "0.0.0.0"), r"'0\.0\.0\.0' can be reached from other machines.*--insecure"),  # noqa: S104  # it is refused
        (("--host", "::"), "'::' can be reached from other machines"),
        (("--host", "nowhere.invalid"), r"the host 'nowhere\.invalid' is not known"),
        (("--port", "70000"), "can't listen on 127.0.0.1 port 70000: .*0-65535"),
        (("--config", "nowhere.toml"), r"the configuration file 'nowhere\.toml' can't be read"),
        (("--data", "/proc/nowhere"), "the data directory can't be made"),
    ],
)
def test_what_it_cannot_do_is_told_in_one_line(flags: tuple[str, ...], message: str) -> None:
    assert re.search(message, refused("--port", "0", *flags))


def test_a_setting_that_does_not_exist_is_named() -> None:
    assert "unknown field `colour`" in refused(environment={"FLIGHTSERVER_SERVER_COLOUR": "red"})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_insecure_is_not_needed_on_the_loopback_network(tmp_path: Path, host: str) -> None:
    with Serving(tmp_path / "data", "--host", host) as serving:
        assert re.fullmatch(rf"grpc://{re.escape(host)}:\d+", serving.uri)
        assert serving.stop()[0] == 0


def test_every_address_may_be_listened_on_when_asked_for(tmp_path: Path) -> None:
    every = "0.0.0.0"  # noqa: S104  # what is tested
    with Serving(tmp_path / "data", "--insecure", "--host", every) as serving:
        assert serving.uri.startswith(f"grpc://{every}:")
        with flightclient.connect(serving.uri.replace(every, "127.0.0.1")) as client:
            assert client.tables() == []
        assert serving.stop()[0] == 0
