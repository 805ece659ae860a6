"""How appended data may differ from a dataset, and how a dataset grows."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tables.arrow_types import batches, leaf_types, schemas

from flightserver.errors import SchemaDrift
from flightserver.tables.schema import Difference, canonical, conform, drift, drift_error, evolve


def _one(kind: Any, *, nullable: bool = True) -> Any:
    return pa.schema([pa.field("c", kind, nullable=nullable)])


SAFE = [
    (pa.int8(), pa.int16(), pa.int16()),
    (pa.int32(), pa.int64(), pa.int64()),
    (pa.uint8(), pa.uint32(), pa.uint32()),
    (pa.uint32(), pa.int64(), pa.int64()),
    (pa.int8(), pa.uint8(), pa.int16()),
    (pa.float32(), pa.float64(), pa.float64()),
    (pa.int32(), pa.float64(), pa.float64()),
    (pa.int32(), pa.float32(), pa.float64()),
    (pa.int16(), pa.float32(), pa.float32()),
    (pa.decimal128(5, 2), pa.decimal128(10, 4), pa.decimal128(10, 4)),
    (pa.decimal128(10, 2), pa.decimal128(8, 4), pa.decimal128(12, 4)),
    (pa.decimal128(38, 0), pa.decimal128(10, 4), pa.decimal256(42, 4)),
    (pa.date32(), pa.timestamp("us"), pa.timestamp("us")),
    (pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("us")),
    (pa.timestamp("ms", "UTC"), pa.timestamp("us", "Asia/Tokyo"), pa.timestamp("us", "UTC")),
    (pa.time32("ms"), pa.time64("ns"), pa.time64("ns")),
    (pa.list_(pa.int8()), pa.large_list(pa.int64()), pa.list_(pa.int64())),
    (
        pa.struct([("a", pa.int8())]),
        pa.struct([("b", pa.date64()), ("a", pa.int16())]),
        pa.struct([("a", pa.int16()), ("b", pa.date32())]),
    ),
    (pa.map_(pa.string(), pa.int8()), pa.map_(pa.string_view(), pa.int32()), pa.map_(pa.string(), pa.int32())),
]

UNSAFE = [
    (pa.int64(), pa.string()),
    (pa.string(), pa.int64()),
    (pa.int64(), pa.float64()),
    (pa.int64(), pa.uint64()),
    (pa.bool_(), pa.int8()),
    (pa.decimal256(76, 0), pa.decimal256(76, 76)),
    (pa.date32(), pa.timestamp("us", "UTC")),
    (pa.date32(), pa.timestamp("ns")),
    (pa.timestamp("us"), pa.timestamp("us", "UTC")),
    (pa.timestamp("us"), pa.timestamp("ns")),
    (pa.list_(pa.int8()), pa.int8()),
    (pa.list_(pa.int8(), 2), pa.list_(pa.int8(), 3)),
    (pa.struct([("a", pa.int8())]), pa.struct([("a", pa.string())])),
]

NO_DRIFT = [
    (pa.int64(), pa.int32()),
    (pa.float64(), pa.int32()),
    (pa.string(), pa.dictionary(pa.int32(), pa.large_string())),
    (pa.decimal128(10, 4), pa.decimal32(5, 2)),
    (pa.timestamp("us"), pa.date32()),
    (pa.timestamp("ns"), pa.timestamp("us")),
    (pa.timestamp("us", "UTC"), pa.timestamp("us", "Europe/Berlin")),
    (pa.int64(), pa.null()),
    (pa.list_(pa.int64()), pa.list_(pa.null())),
    (pa.struct([("a", pa.int64()), ("b", pa.string())]), pa.struct([("b", pa.null()), ("a", pa.int8())])),
]


@pytest.mark.parametrize(("current", "incoming", "merged"), SAFE, ids=str)
def test_a_safe_widening_is_drift_that_evolve_reconciles(current: Any, incoming: Any, merged: Any) -> None:
    found = drift(_one(current), _one(incoming))

    assert [(each.column, each.kind, each.safe) for each in found] == [("c", "type", True)]
    assert evolve(_one(current), _one(incoming)) == _one(merged)


@pytest.mark.parametrize(("current", "incoming"), UNSAFE, ids=str)
def test_what_could_lose_values_is_not_safe(current: Any, incoming: Any) -> None:
    found = drift(_one(current), _one(incoming))

    assert [(each.column, each.kind, each.safe) for each in found] == [("c", "type", False)]
    with pytest.raises(SchemaDrift, match="not a safe widening"):
        evolve(_one(current), _one(incoming))


@pytest.mark.parametrize(("current", "incoming"), NO_DRIFT, ids=str)
def test_narrower_data_is_no_drift(current: Any, incoming: Any) -> None:
    assert drift(_one(current), _one(incoming)) == []
    assert evolve(_one(current), _one(incoming)) == _one(current)


def test_each_kind_of_difference_has_its_clause() -> None:
    current = pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("must", pa.int64(), nullable=False),
            ("may", pa.string()),
            ("delay", pa.int64()),
            ("distance", pa.int32()),
        ]
    )
    incoming = pa.schema(
        [("id", pa.int64()), ("delay", pa.large_string()), ("distance", pa.int64()), ("gate", pa.string_view())]
    )

    assert [str(each) for each in drift(current, incoming)] == [
        'column "id": dataset has int64 not null, data may have nulls',
        'column "must": dataset has int64 not null, data has no such column',
        'column "may": dataset has string, data has no such column',
        'column "delay": dataset has int64, data has string (not a safe widening)',
        'column "distance": dataset has int32, data has int64 (a safe widening)',
        'column "gate": data has string, dataset has no such column',
    ]


def test_the_message_says_what_would_reconcile() -> None:
    safe = Difference("gate", "added", "", "string", safe=True)
    unsafe = Difference("delay", "type", "int64", "string", safe=False)

    assert str(drift_error("the rows don't fit", [safe])) == (
        'the rows don\'t fit: column "gate": data has string, dataset has no such column: ask for `evolve` to add '
        "columns and widen types"
    )
    both = drift_error("the rows don't fit", [unsafe, safe])
    assert str(both) == (
        'the rows don\'t fit: column "delay": dataset has int64, data has string (not a safe widening); '
        'column "gate": data has string, dataset has no such column: cast the data, or use mode replace'
    )
    assert both.details == {"columns": "delay, gate"}


def test_new_columns_come_last_and_are_nullable() -> None:
    current = pa.schema([pa.field("b", pa.int8(), metadata={"comment": "kept"}), ("a", pa.int8())])
    incoming = pa.schema(
        [pa.field("z", pa.int8(), nullable=False), ("A", pa.int8()), ("y", pa.float16()), ("b", pa.int8())]
    )

    merged = evolve(current, incoming)

    wanted = pa.schema([("b", pa.int8()), ("a", pa.int8()), ("z", pa.int8()), ("y", pa.float32())])
    assert merged.equals(wanted)
    assert merged.field("b").metadata == {b"comment": b"kept"}


def test_evolve_lets_a_column_have_nulls() -> None:
    assert evolve(_one(pa.int8(), nullable=False), _one(pa.int8())) == _one(pa.int8())


@given(schemas())
def test_data_does_not_drift_from_its_own_canonical_form(schema: Any) -> None:
    current = canonical(schema)

    assert drift(current, schema) == []
    assert evolve(current, schema) == current


@given(st.data())
def test_an_evolved_schema_holds_old_and_new_rows(data: st.DataObject) -> None:
    types = st.one_of(leaf_types, leaf_types.map(pa.list_))
    old, new = data.draw(batches(data.draw(schemas(types)))), data.draw(batches(data.draw(schemas(types))))
    current = canonical(old.schema)
    assume(all(each.safe for each in drift(current, new.schema)))

    merged = evolve(current, new.schema)

    assert merged.names[: len(current)] == current.names
    assert [each.kind for each in drift(merged, old.schema) if each.kind != "missing"] == []
    assert [each.kind for each in drift(merged, new.schema) if each.kind != "missing"] == []
    assert conform(conform(old, current), merged).num_rows == old.num_rows
    assert conform(new, merged).num_rows == new.num_rows
