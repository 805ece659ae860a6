"""Rows arrive exactly as they were sent, under the dataset's schema, or not at all."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables.arrow_types import LEAVES, batches, leaf_types, schemas, values_of

from flightserver.errors import SchemaMismatch
from flightserver.tables.schema import canonical, conform
from flightserver.tables.types import widened


def _batch(**columns: Any) -> Any:
    return pa.RecordBatch.from_pydict(columns)


@given(st.data())
def test_every_value_of_every_type_arrives_unchanged(data: st.DataObject) -> None:
    batch = data.draw(batches(data.draw(schemas())))
    schema = canonical(batch.schema)

    rows = conform(batch, schema)

    rows.validate(full=True)
    assert rows.schema.equals(schema, check_metadata=True)
    assert rows.to_pylist() == batch.to_pylist()


@given(st.data())
def test_a_type_and_its_widening_hold_the_same_values(data: st.DataObject) -> None:
    current, incoming = data.draw(leaf_types), data.draw(leaf_types)
    wide = widened(canonical(pa.schema([("c", current)])).field("c").type, incoming)
    if wide is None:
        return
    column = data.draw(st.sampled_from([current, incoming]))
    values = data.draw(st.lists(values_of(column), max_size=3))

    rows = conform(pa.record_batch([pa.array(values, column)], ["c"]), pa.schema([("c", wide)]))

    assert rows.column(0).null_count == sum(value is None for value in values)
    assert rows.column(0).cast(canonical(pa.schema([("c", column)])).field("c").type).to_pylist() == pa.array(
        values, column
    ).to_pylist() or pa.types.is_null(column)


def test_columns_are_matched_by_name_and_put_in_order() -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])

    assert conform(_batch(b=["x"], a=[1]), schema).to_pydict() == {"a": [1], "b": ["x"]}


def test_a_name_in_another_case_is_matched_when_it_is_the_only_one() -> None:
    schema = pa.schema([("Carrier", pa.string()), ("b", pa.string())])

    assert conform(_batch(CARRIER=["AA"], b=["x"]), schema).to_pydict() == {"Carrier": ["AA"], "b": ["x"]}


def test_a_name_in_another_case_is_refused_when_two_could_be_meant() -> None:
    schema = pa.schema([("Carrier", pa.string()), ("carrier", pa.string())])

    with pytest.raises(SchemaMismatch) as caught:
        conform(_batch(CARRIER=["AA"]), schema)

    assert str(caught.value) == (
        'data has columns that the dataset lacks, or names them twice: "CARRIER"; the dataset has "Carrier", "carrier"'
    )


def test_a_missing_nullable_column_is_null() -> None:
    schema = pa.schema([("a", pa.int64()), ("tags", pa.list_(pa.string()))])

    assert conform(_batch(a=[1, 2]), schema).to_pydict() == {"a": [1, 2], "tags": [None, None]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"b": [1]}, 'column "a" is not null and the data lacks it: send a value for every row'),
        ({"a": pa.array([1, None, None])}, 'column "a" is not null, and 2 of 3 rows are null'),
    ],
)
def test_a_column_that_is_not_null_has_a_value_in_each_row(columns: dict[str, Any], message: str) -> None:
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False), ("b", pa.int64())])

    with pytest.raises(SchemaMismatch) as caught:
        conform(_batch(**columns), schema)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "target", "expected"),
    [
        (pa.array([1, None], pa.int8()), pa.int64(), [1, None]),
        (pa.array([200], pa.int64()), pa.uint8(), [200]),
        (pa.array([2**53]), pa.float64(), [2.0**53]),
        (pa.array([12]), pa.decimal128(21, 2), [Decimal("12.00")]),
        (pa.array([dt.date(2026, 1, 2)]), pa.timestamp("us"), [dt.datetime(2026, 1, 2)]),  # noqa: DTZ001  # no zone
        (pa.array([1_000], pa.timestamp("us")), pa.timestamp("ms"), [dt.datetime(1970, 1, 1, 0, 0, 0, 1000)]),  # noqa: DTZ001  # no zone
        (pa.array([None, None]), pa.struct([("a", pa.int8())]), [None, None]),
        (pa.array([[], [None]]), pa.list_(pa.int64()), [[], [None]]),
        (pa.array([[1], None], pa.list_view(pa.int8())), pa.list_(pa.int64()), [[1], None]),
        (pa.array([[], None], pa.list_(pa.int8(), 0)), pa.list_(pa.int64()), [[], None]),
        (pa.array([[1], None, [2, 3]], pa.large_list_view(pa.int8())), pa.list_(pa.int8()), [[1], None, [2, 3]]),
        (pa.array([{"b": 1}]), pa.struct([("a", pa.string()), ("b", pa.int64())]), [{"a": None, "b": 1}]),
        (pa.array([b"\0" * 16], pa.uuid()), pa.binary(16), [b"\0" * 16]),
    ],
    ids=str,
)
def test_values_with_an_exact_form_are_cast(values: Any, target: Any, expected: list[Any]) -> None:
    assert conform(_batch(c=values), pa.schema([("c", target)])).column(0).to_pylist() == expected


@pytest.mark.parametrize(
    ("values", "target", "message"),
    [
        (pa.array([300]), pa.int8(), "a int64 value has no exact form as int8: Integer value 300 not in range"),
        (
            pa.array([2**53 + 1]),
            pa.float64(),
            "a int64 value has no exact form as double: Integer value 9007199254740993",
        ),
        (pa.array([1], pa.timestamp("us")), pa.timestamp("ms"), "would lose data: 1"),
        (pa.array([1.5]), pa.int64(), "data has double, int64 is needed: cast it before sending"),
        (pa.array([1.5]), pa.float32(), "data has double, float is needed"),
        (pa.array(["1"]), pa.int64(), "data has string, int64 is needed"),
        (pa.array([1]), pa.string(), "data has int64, string is needed"),
        (pa.array([1], pa.timestamp("us")), pa.timestamp("us", "UTC"), "data has timestamp[us], timestamp[us, tz=UTC]"),
        (pa.array([dt.date(2026, 1, 2)]), pa.timestamp("us", "UTC"), "data has date32[day], timestamp[us, tz=UTC]"),
        (pa.array([["x"]]), pa.list_(pa.int64()), 'column "c[]": data has string, int64 is needed'),
        (pa.array([[1, 2]]), pa.list_(pa.int64(), 2), "data has list<item: int64>, fixed_size_list<item: int64>[2]"),
        (
            pa.array([{"a": 1, "z": 1}]),
            pa.struct([("a", pa.int64())]),
            'data has fields that struct<a: int64> lacks: "z"',
        ),
        (pa.array([{"a": 1.5}]), pa.struct([("a", pa.int64())]), 'column "c.a": data has double'),
    ],
    ids=str,
)
def test_values_without_an_exact_form_are_refused(values: Any, target: Any, message: str) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        conform(_batch(c=values), pa.schema([("c", target)]))

    assert str(caught.value).startswith('column "c')
    assert message in str(caught.value)


def test_instants_keep_their_meaning_between_time_zones() -> None:
    batch = _batch(c=pa.array([0], pa.timestamp("us", "America/New_York")))

    column = conform(batch, pa.schema([("c", pa.timestamp("us", "UTC"))])).column(0)

    assert column.cast(pa.int64()).to_pylist() == [0]


def test_runs_inside_lists_and_slices_of_them_are_expanded() -> None:
    runs = pa.RunEndEncodedArray.from_arrays([3, 5], pa.array([["x"], None], pa.list_(pa.string_view())))
    lists = pa.ListArray.from_arrays([0, 1, 4, 5], runs)

    flat = conform(_batch(c=runs).slice(2, 2), pa.schema([("c", pa.list_(pa.string()))]))
    nested = conform(_batch(c=lists).slice(1), pa.schema([("c", pa.list_(pa.list_(pa.string())))]))

    assert flat.column(0).to_pylist() == [["x"], None]
    assert nested.column(0).to_pylist() == [[["x"], ["x"], None], [None]]


def test_what_lies_under_a_null_struct_is_not_looked_at() -> None:
    hidden = pa.StructArray.from_arrays([pa.array([1000, 1])], ["a"], mask=pa.array([True, False]))

    rows = conform(_batch(c=hidden), pa.schema([("c", pa.struct([("a", pa.int8())]))]))

    assert rows.column(0).to_pylist() == [None, {"a": 1}]


def test_columns_of_the_right_type_are_not_copied() -> None:
    batch = _batch(a=list(range(1000)), b=["x"] * 1000)

    rows = conform(batch, pa.schema([("b", pa.string()), ("a", pa.int64())]))

    assert rows.column("a").buffers()[1].address == batch.column("a").buffers()[1].address
    assert rows.column("b").buffers()[2].address == batch.column("b").buffers()[2].address


def test_the_strategy_has_a_value_for_each_leaf() -> None:
    assert len(LEAVES) > 30
