"""java.sql.DatabaseMetaData by Arrow's driver: every method, and in full those that tools show.

Where the driver (18.3) answers by itself and not what the server says, the test says so.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest

from flightserver.flight.sql import keywords

if TYPE_CHECKING:
    from clients.jdbc_program import Connection

pytestmark = pytest.mark.client("JDBC")

BIGINT, VARCHAR, DOUBLE, DECIMAL, DATE, TIMESTAMP = -5, 12, 8, 3, 91, 93
"""Of java.sql.Types."""

NO_NULLS, NULLABLE = 0, 1
"""columnNoNulls and columnNullable."""

REPEATABLE_READ, SERIALIZABLE = 4, 8
"""Of java.sql.Connection."""

FORWARD_ONLY, SCROLLABLE, READ_ONLY, UPDATABLE = 1003, 1004, 1007, 1008
"""Of java.sql.ResultSet."""

UNWRITTEN = {
    "deletesAreDetected/1",
    "insertsAreDetected/1",
    "othersDeletesAreVisible/1",
    "othersInsertsAreVisible/1",
    "othersUpdatesAreVisible/1",
    "ownDeletesAreVisible/1",
    "ownInsertsAreVisible/1",
    "ownUpdatesAreVisible/1",
    "supportsResultSetHoldability/1",
    "updatesAreDetected/1",
}
"""Methods that the driver has no code for; it asks no server."""


@pytest.fixture
def people(jdbc_connection: Connection) -> Connection:
    """A connection, when there are the tables `people` and `pets` and the view `adults`."""
    jdbc_connection.update(
        "CREATE TABLE people (id BIGINT PRIMARY KEY, name VARCHAR NOT NULL, score DOUBLE, wealth DECIMAL(12, 2), "
        "born DATE, seen TIMESTAMP)"
    )
    jdbc_connection.update("COMMENT ON COLUMN people.name IS 'as they call themselves'")
    jdbc_connection.update("CREATE TABLE pets (owner BIGINT, nick VARCHAR, PRIMARY KEY (owner, nick))")
    jdbc_connection.update("CREATE VIEW adults AS SELECT id, name FROM people WHERE born < DATE '2000-01-01'")
    return jdbc_connection


def test_no_method_throws_that_the_driver_has(people: Connection) -> None:
    table = [None, "public", "people"]
    instead = [
        ["getColumns", *table, None],
        ["getTables", None, "public", None, None],
        *([method, *table] for method in ("getPrimaryKeys", "getImportedKeys", "getExportedKeys")),
        ["getCrossReference", *table, None, "public", "pets"],
        ["supportsResultSetType", FORWARD_ONLY],
        ["supportsResultSetConcurrency", FORWARD_ONLY, READ_ONLY],
        ["supportsTransactionIsolationLevel", REPEATABLE_READ],
    ]

    answers = people.ask("metadata", instead=instead)["answers"]

    failed = {answer["method"]: answer["error"]["message"] for answer in answers if "error" in answer}
    assert len(answers) > 170
    assert failed == dict.fromkeys(UNWRITTEN, "todo: implement this method")


FACTS: dict[tuple[Any, ...], Any] = {
    ("getDatabaseProductName",): "flightserver",
    ("getDatabaseProductVersion",): version("flightserver"),
    ("isReadOnly",): False,
    ("getIdentifierQuoteString",): '"',
    ("getSearchStringEscape",): "\\",
    ("getExtraNameCharacters",): "",
    ("getCatalogTerm",): "catalog",
    ("getSchemaTerm",): "schema",
    ("getProcedureTerm",): "procedure",
    ("isCatalogAtStart",): True,
    ("getSQLKeywords",): ", ".join(keywords.KEYWORDS),
    ("getNumericFunctions",): ", ".join(keywords.NUMERIC_FUNCTIONS),
    ("getStringFunctions",): ", ".join(keywords.STRING_FUNCTIONS),
    ("getSystemFunctions",): ", ".join(keywords.SYSTEM_FUNCTIONS),
    ("getTimeDateFunctions",): ", ".join(keywords.DATETIME_FUNCTIONS),
    ("getMaxSchemaNameLength",): 63,
    ("getMaxTableNameLength",): 200,
    ("getMaxColumnNameLength",): 0,
    ("getMaxStatementLength",): 4 * 1024 * 1024,
    ("supportsSchemasInPrivilegeDefinitions",): True,
    ("supportsCatalogsInPrivilegeDefinitions",): True,
    ("supportsSchemasInIndexDefinitions",): False,
    ("getMaxConnections",): 0,
    ("supportsTransactions",): True,
    ("supportsTransactionIsolationLevel", REPEATABLE_READ): True,
    ("supportsTransactionIsolationLevel", SERIALIZABLE): False,
    ("dataDefinitionCausesTransactionCommit",): False,
    ("dataDefinitionIgnoredInTransactions",): False,
    ("supportsBatchUpdates",): True,
    ("supportsResultSetType", FORWARD_ONLY): True,
    ("supportsResultSetType", SCROLLABLE): False,
    ("supportsResultSetConcurrency", FORWARD_ONLY, READ_ONLY): True,
    ("supportsResultSetConcurrency", FORWARD_ONLY, UPDATABLE): False,
    ("supportsFullOuterJoins",): True,
    ("supportsLimitedOuterJoins",): True,
    ("supportsUnion",): True,
    ("supportsUnionAll",): True,
    ("supportsSubqueriesInExists",): True,
    ("supportsSubqueriesInIns",): True,
    ("supportsCorrelatedSubqueries",): True,
    ("supportsGroupByUnrelated",): True,
    ("supportsLikeEscapeClause",): True,
    ("supportsNonNullableColumns",): True,
    ("supportsStoredProcedures",): False,
    ("supportsSelectForUpdate",): False,
    ("supportsConvert", VARCHAR, BIGINT): True,
    ("supportsANSI92EntryLevelSQL",): True,
    ("supportsANSI92FullSQL",): False,
    # The driver hands the protocol's number on: REPEATABLE_READ is 3 there, and 4 in JDBC.
    ("getDefaultTransactionIsolation",): 3,
    # The driver doesn't ask for types: GetXdbcTypeInfo is for ODBC.
    ("getTypeInfo",): [],
}


def test_facts_are_those_of_the_server(jdbc_connection: Connection) -> None:
    assert {call: jdbc_connection.metadata(*call) for call in FACTS} == FACTS


@pytest.mark.feature("tables and columns")
def test_catalogs_schemas_and_table_types_are_listed(jdbc_connection: Connection) -> None:
    schemas = ["information_schema", "primary", "public", "system"]

    assert jdbc_connection.metadata("getCatalogs") == [{"TABLE_CAT": "lakehouse"}]
    assert jdbc_connection.metadata("getTableTypes") == [
        {"TABLE_TYPE": kind} for kind in ("LOCAL TEMPORARY", "TABLE", "VIEW")
    ]
    assert jdbc_connection.metadata("getSchemas") == [
        {"TABLE_SCHEM": schema, "TABLE_CATALOG": "lakehouse"} for schema in schemas
    ]
    assert jdbc_connection.metadata("getSchemas", "lakehouse", "p%") == [
        {"TABLE_SCHEM": schema, "TABLE_CATALOG": "lakehouse"} for schema in ("primary", "public")
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((None, "public", None, None), [("adults", "VIEW"), ("people", "TABLE"), ("pets", "TABLE")]),
        (("lakehouse", "public", "%", ["TABLE"]), [("people", "TABLE"), ("pets", "TABLE")]),
        ((None, "public", "pe%", ["TABLE", "VIEW"]), [("people", "TABLE"), ("pets", "TABLE")]),
        ((None, "pub_ic", "peo_le", None), [("people", "TABLE")]),
        ((None, "public", "peo\\_le", None), []),
        ((None, "nowhere", None, None), []),
        (("other", None, None, None), []),
    ],
    ids=str,
)
def test_tables_are_listed_by_patterns(
    people: Connection, arguments: tuple[Any, ...], expected: list[tuple[str, str]]
) -> None:
    nothing = dict.fromkeys(
        ("REMARKS", "TYPE_CAT", "TYPE_SCHEM", "TYPE_NAME", "SELF_REFERENCING_COL_NAME", "REF_GENERATION")
    )

    listed = people.metadata("getTables", *arguments)

    assert listed == [
        {"TABLE_CAT": "lakehouse", "TABLE_SCHEM": "public", "TABLE_NAME": name, "TABLE_TYPE": kind, **nothing}
        for name, kind in expected
    ]


@pytest.mark.feature("tables and columns")
def test_columns_say_type_size_scale_nullability_and_remarks(people: Connection) -> None:
    shown = (
        "COLUMN_NAME",
        "DATA_TYPE",
        "TYPE_NAME",
        "COLUMN_SIZE",
        "DECIMAL_DIGITS",
        "NULLABLE",
        "IS_NULLABLE",
        "REMARKS",
        "ORDINAL_POSITION",
    )

    columns = people.metadata("getColumns", None, "public", "people", None)

    assert {(row["TABLE_CAT"], row["TABLE_SCHEM"], row["TABLE_NAME"]) for row in columns} == {
        ("lakehouse", "public", "people")
    }
    assert [tuple(row[name] for name in shown) for row in columns] == [
        ("id", BIGINT, "BIGINT", 19, 0, NO_NULLS, "NO", None, 1),
        ("name", VARCHAR, "VARCHAR", 2**31 - 1, None, NO_NULLS, "NO", "as they call themselves", 2),
        ("score", DOUBLE, "DOUBLE", 53, None, NULLABLE, "YES", None, 3),
        ("wealth", DECIMAL, "DECIMAL", 12, 2, NULLABLE, "YES", None, 4),
        ("born", DATE, "DATE", 10, 0, NULLABLE, "YES", None, 5),
        ("seen", TIMESTAMP, "TIMESTAMP", 29, 9, NULLABLE, "YES", None, 6),
    ]


def test_columns_are_listed_by_patterns(people: Connection) -> None:
    columns = people.metadata("getColumns", "lakehouse", "public", "p%", "n%")

    assert [(row["TABLE_NAME"], row["COLUMN_NAME"]) for row in columns] == [("people", "name"), ("pets", "nick")]


def test_every_table_of_the_server_has_columns(jdbc_connection: Connection) -> None:
    tables = jdbc_connection.metadata("getTables", None, None, None, None)
    columns = jdbc_connection.metadata("getColumns", None, None, None, None)

    def place(row: dict[str, Any]) -> tuple[str, str]:
        return row["TABLE_SCHEM"], row["TABLE_NAME"]

    assert {place(row) for row in columns} == {place(row) for row in tables}
    assert {row["DATA_TYPE"] for row in columns} - {VARCHAR} != set()


@pytest.mark.feature("primary keys")
@pytest.mark.parametrize(("table", "columns"), [("people", ["id"]), ("pets", ["owner", "nick"]), ("adults", [])])
def test_primary_keys_are_listed(people: Connection, table: str, columns: list[str]) -> None:
    place = {"TABLE_CAT": "lakehouse", "TABLE_SCHEM": "public", "TABLE_NAME": table}

    keys = people.metadata("getPrimaryKeys", None, "public", table)

    assert sorted(keys, key=lambda row: int(row["KEY_SEQ"])) == [
        {**place, "COLUMN_NAME": column, "KEY_SEQ": sequence, "PK_NAME": f"{table}_pkey"}
        for sequence, column in enumerate(columns, start=1)
    ]


def test_the_columns_of_a_result_have_their_types(people: Connection) -> None:
    people.update("INSERT INTO people (id, name) VALUES (1, 'Ada')")

    answer = people.ask("execute", sql="SELECT id, name AS who, wealth FROM people")

    assert [(column["label"], column["type"]) for column in answer["columns"]] == [
        ("id", BIGINT),
        ("who", VARCHAR),
        ("wealth", DECIMAL),
    ]


def test_a_column_with_a_comment_is_found_by_its_name(people: Connection) -> None:
    people.update("INSERT INTO people (id, name) VALUES (1, 'Ada')")

    # The driver takes the remarks of a result's column for its label, so that results must have none.
    assert people.query("SELECT name FROM people", getters=[["String", "name"]]) == [["Ada"]]


def test_power_bi_finds_the_tables_of_constraints(people: Connection) -> None:
    constraints = people.query(
        "SELECT constraint_name, table_name, constraint_type FROM information_schema.table_constraints "
        "WHERE table_schema = 'public' ORDER BY constraint_name"
    )
    columns = people.query(
        "SELECT constraint_name, column_name, ordinal_position FROM information_schema.key_column_usage "
        "WHERE table_schema = 'public' ORDER BY constraint_name, ordinal_position"
    )

    assert constraints == [["people_pkey", "people", "PRIMARY KEY"], ["pets_pkey", "pets", "PRIMARY KEY"]]
    assert columns == [["people_pkey", "id", 1], ["pets_pkey", "owner", 1], ["pets_pkey", "nick", 2]]
