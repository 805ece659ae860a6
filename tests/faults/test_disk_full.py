"""The disk is full: a statement fails and says so, leaves nothing behind, and works once there is room again."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from faults.ledger import BEFORE, CHANGES, compact, contents, opened, prepare
from faults.space import Space, filled, small_disk
from query.asking import count, rows, run

from flightserver.errors import LimitExceeded
from flightserver.query import watchdog
from flightserver.query.request import Request

if TYPE_CHECKING:
    from pathlib import Path

    from flightserver.lakehouse import Lakehouse

MIB = 1024 * 1024
FULL = "is full or over its quota"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lakehouse as it is before each change, to be copied."""
    data = tmp_path_factory.mktemp("prepared")
    prepare(data)
    return data


@pytest.fixture(autouse=True)
def _closing_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lakehouse that closes waits for its watchdog to look up."""
    monkeypatch.setattr(watchdog, "_POLL_SECONDS", 0.002)


def files(data: Path) -> dict[str, int]:
    """Everything in the primary bucket, temporary files too, and its size."""
    root = data / "primary"
    return {str(path.relative_to(root)): path.stat().st_size for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", CHANGES)
def test_at_every_step_a_change_that_finds_no_room_is_refused_and_leaves_nothing(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    change = CHANGES[kind]
    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    with opened(data) as lakehouse:
        before = files(data)
        full = 0
        while True:
            space = Space(full)
            with monkeypatch.context() as patched:
                space.attach(patched)
                try:
                    change.make(lakehouse)
                except LimitExceeded as error:
                    assert FULL in str(error), f"step {full}: {space.steps}"
            if not space.is_exhausted:
                break
            assert contents(lakehouse) == BEFORE, f"step {full}: {space.steps}"
            assert files(data) == before, f"step {full}: {space.steps}"
            full += 1
        assert contents(lakehouse) == change.after
    assert {"create_file", "write", "sync_file", "link"} <= set(space.steps)
    with opened(data) as lakehouse:
        assert contents(lakehouse) == change.after
