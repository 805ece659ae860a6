"""Facts about the server and its SQL dialect, as CommandGetSqlInfo wants them.

Theory of operation: the facts never change while the process runs, and few of them are an administrator's choice
(`Limits`); a request selects some. A value is one member of a dense union. The specification doesn't give the member of
each fact; here it is what the JDBC and ODBC drivers cast to without looking: bitmasks are int32, limits and ordinals
int64.

Invariants:
    - Every id of the specification has a row: JDBC's metadata methods fail on a missing one.
    - What the table claims is true; tests try what can be tried on the engine. 0 as a limit means none or unknown.

Specification: https://arrow.apache.org/docs/format/FlightSql.html, CommandGetSqlInfo.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from flightserver.flight.sql import keywords
from flightserver.flight.sql.protocol import enum_values
from flightserver.query.substrait import MAX_VERSION, MIN_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_VALUE = pa.dense_union(
    [
        pa.field("string_value", pa.utf8()),
        pa.field("bool_value", pa.bool_()),
        pa.field("bigint_value", pa.int64()),
        pa.field("int32_bitmask", pa.int32()),
        pa.field("string_list", pa.list_(pa.field("string_data", pa.utf8()))),
        pa.field("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.field("$data$", pa.int32())))),
    ],
    type_codes=list(range(6)),
)

_INT32_MAX = 2**31 - 1

SQL_INFO = pa.schema([pa.field("info_name", pa.uint32(), nullable=False), pa.field("value", _VALUE, nullable=False)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an administrator may choose, as far as SqlInfo tells it.

    Attributes:
        prepared_seconds: After which a prepared statement that wasn't used is forgotten.
        transaction_seconds: After which a transaction that wasn't used is rolled back.
        statement_bytes: Of the longest statement that is read.
    """

    prepared_seconds: float
    transaction_seconds: float
    statement_bytes: int


class _Fact(NamedTuple):
    """A value and the union's member that carries it."""

    member: int
    value: object


def _text(value: str | None) -> _Fact:
    return _Fact(0, value)


def _flag(value: bool) -> _Fact:  # noqa: FBT001  # the fact is the flag
    return _Fact(1, value)


def _number(value: int) -> _Fact:
    return _Fact(2, value)


def _int32(value: int) -> _Fact:
    return _Fact(3, value)


def _milliseconds(seconds: float) -> _Fact:
    """A timeout: 0 would say that there is none."""
    return _int32(max(1, min(int(seconds * 1000), _INT32_MAX)))


def _bits(enum: str, *names: str) -> _Fact:
    """A bitmask: the number of each named value is the position of its bit."""
    numbers = enum_values(enum)
    return _Fact(3, sum(1 << numbers[name] for name in names))


def _words(words: Sequence[str]) -> _Fact:
    return _Fact(4, list(words))


def _conversions(table: Mapping[str, Sequence[str]]) -> _Fact:
    numbers = enum_values("SqlSupportsConvert")
    return _Fact(
        5,
        [
            (numbers[f"SQL_CONVERT_{kind}"], sorted(numbers[f"SQL_CONVERT_{to}"] for to in table[kind]))
            for kind in table
        ],
    )


_YES = _flag(True)  # noqa: FBT003  # the fact is the flag
_NO = _flag(False)  # noqa: FBT003  # the fact is the flag
_NO_LIMIT = _number(0)

_READ_ONLY = _bits("SqlSupportedResultSetConcurrency", "SQL_RESULT_SET_CONCURRENCY_READ_ONLY")
_NONE_SUPPORTED = _int32(0)
_IN_GRANTS = _bits("SqlSupportedElementActions", "SQL_ELEMENT_IN_PRIVILEGE_DEFINITIONS")

