"""pandas over ADBC, unmodified: `read_sql` and `to_sql`."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from clients.samples import all_types, more_people, people
from pandas.errors import DatabaseError
from pandas.testing import assert_frame_equal

pytestmark = pytest.mark.client("pandas")


def frame(table: pa.Table) -> pd.DataFrame:
    """A table as pandas' own numpy-backed columns."""
    return table.to_pandas()


@pytest.fixture
def with_people(connection: Any) -> Any:
    """A connection, when the table `people` is there."""
    assert frame(people()).to_sql("people", connection, index=False) == people().num_rows
    return connection


def read(connection: Any, table: str = "people") -> pd.DataFrame:
    """All rows, in the order of their keys."""
    return pd.read_sql(f"SELECT * FROM {table} ORDER BY id", connection)


@pytest.mark.feature("queries", "bulk ingest")
def test_what_to_sql_writes_read_sql_reads(with_people: Any) -> None:
    assert_frame_equal(read(with_people), frame(people()))


@pytest.mark.feature("every type")
def test_read_sql_gives_arrow_columns_on_demand(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.adbc_ingest("things", all_types(), mode="create")

    found = pd.read_sql("SELECT * FROM things ORDER BY id", connection, dtype_backend="pyarrow")

    assert pa.Table.from_pandas(found, schema=all_types().schema, preserve_index=False).equals(all_types())


@pytest.mark.feature("parameters", reason="pandas binds no values for ADBC's connections: `polars` and the driver do")
def test_read_sql_refuses_values_to_bind(with_people: Any) -> None:
    with pytest.raises(NotImplementedError, match="'params' is not implemented for ADBC drivers"):
        pd.read_sql("SELECT * FROM people WHERE id = ?", with_people, params=[1])


def test_read_sql_takes_an_index_and_dates(connection: Any) -> None:
    sql = "SELECT * FROM (VALUES (2, '2026-11-21'), (1, '2026-02-28')) AS days (id, day) ORDER BY id"

    found = pd.read_sql(sql, connection, index_col="id", parse_dates=["day"])

    assert found.index.tolist() == [1, 2]
    assert [each.date() for each in found["day"]] == [date(2026, 2, 28), date(2026, 11, 21)]


def test_read_sql_table_reads_a_table_by_name(with_people: Any) -> None:
    found = pd.read_sql_table("people", with_people, columns=["id", "name"])

    assert_frame_equal(found.sort_values("id", ignore_index=True), frame(people())[["id", "name"]])


def test_read_sql_table_reads_a_table_of_a_schema(with_people: Any) -> None:
    found = pd.read_sql_table("people", with_people, schema="primary")

    assert_frame_equal(found.sort_values("id", ignore_index=True), frame(people()))


def test_to_sql_fails_when_the_table_exists(with_people: Any) -> None:
    with pytest.raises(ValueError, match="already exists"):
        frame(more_people()).to_sql("people", with_people, index=False, if_exists="fail")

    assert_frame_equal(read(with_people), frame(people()))


@pytest.mark.feature("bulk ingest")
def test_to_sql_appends(with_people: Any) -> None:
    frame(more_people()).to_sql("people", with_people, index=False, if_exists="append")

    assert_frame_equal(read(with_people), frame(pa.concat_tables([people(), more_people()])))


def test_to_sql_appends_to_a_table_that_is_missing(connection: Any) -> None:
    frame(people()).to_sql("people", connection, index=False, if_exists="append")

    assert_frame_equal(read(connection), frame(people()))


@pytest.mark.feature("bulk ingest")
def test_to_sql_replaces_the_table_and_its_columns(with_people: Any) -> None:
    other = pd.DataFrame({"id": [1], "born": [1815]})

    other.to_sql("people", with_people, index=False, if_exists="replace")

    assert_frame_equal(read(with_people), other)


@pytest.mark.feature("bulk ingest")
def test_to_sql_deletes_the_rows_and_keeps_the_columns(with_people: Any) -> None:
    frame(more_people())[["id", "name"]].to_sql("people", with_people, index=False, if_exists="delete_rows")

    expected = frame(more_people()).assign(score=[float("nan")] * more_people().num_rows)
    assert_frame_equal(read(with_people), expected)


def test_to_sql_writes_into_a_schema(connection: Any) -> None:
    frame(people()).to_sql("people", connection, schema="primary", index=False)

    assert_frame_equal(read(connection, '"primary".people'), frame(people()))


def test_to_sql_writes_the_index_as_a_column(connection: Any) -> None:
    frame(people()).set_index("id").to_sql("people", connection)

    found = pd.read_sql("SELECT id, name, score FROM people ORDER BY id", connection)
    assert_frame_equal(found, frame(people()))


def test_times_decimals_and_categories_survive(connection: Any) -> None:
    sent = pd.DataFrame(
        {
            "id": [1, 2],
            "local": pd.to_datetime(["2026-02-28 12:00:00.00", "2026-11-21 09:30:15.25"]).astype("datetime64[us]"),
            "zoned": pd.to_datetime(["2026-02-28 12:00", "2026-11-21 09:30"], utc=True).astype("datetime64[us, UTC]"),
            "price": [Decimal("1.50"), Decimal("-2.25")],
            "kind": pd.Categorical(["a", "b"]),
            "flag": [True, False],
        }
    )

    sent.to_sql("things", connection, index=False)

    assert_frame_equal(read(connection, "things"), sent.assign(kind=sent["kind"].astype("str")))


def test_a_statement_that_is_wrong_raises_the_error_of_pandas(connection: Any) -> None:
    with pytest.raises(DatabaseError, match="nobody"):
        pd.read_sql("SELECT * FROM nobody", connection)
