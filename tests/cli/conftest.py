"""The command line in this process, talking to a real server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from flightserver.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import RunningServer


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit status and what it wrote."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Finished]:
    """Runs `flightserver` with arguments; FLIGHTSERVER_URI names the server."""
    monkeypatch.setenv("FLIGHTSERVER_URI", server.uri)

    def run(*arguments: str) -> Finished:
        try:
            status = main(arguments)
        except SystemExit as stopped:  # argparse
            status = stopped.code if isinstance(stopped.code, int) else -1
        written = capsys.readouterr()
        return Finished(status, written.out, written.err)

    return run
