"""Power is cut, or the process dies, at every step of a move to another bucket."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from bucketing import add_bucket
from faults.ledger import BEFORE, contents, done_on, opened
from faults.power import Disk
from tables.moving import move

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("quick_to_close")


def test_at_every_step_the_dataset_is_where_it_was_or_where_it_goes_with_all_of_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: Path
) -> None:
    before = tmp_path / "before"
    shutil.copytree(prepared, before)
    with opened(before) as lakehouse:
        add_bucket(lakehouse, "archive")
    steps: list[str] = []
    cut = 0
    while not steps:
        data = tmp_path / str(cut)
        shutil.copytree(before, data)
        disk = Disk(cut)
        acknowledged = done_on(data, disk, lambda lakehouse: move(lakehouse, "accounts", "archive"), monkeypatch)
        if acknowledged and len(disk.steps) <= cut:
            steps = disk.steps
        allowed = [{"archive"}] if acknowledged else [{"primary"}, {"archive"}]

        for event in ("the process died", "power was lost"):
            if event == "power was lost":
                disk.truncate_unsynced(data)
                disk.lose()
            with opened(data) as lakehouse:
                homes = {key.bucket for key in lakehouse.catalog.snapshot().datasets if key.name == "accounts"}
                assert homes in allowed, f"{event} at step {cut}: {disk.steps}"
                assert contents(lakehouse) == BEFORE, f"{event} at step {cut}: {disk.steps}"
        if homes == {"primary"}:
            with opened(data) as lakehouse:
                move(lakehouse, "accounts", "archive")
                assert contents(lakehouse) == BEFORE
        cut += 1
    assert {"create_file", "sync_file", "link", "sync_directory", "make_directory"} <= set(steps)
