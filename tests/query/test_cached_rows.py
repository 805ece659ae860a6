"""Rows in memory are those of the files, and follow changes without reading the files again."""

from __future__ import annotations

import datetime as dt
import gc
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from query.caching import CHUNK_ROWS, PARTITIONS, Cached, as_table, in_files, served
from tables.compacting import KEY, change, compact, numbered, remove

from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.query.cached_chunks import buffer_bytes
from flightserver.tables.definitions import Definition
from flightserver.tables.versions import Versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def cached() -> Iterator[Cached]:
    with Cached.open(admit_uses=0) as opened:
        yield opened


def alter(cached: Cached, change: Callable[[Definition], Definition]) -> None:
    """What ALTER TABLE commits."""
    update = change(Definition.of(cached.dataset())).update()
    assert update is not None
    cached.lake.catalog.commit(Transaction(Operation(new_ulid(), "alter table"), (update,)))


def assert_served_as_in_files(cached: Cached) -> None:
    dataset = cached.dataset()
    found = served(cached.cache, dataset)
    assert found is not None
    assert found.equals(in_files(cached.lake, dataset))


changes = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 150)),
    st.tuples(st.just("update"), st.integers(2, 9)),
    st.tuples(st.just("delete"), st.integers(2, 9)),
    st.tuples(st.just("delete first"), st.integers(1, 200)),
    st.tuples(st.just("compact"), st.just(0)),
)


def carry_out(cached: Cached, what: str, number: int, first: int) -> None:
    """One change. Ids of new rows begin at `first`; every so-maniest row is changed, or the first so many."""
    if what == "append":
        cached.write(numbered(first, number))
    elif what == "update":
        change(cached.lake, lambda ids: ids % number == 0, numbered(first, 40))
    elif what == "delete":
        change(cached.lake, lambda ids: ids % number == 1)
    elif what == "delete first":
        change(cached.lake, lambda ids: ids < number)
    else:
        compact(cached.lake)


@given(history=st.lists(changes, min_size=1, max_size=12), look_at=st.sets(st.integers(0, 11)))
def test_after_any_history_rows_in_memory_are_those_in_files(history: list[tuple[str, int]], look_at: set[int]) -> None:
    """Not after each change, so that several are folded at once."""
    with Cached.open(admit_uses=0) as cached:
        cached.write(numbered(0, 200))
        cached.cache.pin(cached.dataset())

        for step, (what, number) in enumerate(history):
            carry_out(cached, what, number, first=1000 * (step + 1))
            if step in look_at:
                assert_served_as_in_files(cached)

        assert_served_as_in_files(cached)


def test_a_newer_version_is_folded_in_without_reading_what_is_held(cached: Cached) -> None:
    cached.write(numbered(0, 1000))
    cached.cache.pin(cached.dataset())
    base = cached.dataset().segments[0]
    cached.objects.opened.clear()

    change(cached.lake, lambda ids: ids % 100 == 7, numbered(5000, 3))
    cached.objects.opened.clear()
    found = served(cached.cache, cached.dataset())

    new = cached.dataset().segments[1]
    delta = cached.dataset().deltas[0]
    assert not [key for key in cached.objects.opened if key.startswith(base.directory)]
    assert set(cached.objects.opened) == {*new.object_keys(), delta.key}
    assert found is not None
    assert found.equals(in_files(cached.lake, cached.dataset()))


def test_a_compaction_is_followed_by_reading_what_it_wrote(cached: Cached) -> None:
    for number in range(5):
        cached.write(numbered(100 * number, 100))
    remove(cached.lake, 3, 140, 499)
    cached.cache.pin(cached.dataset())

    compact(cached.lake)

    assert_served_as_in_files(cached)


def test_all_rows_may_go(cached: Cached) -> None:
    cached.write(numbered(0, 300))
    cached.cache.pin(cached.dataset())

    change(cached.lake, lambda ids: ids >= 0)

    assert_served_as_in_files(cached)
    [entry] = cached.cache.entries()
    assert (entry.bytes, sum(map(len, entry.rows.partitions))) == (0, 0)


def test_many_appends_of_a_row_leave_few_batches(cached: Cached) -> None:
    cached.write(numbered(0, 200))
    cached.cache.pin(cached.dataset())

    for number in range(100):
        cached.write(numbered(1000 + number, 1))
        assert cached.use() is not None

    assert_served_as_in_files(cached)
    [entry] = cached.cache.entries()
    assert len(entry.rows.chunks) < 30


