"""The source tree as data: what the house rules look at."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("flightserver", "clients")
CHECKED = (*PRODUCT, "tests", "bench")


@dataclass(frozen=True)
class SourceFile:
    """One Python file of the checkout.

    Args:
        path: Path relative to the checkout, with `/`.
        text: Its contents.
        tree: Its syntax tree.
    """

    path: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> list[str]:
        """Lines without their ends."""
        return self.text.splitlines()

    @property
    def floor(self) -> str:
        """`flightserver/storage/objects.py` -> `storage`, `flightserver/errors.py` -> `errors`."""
        return self.path.split("/")[1].removesuffix(".py")


def _read(directory: str) -> list[SourceFile]:
    files = []
    for path in sorted((ROOT / directory).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.endswith(("_pb2.py", "_pb2_grpc.py")):
            text = path.read_text(encoding="utf-8")
            files.append(SourceFile(name, text, ast.parse(text, filename=name)))
    return files


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def product() -> list[SourceFile]:
    """What is released: the server and what users copy or install. Generated files are left out."""
    return [file for directory in PRODUCT for file in _read(directory)]


@pytest.fixture(scope="session")
def server_files() -> list[SourceFile]:
    """The files of the package `flightserver`."""
    return _read("flightserver")


@pytest.fixture(scope="session")
def everything() -> list[SourceFile]:
    """Released files, tests and benchmarks."""
    return [file for directory in CHECKED for file in _read(directory)]
