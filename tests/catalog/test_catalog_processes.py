"""Several processes share a catalog in a directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from catalog.making import create, transaction

from flightserver.catalog.catalog import Catalog
from flightserver.catalog.entities import PRIMARY
from flightserver.storage.local import LocalObjects

COMMITTER = Path(__file__).with_name("committer.py")
EACH = 200


def start(root: Path, name: str, commits: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(COMMITTER), str(root), name, str(commits)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def release(committer: subprocess.Popen[str]) -> None:
    assert committer.stdout is not None
    assert committer.stdin is not None
    assert committer.stdout.readline() == "ready\n"
    committer.stdin.write("go\n")
    committer.stdin.flush()


def test_processes_that_commit_at_the_same_time_make_one_history_and_lose_nothing(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    catalog = Catalog.open(objects)
    catalog.commit(transaction(create("people")))
    committers = [start(tmp_path, name, EACH) for name in ("a", "b")]
    for committer in committers:
        release(committer)

    told = [committer.communicate(timeout=120)[0].splitlines() for committer in committers]

    acknowledged = {operation: int(version) for lines in told for operation, version in map(str.split, lines)}
    assert len(acknowledged) == 2 * EACH
    assert sorted(acknowledged.values()) == list(range(3, 3 + 2 * EACH))
    logged = {each.operation.id: commit.version for commit in catalog.commits(after=2) for each in commit.transactions}
    assert logged == acknowledged
    assert {commit.server for commit in catalog.commits(after=2)} == {"a", "b"}
    people = catalog.snapshot().dataset("people")
    assert people.rows == 2 * sum(range(EACH + 1))
    next_row_id = 0
    for segment in people.segments:
        assert segment.first_row_id == next_row_id
        next_row_id += segment.rows
    assert Catalog.open(objects).snapshot() == catalog.snapshot()


def test_processes_that_create_the_catalog_at_the_same_time_share_one(tmp_path: Path) -> None:
    committers = [start(tmp_path, name, 1) for name in ("a", "b")]
    for committer in committers:
        assert committer.stdout is not None
        assert committer.stdout.readline() == "ready\n"
    catalog = Catalog.open(LocalObjects(tmp_path))
    for committer in committers:
        committer.kill()
        committer.communicate()

    assert catalog.snapshot().version == 1
    assert list(catalog.snapshot().buckets) == [PRIMARY]
