"""What the server does by itself is remembered for a while, and logged."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest

from flightserver.federation import expiring, keeping, mirroring, rescue
from flightserver.query import maintenance
from flightserver.telemetry import Events, Trouble
from flightserver.vectors import refreshing, searching


def test_an_event_is_remembered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    events = Events()
    before = datetime.now(UTC)

    with caplog.at_level(logging.INFO, "flightserver"):
        events.record("compacted", "primary", "trips", rows=3, name="ö", path=PurePosixPath("a/b"))

    [event] = events.entries()
    detail = '{"rows": 3, "name": "ö", "path": "a/b"}'
    assert (event.kind, event.bucket, event.dataset, event.detail) == ("compacted", "primary", "trips", detail)
    assert before <= event.time <= datetime.now(UTC)
    [line] = caplog.records
    assert (line.getMessage(), vars(line)["dataset"], vars(line)["detail"]) == ("compacted", "trips", detail)


def test_an_event_that_somebody_should_look_at_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    events = Events()

    with caplog.at_level(logging.INFO, "flightserver"):
        events.record("bucket reachable", "far")
        events.record(Trouble("bucket unreachable"), "far")

    assert [(one.getMessage(), one.levelname) for one in caplog.records] == [
        ("bucket reachable", "INFO"),
        ("bucket unreachable", "WARNING"),
    ]
    assert [type(event.kind) for event in events.entries()] == [str, str]


@pytest.mark.parametrize(
    "kind",
    [
        keeping.LOST,
        rescue.SERVED,
        mirroring.FAILED,
        expiring.FAILED,
        maintenance.FAILED,
        refreshing.FAILED,
        searching.UNREADABLE,
    ],
)
def test_what_went_wrong_is_trouble(kind: str) -> None:
    assert isinstance(kind, Trouble)


def test_the_newest_ten_thousand_are_kept() -> None:
    events = Events()

    for number in range(10_001):
        events.record("happened", number=number)

    kept = events.entries()
    assert (len(kept), kept[0].detail, kept[-1].detail) == (10_000, '{"number": 1}', '{"number": 10000}')
