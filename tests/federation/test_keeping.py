"""What becomes known of the health of buckets, and when it is told."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from bucketing import add_bucket
from federation.rescuing import opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flightserver.lakehouse import Lakehouse

SECONDS = 60
"""For what takes no time."""
GONE = "the directory of bucket 'far' isn't there: is its disk mounted?"


class StuckLog(logging.Handler):
    """A log whose first line isn't taken until `go_on`, as by a terminal or disk that hangs.

    Attributes:
        stuck: Set when the line is being written.
        go_on: To be set by tests.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stuck = threading.Event()
        self.go_on = threading.Event()

    def emit(self, _record: logging.LogRecord) -> None:
        self.stuck.set()
        assert self.go_on.wait(SECONDS)


@pytest.fixture
def unwatched(tmp_path: Path) -> Iterator[Lakehouse]:
    """A lakehouse with a local bucket `far`, which is looked at when a test says so."""
    with opened(tmp_path / "data", check_seconds=600) as lakehouse:
        add_bucket(lakehouse, "far")
        lakehouse.keeper.stop()
        assert lakehouse.keeper.check("far").reachable
        yield lakehouse


@pytest.fixture
def log() -> Iterator[StuckLog]:
    handler, logger = StuckLog(), logging.getLogger("flightserver.telemetry")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        handler.go_on.set()
        logger.removeHandler(handler)
        logger.setLevel(level)


def told(lakehouse: Lakehouse) -> list[tuple[str, str]]:
    """Kinds and errors of the events of bucket `far`."""
    events = [event for event in lakehouse.events.entries() if event.bucket == "far"]
    return [(event.kind, json.loads(event.detail)["error"]) for event in events]


def test_a_change_is_told_once(unwatched: Lakehouse, tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "data" / "buckets" / "far", tmp_path / "elsewhere"
    for source, target in ((here, elsewhere), (elsewhere, here), (here, elsewhere)):
        shutil.move(source, target)
        for _ in range(3):
            unwatched.keeper.check("far")

    lost = ("bucket unreachable", GONE)
    assert told(unwatched) == [lost, ("bucket reachable", ""), lost]


def test_health_is_known_while_a_change_is_being_told(unwatched: Lakehouse, tmp_path: Path, log: StuckLog) -> None:
    """Who asks for readiness doesn't wait for a log that hangs, and what happens meanwhile is told in its turn."""
    here, elsewhere = tmp_path / "data" / "buckets" / "far", tmp_path / "elsewhere"
    keeper = unwatched.keeper
    with ThreadPoolExecutor(4) as threads:
        try:
            shutil.move(here, elsewhere)
            lost = threads.submit(keeper.check, "far")
            assert log.stuck.wait(SECONDS)
            assert threads.submit(keeper.unreachable).result(SECONDS) == {"far": GONE}

            shutil.move(elsewhere, here)
            back = threads.submit(keeper.check, "far")
            while threads.submit(keeper.unreachable).result(SECONDS):
                assert not back.done()
                time.sleep(0.01)
            health = threads.submit(keeper.health, "far").result(SECONDS)
        finally:
            log.go_on.set()
        assert not lost.result(SECONDS).reachable
        assert back.result(SECONDS) == health

    assert told(unwatched) == [("bucket unreachable", GONE), ("bucket reachable", "")]