_SERVER: Mapping[str, _Fact] = {
    "FLIGHT_SQL_SERVER_NAME": _text("flightserver"),
    "FLIGHT_SQL_SERVER_VERSION": _text(version("flightserver")),
    "FLIGHT_SQL_SERVER_ARROW_VERSION": _text(pa.__version__),
    "FLIGHT_SQL_SERVER_READ_ONLY": _NO,
    "FLIGHT_SQL_SERVER_SQL": _YES,
    "FLIGHT_SQL_SERVER_SUBSTRAIT": _YES,
    "FLIGHT_SQL_SERVER_SUBSTRAIT_MIN_VERSION": _text(MIN_VERSION),
    "FLIGHT_SQL_SERVER_SUBSTRAIT_MAX_VERSION": _text(MAX_VERSION),
    "FLIGHT_SQL_SERVER_TRANSACTION": _int32(
        enum_values("SqlSupportedTransaction")["SQL_SUPPORTED_TRANSACTION_SAVEPOINT"]
    ),
    "FLIGHT_SQL_SERVER_CANCEL": _YES,
    "FLIGHT_SQL_SERVER_BULK_INGESTION": _YES,
    "FLIGHT_SQL_SERVER_INGEST_TRANSACTIONS_SUPPORTED": _YES,
}

_NAMES: Mapping[str, _Fact] = {
    "SQL_DDL_CATALOG": _NO,
    "SQL_DDL_SCHEMA": _NO,
    "SQL_DDL_TABLE": _YES,
    "SQL_IDENTIFIER_CASE": _number(enum_values("SqlSupportedCaseSensitivity")["SQL_CASE_SENSITIVITY_LOWERCASE"]),
    "SQL_IDENTIFIER_QUOTE_CHAR": _text('"'),
    # ODBC calls this one sensitive; the specification has no such value but UNKNOWN, which its ODBC driver reads so.
    "SQL_QUOTED_IDENTIFIER_CASE": _number(enum_values("SqlSupportedCaseSensitivity")["SQL_CASE_SENSITIVITY_UNKNOWN"]),
    "SQL_ALL_TABLES_ARE_SELECTABLE": _YES,
    "SQL_NULL_ORDERING": _number(enum_values("SqlNullOrdering")["SQL_NULLS_SORTED_HIGH"]),
    "SQL_KEYWORDS": _words(keywords.KEYWORDS),
    "SQL_NUMERIC_FUNCTIONS": _words(keywords.NUMERIC_FUNCTIONS),
    "SQL_STRING_FUNCTIONS": _words(keywords.STRING_FUNCTIONS),
    "SQL_SYSTEM_FUNCTIONS": _words(keywords.SYSTEM_FUNCTIONS),
    "SQL_DATETIME_FUNCTIONS": _words(keywords.DATETIME_FUNCTIONS),
    "SQL_SEARCH_STRING_ESCAPE": _text("\\"),
    "SQL_EXTRA_NAME_CHARACTERS": _text(""),
    "SQL_SCHEMA_TERM": _text("schema"),
    "SQL_PROCEDURE_TERM": _text("procedure"),
    "SQL_CATALOG_TERM": _text("catalog"),
    "SQL_CATALOG_AT_START": _YES,
    "SQL_SCHEMAS_SUPPORTED_ACTIONS": _IN_GRANTS,
    "SQL_CATALOGS_SUPPORTED_ACTIONS": _IN_GRANTS,
}

