"""`adbc_ingest` in all of its modes, with every kind of data and every type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pytest
from adbc_driver_manager import AdbcStatusCode
from clients.samples import all_types, create_empty, more_people, people

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import RunningServer

pytestmark = pytest.mark.client("ADBC")

BOTH = pa.concat_tables([people(), more_people()]).combine_chunks()


def read(cursor: Any, table: str = "people") -> pa.Table:
    """All rows, in the order of their keys."""
    return cursor.execute(f"SELECT * FROM {table} ORDER BY id").fetch_arrow_table()


@pytest.mark.feature("bulk ingest")
@pytest.mark.parametrize("mode", ["create", "replace", "create_append"])
def test_a_table_that_is_missing_is_created(cursor: Any, mode: str) -> None:
    counted = cursor.adbc_ingest("people", people(), mode=mode)

    assert counted == people().num_rows
    assert read(cursor).equals(people())


@pytest.mark.feature("bulk ingest")
@pytest.mark.parametrize(
    ("mode", "after"), [("append", BOTH), ("create_append", BOTH), ("replace", more_people())], ids=str
)
def test_a_table_that_exists_is_appended_to_or_replaced(cursor: Any, mode: str, after: pa.Table) -> None:
    cursor.adbc_ingest("people", people(), mode="create")

    counted = cursor.adbc_ingest("people", more_people(), mode=mode)

    assert counted == more_people().num_rows
    assert read(cursor).equals(after)


def test_create_refuses_a_table_that_exists_and_changes_nothing(cursor: Any) -> None:
    cursor.adbc_ingest("people", people(), mode="create")

    with pytest.raises(flightsql.Error, match=r"people.*exists"):
        cursor.adbc_ingest("people", more_people(), mode="create")
    assert read(cursor).equals(people())


def test_append_refuses_a_table_that_is_missing(cursor: Any) -> None:
    with pytest.raises(flightsql.Error, match="people") as caught:
        cursor.adbc_ingest("people", people(), mode="append")

    assert caught.value.status_code == AdbcStatusCode.NOT_FOUND


def test_replace_takes_another_schema(cursor: Any) -> None:
    cursor.adbc_ingest("people", people(), mode="create")
    other = pa.table({"id": pa.array([1], pa.int32()), "born": pa.array([1815], pa.int16())})

    cursor.adbc_ingest("people", other, mode="replace")

    assert read(cursor).equals(other)


def test_append_refuses_columns_that_do_not_fit_and_changes_nothing(cursor: Any) -> None:
    cursor.adbc_ingest("people", people(), mode="create")

    with pytest.raises(flightsql.ProgrammingError, match="score"):
        cursor.adbc_ingest("people", pa.table({"id": [7], "name": ["Alan"], "score": ["high"]}), mode="append")
    assert read(cursor).equals(people())


def test_append_matches_columns_by_name_and_fills_those_that_are_missing(cursor: Any) -> None:
    cursor.adbc_ingest("people", people(), mode="create")

    cursor.adbc_ingest("people", pa.table({"score": pa.array([7.0]), "id": pa.array([7], pa.int32())}), mode="append")

    cursor.execute("SELECT * FROM people WHERE id = 7")
    assert cursor.fetchall() == [(7, None, 7.0)]


@pytest.mark.feature("every type", "bulk ingest")
def test_every_type_is_kept(cursor: Any) -> None:
    cursor.adbc_ingest("things", all_types(), mode="create")

    assert read(cursor, "things").equals(all_types())


def test_required_columns_stay_required(cursor: Any) -> None:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("name", pa.utf8())])
    rows = pa.table([[1, 2], ["a", None]], schema=schema)

    cursor.adbc_ingest("things", rows, mode="create")

    assert read(cursor, "things").equals(rows)
    assert read(cursor, "things").schema.field("id").nullable is False


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (pa.array(["a", None], pa.large_utf8()), pa.utf8()),
        (pa.array(["a", None], pa.string_view()), pa.utf8()),
        (pa.array([b"a", None], pa.large_binary()), pa.binary()),
        (pa.array(["a", None]).dictionary_encode(), pa.utf8()),
        (pa.array([[1], None], pa.large_list(pa.int64())), pa.list_(pa.int64())),
        (pa.array([1, None], pa.timestamp("s")), pa.timestamp("ms")),
        (pa.nulls(2), pa.utf8()),
    ],
    ids=lambda each: str(each.type) if isinstance(each, pa.Array) else "",
)
def test_other_spellings_of_a_type_become_the_plain_one(cursor: Any, sent: pa.Array, kept: pa.DataType) -> None:
    cursor.adbc_ingest("things", pa.table({"id": [1, 2], "value": sent}), mode="create")

    stored = read(cursor, "things")["value"]

    assert stored.type == kept
    assert stored.to_pylist() == sent.to_pylist()


def batches(count: int) -> Iterator[pa.RecordBatch]:
    """Batches of 10,000 rows."""
    for number in range(count):
        ids = pa.array(range(number * 10_000, (number + 1) * 10_000), pa.int64())
        yield pa.record_batch({"id": ids, "text": pa.array([f"row {each}" for each in ids.to_pylist()])})


@pytest.mark.parametrize(
    "offered",
    [
        lambda: pa.RecordBatchReader.from_batches(next(batches(1)).schema, batches(20)),
        lambda: pa.Table.from_batches(list(batches(20))),
    ],
    ids=["reader", "table"],
)
def test_a_stream_of_many_batches_arrives_whole(cursor: Any, offered: Callable[[], Any]) -> None:
    counted = cursor.adbc_ingest("rows", offered(), mode="create")

    assert counted == 200_000
    assert read(cursor, "rows").combine_chunks().equals(pa.Table.from_batches(list(batches(20))).combine_chunks())


def test_a_record_batch_is_ingested_as_a_table_is(cursor: Any) -> None:
    cursor.adbc_ingest("people", people().combine_chunks().to_batches()[0], mode="create")

    assert read(cursor).equals(people())


def test_a_table_without_rows_is_created_with_its_columns(cursor: Any) -> None:
    counted = create_empty(cursor, "people", people().schema)

    assert counted == 0
    assert read(cursor).equals(people().schema.empty_table())


@pytest.mark.parametrize(
    "where",
    [
        {"db_schema_name": "public"},
        {"db_schema_name": "primary"},
        {"catalog_name": "lakehouse"},
        {"catalog_name": "lakehouse", "db_schema_name": "public"},
    ],
    ids=str,
)
def test_catalog_and_schema_name_the_place_of_a_table(cursor: Any, where: dict[str, str]) -> None:
    cursor.adbc_ingest("people", people(), mode="create", **where)

    assert read(cursor, 'lakehouse."primary".people').equals(people())


@pytest.mark.parametrize(
    ("where", "told"), [({"db_schema_name": "elsewhere"}, "elsewhere"), ({"catalog_name": "other"}, "other")], ids=str
)
def test_a_place_that_does_not_exist_is_refused(cursor: Any, where: dict[str, str], told: str) -> None:
    with pytest.raises(flightsql.Error, match=told):
        cursor.adbc_ingest("people", people(), mode="create", **where)


@pytest.mark.parametrize("name", ["Mixed Case", 'quo"ted', "select", "łódź", "dots.in.it"])
def test_a_table_may_have_any_name_that_sql_can_quote(cursor: Any, name: str) -> None:
    cursor.adbc_ingest(name, people(), mode="create")

    quoted = name.replace('"', '""')
    assert read(cursor, f'"{quoted}"').equals(people())


def test_a_stream_that_breaks_off_leaves_nothing(cursor: Any, server: RunningServer) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield from batches(3)
        raise OSError("the source went away")

    stream = pa.RecordBatchReader.from_batches(next(batches(1)).schema, broken())
    with pytest.raises((flightsql.Error, OSError)):
        cursor.adbc_ingest("rows", stream, mode="create")

    assert not server.lakehouse.catalog.snapshot().datasets
