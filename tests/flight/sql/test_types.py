"""SQL names of types, and what XdbcTypeInfo says of them."""

from __future__ import annotations

import pyarrow as pa
import pytest
from datafusion import SessionContext

from flightserver.flight.sql.protocol import enum_values
from flightserver.flight.sql.types import XDBC_TYPE_INFO, precision, scale, type_name, xdbc_type_info


@pytest.mark.parametrize(
    ("kind", "name", "digits", "decimals"),
    [
        (pa.bool_(), "BOOLEAN", None, None),
        (pa.int8(), "TINYINT", 3, 0),
        (pa.int64(), "BIGINT", 19, 0),
        (pa.uint64(), "BIGINT UNSIGNED", 20, 0),
        (pa.float32(), "REAL", 24, None),
        (pa.float64(), "DOUBLE", 53, None),
        (pa.decimal128(10, 2), "DECIMAL", 10, 2),
        (pa.decimal256(50, 0), "DECIMAL", 50, 0),
        (pa.string(), "VARCHAR", 2**31 - 1, None),
        (pa.string_view(), "VARCHAR", 2**31 - 1, None),
        (pa.dictionary(pa.int8(), pa.string()), "VARCHAR", 2**31 - 1, None),
        (pa.null(), "VARCHAR", 2**31 - 1, None),
        (pa.binary(), "BYTEA", 2**31 - 1, None),
        (pa.binary(16), "BYTEA", 16, None),
        (pa.date32(), "DATE", 10, None),
        (pa.time32("ms"), "TIME", 12, 3),
        (pa.timestamp("s"), "TIMESTAMP", 19, 0),
        (pa.timestamp("us"), "TIMESTAMP", 26, 6),
        (pa.timestamp("us", "Europe/Berlin"), "TIMESTAMP WITH TIME ZONE", 26, 6),
        (pa.month_day_nano_interval(), "INTERVAL", None, None),
        (pa.list_(pa.int64()), "BIGINT[]", None, None),
        (pa.list_(pa.list_(pa.string())), "VARCHAR[][]", None, None),
        (pa.list_(pa.float32(), 384), "REAL[]", None, None),
        (pa.struct([("a", pa.int32()), ("b", pa.string())]), "STRUCT<a INTEGER, b VARCHAR>", None, None),
        (pa.map_(pa.string(), pa.int32()), "MAP<VARCHAR, INTEGER>", None, None),
        (pa.dense_union([pa.field("a", pa.int32())]), "DENSE_UNION<A: INT32=0>", None, None),
    ],
    ids=str,
)
def test_a_type_has_a_name_a_precision_and_a_scale(
    kind: pa.DataType, name: str, digits: int | None, decimals: int | None
) -> None:
    assert type_name(kind) == name
    assert precision(kind) == digits
    assert scale(kind) == decimals


@pytest.mark.parametrize("name", xdbc_type_info(None).column("type_name").to_pylist())
def test_the_engine_creates_a_column_of_every_type_that_is_listed(name: str) -> None:
    context = SessionContext()

    context.sql(f"CREATE TABLE made (x {name})")

    assert type_name(context.table("made").schema().field("x").type) == name.replace(" WITH TIME ZONE", "")


def test_types_are_ordered_by_number_and_then_by_name() -> None:
    table = xdbc_type_info(None)
    rows = [(row["data_type"], row["type_name"]) for row in table.to_pylist()]

    table.validate(full=True)
    assert table.schema.equals(XDBC_TYPE_INFO)
    assert rows == sorted(rows)
    assert len(set(table.column("type_name").to_pylist())) == table.num_rows


def test_one_type_may_be_asked_for_by_its_number() -> None:
    assert xdbc_type_info(4).column("type_name").to_pylist() == ["INTEGER", "INTEGER UNSIGNED"]
    assert xdbc_type_info(1).num_rows == 0


def test_dates_and_times_are_described_by_a_subcode() -> None:
    rows = {row["type_name"]: row for row in xdbc_type_info(None).to_pylist()}
    subcodes = enum_values("XdbcDatetimeSubcode")

    stamp = rows["TIMESTAMP WITH TIME ZONE"]
    assert stamp["data_type"] == 93
    assert stamp["sql_data_type"] == enum_values("XdbcDataType")["XDBC_DATETIME"]
    assert stamp["datetime_subcode"] == subcodes["XDBC_SUBCODE_TIMESTAMP_WITH_TIMEZONE"]
    assert (stamp["literal_prefix"], stamp["literal_suffix"], stamp["maximum_scale"]) == ("TIMESTAMP '", "'", 9)
    assert rows["DATE"]["datetime_subcode"] == subcodes["XDBC_SUBCODE_DATE"]
    assert rows["BIGINT"]["datetime_subcode"] is None


def test_numbers_say_in_which_radix_their_size_is_given() -> None:
    rows = {row["type_name"]: row for row in xdbc_type_info(None).to_pylist()}

    assert (rows["BIGINT"]["column_size"], rows["BIGINT"]["num_prec_radix"]) == (19, 10)
    assert (rows["DOUBLE"]["column_size"], rows["DOUBLE"]["num_prec_radix"]) == (53, 2)
    assert rows["BIGINT UNSIGNED"]["unsigned_attribute"] is True
    assert rows["VARCHAR"]["unsigned_attribute"] is None
    assert rows["DECIMAL"]["create_params"] == ["precision", "scale"]
