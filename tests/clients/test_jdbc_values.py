"""Values through Arrow's JDBC driver: bound ones of every type, and columns of every type read back.

What the driver itself can't do (18.3) is here too, so that a newer one is noticed: it reads most unsigned integers as
signed, has no `getObject` for timestamps with a time zone, and keeps of times and bound timestamps the milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from clients.jdbc_program import Connection, Jdbc, JdbcError, encoded
from clients.samples import all_types
from vectors.indexed import create as create_index
from vectors.indexed import make_docs

if TYPE_CHECKING:
    from conftest import RunningServer

pytestmark = pytest.mark.client("JDBC")

VALUES: dict[str, tuple[str, str, Any, Any]] = {
    "BOOLEAN": ("Boolean", "Boolean", True, True),
    "TINYINT": ("Byte", "Byte", -128, -128),
    "SMALLINT": ("Short", "Short", -32768, -32768),
    "INTEGER": ("Int", "Int", -(2**31), -(2**31)),
    "BIGINT": ("Long", "Long", -(2**63), -(2**63)),
    "REAL": ("Float", "Float", 0.5, 0.5),
    "DOUBLE": ("Double", "Double", 1.7976931348623157e308, 1.7976931348623157e308),
    "DECIMAL(12, 4)": ("BigDecimal", "BigDecimal", "-12345678.9012", {"BigDecimal": "-12345678.9012"}),
    "DECIMAL(38, 0)": ("BigDecimal", "BigDecimal", "9" * 38, {"BigDecimal": "9" * 38}),
    "VARCHAR": ("String", "String", 'it\'s "quoted" \0 🚀\n', 'it\'s "quoted" \0 🚀\n'),
    "BYTEA": ("Bytes", "Bytes", encoded(b"\x00\xff'"), {"bytes": encoded(b"\x00\xff'")}),
    "DATE": ("Date", "Date", "1969-12-31", {"Date": "1969-12-31"}),
    "TIME": ("Time", "Time", "23:59:58", {"Time": "23:59:58"}),
    "TIMESTAMP": ("Timestamp", "Timestamp", "1969-07-20 20:17:40.123", {"Timestamp": "1969-07-20 20:17:40.123"}),
    "TIMESTAMP WITH TIME ZONE": (
        "Timestamp",
        "Timestamp",
        "2026-11-21 10:00:00.125",
        {"Timestamp": "2026-11-21 10:00:00.125"},
    ),
}
"""SQL type -> setter, getter, the value that is bound, and what is read."""

NULL = 0
"""java.sql.Types.NULL."""


@pytest.mark.feature("parameters", "prepared statements")
@pytest.mark.parametrize("kind", VALUES)
def test_a_bound_value_is_inserted_found_changed_and_removed(jdbc_connection: Connection, kind: str) -> None:
    setter, getter, value, read = VALUES[kind]
    bound = (setter, value)
    jdbc_connection.update(f"CREATE TABLE things (id BIGINT, value {kind})")

    inserted = jdbc_connection.update(
        "INSERT INTO things VALUES (?, ?)", [("Long", 1), bound], [("Long", 2), ("Null", NULL)]
    )
    found = jdbc_connection.query(
        "SELECT id, value FROM things WHERE value = ?", [bound], getters=[["Long", "id"], [getter, "value"]]
    )
    changed = jdbc_connection.update("UPDATE things SET value = ? WHERE value IS NULL", [bound])
    removed = jdbc_connection.update("DELETE FROM things WHERE value = ?", [bound])

    assert (inserted, found, changed, removed) == ([1, 1], [[1, read]], [1], [2])


@pytest.mark.parametrize("kind", VALUES)
def test_a_cast_says_the_type_of_a_placeholder(jdbc_connection: Connection, kind: str) -> None:
    setter, getter, value, read = VALUES[kind]

    rows = jdbc_connection.query(f"SELECT CAST(? AS {kind}) AS value", [(setter, value)], getters=[[getter, "value"]])

    assert rows == [[read]]


@pytest.mark.parametrize("kind", VALUES)
def test_null_is_bound_to_every_type(jdbc_connection: Connection, kind: str) -> None:
    rows = jdbc_connection.query(f"SELECT CAST(? AS {kind}) IS NULL AS answer", [("Null", NULL)])

    assert rows == [[True]]


@pytest.mark.parametrize(
    ("sql", "values", "answer"),
    [
        ("SELECT 'a' || ? AS text", [("String", "b")], "ab"),
        ("SELECT count(*) AS n FROM generate_series(1, 9) WHERE value BETWEEN ? AND ?", [("Int", 3), ("Long", 5)], 3),
        ("SELECT count(*) AS n FROM generate_series(1, 9) WHERE value IN (?, ?)", [("Long", 3), ("Long", 50)], 1),
        ("SELECT max(value) AS n FROM (SELECT value FROM generate_series(1, 9) LIMIT ? OFFSET ?)", [("Int", 2)] * 2, 4),
        ("SELECT count(*) AS n FROM system.buckets WHERE name LIKE ?", [("String", "prim%")], 1),
        (
            "SELECT count(*) AS n FROM system.buckets WHERE name IN (SELECT name FROM system.buckets WHERE name = ?)",
            [("String", "primary")],
            1,
        ),
    ],
)
def test_placeholders_have_the_types_of_what_they_meet(
    jdbc_connection: Connection, sql: str, values: list[Any], answer: object
) -> None:
    assert jdbc_connection.query(sql, values) == [[answer]]


def test_a_placeholder_of_unknown_type_takes_text_alone(jdbc_connection: Connection) -> None:
    assert jdbc_connection.query("SELECT ? AS value", [("String", "7")]) == [["7"]]
    with pytest.raises(JdbcError, match="Binding value of type INTEGER is not yet supported for expected Arrow type"):
        jdbc_connection.query("SELECT ? AS value", [("Int", 7)])


def test_the_driver_takes_decimals_of_the_scale_alone(jdbc: Jdbc, server: RunningServer) -> None:
    # Not closed: the driver loses memory when binding fails, and says so when the connection is closed.
    connection = jdbc.connect(server.uri)

    with pytest.raises(JdbcError, match="BigDecimal scale must equal that in the Arrow vector: 1 != 2"):
        connection.query("SELECT CAST(? AS DECIMAL(10, 2)) AS value", [("BigDecimal", "1.5")])


@pytest.fixture
def everything(jdbc_connection: Connection, connection: Any) -> Connection:
    """A JDBC connection, when the table `things` has all types, written over ADBC."""
    with connection.cursor() as cursor:
        cursor.adbc_ingest("things", all_types(), mode="create")
    return jdbc_connection


READ: dict[str, list[Any]] = {
    "int8": [-128, 127],
    "int16": [-32768, 32767],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), 2**63 - 1],
    "float32": [0.5, -1.25],
    "float64": [0.1, 1.7976931348623157e308],
    "bool": [True, False],
    "decimal": [{"BigDecimal": "12345678.9012"}, {"BigDecimal": "-0.0001"}],
    "wide_decimal": [{"BigDecimal": "9" * 38}, {"BigDecimal": "-1"}],
    "date": [{"Date": "1969-12-31"}, {"Date": "2026-02-28"}],
    "time": [{"Time": "00:00:01"}, {"Time": "23:59:59.999"}],
    "timestamp": [{"Timestamp": "1969-07-20 20:17:40.123456"}, {"Timestamp": "2026-11-21 00:00:00.0"}],
    "timestamp_ns": [{"Timestamp": "1970-01-01 00:00:00.000000001"}, {"Timestamp": "1938-04-24 22:13:20.000000001"}],
    "string": ["", 'it\'s "quoted" \0 🚀\n'],
    "binary": [{"bytes": ""}, {"bytes": encoded(b"\x00\xff'")}],
    "list": [[1, None, 3], []],
    "list_of_strings": [[{"Text": "a"}, {"Text": "b"}], [None]],
    "struct": [{"Map": {"x": 1, "y": {"Text": "one"}}}, {"Map": {}}],
}
"""Column -> what getObject answers for its two values."""


@pytest.mark.feature("every type")
@pytest.mark.parametrize("column", READ)
def test_a_column_is_read_back_equal(everything: Connection, column: str) -> None:
    rows = everything.query(f'SELECT "{column}" FROM things ORDER BY id')

    assert rows == [[value] for value in (*READ[column], None)]


UNSIGNED = {"uint8": (0, 255), "uint16": (0, 65535), "uint32": (0, 2**32 - 1), "uint64": (0, 2**64 - 1)}


@pytest.mark.feature("every type", reason="unsigned columns are read as signed ones: select `CAST(x AS BIGINT)`")
@pytest.mark.parametrize("column", UNSIGNED)
def test_an_unsigned_column_is_read_as_a_wider_type(everything: Connection, column: str) -> None:
    # The driver's own getters answer -1 for the largest value.
    wider = "DECIMAL(20, 0)" if column == "uint64" else "BIGINT"

    rows = everything.query(f'SELECT CAST("{column}" AS {wider}) AS value FROM things ORDER BY id')

    values = [{"BigDecimal": str(value)} if column == "uint64" else value for value in UNSIGNED[column]]
    assert rows == [[value] for value in (*values, None)]


@pytest.mark.feature("every type", reason="a timestamp with a time zone has `getTimestamp`, but no `getObject`")
def test_a_timestamp_with_time_zone_has_get_timestamp_but_no_get_object(everything: Connection) -> None:
    sql = "SELECT timestamp_utc FROM things ORDER BY id"

    rows = everything.query(sql, getters=[["Timestamp", "timestamp_utc"]])

    assert rows == [[{"Timestamp": "1969-07-20 20:17:40.123456"}], [{"Timestamp": "2026-11-21 00:00:00.0"}], [None]]
    with pytest.raises(JdbcError, match="not implemented"):
        everything.query(sql)


def test_every_type_is_written_as_it_was_read(everything: Connection, server: RunningServer) -> None:
    assert everything.update("CREATE TABLE copies AS SELECT * FROM things") == [3]
    count = everything.query("SELECT count(*) AS n FROM (SELECT * FROM copies EXCEPT SELECT * FROM things)")
    assert count == [[0]]
    assert "copies" in {key.name for key in server.lakehouse.catalog.snapshot().datasets}


@pytest.mark.feature("vector search")
def test_a_vector_is_bound_as_text_with_k_and_a_filter(jdbc_connection: Connection, server: RunningServer) -> None:
    make_docs(server.lakehouse)
    create_index(server.lakehouse)
    search = "SELECT id FROM vector_search('directions', CAST(? AS VARCHAR), ?, ?)"

    rows = jdbc_connection.query(search, [("String", "[1, 0]"), ("Long", 2), ("String", "id > 0")])

    assert rows == [[1], [359]]
