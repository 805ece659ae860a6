"""Pages of stored results: any page, of any size, in any order, is exactly its rows."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from query.conftest import MIB, SCHEMA, keep, numbered

from flightserver.errors import InvalidRequest, NotFound
from flightserver.query.result_file import MAX_BATCH_ROWS
from flightserver.query.results import MAX_PAGE_ROWS, ResultStore, count_pages

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


@pytest.fixture
def shared(open_store: Callable[..., ResultStore]) -> ResultStore:
    return open_store()


def test_a_result_of_100_000_rows_has_1_000_pages_of_100_rows(open_store: Callable[..., ResultStore]) -> None:
    table = pa.Table.from_batches([numbered(100_000)])
    store = open_store()
    stored = store.store(SCHEMA, table.to_batches(max_chunksize=8192), 100)
    assert (stored.rows, stored.pages, stored.page_rows) == (100_000, 1_000, 100)
    for number in (step * 617 % 1_000 for step in range(1_000)):
        schema, page = store.page(stored.query_id, number)
        assert schema == SCHEMA
        assert pa.Table.from_batches(page, schema) == table.slice(number * 100, 100)


def test_a_page_is_cut_from_the_mapping_without_copying(open_store: Callable[..., ResultStore]) -> None:
    store = open_store()
    query_id = keep(store, rows=50_000)
    before = pa.total_allocated_bytes()
    _, page = store.page(query_id, 3, 10_000)
    assert pa.total_allocated_bytes() == before
    assert pa.Table.from_batches(page) == pa.Table.from_batches([numbered(10_000, 30_000)])


def test_the_page_size_may_differ_at_every_read(open_store: Callable[..., ResultStore]) -> None:
    store = open_store()
    query_id = keep(store, rows=10, page_rows=3)
    assert [row["id"] for batch in store.page(query_id, 3)[1] for row in batch.to_pylist()] == [9]
    assert [row["id"] for batch in store.page(query_id, 1, 4)[1] for row in batch.to_pylist()] == [4, 5, 6, 7]
    assert sum(batch.num_rows for batch in store.page(query_id, 0, MAX_PAGE_ROWS)[1]) == 10
    assert store.get(query_id).page_rows == 3


def test_a_result_without_rows_has_one_empty_page(open_store: Callable[..., ResultStore]) -> None:
    store = open_store()
    stored = store.store(SCHEMA, [], 100)
    assert (stored.rows, stored.pages) == (0, 1)
    assert store.page(stored.query_id, 0) == (SCHEMA, [])


def test_a_result_without_columns_keeps_its_row_count(open_store: Callable[..., ResultStore]) -> None:
    store = open_store()
    batch = numbered(5).select([])
    stored = store.store(batch.schema, [batch], 2)
    assert (stored.rows, stored.pages) == (5, 3)
    assert [page.num_rows for page in store.page(stored.query_id, 2)[1]] == [1]


def test_a_page_beyond_the_end_is_not_found_and_says_how_many_there_are(
    open_store: Callable[..., ResultStore],
) -> None:
    store = open_store()
    query_id = keep(store, rows=10, page_rows=3)
    with pytest.raises(NotFound, match="page 4 was asked for; the result has 4 pages of 3 rows, numbered from 0"):
        store.page(query_id, 4)


@pytest.mark.parametrize("page_rows", [0, -1, MAX_PAGE_ROWS + 1])
def test_a_page_size_out_of_bounds_is_refused(open_store: Callable[..., ResultStore], page_rows: int) -> None:
    store = open_store()
    query_id = keep(store)
    with pytest.raises(InvalidRequest, match=f"page_rows is {page_rows}; it must be 1 to 1000000"):
        store.page(query_id, 0, page_rows)
    with pytest.raises(InvalidRequest, match="it must be 1 to"):
        store.store(SCHEMA, [], page_rows)


def test_a_negative_page_is_refused(open_store: Callable[..., ResultStore]) -> None:
    store = open_store()
    with pytest.raises(InvalidRequest, match="pages are numbered from 0"):
        store.page(keep(store), -1)


def test_small_batches_are_joined_and_large_ones_cut(open_store: Callable[..., ResultStore]) -> None:
    store = open_store()
    small = store.store(SCHEMA, (numbered(10, 10 * i) for i in range(1_000)), 100)
    large = store.store(SCHEMA, [numbered(100_000)], 100)
    assert [batch.num_rows for batch in store.page(small.query_id, 0, 10_000)[1]] == [10_000]
    rows = [batch.num_rows for batch in store.page(large.query_id, 0, 100_000)[1]]
    assert sum(rows) == 100_000
    assert max(rows) <= MAX_BATCH_ROWS


def test_batches_of_wide_rows_are_cut_by_bytes(open_store: Callable[..., ResultStore]) -> None:
    store = open_store()
    batch = pa.record_batch({"text": ["x" * MIB] * 20})
    stored = store.store(batch.schema, [batch], 20)
    _, page = store.page(stored.query_id, 0)
    assert max(piece.nbytes for piece in page) <= 9 * MIB
    assert pa.Table.from_batches(page) == pa.Table.from_batches([batch])


def test_dictionaries_may_change_between_batches(open_store: Callable[..., ResultStore]) -> None:
    store = open_store()
    batches = [pa.record_batch({"d": pa.array(values).dictionary_encode()}) for values in (["a", "b"], ["c"], ["a"])]
    stored = store.store(batches[0].schema, batches, 2)
    schema, page = store.page(stored.query_id, 1)
    assert schema == batches[0].schema
    assert [row["d"] for batch in page for row in batch.to_pylist()] == ["c", "a"]


TYPES = st.sampled_from(
    [
        pa.int64(),
        pa.bool_(),
        pa.string(),
        pa.list_(pa.string()),
        pa.struct([("x", pa.int32()), ("y", pa.list_(pa.bool_()))]),
        pa.dictionary(pa.int32(), pa.string()),
        pa.list_(pa.dictionary(pa.int8(), pa.string())),
        pa.map_(pa.string(), pa.int64()),
    ]
)


def values_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Python values, some of them None, that make an array of the type."""
    text = st.text(max_size=3)
    if pa.types.is_int64(kind):
        strategy: st.SearchStrategy[Any] = st.integers(-(2**63), 2**63 - 1)
    elif pa.types.is_boolean(kind):
        strategy = st.booleans()
    elif pa.types.is_map(kind):
        strategy = st.lists(st.tuples(text, st.integers(0, 9)), max_size=2)
    elif pa.types.is_list(kind):
        strategy = st.lists(text, max_size=3)
    elif pa.types.is_struct(kind):
        fields = {"x": st.integers(-9, 9), "y": st.none() | st.lists(st.booleans(), max_size=3)}
        strategy = st.fixed_dictionaries(fields)
    else:
        strategy = text
    return st.none() | strategy


