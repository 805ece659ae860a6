"""The registry of statements: what `system.queries` shows, and how a statement is asked to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flightserver.errors import Cancelled, NotFound, QueryTimeout
from flightserver.query.running import MAX_SQL_CHARACTERS, QueryState, RunningQueries, RunningQuery

if TYPE_CHECKING:
    from collections.abc import Generator


def only(queries: RunningQueries) -> RunningQuery:
    [entry] = queries.entries()
    return entry


def test_a_statement_is_queued_then_running_then_finished() -> None:
    queries = RunningQueries()
    with queries.record("SELECT 1", user="ada", kind="query") as handle:
        queued = only(queries)
        handle.run()
        handle.progress(10, 100)
        handle.progress(5, 50)
        running = only(queries)
    finished = only(queries)
    assert [entry.state.value for entry in (queued, running, finished)] == ["queued", "running", "finished"]
    assert (running.rows, running.bytes, running.finished) == (15, 150, None)
    assert (finished.id, finished.sql, finished.user, finished.kind) == (handle.id, "SELECT 1", "ada", "query")
    assert finished.finished is not None
    assert finished.started <= finished.finished
    assert finished.error is None


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (QueryTimeout("too long"), QueryState.FAILED, "FS-4001"),
        (Cancelled("stopped"), QueryState.CANCELLED, "FS-4002"),
        (ValueError("a defect"), QueryState.FAILED, "FS-5001"),
    ],
)
def test_an_error_ends_a_statement_with_its_code(error: Exception, state: QueryState, code: str) -> None:
    queries = RunningQueries()
    with pytest.raises(type(error)), queries.record("SELECT 1", user="", kind="query"):
        raise error
    assert (only(queries).state, only(queries).error) == (state, code)


def test_a_stream_that_its_reader_closes_early_is_cancelled() -> None:
    queries = RunningQueries()

    def stream() -> Generator[int, None, None]:
        with queries.record("SELECT 1", user="", kind="query") as handle:
            handle.run()
            yield 1
            yield 2

    batches = stream()
    next(batches)
    batches.close()
    assert only(queries).state is QueryState.CANCELLED


def test_a_statement_that_has_ended_stays_as_it_is() -> None:
    queries = RunningQueries()
    handle = queries.record("SELECT 1", user="", kind="query")
    handle.finish()
    before = only(queries)
    handle.fail(ValueError("late"))
    handle.run()
    assert only(queries) == before


def test_cancel_asks_a_statement_to_stop_and_its_runner_ends_it() -> None:
    queries = RunningQueries()
    handle = queries.record("SELECT 1", user="", kind="query")
    before = handle.cancelled
    assert queries.cancel(handle.id)
    assert (before, handle.cancelled) == (False, True)
    assert only(queries).state is QueryState.QUEUED


def test_cancelling_a_statement_that_has_ended_says_that_it_has() -> None:
    queries = RunningQueries()
    handle = queries.record("SELECT 1", user="", kind="query")
    handle.finish()
    assert not queries.cancel(handle.id)


def test_cancelling_an_unknown_statement_is_not_found() -> None:
    with pytest.raises(NotFound, match=r"no statement 'xyz' runs or has run lately; system\.queries lists them"):
        RunningQueries().cancel("xyz")


def test_all_statements_can_be_asked_to_stop() -> None:
    queries = RunningQueries()
    handles = [queries.record("SELECT 1", user="", kind="query") for _ in range(3)]
    handles[0].finish()
    assert queries.cancel_all() == 2
    assert [handle.cancelled for handle in handles] == [False, True, True]


def test_every_active_statement_and_the_last_1_000_ended_ones_are_listed_newest_first() -> None:
    queries = RunningQueries()
    active = [queries.record(f"active {number}", user="", kind="query") for number in range(2)]
    for number in range(1_100):
        queries.record(f"ended {number}", user="", kind="query").finish()
    texts = [entry.sql for entry in queries.entries()]
    assert texts == ["active 1", "active 0", *(f"ended {number}" for number in range(1_099, 99, -1))]
    assert len(active) == 2


def test_a_long_statement_is_cut_for_display() -> None:
    queries = RunningQueries()
    queries.record("x" * 10_000, user="", kind="query")
    assert only(queries).sql == "x" * MAX_SQL_CHARACTERS
