"""The engine reads back every type name that is built."""

from __future__ import annotations

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from datafusion import SessionContext
from hypothesis import given

from flightserver.query.language.casting import cast, type_name

UNITS = ("s", "ms", "us", "ns")
PLAIN = [
    *(pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.binary(), pa.large_binary()),
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"), pa.binary(16)),
    *(pa.timestamp(unit) for unit in UNITS),
    *(pa.timestamp(unit, zone) for unit in UNITS for zone in ("UTC", "+02:00", "America/New_York")),
    *(pa.duration(unit) for unit in UNITS),
    *(pa.decimal128(10, 2), pa.decimal128(38, 38), pa.decimal256(76, 0)),
]
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters='"\\'), min_size=1)
TYPES = st.recursive(
    st.sampled_from(PLAIN),
    lambda inner: st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        st.tuples(inner, st.integers(1, 9)).map(lambda pair: pa.list_(*pair)),
        st.tuples(st.sampled_from(PLAIN), inner).map(lambda pair: pa.map_(*pair)),
        st.dictionaries(NAMES, inner, min_size=1, max_size=3).map(lambda fields: pa.struct(list(fields.items()))),
    ),
    max_leaves=5,
)


def type_of(expression: str) -> pa.DataType:
    return SessionContext().sql(f"SELECT {expression} AS x").schema().field(0).type


@given(TYPES)
def test_a_cast_has_exactly_the_type(data_type: pa.DataType) -> None:
    assert type_of(cast("NULL", data_type)) == data_type


@pytest.mark.parametrize(
    "data_type",
    [
        pa.list_(pa.field("element", pa.int64())),
        pa.struct([('quo"te', pa.int64())]),
        pa.struct([("back\\slash", pa.int64())]),
        pa.struct([("line\nbreak", pa.int64())]),
        pa.struct([("", pa.int64())]),
        pa.list_(pa.struct([("", pa.int64())])),
        pa.dense_union([pa.field("a", pa.int64())]),
    ],
)
def test_a_type_without_a_name_is_not_cast(data_type: pa.DataType) -> None:
    assert type_name(data_type) is None
    assert cast("1 + 1", data_type) == "(1 + 1)"


def test_names_in_types_are_quoted_for_sql() -> None:
    data_type = pa.struct([("it's", pa.int64())])

    assert cast("x", data_type) == """arrow_cast(x, 'Struct("it''s": Int64)')"""
    assert type_of(cast("NULL", data_type)) == data_type
