"""Temporary tables: whose they are, what they may cost, and when they go."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from flightserver.errors import AlreadyExists, InvalidRequest, LimitExceeded, NotFound, SchemaDrift, SchemaMismatch
from flightserver.query.temporary import Owner, TemporaryTables
from flightserver.tables.requests import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

ADA = Owner("ada", "", "ipv4:10.0.0.1:5000")
MIB = 1024 * 1024


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def temporary(clock: Clock) -> Iterator[TemporaryTables]:
    opened = TemporaryTables(max_bytes=MIB, idle_seconds=60, clock=clock)
    yield opened
    opened.close()
    assert opened.bytes == 0


def numbers(*values: int) -> pa.Table:
    return pa.table({"n": pa.array(values, pa.int64())})


def write(temporary: TemporaryTables, owner: Owner, name: str, mode: Mode, table: pa.Table) -> int:
    return temporary.write(owner, name, mode, table.schema, table.to_batches())


def held(temporary: TemporaryTables, owner: Owner) -> dict[str, list[Any]]:
    """All rows that an owner sees, by table."""
    given = temporary.given(owner)
    return {
        name: pa.Table.from_batches(batches, schema=schema).to_pylist() for name, (schema, batches) in given.items()
    }


def ns(*values: int) -> list[dict[str, int]]:
    return [{"n": value} for value in values]


@pytest.mark.parametrize(
    ("mode", "first", "second"),
    [
        (Mode.CREATE, [1], AlreadyExists),
        (Mode.APPEND, NotFound, [1, 2]),
        (Mode.REPLACE, [1], [2]),
        (Mode.CREATE_APPEND, [1], [1, 2]),
    ],
)
def test_modes_mean_what_they_mean_for_datasets(
    temporary: TemporaryTables, mode: Mode, first: Any, second: Any
) -> None:
    if isinstance(first, list):
        assert write(temporary, ADA, "t", mode, numbers(1)) == 1
    else:
        with pytest.raises(first, match="temporary table 't' doesn't exist"):
            write(temporary, ADA, "t", mode, numbers(1))
        write(temporary, ADA, "t", Mode.CREATE, numbers(1))
    assert held(temporary, ADA) == {"t": ns(1)}

    if isinstance(second, list):
        assert write(temporary, ADA, "t", mode, numbers(2)) == 1
        assert held(temporary, ADA) == {"t": ns(*second)}
    else:
        with pytest.raises(second, match="temporary table 't' exists already"):
            write(temporary, ADA, "t", mode, numbers(2))
        assert held(temporary, ADA) == {"t": ns(1)}


@pytest.mark.parametrize(
    "other",
    [
        Owner("bob", "", ADA.connection),
        Owner("ada", "", "ipv4:10.0.0.1:5001"),
        Owner("ada", "s", ""),
        Owner("ada", "", ""),
    ],
    ids=["user", "connection", "session", "nobody"],
)
def test_nobody_else_sees_a_table_or_drops_it(temporary: TemporaryTables, other: Owner) -> None:
    write(temporary, ADA, "t", Mode.CREATE, numbers(1))

    assert held(temporary, other) == {}
    if other.session or other.connection:
        assert not temporary.drop(other, "t")
    temporary.forget(other)
    assert held(temporary, ADA) == {"t": ns(1)}


def test_a_session_sees_the_tables_of_its_connection_and_its_own_win(temporary: TemporaryTables) -> None:
    write(temporary, ADA, "t", Mode.CREATE, numbers(1))
    session = ADA._replace(session="s")
    write(temporary, session, "u", Mode.CREATE, numbers(2))
    write(temporary, session, "t", Mode.APPEND, numbers(3))

    assert held(temporary, session) == {"t": ns(1, 3), "u": ns(2)}
    assert held(temporary, ADA) == {"t": ns(1, 3)}
    moved = session._replace(connection="ipv4:10.0.0.1:6000")
    write(temporary, moved, "t", Mode.CREATE, numbers(4))
    assert held(temporary, session) == {"t": ns(4), "u": ns(2)}
    assert temporary.drop(session, "t")
    assert held(temporary, session) == {"t": ns(1, 3), "u": ns(2)}
    temporary.forget(session)
    assert held(temporary, session) == {}


def test_rows_that_do_not_fit_are_refused_and_leave_the_table_as_it_was(temporary: TemporaryTables) -> None:
    write(temporary, ADA, "t", Mode.CREATE, numbers(1))
    before = temporary.bytes

    with pytest.raises(SchemaDrift, match=r"don't fit temporary table 't'.*\"m\""):
        write(temporary, ADA, "t", Mode.APPEND, pa.table({"n": [1], "m": [2]}))
    with pytest.raises(SchemaMismatch, match="no columns"):
        write(temporary, ADA, "t", Mode.REPLACE, pa.table({}))
    with pytest.raises(InvalidRequest, match="can't name"):
        write(temporary, ADA, "a/b", Mode.CREATE, numbers(1))
    with pytest.raises(InvalidRequest, match=r"'__target' can't name a temporary table: .* are reserved"):
        write(temporary, ADA, "__target", Mode.CREATE, numbers(1))
    with pytest.raises(InvalidRequest, match="this call has neither"):
        write(temporary, Owner("ada", "", ""), "t", Mode.CREATE, numbers(1))

    assert held(temporary, ADA) == {"t": ns(1)}
    assert temporary.bytes == before


def test_rows_have_the_types_of_the_table_that_they_are_added_to(temporary: TemporaryTables) -> None:
    write(temporary, ADA, "t", Mode.CREATE, pa.table({"n": pa.array([1], pa.int64()), "s": pa.array(["a"])}))

    write(temporary, ADA, "t", Mode.APPEND, pa.table({"N": pa.array([2], pa.int8())}))

    assert held(temporary, ADA) == {"t": [{"n": 1, "s": "a"}, {"n": 2, "s": None}]}


def test_a_stream_that_breaks_leaves_nothing(temporary: TemporaryTables) -> None:
    table = numbers(*range(1000))

    def breaking() -> Iterator[pa.RecordBatch]:
        yield from table.to_batches()
        raise InvalidRequest("the stream broke")

    with pytest.raises(InvalidRequest, match="broke"):
        temporary.write(ADA, "t", Mode.CREATE, table.schema, breaking())

    assert held(temporary, ADA) == {}
    assert temporary.bytes == 0


def test_all_together_have_a_limit_and_a_drop_makes_room(temporary: TemporaryTables) -> None:
    most = numbers(*range(100_000))  # 800 kB
    write(temporary, ADA, "t", Mode.CREATE, most)
    other = Owner("bob", "", "ipv4:10.0.0.2:5000")

    with pytest.raises(
        LimitExceeded, match=r"together have 80\d,\d{3} of 1,048,576 \(query\.temporary_bytes\): drop some"
    ):
        write(temporary, other, "t", Mode.CREATE, most)

    assert held(temporary, other) == {}
    assert temporary.drop(ADA, "t")
    assert not temporary.drop(ADA, "t")
    assert temporary.bytes == 0
    assert write(temporary, other, "t", Mode.CREATE, most) == 100_000


def test_a_table_costs_something_though_it_has_no_rows(temporary: TemporaryTables) -> None:
    tables = [f"t{number}" for number in range(1000)]

    with pytest.raises(LimitExceeded):
        [write(temporary, ADA, name, Mode.CREATE, numbers()) for name in tables]

    assert 100 < len(held(temporary, ADA)) < 256


def test_what_was_appended_and_replaced_is_counted_once(temporary: TemporaryTables) -> None:
    for _ in range(20):
        write(temporary, ADA, "t", Mode.REPLACE, numbers(*range(40_000)))
    for _ in range(2):
        write(temporary, ADA, "t", Mode.APPEND, numbers(*range(30_000)))

    assert 800_000 <= temporary.bytes < 820_000


def test_small_batches_are_gathered(temporary: TemporaryTables) -> None:
    batches = [pa.record_batch({"n": pa.array([n], pa.int64())}) for n in range(3000)]

    temporary.write(ADA, "t", Mode.CREATE, batches[0].schema, batches)

    _, found = temporary.given(ADA)["t"]
    assert len(found) == 3
    assert pa.Table.from_batches(found).equals(numbers(*range(3000)).combine_chunks())


def test_tables_go_when_their_owner_sends_nothing_for_long(temporary: TemporaryTables, clock: Clock) -> None:
    other = Owner("bob", "s", "")
    write(temporary, ADA, "t", Mode.CREATE, numbers(1))
    write(temporary, other, "t", Mode.CREATE, numbers(2))
    clock.now = 50.0
    assert held(temporary, other) == {"t": ns(2)}
    clock.now = 61.0

    assert held(temporary, ADA) == {}
    assert write(temporary, ADA, "t", Mode.CREATE, numbers(3)) == 1
    clock.now = 122.0
    temporary.expire()
    assert temporary.bytes == 0


def test_tables_go_though_nobody_asks_for_any() -> None:
    temporary = TemporaryTables(max_bytes=MIB, idle_seconds=0.2)
    write(temporary, ADA, "t", Mode.CREATE, numbers(1))

    deadline = time.monotonic() + 30
    while temporary.bytes and time.monotonic() < deadline:
        time.sleep(0.01)

    assert temporary.bytes == 0
    temporary.close()


def test_appends_at_once_all_count(temporary: TemporaryTables) -> None:
    write(temporary, ADA, "t", Mode.CREATE, numbers())
    threads = [threading.Thread(target=write, args=(temporary, ADA, "t", Mode.APPEND, numbers(n))) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(row["n"] for row in held(temporary, ADA)["t"]) == list(range(20))
