"""What the engine still computes when a statement has failed: nothing, however long its error is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from query.asking import run
from query.engine_streams import engine_watched

from flightserver.access.rights import UNRESTRICTED
from flightserver.errors import InvalidRequest, LimitExceeded, QueryTimeout
from flightserver.lakehouse import Lakehouse
from flightserver.query.releasing import release
from flightserver.query.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flightserver.settings import Settings

ENDLESS = "SELECT value AS id FROM generate_series(1, 1000000000000) WHERE value % 7 < 0"
FAILING = "SELECT 1 / (value - 50000) AS n FROM generate_series(1, 100000)"


@pytest.fixture(autouse=True)
def ended() -> Iterator[Callable[[], bool]]:
    with engine_watched() as watched:
        yield watched


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
        f"{ENDLESS} UNION ALL {FAILING}",
    ],
)
def test_a_statement_that_is_stopped_leaves_nothing_in_the_engine(
    lakehouse: Lakehouse, ended: Callable[[], bool], sql: str
) -> None:
    with pytest.raises(QueryTimeout) as kept:
        run(lakehouse, sql, timeout_seconds=0.3)

    assert ended()
    assert "longer than its limit of 0.3 seconds" in str(kept.value)


def test_a_statement_of_which_a_part_fails_leaves_nothing_of_the_others(
    lakehouse: Lakehouse, ended: Callable[[], bool]
) -> None:
    with pytest.raises(InvalidRequest) as kept:
        run(lakehouse, f"{FAILING} UNION ALL {ENDLESS}")

    assert ended()
    assert "Divide by zero" in str(kept.value)


def test_a_query_of_the_server_itself_leaves_nothing_when_it_fails(
    lakehouse: Lakehouse, ended: Callable[[], bool]
) -> None:
    scope = lakehouse.queries.scope(Request(rights=UNRESTRICTED, sql=""))

    with pytest.raises(InvalidRequest) as kept:
        lakehouse.engine.answer(f"{FAILING} UNION ALL {ENDLESS}", scope, {})

    assert ended()
    assert "Divide by zero" in str(kept.value)


def test_a_change_that_is_refused_leaves_nothing_of_the_query_that_finds_it(
    lakehouse: Lakehouse, ended: Callable[[], bool]
) -> None:
    """Its query is planned while it runs, and isn't read to its end."""
    run(lakehouse, "CREATE TABLE k AS SELECT value AS id, 0 AS v FROM generate_series(1, 1000)")
    twice = f"SELECT value % 1000 AS id FROM generate_series(1, 100000000000) UNION ALL {ENDLESS}"

    with pytest.raises(InvalidRequest, match="twice") as kept:
        run(lakehouse, f"MERGE INTO k USING ({twice}) AS s ON k.id = s.id WHEN MATCHED THEN UPDATE SET v = 1")

    assert ended()
    assert "would change" in str(kept.value)


def test_a_result_that_does_not_fit_leaves_nothing(settings: Settings, ended: Callable[[], bool]) -> None:
    small = msgspec.structs.replace(settings, results=msgspec.structs.replace(settings.results, max_bytes=100_000))
    sql = "SELECT value AS id FROM generate_series(1, 100000000000)"
    with Lakehouse.open(small) as lakehouse:
        planned = lakehouse.queries.plan(Request(rights=UNRESTRICTED, sql=sql))

        with pytest.raises(LimitExceeded) as kept:
            lakehouse.queries.store(planned, 1000)

        assert ended()
        states = run(lakehouse, f"SELECT state FROM system.queries WHERE sql = '{sql}'")
    assert states.column("state").to_pylist() == ["cancelled"]
    assert "larger than the 100000 bytes" in str(kept.value)


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
