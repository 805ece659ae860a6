"""Hypothesis strategies: Arrow types as clients send them, nested two levels, with values to fill them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

_ints = {pa.int8(): 7, pa.int16(): 15, pa.int32(): 31, pa.int64(): 63}
_uints = {pa.uint8(): 8, pa.uint16(): 16, pa.uint32(): 32, pa.uint64(): 64}
_texts = st.text(st.characters(codec="utf-8"), max_size=6)
_times = st.times().map(lambda time: time.replace(second=0, microsecond=0))
_instants = st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2200, 1, 1)).map(  # noqa: DTZ001  # naive on purpose
    lambda instant: instant.replace(microsecond=0)
)
_ticks = st.integers(-1_000_000, 1_000_000)

LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    **{kind: st.integers(-(2**bits), 2**bits - 1) for kind, bits in _ints.items()},
    **{kind: st.integers(0, 2**bits - 1) for kind, bits in _uints.items()},
    **dict.fromkeys((pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())), _texts),
    **dict.fromkeys((pa.binary(), pa.large_binary(), pa.binary_view()), st.binary(max_size=6)),
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.null(): st.none(),
    pa.bool_(): st.booleans(),
    pa.float16(): st.sampled_from([0.0, -1.5, 2.25]),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.float64(): st.floats(allow_nan=False),
    **dict.fromkeys((pa.date32(), pa.date64()), st.dates(dt.date(1700, 1, 1), dt.date(2200, 1, 1))),
    **dict.fromkeys((pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")), _times),
    **dict.fromkeys((pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")), _instants),
    **dict.fromkeys((pa.timestamp("s", "UTC"), pa.timestamp("us", "Europe/Berlin")), _instants),
    **dict.fromkeys((pa.duration(unit) for unit in ("s", "ms", "us", "ns")), _ticks),
    **dict.fromkeys((pa.decimal32(7, 2), pa.decimal64(15, 2), pa.decimal128(20, 2), pa.decimal256(50, 2)), st.just(0)),
    pa.decimal128(9, 4): st.integers(0, 99999).map(lambda value: Decimal(value).scaleb(-4)),
}
"""Types without children, and values that each can hold."""


def _lists(child: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    makers = st.sampled_from([pa.list_, pa.large_list, pa.list_view, lambda kind: pa.list_(kind, 2)])
    return st.builds(lambda maker, kind: maker(kind), makers, child)


def _structs(child: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from("abcd"), child, min_size=1, max_size=3).map(
        lambda fields: pa.struct(list(fields.items()))
    )


def _maps(child: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(pa.map_, st.sampled_from([pa.string(), pa.int32()]), child)


leaf_types = st.sampled_from(list(LEAVES))
data_types = st.one_of(
    leaf_types,
    *(outer(leaf_types) for outer in (_lists, _structs, _maps)),
    *(outer(inner(leaf_types)) for outer in (_lists, _structs, _maps) for inner in (_lists, _structs, _maps)),
)


def values_of(kind: Any, *, nullable: bool = True) -> st.SearchStrategy[Any]:
    """Python values of a type."""
    if kind in LEAVES:
        plain = LEAVES[kind]
    elif pa.types.is_fixed_size_list(kind):
        plain = st.lists(values_of(kind.value_type), min_size=kind.list_size, max_size=kind.list_size)
    elif pa.types.is_map(kind):
        entry = st.tuples(values_of(kind.key_type, nullable=False), values_of(kind.item_type))
        plain = st.lists(entry, max_size=2, unique_by=lambda pair: str(pair[0]))
    elif pa.types.is_struct(kind):
        plain = st.fixed_dictionaries({field.name: values_of(field.type) for field in kind})
    else:
        plain = st.lists(values_of(kind.value_type), max_size=3)
    return st.one_of(st.none(), plain) if nullable else plain


@st.composite
def schemas(draw: st.DrawFn, types: st.SearchStrategy[Any] = data_types) -> Any:
    """Schemas of one to three nullable columns."""
    names = draw(
        st.lists(st.sampled_from(["a", "b", "c", "d e", "f.g", 'h"', "ü"]), min_size=1, max_size=3, unique=True)
    )
    return pa.schema([(name, draw(types)) for name in names])


@st.composite
def batches(draw: st.DrawFn, schema: Any) -> Any:
    """Record batches of a schema, sometimes a slice of a longer one."""
    rows = draw(st.integers(0, 4))
    columns = [draw(st.lists(values_of(field.type), min_size=rows, max_size=rows)) for field in schema]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    whole = pa.RecordBatch.from_arrays(arrays, schema=schema)
    return whole.slice(draw(st.integers(0, rows)))
