"""A server is killed with SIGKILL while it commits."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from catalog.making import create, transaction

from flightserver.catalog.catalog import Catalog
from flightserver.storage.local import LocalObjects

COMMITTER = Path(__file__).parents[1] / "catalog" / "committer.py"
KILLS = 50 if os.environ.get("FLIGHTSERVER_TEST_THOROUGH") == "1" else 5


def commit_until_killed(root: Path, name: str, seconds: float) -> list[str]:
    """Return the operations that it told; a line that was cut off in the middle wasn't."""
    with subprocess.Popen(
        [sys.executable, str(COMMITTER), str(root), name, "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as committer:
        assert committer.stdin is not None
        assert committer.stdout is not None
        committer.stdin.write("go\n")
        committer.stdin.flush()
        told = committer.stdout.readline() + committer.stdout.readline()
        time.sleep(seconds)
        committer.kill()
        told += committer.stdout.read()
    ready, *lines, _ = told.split("\n")
    assert ready == "ready"
    return [line.split()[0] for line in lines]


def test_every_commit_that_a_killed_server_acknowledged_is_there_exactly_once(tmp_path: Path) -> None:
    catalog = Catalog.open(LocalObjects(tmp_path))
    catalog.commit(transaction(create("people")))
    acknowledged: list[str] = []
    delays = random.Random(42)  # noqa: S311  # moments to kill at, not secrets

    for number in range(KILLS):
        acknowledged += commit_until_killed(tmp_path, f"server{number}", delays.uniform(0.0, 0.2))

    opened = Catalog.open(LocalObjects(tmp_path))
    logged = [each.operation.id for commit in opened.commits(after=2) for each in commit.transactions]
    assert len(acknowledged) > KILLS
    assert len(set(logged)) == len(logged)
    assert set(acknowledged) <= set(logged)
    assert len(logged) - len(acknowledged) <= KILLS
    rows = sum(int(operation.partition("-")[2]) for operation in logged)
    assert opened.snapshot().dataset("people").rows == rows
    assert opened.snapshot() == catalog.snapshot()
