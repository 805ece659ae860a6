"""The watchdog against the real engine: statements stop, with the right error, and nothing arrives late."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from datafusion import SessionContext

from flightserver.errors import Cancelled, QueryTimeout
from flightserver.query.running import QueryHandle, RunningQueries
from flightserver.query.watchdog import StatementInterrupted, Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Coverage traces by a function that CPython 3.11 calls in a loop while another thread has an asynchronous exception
# pending; threads that wait for each other then never get on. Servers are not traced.
pytestmark = pytest.mark.no_cover

ENDLESS_COUNT = "SELECT count(*) FROM generate_series(1, 10000000000) t(x) WHERE x % 7 = 3"
ENDLESS_ROWS = "SELECT x FROM generate_series(1, 100000000000) t(x)"


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    dog = Watchdog()
    yield dog
    dog.stop()


@pytest.fixture
def handle() -> QueryHandle:
    return RunningQueries().record("SELECT 1", user="", kind="query")


def sleep_briefly() -> None:
    time.sleep(0.01)


def collect() -> object:
    return SessionContext().sql(ENDLESS_COUNT).collect()


def read_one_batch() -> object:
    return pa.RecordBatchReader.from_stream(SessionContext().sql(ENDLESS_COUNT)).read_next_batch()


def compute_in_python() -> object:
    number = 0
    while True:
        number += 1


EVERY_WAY = pytest.mark.parametrize("work", [collect, read_one_batch, compute_in_python])


@EVERY_WAY
def test_a_statement_over_its_time_is_interrupted_inside_the_engine(
    watchdog: Watchdog, handle: QueryHandle, work: Callable[[], object]
) -> None:
    guard = watchdog.guard(handle, timeout_seconds=0.1)
    with pytest.raises(QueryTimeout, match=r"longer than its limit of 0\.1 seconds"):
        guard.run(work)


@EVERY_WAY
def test_a_statement_that_is_cancelled_is_interrupted_inside_the_engine(
    watchdog: Watchdog, handle: QueryHandle, work: Callable[[], object]
) -> None:
    guard = watchdog.guard(handle)
    threading.Timer(0.1, handle.cancel).start()
    with pytest.raises(Cancelled, match=f"statement {handle.id} was cancelled"):
        guard.run(work)


def test_a_statement_whose_client_went_away_is_interrupted(watchdog: Watchdog, handle: QueryHandle) -> None:
    gone = threading.Event()
    guard = watchdog.guard(handle, is_cancelled=gone.is_set)
    threading.Timer(0.1, gone.set).start()
    with pytest.raises(Cancelled, match="the client cancelled the statement or went away"):
        guard.run(collect)


def test_a_stream_is_interrupted_between_or_within_its_batches(watchdog: Watchdog, handle: QueryHandle) -> None:
    guard = watchdog.guard(handle, timeout_seconds=0.2)
    batches = guard.iterate(pa.RecordBatchReader.from_stream(SessionContext().sql(ENDLESS_ROWS)))
    assert next(batches).num_rows > 0
    with pytest.raises(QueryTimeout):
        deque(batches, maxlen=0)


def test_a_stream_may_be_continued_on_another_thread(watchdog: Watchdog, handle: QueryHandle) -> None:
    batches = watchdog.guard(handle, 60).iterate(SessionContext().sql(ENDLESS_ROWS).execute_stream())
    rows: list[int] = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: rows.append(next(batches).to_pyarrow().num_rows))
        thread.start()
        thread.join()
    assert len(rows) == 3
    handle.cancel()
    with pytest.raises(Cancelled):
        next(batches)


def test_the_time_between_calls_does_not_count(watchdog: Watchdog, handle: QueryHandle) -> None:
    guard = watchdog.guard(handle, timeout_seconds=0.3)
    items = []
    for item in guard.iterate(range(5)):
        time.sleep(0.1)
        items.append(item)
    assert items == [0, 1, 2, 3, 4]


def test_the_time_of_all_calls_counts_together(watchdog: Watchdog, handle: QueryHandle) -> None:
    guard = watchdog.guard(handle, timeout_seconds=0.2)
    with pytest.raises(QueryTimeout):
        deque((guard.run(sleep_briefly) for _ in range(100)), maxlen=0)


def test_a_cancelled_statement_does_not_begin_another_call(watchdog: Watchdog, handle: QueryHandle) -> None:
    guard = watchdog.guard(handle)
    guard.check()
    handle.cancel()
    called: list[int] = []
    with pytest.raises(Cancelled):
        guard.check()
    with pytest.raises(Cancelled):
        guard.run(lambda: called.append(1))
    assert called == []


def test_results_and_errors_of_a_call_pass_through(watchdog: Watchdog, handle: QueryHandle) -> None:
    guard = watchdog.guard(handle, 60)
    assert guard.run(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        guard.run(lambda: 1 / 0)
    assert list(guard.iterate([])) == []


def test_a_guarded_call_within_a_guarded_call_is_part_of_it(watchdog: Watchdog, handle: QueryHandle) -> None:
    guard = watchdog.guard(handle, timeout_seconds=0.1)
    inner = watchdog.guard(handle, timeout_seconds=60)
    with pytest.raises(QueryTimeout, match=r"limit of 0\.1 seconds"):
        guard.run(lambda: inner.run(compute_in_python))


def test_the_client_is_asked_only_while_a_call_runs(watchdog: Watchdog, handle: QueryHandle) -> None:
    running = False
    asked_outside: list[int] = []
    asked = 0

    def is_cancelled() -> bool:
        nonlocal asked
        asked += 1
        if not running:
            asked_outside.append(asked)
        return False

    guard = watchdog.guard(handle, is_cancelled=is_cancelled)
    for _ in range(3):
        running = True
        guard.run(lambda: time.sleep(0.15))
        running = False
        time.sleep(0.15)
    assert asked > 0
    assert asked_outside == []


def test_an_interruption_that_code_swallows_still_ends_the_statement(watchdog: Watchdog, handle: QueryHandle) -> None:
    def swallow() -> str:
        try:
            compute_in_python()
        except StatementInterrupted:
            return "as if nothing had happened"
        return ""

    with pytest.raises(QueryTimeout):
        watchdog.guard(handle, timeout_seconds=0.1).run(swallow)


def test_other_threads_are_not_disturbed(watchdog: Watchdog, handle: QueryHandle) -> None:
    finished: list[object] = []
    other = RunningQueries().record("SELECT 2", user="", kind="query")

    def work() -> None:
        sql = "SELECT sum(x) FROM generate_series(1, 20000000) t(x)"
        finished.append(watchdog.guard(other, 60).run(SessionContext().sql(sql).to_pydict))

    thread = threading.Thread(target=work)
    thread.start()
    with pytest.raises(QueryTimeout):
        watchdog.guard(handle, timeout_seconds=0.1).run(compute_in_python)
    thread.join()
    assert [list(result.values()) for result in finished if isinstance(result, dict)] == [[[200000010000000]]]


def test_calls_after_a_long_silence_are_watched_again(watchdog: Watchdog, handle: QueryHandle) -> None:
    time.sleep(1.3)  # The watchdog falls asleep after a second without calls.
    with pytest.raises(QueryTimeout):
        watchdog.guard(handle, timeout_seconds=0.1).run(compute_in_python)


def test_no_exception_arrives_outside_of_guarded_calls(watchdog: Watchdog) -> None:
    stray: list[BaseException] = []
    cancelled: list[int] = []

    def cancelled_at_some_moment(number: int) -> None:
        handle = RunningQueries().record("SELECT 1", user="", kind="query")
        guard = watchdog.guard(handle)
        timer = threading.Timer(number % 13 * 0.003, handle.cancel)
        timer.start()
        try:
            while True:
                guard.run(lambda: None)
        except Cancelled:
            cancelled.append(number)
        for _ in range(100):
            list(range(10))
        timer.join()

    def work(first: int) -> None:
        try:
            for number in range(first, 500, 5):
                cancelled_at_some_moment(number)
        except StatementInterrupted as error:
            stray.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stray == []
    assert sorted(cancelled) == list(range(500))