_GRAMMAR: Mapping[str, _Fact] = {
    "SQL_SUPPORTS_COLUMN_ALIASING": _YES,
    "SQL_NULL_PLUS_NULL_IS_NULL": _YES,
    "SQL_SUPPORTS_CONVERT": _conversions(keywords.CONVERSIONS),
    "SQL_SUPPORTS_TABLE_CORRELATION_NAMES": _YES,
    "SQL_SUPPORTS_DIFFERENT_TABLE_CORRELATION_NAMES": _NO,
    "SQL_SUPPORTS_EXPRESSIONS_IN_ORDER_BY": _YES,
    "SQL_SUPPORTS_ORDER_BY_UNRELATED": _YES,
    "SQL_SUPPORTED_GROUP_BY": _bits("SqlSupportedGroupBy", "SQL_GROUP_BY_UNRELATED", "SQL_GROUP_BY_BEYOND_SELECT"),
    "SQL_SUPPORTS_LIKE_ESCAPE_CLAUSE": _YES,  # the escape character must be a backslash
    "SQL_SUPPORTS_NON_NULLABLE_COLUMNS": _YES,
    "SQL_SUPPORTED_GRAMMAR": _bits("SupportedSqlGrammar", "SQL_MINIMUM_GRAMMAR", "SQL_CORE_GRAMMAR"),
    "SQL_ANSI92_SUPPORTED_LEVEL": _bits("SupportedAnsi92SqlGrammarLevel", "ANSI92_ENTRY_SQL"),
    "SQL_SUPPORTS_INTEGRITY_ENHANCEMENT_FACILITY": _NO,
    "SQL_OUTER_JOINS_SUPPORT_LEVEL": _bits(
        "SqlOuterJoinsSupportLevel", "SQL_LIMITED_OUTER_JOINS", "SQL_FULL_OUTER_JOINS"
    ),
    "SQL_SUPPORTED_POSITIONED_COMMANDS": _NONE_SUPPORTED,
    "SQL_SELECT_FOR_UPDATE_SUPPORTED": _NO,
    "SQL_STORED_PROCEDURES_SUPPORTED": _NO,
    "SQL_SUPPORTED_SUBQUERIES": _bits(
        "SqlSupportedSubqueries",
        "SQL_SUBQUERIES_IN_COMPARISONS",
        "SQL_SUBQUERIES_IN_EXISTS",
        "SQL_SUBQUERIES_IN_INS",
        "SQL_SUBQUERIES_IN_QUANTIFIEDS",
    ),
    "SQL_CORRELATED_SUBQUERIES_SUPPORTED": _YES,
    "SQL_SUPPORTED_UNIONS": _bits("SqlSupportedUnions", "SQL_UNION", "SQL_UNION_ALL"),
    "SQL_NAMED_PARAMETERS_SUPPORTED": _NO,
    "SQL_STORED_FUNCTIONS_USING_CALL_SYNTAX_SUPPORTED": _NO,
}

_LIMITS: Mapping[str, _Fact] = {
    "SQL_MAX_BINARY_LITERAL_LENGTH": _NO_LIMIT,
    "SQL_MAX_CHAR_LITERAL_LENGTH": _NO_LIMIT,
    "SQL_MAX_COLUMN_NAME_LENGTH": _NO_LIMIT,
    "SQL_MAX_COLUMNS_IN_GROUP_BY": _NO_LIMIT,
    "SQL_MAX_COLUMNS_IN_INDEX": _NO_LIMIT,
    "SQL_MAX_COLUMNS_IN_ORDER_BY": _NO_LIMIT,
    "SQL_MAX_COLUMNS_IN_SELECT": _NO_LIMIT,
    "SQL_MAX_COLUMNS_IN_TABLE": _NO_LIMIT,
    "SQL_MAX_CONNECTIONS": _NO_LIMIT,
    "SQL_MAX_CURSOR_NAME_LENGTH": _NO_LIMIT,
    "SQL_MAX_INDEX_LENGTH": _NO_LIMIT,
    "SQL_DB_SCHEMA_NAME_LENGTH": _number(63),  # a bucket's name
    "SQL_MAX_PROCEDURE_NAME_LENGTH": _NO_LIMIT,
    "SQL_MAX_CATALOG_NAME_LENGTH": _NO_LIMIT,
    "SQL_MAX_ROW_SIZE": _NO_LIMIT,
    "SQL_MAX_ROW_SIZE_INCLUDES_BLOBS": _YES,
    "SQL_MAX_STATEMENTS": _NO_LIMIT,
    "SQL_MAX_TABLE_NAME_LENGTH": _number(200),  # bytes of a dataset's name
    "SQL_MAX_TABLES_IN_SELECT": _NO_LIMIT,
    "SQL_MAX_USERNAME_LENGTH": _NO_LIMIT,
}

