"""The README is run, not believed: its two commands on a fresh environment, its examples against a server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import flightclient
import pytest

from flightserver.cli.demo_tables import data_directory
from flightserver.flight.listening import Listener
from flightserver.flight.service import Service
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEFAULT_URI = "grpc://127.0.0.1:31337"

TRY_IT = "pip install '.[demo]' && flightserver demo"
TEST_IT = "pip install tox && tox"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def _commands() -> list[str]:
    return [
        line.removeprefix("$ ") for block in _blocks("console") for line in block.splitlines() if line.startswith("$ ")
    ]


CLIENT_COMMANDS = [command for command in _commands() if command.startswith("flightserver ")]
EXAMPLES = _blocks("python")


def _title(example: str) -> str:
    """The heading above an example, to name its test."""
    return str(re.findall(r"^#+ (.*)$", README[: README.index(example)], re.MULTILINE)[-1])


@pytest.fixture(scope="module")
def fresh_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a shell in which a new, empty virtual environment is active."""
    venv = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    active = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV", "FLIGHTSERVER"))}
    return active | {"VIRTUAL_ENV": str(venv), "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, so that neither build files nor data are left in the original."""
    target = tmp_path_factory.mktemp("copy") / "flightserver"
    left_out = shutil.ignore_patterns(
        ".*_cache", ".tox", ".git", ".venv", "__pycache__", "lakehouse", "dist", "build", "site"
    )
    shutil.copytree(ROOT, target, ignore=left_out)
    return target


def test_the_readme_names_the_two_commands() -> None:
    commands = _commands()

    assert TRY_IT in commands
    assert TEST_IT in commands


@pytest.mark.timeout(900)
def test_the_first_command_works_on_a_fresh_environment(checkout: Path, fresh_environment: dict[str, str]) -> None:
    """`--once` is added so that the demo ends by itself; all else is as a newcomer would type it."""
    finished = subprocess.run(
        ["bash", "-c", f"{TRY_IT} --once"],
        cwd=checkout,
        env=fresh_environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}"
    assert "grpc://127.0.0.1:" in finished.stdout
    assert "flights" in finished.stdout
    assert "Traceback" not in finished.stdout + finished.stderr
    assert (checkout / "lakehouse-demo" / "primary" / "_catalog" / "commits").is_dir()


@pytest.fixture(scope="module")
def demo_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server that has the demo's table of flights."""
    settings = load_settings(None, {"server": {"data": tmp_path_factory.mktemp("readme") / "data"}})
    with Lakehouse.open(settings) as lakehouse:
        server = Listener(Service(lakehouse), "127.0.0.1", 0)
        with flightclient.connect(server.uri) as client:
            client.ingest_file(data_directory() / "flights.csv.zip", "flights")
        yield server.uri
        server.stop(grace_seconds=10)


@pytest.mark.parametrize("example", EXAMPLES, ids=map(_title, EXAMPLES))
def test_the_example_runs_and_prints(demo_uri: str, example: str) -> None:
    assert DEFAULT_URI in example, "an example that connects elsewhere is not tested"

    finished = subprocess.run(
        [sys.executable, "-c", example.replace(DEFAULT_URI, demo_uri)], capture_output=True, text=True, check=False
    )

    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip()


@pytest.mark.parametrize("command", CLIENT_COMMANDS)
def test_the_command_runs_and_prints(demo_uri: str, command: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    finished = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"FLIGHTSERVER_URI": demo_uri, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip()
