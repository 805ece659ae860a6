"""Power is cut, or the process dies, at every step of every kind of change of rows."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from faults.ledger import BEFORE, CHANGES, Change, Contents, contents, done_on, opened
from faults.power import STEPS, Disk
from query.asking import run

if TYPE_CHECKING:
    from pathlib import Path

EVERY = 1 if os.environ.get("FLIGHTSERVER_TEST_THOROUGH") == "1" else 8
"""Of how many cuts one is followed by all that a client may do next; each is followed by reading everything."""


pytestmark = pytest.mark.usefixtures("quick_to_close")


def follow(data: Path, change: Change, found: Contents) -> None:
    """Do what a client does next: ask again for what it wasn't told of, then for something else."""
    with opened(data) as lakehouse:
        if found != change.after or change.is_repeatable:
            change.make(lakehouse)
        assert contents(lakehouse) == change.after
        run(lakehouse, "UPDATE accounts SET balance = balance + 1000")
        more = [(*row[:2], row[2] + 1000) for row in change.after["accounts"]]
        assert contents(lakehouse) == {**change.after, "accounts": more}


def survivors(data: Path) -> Contents:
    """What a server that starts now finds."""
    with opened(data) as lakehouse:
        return contents(lakehouse)


@pytest.mark.parametrize("kind", CHANGES)
def test_at_every_step_a_change_is_kept_if_it_was_acknowledged_and_else_whole_or_absent(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    change = CHANGES[kind]
    steps: list[str] = []
    cut = 0
    while not steps:
        data = tmp_path / str(cut)
        shutil.copytree(prepared, data)
        disk = Disk(cut)
        acknowledged = done_on(data, disk, change.make, monkeypatch)
        allowed = [change.after] if acknowledged else [BEFORE, change.after]
        if acknowledged and len(disk.steps) <= cut:
            steps = disk.steps

        assert survivors(data) in allowed, f"the process died at step {cut}: {disk.steps}"
        disk.truncate_unsynced(data)
        disk.lose()
        found = survivors(data)
        assert found in allowed, f"power was lost at step {cut}: {disk.steps}"
        if cut % EVERY == 0 or acknowledged:
            follow(data, change, found)
        cut += 1
    assert {"create_file", "sync_file", "link", "sync_directory", "unlink", "make_directory"} <= set(steps)
    assert set(steps) <= set(STEPS)


def state(data: Path) -> dict[Path, tuple[int, int, int]]:
    """Every file and directory, and what changes when it is written."""
    found = {path: path.stat() for path in data.rglob("*")}
    return {path: (status.st_ino, status.st_size, status.st_mtime_ns) for path, status in found.items()}


def test_loading_the_cache_takes_no_step_that_power_could_cut(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    with opened(data) as lakehouse:
        before = state(data)
        disk = Disk(cut=0)
        with monkeypatch.context() as patched:
            disk.attach(patched)
            held = lakehouse.cache.pin(lakehouse.catalog.snapshot().dataset("accounts", "primary"))
            assert contents(lakehouse) == BEFORE

        assert held in lakehouse.cache.entries()
        assert disk.steps == []
        assert state(data) == before
