"""Power is cut, or the process dies, at every step of what changes a vector index."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from bucketing import add_bucket
from faults.ledger import done_on, opened
from faults.power import Disk
from query.asking import run
from tables.moving import operation
from vectors.indexed import create, expected, make_docs, move, nearest, objects, refresh

from flightserver.catalog.entities import DatasetKey
from flightserver.vectors.searching import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flightserver.lakehouse import Lakehouse

pytestmark = pytest.mark.usefixtures("quick_to_close")

EAST = [(0, 0.0), (1000, 0.0), *expected(0, 1)]
KEY = DatasetKey("primary", "directions")

CHANGES: dict[str, tuple[Callable[[Lakehouse], object], set[str]]] = {
    "create": (lambda lakehouse: create(lakehouse, "another"), {"primary directions", "primary another"}),
    "refresh": (refresh, {"primary directions"}),
    "move": (lambda lakehouse: move(lakehouse, "archive"), {"archive directions"}),
    "drop": (lambda lakehouse: lakehouse.indexes.drop(KEY, operation("drop index")), set()),
}
"""What is done, and which indexes there are afterwards."""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`docs` with an index that lacks a row, and a bucket `archive`."""
    data = tmp_path_factory.mktemp("before")
    with opened(data) as lakehouse:
        make_docs(lakehouse)
        add_bucket(lakehouse, "archive")
        create(lakehouse)
        run(lakehouse, "INSERT INTO docs VALUES (1000, [1.0, 0.0])")
    return data


def indexes(lakehouse: Lakehouse) -> set[str]:
    """All indexes, each of which has been searched with the right answer, by the index."""
    found = lakehouse.catalog.snapshot().indexes
    for key in found:
        assert nearest(lakehouse, 0, name=str(key)) == EAST
    assert [event for event in lakehouse.events.entries() if event.kind == UNREADABLE] == []
    return {f"{key.bucket} {key.name}" for key in found}


@pytest.mark.parametrize("name", CHANGES)
def test_at_every_step_the_indexes_are_those_of_before_or_those_of_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Path, name: str
) -> None:
    change, afterwards = CHANGES[name]
    steps: list[str] = []
    cut = 0
    while not steps:
        data = tmp_path / str(cut)
        shutil.copytree(before, data)
        disk = Disk(cut)
        acknowledged = done_on(data, disk, change, monkeypatch)
        if acknowledged and len(disk.steps) <= cut:
            steps = disk.steps
        allowed = [afterwards] if acknowledged else [{"primary directions"}, afterwards]

        for event in ("the process died", "power was lost"):
            if event == "power was lost":
                disk.truncate_unsynced(data)
                disk.lose()
            with opened(data) as lakehouse:
                found = indexes(lakehouse)
                assert found in allowed, f"{event} at step {cut}: {disk.steps}"
        if found == {"primary directions"} != afterwards:
            with opened(data) as lakehouse:
                change(lakehouse)
                assert indexes(lakehouse) == afterwards
        cut += 1
    assert {"create_file", "sync_file", "link", "sync_directory"} <= set(steps)


def test_what_a_dead_process_leaves_of_an_index_is_garbage_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Path
) -> None:
    """The first step at which the object is there, which is before its commit."""
    data = tmp_path / "data"
    shutil.copytree(before, data)
    with opened(data) as lakehouse:
        there = objects(lakehouse)
    disk = Disk(0)
    while True:
        shutil.rmtree(data)
        shutil.copytree(before, data)
        disk = Disk(disk.cut + 1)
        assert not done_on(data, disk, refresh, monkeypatch)
        with opened(data) as lakehouse:
            if len(objects(lakehouse)) > len(there):
                break

    settings = {"retention_hours": 0, "collect_grace_hours": 0}
    with opened(data, catalog=settings) as lakehouse:
        list(lakehouse.collector.collect("primary", operation("collect")))
        assert objects(lakehouse) == there
        assert nearest(lakehouse, 0) == EAST
