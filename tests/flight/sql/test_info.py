"""SqlInfo: every fact is there, in the member that drivers cast to, and true as far as the engine can be asked."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from datafusion import SessionConfig, SessionContext

from flightserver.flight.sql import keywords
from flightserver.flight.sql.info import SQL_INFO, Limits, sql_info
from flightserver.flight.sql.protocol import enum_values

IDS = enum_values("SqlInfo")
STRING, BOOL, BIGINT, BITMASK, WORDS, MAP = range(6)
LIMITS = Limits(prepared_seconds=3600, transaction_seconds=60.5, statement_bytes=4096)


def fact(name: str) -> Any:
    return sql_info([IDS[name]], LIMITS).column("value")[0].as_py()


def engine() -> SessionContext:
    return SessionContext(SessionConfig({"datafusion.catalog.information_schema": "true"}))


def test_no_ids_means_all_and_every_id_of_the_specification_has_a_row() -> None:
    table = sql_info([], LIMITS)

    table.validate(full=True)
    assert table.schema.equals(SQL_INFO)
    assert table.column("info_name").to_pylist() == list(IDS.values())


def test_the_schema_is_the_one_that_adbc_casts_to() -> None:
    value = SQL_INFO.field("value").type

    assert [field.nullable for field in SQL_INFO] == [False, False]
    assert SQL_INFO.field("info_name").type == pa.uint32()
    assert value.mode == "dense"
    assert [(value.field(place).name, str(value.field(place).type)) for place in range(6)] == [
        ("string_value", "string"),
        ("bool_value", "bool"),
        ("bigint_value", "int64"),
        ("int32_bitmask", "int32"),
        ("string_list", "list<string_data: string>"),
        ("int32_to_int32_list_map", "map<int32, list<$data$: int32>>"),
    ]


def test_rows_come_in_the_order_asked_for_once_each_without_unknown_ids() -> None:
    assert sql_info([504, 0, 504, 9999], LIMITS).column("info_name").to_pylist() == [504, 0]
    assert sql_info([9999], LIMITS).num_rows == 0


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("FLIGHT_SQL_SERVER_NAME", STRING),
        ("FLIGHT_SQL_SERVER_READ_ONLY", BOOL),
        ("FLIGHT_SQL_SERVER_TRANSACTION", BITMASK),
        ("FLIGHT_SQL_SERVER_STATEMENT_TIMEOUT", BITMASK),
        ("SQL_IDENTIFIER_CASE", BIGINT),
        ("SQL_NULL_ORDERING", BIGINT),
        ("SQL_KEYWORDS", WORDS),
        ("SQL_SUPPORTS_CONVERT", MAP),
        ("SQL_SUPPORTED_GROUP_BY", BITMASK),
        ("SQL_OUTER_JOINS_SUPPORT_LEVEL", BITMASK),
        ("SQL_MAX_ROW_SIZE", BIGINT),
        ("SQL_MAX_ROW_SIZE_INCLUDES_BLOBS", BOOL),
        ("SQL_DEFAULT_TRANSACTION_ISOLATION", BIGINT),
        ("SQL_SUPPORTED_TRANSACTIONS_ISOLATION_LEVELS", BITMASK),
        ("SQL_SUPPORTED_RESULT_SET_TYPES", BITMASK),
    ],
)
def test_a_fact_is_in_the_member_that_jdbc_and_odbc_cast_to(name: str, member: int) -> None:
    assert sql_info([IDS[name]], LIMITS).column("value").combine_chunks().type_codes.to_pylist() == [member]


def test_the_server_says_who_it_is() -> None:
    assert fact("FLIGHT_SQL_SERVER_NAME") == "flightserver"
    assert fact("FLIGHT_SQL_SERVER_VERSION")[0].isdigit()
    assert fact("FLIGHT_SQL_SERVER_ARROW_VERSION") == pa.__version__
    assert fact("SQL_CATALOG_TERM") == "catalog"


def test_limits_are_those_that_are_set() -> None:
    """Timeouts are milliseconds in an int32, where 0 would say that there is none."""
    extreme = Limits(prepared_seconds=0.0001, transaction_seconds=1e9, statement_bytes=2**40)
    names = ("FLIGHT_SQL_SERVER_STATEMENT_TIMEOUT", "FLIGHT_SQL_SERVER_TRANSACTION_TIMEOUT", "SQL_MAX_STATEMENT_LENGTH")

    def told(limits: Limits) -> list[Any]:
        values: list[Any] = sql_info([IDS[name] for name in names], limits).column("value").to_pylist()
        return values

    assert told(LIMITS) == [3_600_000, 60_500, 4096]
    assert told(extreme) == [1, 2**31 - 1, 2**31 - 1]


def test_every_function_of_the_engine_is_in_exactly_one_list() -> None:
    listed = [
        *keywords.NUMERIC_FUNCTIONS,
        *keywords.STRING_FUNCTIONS,
        *keywords.SYSTEM_FUNCTIONS,
        *keywords.DATETIME_FUNCTIONS,
        *keywords.NESTED_FUNCTIONS,
    ]
    query = "SELECT DISTINCT routine_name AS name FROM information_schema.routines WHERE function_type = 'SCALAR'"

    assert sorted(listed) == sorted(engine().sql(query).to_pydict()["name"])


def test_keywords_are_sorted_and_unique() -> None:
    assert list(keywords.KEYWORDS) == sorted(set(keywords.KEYWORDS))


SQL_TYPES = {
    "BIGINT": "BIGINT",
    "BINARY": "BYTEA",
    "BIT": "BOOLEAN",
    "CHAR": "CHAR",
    "DATE": "DATE",
    "DECIMAL": "DECIMAL(10, 2)",
    "FLOAT": "FLOAT",
    "INTEGER": "INTEGER",
    "INTERVAL_DAY_TIME": "INTERVAL",
    "LONGVARBINARY": "BYTEA",
    "LONGVARCHAR": "TEXT",
    "NUMERIC": "NUMERIC(10, 2)",
    "REAL": "REAL",
    "SMALLINT": "SMALLINT",
    "TIME": "TIME",
    "TIMESTAMP": "TIMESTAMP",
    "TINYINT": "TINYINT",
    "VARBINARY": "BYTEA",
    "VARCHAR": "VARCHAR",
}


@pytest.mark.parametrize("source", SQL_TYPES)
def test_the_conversions_are_those_that_the_engine_casts(source: str) -> None:
    context = engine()

    def casts(target: str) -> bool:
        try:
            context.sql(f"SELECT CAST(CAST(NULL AS {SQL_TYPES[source]}) AS {SQL_TYPES[target]})").collect()
        except Exception:  # noqa: BLE001  # the binding raises bare Exception
            return False
        return True

    assert sorted(keywords.CONVERSIONS[source]) == [target for target in SQL_TYPES if casts(target)]


@pytest.mark.parametrize(
    ("name", "query", "expected"),
    [
        ("SQL_NULL_PLUS_NULL_IS_NULL", "SELECT 'a' || NULL AS x", [None]),
        ("SQL_SUPPORTS_COLUMN_ALIASING", "SELECT 1 AS x", [1]),
        ("SQL_SUPPORTS_TABLE_CORRELATION_NAMES", "SELECT t.x FROM (VALUES (1)) AS t(x)", [1]),
        ("SQL_SUPPORTS_EXPRESSIONS_IN_ORDER_BY", "SELECT x FROM (VALUES (1), (2)) AS t(x) ORDER BY -x", [2, 1]),
        ("SQL_SUPPORTS_ORDER_BY_UNRELATED", "SELECT x FROM (VALUES (1, 2), (2, 1)) AS t(x, y) ORDER BY y", [2, 1]),
        ("SQL_SUPPORTED_GROUP_BY", "SELECT sum(x) AS x FROM (VALUES (1, 2)) AS t(x, y) GROUP BY y", [1]),
        ("SQL_SUPPORTS_LIKE_ESCAPE_CLAUSE", r"SELECT 'a%' LIKE 'a\%' ESCAPE '\' AS x", [True]),
        (
            "SQL_OUTER_JOINS_SUPPORT_LEVEL",
            "SELECT count(*) AS x FROM (VALUES (1)) a(y) FULL JOIN (VALUES (2)) b(z) ON y = z",
            [2],
        ),
        ("SQL_SUPPORTED_SUBQUERIES", "SELECT 1 AS x WHERE 1 = (SELECT 1) AND 1 IN (SELECT 1)", [1]),
        ("SQL_SUPPORTED_SUBQUERIES", "SELECT 1 AS x WHERE EXISTS (SELECT 1) AND 1 = ANY (SELECT 1)", [1]),
        (
            "SQL_CORRELATED_SUBQUERIES_SUPPORTED",
            "SELECT (SELECT max(z) FROM (VALUES (1, 2)) u(y, z) WHERE u.y = t.x) AS x FROM (VALUES (1)) t(x)",
            [2],
        ),
        ("SQL_SUPPORTED_UNIONS", "SELECT 1 AS x UNION SELECT 1 AS x", [1]),
        ("SQL_SUPPORTED_UNIONS", "SELECT 1 AS x UNION ALL SELECT 1 AS x", [1, 1]),
        ("SQL_IDENTIFIER_CASE", "SELECT X FROM (VALUES (1)) AS t(x)", [1]),
    ],
)
def test_what_is_claimed_of_the_dialect_works_in_the_engine(name: str, query: str, expected: list[Any]) -> None:
    assert fact(name)
    assert engine().sql(query).to_pydict()["x"] == expected


def test_nulls_sort_as_if_they_were_higher_than_every_value() -> None:
    values = "FROM (VALUES (1), (NULL)) AS t(x) ORDER BY x"

    assert fact("SQL_NULL_ORDERING") == enum_values("SqlNullOrdering")["SQL_NULLS_SORTED_HIGH"]
    assert engine().sql(f"SELECT x {values}").to_pydict()["x"] == [1, None]
    assert engine().sql(f"SELECT x {values} DESC").to_pydict()["x"] == [None, 1]
