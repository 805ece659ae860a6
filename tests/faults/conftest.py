"""Fixtures of the tests that open a lakehouse in this process some hundred times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faults.ledger import prepare
from s3server import s3_bucket, s3_server

from flightserver.query import watchdog

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["s3_bucket", "s3_server"]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lakehouse as it is before each change of `faults.ledger`, to be copied."""
    data = tmp_path_factory.mktemp("prepared")
    prepare(data)
    return data


@pytest.fixture
def quick_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lakehouse that closes waits for its watchdog to look up: that would be most of the time that a test takes."""
    monkeypatch.setattr(watchdog, "_POLL_SECONDS", 0.002)
