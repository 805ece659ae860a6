"""Catalogs of every released format stay readable for ever.

A directory under tests/golden/ is what a release wrote, with the snapshot that it had at the end. It is never edited:
when a test here fails, the code is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from flightserver.catalog.catalog import Catalog
from flightserver.storage.memory import MemoryObjects

if TYPE_CHECKING:
    from flightserver.catalog.snapshot import Snapshot

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("catalog-v*"))


def opened(directory: Path) -> Catalog:
    objects = MemoryObjects()
    for path in sorted((directory / "primary").rglob("*.json")):
        objects.put(path.relative_to(directory / "primary").as_posix(), path.read_bytes())
    return Catalog.open(objects)


def plain(snapshot: Snapshot) -> object:
    written = msgspec.json.encode(
        {
            "version": snapshot.version,
            "time": snapshot.time,
            "buckets": list(snapshot.buckets.values()),
            "datasets": list(snapshot.datasets.values()),
            "operations": dict(snapshot.operations),
        }
    )
    return msgspec.json.decode(written)


@pytest.mark.parametrize("directory", GOLDEN, ids=lambda directory: directory.name)
def test_a_catalog_of_a_released_format_is_read_as_it_was_written(directory: Path) -> None:
    expected = msgspec.json.decode((directory / "snapshot.json").read_bytes())

    assert plain(opened(directory).snapshot()) == expected


def test_there_is_a_golden_catalog_of_the_current_format() -> None:
    assert "catalog-v1" in [directory.name for directory in GOLDEN]


def test_the_golden_catalog_has_every_kind_of_update_of_its_release() -> None:
    commits = opened(GOLDEN[0]).commits()

    kinds = {type(update).__name__ for commit in commits for each in commit.transactions for update in each.updates}

    assert kinds == {
        "PutBucket",
        "DropBucket",
        "CreateDataset",
        "DropDataset",
        "AppendSegments",
        "ReplaceSegments",
    }