@st.composite
def results(draw: st.DrawFn) -> list[pa.RecordBatch]:
    kinds = draw(st.lists(TYPES, min_size=1, max_size=3))
    rows = draw(st.lists(st.integers(0, 12), min_size=1, max_size=6))
    return [
        pa.record_batch(
            [pa.array(draw(st.lists(values_of(kind), min_size=count, max_size=count)), kind) for kind in kinds],
            names=[f"c{index}" for index in range(len(kinds))],
        )
        for count in rows
    ]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=results(), page_rows=st.integers(1, 20), other_page_rows=st.integers(1, 20), seed=st.randoms())
def test_all_pages_together_are_the_result_in_whatever_order_they_are_read(
    shared: ResultStore, batches: list[pa.RecordBatch], page_rows: int, other_page_rows: int, seed: random.Random
) -> None:
    schema = batches[0].schema
    expected = [row for batch in batches for row in batch.to_pylist()]
    stored = shared.store(schema, batches, page_rows)
    assert stored.rows == len(expected)
    for size in (page_rows, other_page_rows):
        numbers = list(range(count_pages(stored.rows, size)))
        seed.shuffle(numbers)
        pages = {number: shared.page(stored.query_id, number, size)[1] for number in numbers}
        assert all(batch.schema == schema for page in pages.values() for batch in page)
        assert [row for n in sorted(pages) for batch in pages[n] for row in batch.to_pylist()] == expected


def test_page_counts_cover_every_row_exactly_once() -> None:
    counts = [count_pages(rows, 10) for rows in range(31)]
    assert counts[0] == 1
    assert counts[1:11] == [1] * 10
    assert all(0 <= after - before <= 1 for before, after in pairwise(counts))
    assert counts[30] == 3
