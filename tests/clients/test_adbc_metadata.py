"""What ADBC tells of the server and its tables."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pytest
from adbc_driver_manager import AdbcStatusCode
from clients.samples import all_types, people

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import RunningServer

pytestmark = pytest.mark.client("ADBC")


@pytest.fixture
def catalogued(connection: Any) -> Any:
    """A connection, when the tables `people` and `pets` are there."""
    with connection.cursor() as cursor:
        cursor.adbc_ingest("people", people(), mode="create")
        cursor.adbc_ingest("pets", pa.table({"name": ["Tom"]}), mode="create")
    return connection


def tables_by_schema(connection: Any, **filters: Any) -> dict[str, list[str]]:
    """Names of the tables that get_objects lists in each schema that has any."""
    [catalog] = connection.adbc_get_objects(depth="tables", **filters).read_all().to_pylist()
    assert catalog["catalog_name"] == "lakehouse"
    return {
        schema["db_schema_name"]: [table["table_name"] for table in schema["db_schema_tables"]]
        for schema in catalog["catalog_db_schemas"] or []
        if schema["db_schema_tables"]
    }


def test_get_objects_lists_the_catalog(catalogued: Any) -> None:
    listed = catalogued.adbc_get_objects(depth="catalogs").read_all().to_pylist()

    assert [catalog["catalog_name"] for catalog in listed] == ["lakehouse"]


def test_get_objects_lists_the_schemas(catalogued: Any) -> None:
    [catalog] = catalogued.adbc_get_objects(depth="db_schemas").read_all().to_pylist()

    names = {schema["db_schema_name"] for schema in catalog["catalog_db_schemas"]}
    assert names == {"public", "primary", "system", "information_schema"}


def test_get_objects_lists_each_dataset_in_public_and_in_its_bucket(catalogued: Any) -> None:
    listed = tables_by_schema(catalogued)

    assert sorted(listed["public"]) == ["people", "pets"]
    assert sorted(listed["primary"]) == ["people", "pets"]
    assert {"datasets", "queries", "commits"} <= set(listed["system"])
    assert {"tables", "columns"} <= set(listed["information_schema"])


@pytest.mark.feature("tables and columns")
def test_get_objects_tells_all_of_a_table(catalogued: Any) -> None:
    listed = catalogued.adbc_get_objects(depth="all", db_schema_filter="public", table_name_filter="people").read_all()

    [catalog] = listed.to_pylist()
    [schema] = [each for each in catalog["catalog_db_schemas"] if each["db_schema_tables"]]
    [table] = schema["db_schema_tables"]
    assert (schema["db_schema_name"], table["table_name"], table["table_type"]) == ("public", "people", "TABLE")
    assert [
        (each["column_name"], each["ordinal_position"], each["xdbc_type_name"]) for each in table["table_columns"]
    ] == [("id", 1, "BIGINT"), ("name", 2, "VARCHAR"), ("score", 3, "DOUBLE")]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"db_schema_filter": "public"}, {"public": ["people", "pets"]}),
        ({"table_name_filter": "p%", "db_schema_filter": "p%"}, None),
        ({"table_name_filter": "peo_le", "db_schema_filter": "public"}, {"public": ["people"]}),
        ({"table_name_filter": "nobody"}, {}),
        ({"table_types_filter": ["TABLE"], "db_schema_filter": "public"}, {"public": ["people", "pets"]}),
        ({"catalog_filter": "lake%", "db_schema_filter": "public"}, {"public": ["people", "pets"]}),
    ],
    ids=str,
)
def test_get_objects_filters_by_patterns(
    catalogued: Any, filters: dict[str, Any], expected: dict[str, list[str]] | None
) -> None:
    both = {"primary": ["people", "pets"], "public": ["people", "pets"]}

    assert tables_by_schema(catalogued, **filters) == (both if expected is None else expected)


def test_get_objects_filters_columns(catalogued: Any) -> None:
    listed = catalogued.adbc_get_objects(depth="all", db_schema_filter="public", column_name_filter="na%").read_all()

    [catalog] = listed.to_pylist()
    columns = {
        table["table_name"]: [column["column_name"] for column in table["table_columns"]]
        for schema in catalog["catalog_db_schemas"]
        for table in schema["db_schema_tables"]
    }
    assert columns == {"people": ["name"], "pets": ["name"]}


@pytest.mark.feature(
    "primary keys", "foreign keys", reason="the driver asks for no keys; `information_schema` has them"
)
def test_keys_are_read_by_sql_because_the_driver_asks_for_none(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE people (id BIGINT PRIMARY KEY, boss BIGINT REFERENCES people ON DELETE SET NULL)")
        cursor.execute(
            "SELECT c.constraint_name, constraint_type, column_name, position_in_unique_constraint, delete_rule "
            "FROM information_schema.table_constraints c "
            "JOIN information_schema.key_column_usage k "
            "ON k.constraint_schema = c.constraint_schema AND k.constraint_name = c.constraint_name "
            "LEFT JOIN information_schema.referential_constraints r "
            "ON r.constraint_schema = c.constraint_schema AND r.constraint_name = c.constraint_name "
            "WHERE c.constraint_schema = 'public' ORDER BY 1"
        )
        told = cursor.fetchall()

    listed = connection.adbc_get_objects(depth="all", db_schema_filter="public", table_name_filter="people").read_all()
    [catalog] = listed.to_pylist()
    [schema] = [each for each in catalog["catalog_db_schemas"] if each["db_schema_tables"]]
    assert [table["table_constraints"] for table in schema["db_schema_tables"]] == [[]]
    assert told == [
        ("people_boss_fkey", "FOREIGN KEY", "boss", 1, "SET NULL"),
        ("people_pkey", "PRIMARY KEY", "id", None, None),
    ]


def test_get_objects_of_another_catalog_lists_nothing(catalogued: Any) -> None:
    listed = catalogued.adbc_get_objects(depth="all", catalog_filter="other").read_all()

    assert listed.num_rows == 0


def test_the_schema_of_a_table_is_that_of_its_rows(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.adbc_ingest("things", all_types(), mode="create")

    plain = connection.adbc_get_table_schema("things")
    qualified = connection.adbc_get_table_schema("things", catalog_filter="lakehouse", db_schema_filter="primary")

    assert plain.equals(all_types().schema)
    assert qualified.equals(all_types().schema)


def test_the_schema_of_a_missing_table_is_not_found(connection: Any) -> None:
    with pytest.raises(flightsql.Error) as caught:
        connection.adbc_get_table_schema("nobody")

    assert caught.value.status_code == AdbcStatusCode.NOT_FOUND


def test_table_types_are_listed(connection: Any) -> None:
    assert "TABLE" in connection.adbc_get_table_types()


def test_get_info_names_server_and_driver(connection: Any) -> None:
    info = connection.adbc_get_info()

    assert info["vendor_name"] == "flightserver"
    assert info["vendor_version"] == version("flightserver")
    assert info["vendor_arrow_version"] == pa.__version__
    assert "Flight SQL" in info["driver_name"]


def test_a_connection_begins_in_the_catalog_and_its_public_schema(connection: Any) -> None:
    assert (connection.adbc_current_catalog, connection.adbc_current_db_schema) == ("lakehouse", "public")


@pytest.fixture
def session(server: RunningServer) -> Iterator[Any]:
    """A connection that keeps cookies, so that the server remembers its options."""
    keep = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}
    with flightsql.connect(server.uri, db_kwargs=keep, autocommit=True) as opened:
        yield opened


@pytest.mark.feature("sessions", "schema of the connection")
def test_a_session_changes_its_schema(session: Any) -> None:
    session.adbc_current_db_schema = "system"

    assert session.adbc_current_db_schema == "system"
    with session.cursor() as cursor:
        assert cursor.execute("SELECT name FROM buckets").fetchall() == [("primary",)]


@pytest.mark.feature("sessions", "time travel")
def test_a_session_reads_the_past(session: Any, server: RunningServer) -> None:
    with session.cursor() as cursor:
        cursor.adbc_ingest("people", people(), mode="create")
        before = server.lakehouse.catalog.snapshot().version
        cursor.executemany("DELETE FROM people", None)

        session.adbc_connection.set_options(**{"adbc.flight.sql.session.option.as_of": str(before)})
        past = cursor.execute("SELECT * FROM people ORDER BY id").fetch_arrow_table()
        session.adbc_connection.set_options(**{"adbc.flight.sql.session.optionerase.as_of": ""})
        present = cursor.execute("SELECT * FROM people").fetch_arrow_table()

    assert past.equals(people())
    assert present.num_rows == 0


def test_the_catalog_can_not_be_changed_to_one_that_does_not_exist(session: Any) -> None:
    with pytest.raises(flightsql.Error, match=r"(?i)catalog"):
        session.adbc_current_catalog = "other"
