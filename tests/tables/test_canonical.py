"""Which types a dataset may have, and what becomes of the others."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from tables.arrow_types import schemas

from flightserver.errors import InvalidRequest, SchemaMismatch
from flightserver.tables.ranges import count_leaves
from flightserver.tables.schema import canonical, decode, encode, fingerprint
from flightserver.tables.types import leaf_paths


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (pa.null(), pa.string()),
        (pa.large_string(), pa.string()),
        (pa.string_view(), pa.string()),
        (pa.dictionary(pa.int32(), pa.large_string()), pa.string()),
        (pa.run_end_encoded(pa.int32(), pa.float16()), pa.float32()),
        (pa.large_binary(), pa.binary()),
        (pa.binary(0), pa.binary()),
        (pa.time32("s"), pa.time32("ms")),
        (pa.timestamp("s"), pa.timestamp("ms")),
        (pa.timestamp("s", "+02:00"), pa.timestamp("ms", "+02:00")),
        (pa.date64(), pa.date32()),
        (pa.decimal32(5, 2), pa.decimal128(5, 2)),
        (pa.decimal64(12, 2), pa.decimal128(12, 2)),
        (pa.decimal256(60, 2), pa.decimal256(60, 2)),
        (pa.decimal128(5, -2), pa.decimal128(7, 0)),
        (pa.decimal128(2, 5), pa.decimal128(5, 5)),
        (pa.decimal128(38, -2), pa.decimal256(40, 0)),
        (pa.uuid(), pa.binary(16)),
        (pa.json_(), pa.string()),
        (pa.duration("s"), pa.duration("s")),
        (pa.list_view(pa.string_view()), pa.list_(pa.string())),
        (pa.list_(pa.int8(), 0), pa.list_(pa.int8())),
        (pa.list_(pa.field("x", pa.float16(), nullable=False), 3), pa.list_(pa.float32(), 3)),
        (pa.map_(pa.string_view(), pa.large_list(pa.null())), pa.map_(pa.string(), pa.list_(pa.string()))),
        (pa.struct([("a", pa.struct([("b", pa.date64())]))]), pa.struct([("a", pa.struct([("b", pa.date32())]))])),
    ],
    ids=str,
)
def test_a_type_becomes_the_plain_one_of_the_same_values(sent: Any, kept: Any) -> None:
    schema = canonical(pa.schema([("c", sent)]))

    assert schema.field("c").type.equals(kept, check_metadata=True)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (pa.month_day_nano_interval(), 'column "c" is month_day_nano_interval, which Parquet can\'t hold: send'),
        (pa.dense_union([pa.field("a", pa.int8())]), 'column "c" is dense_union<a: int8=0>, which Parquet'),
        (pa.list_(pa.month_day_nano_interval()), 'column "c[]" is month_day_nano_interval'),
        (pa.struct([]), 'column "c" is struct<>, which Parquet can\'t hold: send a struct with at least one field'),
        (pa.struct([("a", pa.int8()), ("a", pa.int8())]), "send a struct whose field names differ"),
        (
            pa.decimal256(76, -3),
            'column "c" is decimal256(76, -3), which Parquet can\'t hold: send a decimal of at most 76',
        ),
        (pa.timestamp("us", "Mars/Olympus"), '"Mars/Olympus" is no time zone: use UTC, an offset or an IANA name'),
    ],
    ids=str,
)
def test_a_type_that_parquet_lacks_is_refused_with_what_to_send(sent: Any, message: str) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        canonical(pa.schema([("c", sent)]))

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "the data has no columns: a dataset needs at least one"),
        (["a", ""], "a column has an empty name: give every column a name"),
        (["a", "_rid"], 'column name "_rid" is reserved for row ids: rename the column'),
        (["a", "b", "a"], 'column name "a" is used twice: rename one of them'),
    ],
)
def test_columns_have_distinct_names(names: list[str], message: str) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        canonical(pa.schema([(name, pa.int8()) for name in names]))

    assert str(caught.value) == message


def test_names_that_differ_in_case_are_two_columns() -> None:
    assert canonical(pa.schema([("a", pa.int8()), ("A", pa.int8())])).names == ["a", "A"]


def test_only_comments_survive_of_metadata() -> None:
    field = pa.field("a", pa.int8(), metadata={"comment": "age in years", "PARQUET:field_id": "7"})

    schema = canonical(pa.schema([field], metadata={"pandas": "{}"}))

    assert schema.metadata is None
    assert schema.field("a").metadata == {b"comment": b"age in years"}


@given(schemas())
def test_canonical_is_its_own_canonical_form(schema: Any) -> None:
    once = canonical(schema)

    assert canonical(once).equals(once, check_metadata=True)


@given(schemas())
def test_encoding_loses_nothing(schema: Any) -> None:
    kept = canonical(schema)

    assert decode(encode(kept)).equals(kept, check_metadata=True)
    assert fingerprint(decode(encode(kept))) == fingerprint(kept)


@given(schemas())
def test_each_parquet_column_has_one_path(schema: Any) -> None:
    for field in canonical(schema):
        assert len(set(leaf_paths(field.name, field.type))) == count_leaves(field.type)


def test_bytes_that_are_no_schema_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"5 bytes are no Arrow schema .*: send an IPC schema message"):
        decode(b"hello")


def test_the_fingerprint_is_the_same_in_every_release() -> None:
    schema = pa.schema(
        [pa.field("id", pa.int64(), nullable=False), ("tags", pa.list_(pa.string())), ("at", pa.timestamp("us", "UTC"))]
    )

    assert fingerprint(schema) == "76a75ac2f948f7fd6686035e929ceef5601991da5da60fc40d8f2d081840e0d2"


@pytest.mark.parametrize(
    "other",
    [
        pa.schema([("b", pa.int8()), ("a", pa.struct([("x", pa.int8())]))]),
        pa.schema([("a", pa.struct([("y", pa.int8())])), ("b", pa.int8())]),
        pa.schema([("a", pa.struct([("x", pa.int8())])), ("b", pa.int16())]),
        pa.schema([("a", pa.struct([("x", pa.int8())])), pa.field("b", pa.int8(), nullable=False)]),
        pa.schema([("a", pa.struct([("x", pa.int8())]))]),
    ],
    ids=["order", "name of a field", "type", "nullability", "column missing"],
)
def test_the_fingerprint_tells_schemas_apart(other: Any) -> None:
    schema = pa.schema([("a", pa.struct([("x", pa.int8())])), ("b", pa.int8())])

    assert fingerprint(other) != fingerprint(schema)


def test_the_fingerprint_ignores_comments() -> None:
    plain = pa.schema([("a", pa.int8())])

    assert fingerprint(pa.schema([pa.field("a", pa.int8(), metadata={"comment": "x"})])) == fingerprint(plain)


def test_what_flight_sql_tells_of_columns_is_not_kept() -> None:
    told = {"ARROW:FLIGHT:SQL:TABLE_NAME": "people", "ARROW:FLIGHT:SQL:REMARKS": "old", "comment": "kept"}

    found = canonical(pa.schema([pa.field("name", pa.string(), metadata=told)]))

    assert found.field("name").metadata == {b"comment": b"kept"}
