"""What is released can be built, has what it must, and works where nothing else is installed."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _run(*command: str | Path, cwd: Path) -> str:
    finished = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{command}:\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was built from that sdist rather than from the checkout."""
    directory = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--installer", "uv", "--outdir", directory, cwd=ROOT)
    return directory


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    """The only wheel in `dist`."""
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel and its required dependencies, and nothing else."""
    environment = tmp_path_factory.mktemp("clean") / "venv"
    _run("uv", "venv", "--python", sys.executable, environment, cwd=environment.parent)
    python = environment / "bin" / "python"
    _run("uv", "pip", "install", "--python", python, wheel, cwd=environment.parent)
    return python


def test_the_wheel_has_both_packages_and_nothing_of_the_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" not in name}

    assert top == {"flightserver", "flightclient"}


def test_the_wheel_says_that_it_is_typed_and_carries_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    assert "flightserver/py.typed" in names
    assert "flightclient/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    """Static assets and the protocol file are easily forgotten, and only the installed server misses them."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = [(ROOT, "flightserver"), (ROOT / "clients" / "python", "flightclient")]

    expected = {
        path.relative_to(base).as_posix()
        for base, package in sources
        for path in (base / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert expected <= names


def test_the_sdist_has_what_a_distributor_needs_to_test_it(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}

    assert {"LICENSE", "README.md", "CHANGELOG.md", "tox.ini", "mkdocs.yml", "pyproject.toml"} <= names
    assert any(name.startswith("tests/") for name in names)
    assert any(name.startswith("docs/") for name in names)


def test_the_installed_command_describes_itself(clean_python: Path) -> None:
    text = _run(clean_python.with_name("flightserver"), "--help", cwd=clean_python.parent)

    assert "serve" in text
    assert "demo" in text


def test_both_packages_can_be_imported_without_any_extra(clean_python: Path) -> None:
    code = "import flightserver, flightclient; print(flightserver.__file__)"

    where = _run(clean_python, "-c", code, cwd=clean_python.parent)

    assert "site-packages" in where


def test_the_installed_server_answers_without_any_extra(clean_python: Path, tmp_path: Path) -> None:
    command = clean_python.with_name("flightserver")
    place = ["--data", str(tmp_path / "data"), "--port", "0", "--http-port", "0"]
    with subprocess.Popen([command, "serve", *place], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            ready = re.search(r"grpc://\S+", server.stdout.readline())
            assert ready is not None

            def ask(*what: str) -> str:
                return _run(command, *what, "--uri", ready[0], cwd=tmp_path)

            ask("query", "CREATE TABLE docs AS SELECT 7 AS id, [1.0, 0.0] AS direction")
            ask("indexes", "create", "near", "--dataset", "docs", "--column", "direction")
            found = ask("query", "SELECT id FROM vector_search('near', [1, 0], 1)", "--format", "csv")
        finally:
            server.terminate()
    assert found == '"id"\n7\n'
    assert server.returncode == 0
