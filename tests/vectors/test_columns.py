"""Which rows of a column have a vector, whatever kind of list it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from catalog import making
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.indexes import METRICS
from flightserver.errors import InvalidRequest, NotFound
from flightserver.tables.schema import encode
from flightserver.vectors.columns import fixed_dimension, indexed_column, vector_column, vectors_of

if TYPE_CHECKING:
    from flightserver.catalog.entities import Dataset
    from flightserver.catalog.indexes import VectorIndex

FLOATS = [pa.float16(), pa.float32(), pa.float64()]
INTEGERS = [pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64()]
DATASET = DatasetKey("primary", "docs")
NAN, INF = math.nan, math.inf
Row = list[float | None] | None


def index_of(dimension: int, *, metric: str = "l2", precision: str = "float32") -> VectorIndex:
    return replace(making.index("i", "d"), dimension=dimension, metric=metric, precision=precision)


def kinds(number: pa.DataType, dimension: int) -> list[pa.DataType]:
    """Lists of any length, and of one."""
    return [pa.list_(number), pa.large_list(number), pa.list_(number, dimension)]


def taken(column: pa.Array, index: VectorIndex) -> tuple[list[list[float]], list[int]]:
    """The vectors and their rows, of arrays that are what they should be."""
    matrix, rows = vectors_of(column, index)
    shape = (len(rows), index.dimension)
    assert (matrix.dtype.name, matrix.shape, rows.dtype.name) == (index.precision, shape, "int64")
    assert matrix.flags.c_contiguous
    return matrix.tolist(), rows.tolist()


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("number", [*FLOATS, *INTEGERS], ids=str)
@pytest.mark.parametrize("kind", range(3), ids=["list", "large list", "fixed size list"])
def test_numbers_of_every_type_and_lists_of_every_kind_are_vectors(
    kind: int, number: pa.DataType, precision: str
) -> None:
    values: list[Any] = [[1, 2], None, [0, 0], [3, 100]]
    if number in FLOATS:
        values = [[np.float16(value) for value in row] if row else None for row in values]
    column = pa.array(values, kinds(number, 2)[kind])

    assert taken(column, index_of(2, precision=precision)) == ([[1, 2], [0, 0], [3, 100]], [0, 2, 3])


numbers = st.none() | st.sampled_from([0.0, -0.0, NAN, INF, -INF]) | st.floats(width=16, allow_nan=False)
lists: st.SearchStrategy[Row] = st.none() | st.lists(numbers, max_size=4) | st.lists(numbers, min_size=2, max_size=2)


def wanted(column: list[Row], dimension: int, metric: str) -> tuple[list[list[float]], list[int]]:
    """The same, a row at a time."""
    found: dict[int, list[float]] = {}
    for place, row in enumerate(column):
        values = [value for value in row or () if value is not None and math.isfinite(value)]
        if row is not None and len(row) == len(values) == dimension and (metric != "cosine" or any(values)):
            found[place] = values
    return list(found.values()), list(found)


@given(
    st.lists(lists, max_size=12),
    st.sampled_from(FLOATS),
    st.sampled_from([pa.list_, pa.large_list]),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from(METRICS),
    st.sampled_from(["float32", "float16"]),
)
def test_a_row_has_a_vector_when_all_of_its_numbers_are_there_and_finite(  # dimensions of one space
    values: list[Row], number: pa.DataType, kind: Any, skip: int, drop: int, metric: str, precision: str
) -> None:
    """Of slices too: their first rows aren't those of the buffers."""
    column = pa.array(
        [None if row is None else [None if value is None else np.float16(value) for value in row] for row in values],
        kind(number),
    )
    stop = max(skip, len(values) - drop)

    found = taken(column.slice(skip, stop - skip), index_of(2, metric=metric, precision=precision))

    assert found == wanted(values[skip:stop], 2, metric)


@given(
    st.lists(st.none() | st.lists(numbers, min_size=3, max_size=3), max_size=12),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from(METRICS),
)
def test_slices_of_lists_of_one_length_are_read_where_they_are(
    values: list[Row], skip: int, drop: int, metric: str
) -> None:
    column = pa.array(values, pa.list_(pa.float32(), 3))
    stop = max(skip, len(values) - drop)

    found = taken(column.slice(skip, stop - skip), index_of(3, metric=metric))

    assert found == wanted(values[skip:stop], 3, metric)


def test_lists_of_one_length_that_is_not_that_of_the_index_are_none() -> None:
    column = pa.array([[1.0, 2.0, 3.0], None], pa.list_(pa.float32(), 3))

    assert taken(column, index_of(2)) == ([], [])


