"""What is done from time to time goes on after what fails, and ends when it is told to."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from flightserver.periodic import Periodic, seconds_between_looks

if TYPE_CHECKING:
    import pytest


def test_work_goes_on_after_it_has_failed_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    turns: list[int] = []
    third = threading.Event()

    def work() -> None:
        turns.append(len(turns))
        if len(turns) == 3:
            third.set()
        elif len(turns) < 3:
            message = "a defect"
            raise ZeroDivisionError(message)

    periodic = Periodic("tests", work, 0.001)
    with caplog.at_level(logging.ERROR):
        periodic.start()
        assert third.wait(30)
        periodic.stop()

    assert [record.message for record in caplog.records] == ["periodic work failed"] * 2
    ended = len(turns)
    time.sleep(0.02)
    assert len(turns) == ended


def test_it_has_one_thread_however_often_it_is_started_and_none_after_its_end() -> None:
    began = threading.Semaphore(0)
    periodic = Periodic("only-one", lambda: began.release(), 0.001, at_once=True)  # noqa: PLW0108  # release has arguments
    for _ in range(5):
        periodic.start()
    assert began.acquire(timeout=30)
    assert [thread.name for thread in threading.enumerate()].count("only-one") == 1
    periodic.stop()
    periodic.start()
    assert "only-one" not in [thread.name for thread in threading.enumerate()]


def test_a_turn_that_hangs_is_waited_for_as_long_as_one_likes() -> None:
    goes_on, began = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        goes_on.wait(60)

    periodic = Periodic("hanging", work, 0.001, at_once=True)
    periodic.start()
    assert began.wait(30)
    periodic.stop(patience=0.01)
    assert periodic.stopped.is_set()
    goes_on.set()
    periodic.stop()
    assert "hanging" not in [thread.name for thread in threading.enumerate()]


def test_what_expires_is_looked_for_four_times_in_its_life_and_once_a_minute() -> None:
    assert [seconds_between_looks(idle) for idle in (0.4, 100.0, 3600.0)] == [0.1, 25.0, 60.0]
