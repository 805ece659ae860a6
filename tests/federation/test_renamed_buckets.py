"""What is known of a bucket's health goes with it when it gets another name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bucketing import add_bucket
from federation.rescuing import opened
from tables.moving import operation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flightserver.lakehouse import Lakehouse


@pytest.fixture
def unwatched(tmp_path: Path) -> Iterator[Lakehouse]:
    """A lakehouse with a local bucket `far`, which is looked at when a test says so."""
    with opened(tmp_path / "data", check_seconds=600) as lakehouse:
        add_bucket(lakehouse, "far")
        lakehouse.keeper.stop()
        assert lakehouse.keeper.check("far").reachable
        yield lakehouse


def lost(lakehouse: Lakehouse) -> list[str]:
    """Buckets that were told to be lost."""
    return [event.bucket for event in lakehouse.events.entries() if event.kind == "bucket unreachable"]


def test_a_renamed_bucket_has_the_health_that_it_had(unwatched: Lakehouse) -> None:
    before = unwatched.keeper.health("far")

    unwatched.bucket_service.rename("far", "distant", operation("rename"))

    assert before is not None
    assert (unwatched.keeper.health("distant"), unwatched.keeper.health("far")) == (before, None)


def test_a_renamed_bucket_that_is_lost_is_not_told_to_be_lost_again(unwatched: Lakehouse, tmp_path: Path) -> None:
    root = tmp_path / "data" / "buckets" / "far"
    root.rename(tmp_path / "unplugged")
    assert not unwatched.keeper.check("far").reachable

    unwatched.bucket_service.rename("far", "distant", operation("rename"))

    assert list(unwatched.keeper.unreachable()) == ["distant"]
    assert not unwatched.keeper.check("distant").reachable
    assert lost(unwatched) == ["far"]