_TRANSACTIONS_AND_CURSORS: Mapping[str, _Fact] = {
    # Snapshot isolation has no name of its own here; it gives all that repeatable read promises, and no phantoms.
    "SQL_DEFAULT_TRANSACTION_ISOLATION": _number(
        enum_values("SqlTransactionIsolationLevel")["SQL_TRANSACTION_REPEATABLE_READ"]
    ),
    "SQL_TRANSACTIONS_SUPPORTED": _YES,
    "SQL_SUPPORTED_TRANSACTIONS_ISOLATION_LEVELS": _bits(
        "SqlTransactionIsolationLevel", "SQL_TRANSACTION_REPEATABLE_READ"
    ),
    "SQL_DATA_DEFINITION_CAUSES_TRANSACTION_COMMIT": _NO,
    "SQL_DATA_DEFINITIONS_IN_TRANSACTIONS_IGNORED": _NO,
    "SQL_SUPPORTED_RESULT_SET_TYPES": _bits("SqlSupportedResultSetType", "SQL_RESULT_SET_TYPE_FORWARD_ONLY"),
    "SQL_SUPPORTED_CONCURRENCIES_FOR_RESULT_SET_UNSPECIFIED": _READ_ONLY,
    "SQL_SUPPORTED_CONCURRENCIES_FOR_RESULT_SET_FORWARD_ONLY": _READ_ONLY,
    "SQL_SUPPORTED_CONCURRENCIES_FOR_RESULT_SET_SCROLL_SENSITIVE": _NONE_SUPPORTED,
    "SQL_SUPPORTED_CONCURRENCIES_FOR_RESULT_SET_SCROLL_INSENSITIVE": _NONE_SUPPORTED,
    "SQL_BATCH_UPDATES_SUPPORTED": _YES,
    "SQL_SAVEPOINTS_SUPPORTED": _YES,
    "SQL_LOCATORS_UPDATE_COPY": _NO,
}


@lru_cache(maxsize=1)
def _facts(limits: Limits) -> dict[int, _Fact]:
    chosen = {
        # Of prepared statements, as the specification has it; how long a statement may run is no fact of SqlInfo.
        "FLIGHT_SQL_SERVER_STATEMENT_TIMEOUT": _milliseconds(limits.prepared_seconds),
        "FLIGHT_SQL_SERVER_TRANSACTION_TIMEOUT": _milliseconds(limits.transaction_seconds),
        "SQL_MAX_STATEMENT_LENGTH": _number(min(limits.statement_bytes, _INT32_MAX)),  # JDBC's getter is an int
    }
    by_name = {**_SERVER, **_NAMES, **_GRAMMAR, **_LIMITS, **_TRANSACTIONS_AND_CURSORS, **chosen}
    return {number: by_name[name] for name, number in enum_values("SqlInfo").items()}


def _union(facts: Sequence[_Fact]) -> Any:
    members: list[list[object]] = [[] for _ in range(_VALUE.num_fields)]
    offsets = []
    for fact in facts:
        offsets.append(len(members[fact.member]))
        members[fact.member].append(fact.value)
    return pa.UnionArray.from_buffers(
        _VALUE,
        len(facts),
        [
            None,
            pa.array([fact.member for fact in facts], pa.int8()).buffers()[1],
            pa.array(offsets, pa.int32()).buffers()[1],
        ],
        children=[pa.array(values, _VALUE.field(index).type) for index, values in enumerate(members)],
    )


def sql_info(ids: Sequence[int], limits: Limits) -> pa.Table:
    """Returns facts about the server, in the schema `SQL_INFO`, one row each, in the order asked for.

    Args:
        ids: Values of the enumeration SqlInfo; none means all. Ids that the server does not know have no row, so that
            clients may ask for those of a newer protocol.
        limits: As they are set.
    """
    facts = _facts(limits)
    known = [number for number in dict.fromkeys(ids) if number in facts] if ids else list(facts)
    values = _union([facts[number] for number in known])
    return pa.Table.from_arrays([pa.array(known, pa.uint32()), values], schema=SQL_INFO)
