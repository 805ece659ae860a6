"""Partitions are computed at once and read in order."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pytest
from query.asking import rows, run

from flightserver.query.inorder import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from datafusion import RecordBatchStream

    from flightserver.lakehouse import Lakehouse
    from flightserver.query.watchdog import Watchdog

ROW_BYTES = 8


@dataclass(frozen=True)
class Batch:
    """As the engine's: becomes pyarrow's when it is asked."""

    values: Sequence[int]

    def to_pyarrow(self) -> pa.RecordBatch:
        return pa.record_batch({"value": pa.array(self.values, pa.int64())})


def streams(*partitions: Iterable[Batch]) -> list[RecordBatchStream]:
    """What the engine would give for these partitions."""
    return [cast("Any", partition) for partition in partitions]


def values(batches: Iterable[pa.RecordBatch]) -> list[int]:
    return [value for batch in batches for value in batch.column(0).to_pylist()]


def partition_threads() -> int:
    return sum(thread.name == "partition" for thread in threading.enumerate())


@pytest.fixture
def watchdog(lakehouse: Lakehouse) -> Watchdog:
    return lakehouse.watchdog


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_batches_come_in_the_order_of_partitions(watchdog: Watchdog, threads: int) -> None:
    parts = [[Batch([10 * part + place]) for place in range(part)] for part in range(6)]

    found = values(in_order(streams(*parts), watchdog, threads))

    assert found == [10 * part + place for part in range(6) for place in range(part)]
    assert partition_threads() == 0


def test_later_partitions_are_computed_while_the_first_is(watchdog: Watchdog) -> None:
    reached = threading.Event()

    def first() -> Iterator[Batch]:
        assert reached.wait(30)
        yield Batch([1])

    def second() -> Iterator[Batch]:
        reached.set()
        yield Batch([2])

    assert values(in_order(streams(first(), second()), watchdog, 2)) == [1, 2]


def test_only_so_much_is_laid_aside(watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flightserver.query.inorder._AHEAD_BYTES", 1000 * ROW_BYTES)
    made: list[int] = []
    full = threading.Event()

    def second() -> Iterator[Batch]:
        for number in range(100):
            made.append(number)
            if number == 10:  # ten are laid aside, this one waits
                full.set()
            yield Batch(range(100))

    batches = in_order(streams([Batch([1])], second()), watchdog, 2)
    next(batches)
    assert full.wait(30)
    assert made == list(range(11))

    assert len(values(batches)) == 100 * 100


def test_an_error_is_raised_in_its_place(watchdog: Watchdog) -> None:
    def second() -> Iterator[Batch]:
        yield Batch([2])
        msg = "the second partition fails"
        raise ValueError(msg)

    batches = in_order(streams([Batch([1])], second(), [Batch([3])]), watchdog, 3)

    assert values(itertools.islice(batches, 2)) == [1, 2]
    with pytest.raises(ValueError, match="the second partition fails"):
        next(batches)
    assert partition_threads() == 0


def test_a_panic_in_a_partition_ahead_is_raised_in_its_place(watchdog: Watchdog) -> None:
    """The engine's binding raises panics as something that is no `Exception`."""

    class Panic(BaseException):
        pass

    def second() -> Iterator[Batch]:
        yield Batch([2])
        raise Panic

    batches = in_order(streams([Batch([1])], second()), watchdog, 2)

    assert values(itertools.islice(batches, 2)) == [1, 2]
    with pytest.raises(Panic):
        next(batches)
    assert partition_threads() == 0


@pytest.mark.parametrize("computes", [lambda: Batch([2]), lambda: Batch(range(10**6))], ids=["little", "much"])
def test_who_stops_reading_stops_the_threads(watchdog: Watchdog, computes: Callable[[], Batch]) -> None:
    def endless() -> Iterator[Batch]:
        while True:
            yield computes()

    batches = in_order(streams([Batch([1]), Batch([1])], endless(), endless()), watchdog, 3)
    next(batches)
    batches.close()

    assert partition_threads() == 0


def test_rows_of_a_table_come_in_the_order_in_which_they_were_written(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE numbers AS SELECT value AS id FROM generate_series(0, 99999)")
    for start in range(100_000, 600_000, 100_000):
        run(lakehouse, f"INSERT INTO numbers SELECT value AS id FROM generate_series({start}, {start + 99_999})")

    for _ in range(10):
        found = run(lakehouse, "SELECT id FROM numbers WHERE id % 3 = 0")
        assert found["id"].to_pylist() == list(range(0, 600_000, 3))


def test_a_limit_takes_the_first_rows(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE numbers AS SELECT value AS id, value % 7 AS day FROM generate_series(0, 99999)")
    run(lakehouse, "INSERT INTO numbers SELECT value, value % 7 FROM generate_series(100000, 199999)")
    run(lakehouse, "CREATE VIEW tuesdays AS SELECT id FROM numbers WHERE day = 2")

    for _ in range(10):
        assert rows(lakehouse, "SELECT id FROM numbers LIMIT 3") == [(0,), (1,), (2,)]
        assert rows(lakehouse, "SELECT id FROM numbers LIMIT 3 OFFSET 99998") == [(99_998,), (99_999,), (100_000,)]
        assert rows(lakehouse, "SELECT id FROM numbers WHERE day = 2 LIMIT 2 OFFSET 1") == [(9,), (16,)]
        assert rows(lakehouse, "SELECT id + 1 FROM tuesdays LIMIT 2") == [(3,), (10,)]
        assert rows(lakehouse, "SELECT id FROM numbers LIMIT 5 OFFSET 199998") == [(199_998,), (199_999,)]
    assert rows(lakehouse, "SELECT id FROM numbers LIMIT 0") == []
    assert run(lakehouse, "SELECT id FROM numbers LIMIT 5000")["id"].to_pylist() == list(range(5000))
    assert rows(lakehouse, "SELECT id FROM numbers ORDER BY id DESC LIMIT 2") == [(199_999,), (199_998,)]
