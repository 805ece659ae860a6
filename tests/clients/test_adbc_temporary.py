"""Temporary tables by ADBC: `adbc_ingest(..., temporary=True)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pytest
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_manager import AdbcStatusCode
from clients.samples import all_types, more_people, people

from flightserver.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import RunningServer

pytestmark = pytest.mark.client("ADBC")


@pytest.fixture
def other(server: RunningServer) -> Iterator[Any]:
    """A cursor of another connection."""
    with flightsql.connect(server.uri, autocommit=True) as connection, connection.cursor() as opened:
        yield opened


def held(server: RunningServer) -> int:
    return server.lakehouse.temporary.bytes


def read(cursor: Any, sql: str) -> list[tuple[Any, ...]]:
    return list(cursor.execute(sql).fetchall())


@pytest.mark.feature("temporary tables")
def test_its_rows_are_what_was_sent(cursor: Any) -> None:
    assert cursor.adbc_ingest("things", all_types(), mode="create", temporary=True) == all_types().num_rows

    assert cursor.execute("SELECT * FROM things").fetch_arrow_table().equals(all_types())


@pytest.mark.feature("temporary tables")
def test_nobody_else_sees_it_and_the_catalog_does_not_know_it(cursor: Any, other: Any, server: RunningServer) -> None:
    version = server.lakehouse.catalog.snapshot().version
    cursor.adbc_ingest("mine", people(), mode="create", temporary=True)

    with pytest.raises(flightsql.Error, match="no dataset 'mine'"):
        other.execute("SELECT * FROM mine")
    other.adbc_ingest("mine", more_people(), mode="create", temporary=True)
    assert other.execute("SELECT * FROM mine").fetch_arrow_table().equals(more_people())
    assert cursor.execute("SELECT * FROM mine").fetch_arrow_table().equals(people())
    assert server.lakehouse.catalog.snapshot().version == version


@pytest.mark.feature("temporary tables")
def test_it_hides_a_table_of_its_name_until_it_is_dropped(cursor: Any, other: Any) -> None:
    cursor.execute("CREATE TABLE people AS SELECT 'all' AS whose")
    cursor.adbc_ingest("people", pa.table({"whose": ["mine"]}), mode="create", temporary=True)

    assert read(cursor, "SELECT * FROM people") == [("mine",)]
    assert read(cursor, "SELECT * FROM public.people") == [("all",)]
    assert read(cursor, "SELECT t.whose, p.whose FROM people t CROSS JOIN public.people p") == [("mine", "all")]
    assert read(other, "SELECT * FROM people") == [("all",)]
    cursor.adbc_ingest("people", pa.table({"whose": ["all, too"]}), mode="append")
    assert read(other, "SELECT count(*) FROM people") == [(2,)]
    cursor.execute("DROP TABLE people")
    assert read(cursor, "SELECT count(*) FROM people") == [(2,)]
    cursor.execute("DROP TABLE people")
    with pytest.raises(flightsql.Error, match="people"):
        cursor.execute("SELECT * FROM people")


def test_a_drop_frees_its_memory(cursor: Any, server: RunningServer) -> None:
    cursor.adbc_ingest("people", people(), mode="create", temporary=True)
    assert held(server) > 0

    cursor.execute("DROP TABLE IF EXISTS people")

    assert held(server) == 0
    cursor.execute("DROP TABLE IF EXISTS people")


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO people VALUES (1, 'x', 1.0)",
        "UPDATE people SET name = 'x'",
        "DELETE FROM people",
        "TRUNCATE TABLE people",
        "ALTER TABLE people ADD COLUMN more INT",
        "MERGE INTO people USING (VALUES (1)) AS s(id) ON people.id = s.id WHEN MATCHED THEN DELETE",
    ],
)
def test_sql_does_not_change_it_nor_the_table_that_it_hides(cursor: Any, other: Any, sql: str) -> None:
    other.adbc_ingest("people", people(), mode="create")
    cursor.adbc_ingest("people", more_people(), mode="create", temporary=True)

    with pytest.raises(flightsql.Error, match=r"'people' is a temporary table.*not changed by") as caught:
        cursor.execute(sql)

    assert caught.value.status_code == AdbcStatusCode.INVALID_ARGUMENT
    assert cursor.execute("SELECT * FROM people").fetch_arrow_table().equals(more_people())
    assert other.execute("SELECT * FROM people ORDER BY id").fetch_arrow_table().equals(people())


def test_statements_that_change_other_tables_read_it(cursor: Any, other: Any) -> None:
    cursor.adbc_ingest("fresh", pa.table({"id": [1, 2], "n": [10, 20]}), mode="create", temporary=True)

    cursor.execute("CREATE TABLE kept AS SELECT * FROM fresh")
    cursor.execute("INSERT INTO kept SELECT id + 2, n FROM fresh")
    cursor.execute("UPDATE kept SET n = 0 WHERE id IN (SELECT id FROM fresh)")
    assert cursor.rowcount == 2
    cursor.executemany("DELETE FROM kept WHERE id = ? AND EXISTS (SELECT * FROM fresh WHERE n = ?)", [(3, 10), (4, 11)])
    assert cursor.rowcount == 1

    assert read(other, "SELECT * FROM kept ORDER BY id") == [(1, 0), (2, 0), (4, 20)]


def test_a_view_cannot_read_it(cursor: Any) -> None:
    cursor.adbc_ingest("fresh", people(), mode="create", temporary=True)

    with pytest.raises(flightsql.Error, match="no dataset 'fresh'"):
        cursor.execute("CREATE VIEW seen AS SELECT * FROM fresh")


@pytest.mark.parametrize("place", [{"catalog_name": "lakehouse"}, {"db_schema_name": "public"}], ids=str)
def test_a_catalog_or_schema_is_refused(cursor: Any, place: dict[str, str], server: RunningServer) -> None:
    with pytest.raises(flightsql.Error, match="temporary tables have a bare name"):
        cursor.adbc_ingest("people", people(), mode="create", temporary=True, **place)

    assert held(server) == 0


def test_metadata_lists_it_for_its_owner_alone(connection: Any, cursor: Any, other: Any) -> None:
    cursor.adbc_ingest("fresh", pa.table({"id": [1]}), mode="create", temporary=True)
    other.adbc_ingest("kept", pa.table({"id": [1]}), mode="create")

    assert connection.adbc_get_table_types() == ["LOCAL TEMPORARY", "TABLE", "VIEW"]
    assert connection.adbc_get_table_schema("fresh").names == ["id"]
    # It has no schema, and the driver lists what schemas have.
    [catalog] = connection.adbc_get_objects(depth="tables", table_types_filter=["TABLE"]).read_all().to_pylist()
    listed = {one["db_schema_name"]: one["db_schema_tables"] for one in catalog["catalog_db_schemas"]}
    assert [table["table_name"] for table in listed["public"]] == ["kept"]
    with pytest.raises(flightsql.Error) as caught:
        other.connection.adbc_get_table_schema("fresh")
    assert caught.value.status_code == AdbcStatusCode.NOT_FOUND


def test_it_is_no_part_of_a_transaction(server: RunningServer) -> None:
    with flightsql.connect(server.uri) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("fresh", pa.table({"n": [1]}), mode="create", temporary=True)
        cursor.execute("CREATE TABLE kept AS SELECT n FROM fresh")
        connection.rollback()
        assert read(cursor, "SELECT n FROM fresh") == [(1,)]
        cursor.execute("DROP TABLE fresh")
        connection.rollback()
        with pytest.raises(flightsql.Error, match="fresh"):
            cursor.execute("SELECT n FROM fresh")


def test_a_session_keeps_it_over_connections_and_frees_it_when_it_is_closed(server: RunningServer) -> None:
    with_cookies = {DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true"}
    connection = flightsql.connect(server.uri, autocommit=True, db_kwargs=with_cookies)
    with connection.cursor() as cursor:
        cursor.adbc_ingest("before", pa.table({"n": [1]}), mode="create", temporary=True)
        connection.adbc_connection.set_options(**{"adbc.flight.sql.session.option.page_rows": 100})
        cursor.adbc_ingest("after", pa.table({"n": [2]}), mode="create", temporary=True)
        assert read(cursor, "SELECT * FROM before UNION ALL SELECT * FROM after ORDER BY n") == [(1,), (2,)]

    connection.close()

    assert held(server) == 0


class TestWithALimit:
    """All temporary tables together may have little memory."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return load_settings(None, {"server": {"data": tmp_path / "data"}, "query": {"temporary_bytes": 100_000}})

    def test_rows_beyond_it_are_refused_and_nothing_is_kept(self, cursor: Any, server: RunningServer) -> None:
        with pytest.raises(flightsql.Error, match=r"of 100,000 \(query\.temporary_bytes\)"):
            cursor.adbc_ingest("numbers", pa.table({"n": range(100_000)}), mode="create", temporary=True)

        assert held(server) == 0
        cursor.adbc_ingest("numbers", pa.table({"n": range(100)}), mode="create", temporary=True)
        assert read(cursor, "SELECT sum(n) FROM numbers") == [(4950,)]