def test_partitions_differ_by_a_row_at_most() -> None:
    rows = 30_001
    with Cached.open(chunk_rows=7000) as cached:
        cached.write(numbered(0, rows))

        entry = cached.cache.pin(cached.dataset())

        sizes = [sum(batch.num_rows for batch in partition) for partition in entry.rows.partitions]
        assert sizes == [rows // PARTITIONS, rows // PARTITIONS, rows // PARTITIONS + 1]
        assert as_table(entry.rows.partitions, cached.dataset()).equals(in_files(cached.lake, cached.dataset()))


def test_few_rows_make_one_partition(cached: Cached) -> None:
    cached.write(numbered(0, 3 * CHUNK_ROWS))

    assert len(cached.cache.pin(cached.dataset()).rows.partitions) == 1


def test_a_column_of_short_strings_is_held_as_views_and_stays_so(cached: Cached) -> None:
    short = pa.table({"id": [1, 2], "code": ["twelve bytes", None], "text": ["thirteen bytes", ""]})
    cached.write(short)
    cached.cache.pin(cached.dataset())

    cached.write(pa.table({"id": [3], "code": ["this one has more than twelve"], "text": ["x"]}))

    assert_served_as_in_files(cached)
    [entry] = cached.cache.entries()
    assert [str(kind) for kind in entry.rows.schema.types] == ["int64", "string_view", "string"]


def many_types(rows: int) -> pa.Table:
    """Rows of columns whose buffers differ in kind and number."""
    numbers = range(rows)
    return pa.table(
        {
            "id": numbers,
            "flag": [None if number % 5 == 0 else number % 2 == 0 for number in numbers],
            "code": [f"c{number % 10}" for number in numbers],
            "text": [f"a text that is longer {number}" for number in numbers],
            "blob": pa.array([b"\x00" * (number % 20) for number in numbers]),
            "tags": [[number] * (number % 3) for number in numbers],
            "pair": [{"a": number, "b": str(number)} for number in numbers],
            "day": pa.array([dt.date(2026, 1, 1 + number % 28) for number in numbers]),
            "nothing": pa.nulls(rows, pa.string()),
        }
    )


def test_bytes_are_what_arrow_has_allocated() -> None:
    """Arrow rounds each buffer up to 64 bytes, which of 9 columns in chunks of 5,000 rows is next to nothing."""
    with Cached.open(chunk_rows=5000, admit_uses=0) as cached:
        cached.write(many_types(50_000))
        change(cached.lake, lambda ids: ids % 3 == 0)
        gc.collect()
        before = pa.total_allocated_bytes()

        entry = cached.cache.pin(cached.dataset())
        gc.collect()
        loaded, counted = pa.total_allocated_bytes() - before, entry.bytes
        change(cached.lake, lambda ids: ids % 7 == 0)
        assert cached.use() is not None
        gc.collect()
        folded = pa.total_allocated_bytes() - before

        assert counted == pytest.approx(loaded, rel=0.02)
        assert entry.bytes == pytest.approx(folded, rel=0.02)
        assert entry.bytes < counted
        assert entry.bytes == buffer_bytes([chunk.batch for chunk in entry.rows.chunks])


def test_every_type_is_held_as_it_is_in_files() -> None:
    with Cached.open(chunk_rows=700, admit_uses=0) as cached:
        cached.write(many_types(2000))
        cached.cache.pin(cached.dataset())

        change(cached.lake, lambda ids: ids % 7 == 0)

        assert_served_as_in_files(cached)


def test_renamed_and_dropped_columns_need_no_file(cached: Cached) -> None:
    cached.write(pa.table({"id": [1, 2, 3], "a": ["x", "y", "z"], "b": [0.5, 1.5, None]}))
    cached.cache.pin(cached.dataset())
    cached.objects.opened.clear()

    alter(cached, lambda now: now.rename_column("a", "c").drop_column("b"))
    found = served(cached.cache, cached.dataset())

    assert cached.objects.opened == []
    assert found is not None
    assert found.to_pydict() == {"id": [1, 2, 3], "c": ["x", "y", "z"]}


def test_a_wider_type_is_a_cast(cached: Cached) -> None:
    cached.write(pa.table({"id": [1, 2], "n": pa.array([7, None], pa.int32())}))
    cached.cache.pin(cached.dataset())
    cached.objects.opened.clear()

    alter(cached, lambda now: now.set_type("n", pa.int64()))
    found = served(cached.cache, cached.dataset())

    assert cached.objects.opened == []
    assert found is not None
    assert found.schema.field("n").type == pa.int64()
    assert found.column("n").to_pylist() == [7, None]


def test_an_added_column_is_null_and_a_dropped_one_of_its_name_does_not_come_back(cached: Cached) -> None:
    cached.write(pa.table({"id": [1, 2], "a": ["x", "y"]}))
    cached.cache.pin(cached.dataset())

    alter(cached, lambda now: now.drop_column("a"))
    assert cached.use() is not None
    alter(cached, lambda now: now.add_column(pa.field("a", pa.string())))
    cached.write(pa.table({"id": [3], "a": ["new"]}))

    found = cached.use()
    assert found is not None
    assert found.to_pydict() == {"id": [1, 2, 3], "a": [None, None, "new"]}
    assert_served_as_in_files(cached)


def restore(cached: Cached, version: int) -> None:
    Versions(cached.lake.catalog, cached.lake.buckets).restore(KEY, version, Operation(new_ulid(), "restore"))


def test_rows_that_a_restored_version_has_again_are_loaded(cached: Cached) -> None:
    cached.write(numbered(0, 300))
    version = cached.dataset().version
    remove(cached.lake, 2, 250)
    cached.cache.pin(cached.dataset())

    restore(cached, version)

    assert_served_as_in_files(cached)
    assert cached.dataset().rows == 300


def test_a_column_that_a_restored_version_has_again_is_loaded(cached: Cached) -> None:
    cached.write(pa.table({"id": [1, 2, 3], "a": ["x", "y", "z"]}))
    version = cached.dataset().version
    alter(cached, lambda now: now.drop_column("a"))
    cached.cache.pin(cached.dataset())

    restore(cached, version)

    assert cached.use() is None
    cached.cache.pin(cached.dataset())
    assert_served_as_in_files(cached)
    assert cached.dataset().rows == 3
