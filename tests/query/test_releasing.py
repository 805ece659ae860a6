"""What the engine still computes when a statement has failed: nothing, however long its error is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from query.asking import run
from query.engine_streams import no_collector, streams

from flightserver.errors import InvalidRequest, QueryTimeout
from flightserver.query.releasing import release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.lakehouse import Lakehouse

ENDLESS = "SELECT value FROM generate_series(1, 1000000000000) WHERE value % 7 < 0"


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    with no_collector():
        yield


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM generate_series(1, 1000000000000) WHERE value % 7 = 0",
        "SELECT value FROM generate_series(1, 100000000000) ORDER BY value % 1000003",
        "SELECT value FROM generate_series(1, 100000000000)",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
        ENDLESS,
        f"CREATE TABLE t AS {ENDLESS}",
        f"SELECT 1 UNION ALL {ENDLESS} LIMIT 10",
    ],
)
def test_a_statement_that_is_stopped_leaves_nothing_in_the_engine(lakehouse: Lakehouse, sql: str) -> None:
    before = streams()

    with pytest.raises(QueryTimeout) as kept:
        run(lakehouse, sql, timeout_seconds=0.3)

    assert streams() <= before
    assert "longer than its limit of 0.3 seconds" in str(kept.value)


@pytest.mark.parametrize("first", ["SELECT 1 / (value - 50000) AS n FROM generate_series(1, 100000)", ENDLESS])
def test_a_statement_of_which_a_part_fails_leaves_nothing_of_the_others(lakehouse: Lakehouse, first: str) -> None:
    before = streams()

    with pytest.raises((InvalidRequest, QueryTimeout)) as kept:
        run(
            lakehouse,
            f"{first} UNION ALL SELECT 1 / (value - 50000) FROM generate_series(1, 100000)",
            timeout_seconds=2,
        )

    assert streams() <= before
    assert kept.type is (QueryTimeout if first == ENDLESS else InvalidRequest)


def test_frames_are_emptied_through_all_that_led_to_an_error() -> None:
    held = {"first": [1], "second": [2]}

    def fail(of: list[int]) -> None:
        mine = of
        raise ValueError(mine)

    def fail_too(of: list[int]) -> None:
        mine = of
        try:
            fail(held["first"])
        except ValueError as error:
            raise KeyError(mine) from error

    def frames(error: BaseException) -> list[object]:
        found, at = [], error.__traceback__
        while at is not None:
            found.append(at.tb_frame.f_locals.get("mine"))
            at = at.tb_next
        return found

    with pytest.raises(KeyError) as kept:
        fail_too(held["second"])
    error, cause = kept.value, kept.value.__cause__
    assert cause is not None
    assert [2] in frames(error)
    assert [1] in frames(cause)

    release(error)

    assert not any(frames(error))
    assert not any(frames(cause))