@pytest.mark.parametrize("kind", kinds(pa.float32(), 4), ids=["list", "large list", "fixed size list"])
@pytest.mark.parametrize("rows", [0, 3])
def test_a_column_without_vectors_gives_none(kind: pa.DataType, rows: int) -> None:
    assert taken(pa.nulls(rows, kind), index_of(4)) == ([], [])


@pytest.mark.parametrize(("metric", "rows"), [("cosine", [1]), ("l2", [0, 1, 2]), ("dot", [0, 1, 2])], ids=str)
def test_only_the_cosine_needs_a_direction(metric: str, rows: list[int]) -> None:
    column = pa.array([[0.0, 0.0], [0.0, 1e-45], [0.0, -0.0]], pa.list_(pa.float32()))

    assert taken(column, index_of(2, metric=metric))[1] == rows


def test_a_direction_that_the_precision_of_the_index_loses_is_none() -> None:
    column = pa.array([[1e-9, 0.0], [1e-7, 0.0]], pa.list_(pa.float64()))

    matrix, rows = taken(column, index_of(2, metric="cosine", precision="float16"))

    assert (matrix, rows) == ([[float(np.float16(1e-7)), 0.0]], [1])


@pytest.mark.parametrize(
    ("number", "most", "precision"),
    [
        (pa.float64(), 3.4028234663852886e38, "float32"),
        (pa.float32(), 65504.0, "float16"),
        (pa.int64(), 65504, "float16"),
    ],
    ids=str,
)
def test_what_the_precision_can_not_say_is_no_vector(number: pa.DataType, most: float, precision: str) -> None:
    column = pa.array([[most, 1], [most * 2, 1], [-most, 1], [most * -2, 1]], pa.list_(number))

    assert taken(column, index_of(2, precision=precision)) == ([[most, 1.0], [-most, 1.0]], [0, 2])


def test_numbers_are_rounded_to_the_precision_of_the_index() -> None:
    column = pa.array([[0.1, 2.0**24 + 1], [1e-320, 1.0]], pa.list_(pa.float64()))

    assert taken(column, index_of(2)) == ([[float(np.float32(0.1)), 2.0**24], [0.0, 1.0]], [0, 1])


# Which columns there are


def dataset_of(*fields: pa.Field) -> Dataset:
    return replace(making.dataset("docs"), schema=encode(pa.schema(fields)))


@pytest.mark.parametrize("number", [*FLOATS, *INTEGERS], ids=str)
def test_lists_of_numbers_can_have_an_index(number: pa.DataType) -> None:
    for kind, fixed in zip(kinds(number, 7), [None, None, 7], strict=True):
        field = vector_column(dataset_of(pa.field("v", kind)), "v")
        assert (field.name, field.type, fixed_dimension(field)) == ("v", kind, fixed)


@pytest.mark.parametrize(
    "kind",
    [pa.float32(), pa.string(), pa.list_(pa.string()), pa.list_(pa.list_(pa.float32())), pa.list_(pa.bool_())],
    ids=str,
)
def test_other_columns_can_not_and_the_message_says_which_could(kind: pa.DataType) -> None:
    with pytest.raises(InvalidRequest) as refused:
        vector_column(dataset_of(pa.field("v", kind)), "v")

    assert refused.value.message == (
        f"column 'v' of {DATASET} is of type {kind}: a vector index needs lists of numbers, such as FLOAT[] or "
        "Arrow's fixed_size_list<float>[384]"
    )


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ([], "it has no column of vectors"),
        (
            [pa.field("v", pa.list_(pa.float32())), pa.field("n", pa.int64()), pa.field("w", pa.list_(pa.int8(), 2))],
            "its columns of vectors are v, w",
        ),
    ],
    ids=["none", "two"],
)
def test_a_column_that_is_not_there_is_said_with_those_that_are(fields: list[pa.Field], hint: str) -> None:
    with pytest.raises(NotFound) as refused:
        vector_column(dataset_of(pa.field("id", pa.int64()), *fields), "V")

    assert refused.value.message == f"dataset {DATASET} has no column 'V': {hint}"


def test_the_column_of_an_index_must_still_hold_vectors() -> None:
    index = making.index("i", "d")
    vectors = pa.field("v", pa.list_(pa.float64()))

    assert indexed_column(dataset_of(pa.field("id", pa.int64()), vectors), index) == vectors
    for fields in ([], [pa.field("w", vectors.type)], [pa.field("v", pa.string())]):
        with pytest.raises(InvalidRequest) as refused:
            indexed_column(dataset_of(*fields), index)
        assert refused.value.message == (
            f"the column of {DATASET} that vector index {making.index('i', 'd').key} is about was dropped or replaced: "
            "drop the index, and create one on another column"
        )
