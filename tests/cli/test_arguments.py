"""What the command line understands, and how it says that it doesn't."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.conftest import Finished

COMMANDS = ("serve", "demo", "doctor", "query", "ingest", "action", "buckets", "indexes", "users", "roles", "policies")


def test_help_lists_every_command(command: Callable[..., Finished]) -> None:
    finished = command("--help")

    assert finished.status == 0
    assert [name for name in COMMANDS if f"\n    {name} " not in finished.out] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_describes_itself(command: Callable[..., Finished], name: str) -> None:
    finished = command(name, "--help")

    assert finished.status == 0
    assert finished.out.startswith(f"usage: flightserver {name}")


def test_version_is_that_of_the_package(command: Callable[..., Finished]) -> None:
    assert command("--version").out == f"flightserver {version('flightserver')}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "arguments are required: COMMAND"),
        (("nothing",), "invalid choice: 'nothing'"),
        (("query",), "arguments are required: SQL"),
        (("query", "SELECT 1", "--format", "xml"), "invalid choice: 'xml'"),
        (("query", "SELECT 1", "--as-of", "yesterday"), "neither a version nor an ISO 8601 time"),
        (("ingest", "people.csv"), "arguments are required: --dataset"),
        (("ingest", "people.csv", "--dataset", "people", "--option", "delimiter"), "expected NAME=VALUE"),
        (("ingest", "people.csv", "--dataset", "people", "--option", "header=[1"), "is not valid JSON"),
        (("action", "dataset.describe", "{"), "not valid JSON"),
        (("action", "dataset.describe", "[]"), "expected a JSON object"),
        (("buckets", "paint"), "invalid choice: 'paint'"),
        (("indexes", "create", "x", "--dataset", "d"), "arguments are required: --column"),
        (("indexes", "create", "x", "--dataset", "d", "--column", "c", "--metric", "l3"), "invalid choice: 'l3'"),
        (("serve", "--port", "many"), "invalid int value: 'many'"),
    ],
)
def test_arguments_that_are_not_understood_are_named_with_status_2(
    command: Callable[..., Finished], arguments: tuple[str, ...], message: str
) -> None:
    finished = command(*arguments)

    assert finished.status == 2
    assert message in finished.err
    assert not finished.out


def test_an_error_is_one_line_with_its_code_and_status_1(command: Callable[..., Finished]) -> None:
    finished = command("query", "SELECT *\nFROM nowhere")

    assert (finished.status, finished.out) == (1, "")
    assert finished.err == "error: there is no dataset 'nowhere' [FS-1004]\n"


def test_a_server_that_is_not_there_is_one_line_too(command: Callable[..., Finished]) -> None:
    finished = command("query", "SELECT 1", "--uri", "grpc://127.0.0.1:1")

    assert finished.status == 1
    assert finished.err.startswith("error: failed to connect")
    assert finished.err.count("\n") == 1


def test_a_reader_that_goes_away_ends_a_query_quietly(server: object) -> None:
    uri = server.uri  # type: ignore[attr-defined]  # a RunningServer
    sql = "SELECT value FROM generate_series(1, 1000000)"
    module = [sys.executable, "-m", "flightserver.cli.main", "query", sql, "--format", "csv", "--uri", uri]
    with subprocess.Popen(module, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()

        assert process.stderr.read() == ""
        assert process.wait(30) == 1


def test_the_commands_of_clients_do_not_import_the_server(tmp_path: Path) -> None:
    """The engine and the web server take most of a second to import."""
    code = (
        "import sys; from flightserver.cli.main import main; main(['query', 'x', '--uri', 'grpc://127.0.0.1:1']); "
        "print([name for name in ('datafusion', 'uvicorn', 'pandas') if name in sys.modules])"
    )

    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=os.environ
    )

    assert found.stdout == "[]\n"
