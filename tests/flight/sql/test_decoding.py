"""Commands and actions from bytes: every message of the protocol, and every way in which bytes can be wrong."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightserver.errors import FlightserverError, InvalidRequest
from flightserver.flight.sql import messages as m
from flightserver.flight.sql.decoding import ACTION_DESCRIPTIONS, decode_action, decode_command
from flightserver.flight.sql.protocol import message_class, pack

if TYPE_CHECKING:
    from collections.abc import Callable


def sql(name: str, /, **fields: Any) -> Any:
    return message_class(f"arrow.flight.protocol.sql.{name}")(**fields)


def flight(name: str, /, **fields: Any) -> Any:
    return message_class(f"arrow.flight.protocol.{name}")(**fields)


KEYS = {"catalog": "lakehouse", "db_schema": "public", "table": "people"}
PEOPLE = m.TableReference("lakehouse", "public", "people")
INGEST = {"table": "people", "table_definition_options": {"if_not_exist": 1, "if_exists": 2}}
INFO = {
    "flight_descriptor": {"type": 2, "cmd": b"SELECT 1"},
    "endpoint": [
        {
            "ticket": {"ticket": b"t1"},
            "location": [{"uri": "grpc://a:1"}, {"uri": "grpc://b:1"}],
            "expiration_time": {"seconds": 1_700_000_000, "nanos": 500_000_000},
            "app_metadata": b"e",
        },
        {"ticket": {"ticket": b"t2"}},
    ],
    "app_metadata": b"i",
}
ENDPOINT = m.Endpoint(
    b"t1", ("grpc://a:1", "grpc://b:1"), datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC), b"e"
)
SENT_INFO = m.SentFlightInfo((ENDPOINT, m.Endpoint(b"t2")), b"SELECT 1", (), b"i")

COMMANDS: list[tuple[Any, m.Command]] = [
    (sql("CommandGetSqlInfo"), m.GetSqlInfo()),
    (sql("CommandGetSqlInfo", info=[8, 504]), m.GetSqlInfo((8, 504))),
    (sql("CommandGetXdbcTypeInfo"), m.GetXdbcTypeInfo()),
    (sql("CommandGetXdbcTypeInfo", data_type=0), m.GetXdbcTypeInfo(0)),
    (sql("CommandGetCatalogs"), m.GetCatalogs()),
    (sql("CommandGetDbSchemas"), m.GetDbSchemas()),
    (sql("CommandGetDbSchemas", catalog="", db_schema_filter_pattern="p%"), m.GetDbSchemas("", "p%")),
    (sql("CommandGetTables"), m.GetTables()),
    (
        sql(
            "CommandGetTables",
            catalog="lakehouse",
            db_schema_filter_pattern="%",
            table_name_filter_pattern="p_",
            table_types=["TABLE", "VIEW"],
            include_schema=True,
        ),
        m.GetTables("lakehouse", "%", "p_", ("TABLE", "VIEW"), include_schema=True),
    ),
    (sql("CommandGetTableTypes"), m.GetTableTypes()),
    (sql("CommandGetPrimaryKeys", **KEYS), m.GetPrimaryKeys(PEOPLE)),
    (sql("CommandGetPrimaryKeys", table="people"), m.GetPrimaryKeys(m.TableReference(None, None, "people"))),
    (sql("CommandGetExportedKeys", **KEYS), m.GetExportedKeys(PEOPLE)),
    (sql("CommandGetImportedKeys", **KEYS), m.GetImportedKeys(PEOPLE)),
    (
        sql("CommandGetCrossReference", pk_catalog="lakehouse", pk_db_schema="public", pk_table="people", fk_table="b"),
        m.GetCrossReference(PEOPLE, m.TableReference(None, None, "b")),
    ),
    (sql("CommandStatementQuery", query="SELECT 1"), m.StatementQuery("SELECT 1")),
    (sql("CommandStatementQuery", query="SELECT 1", transaction_id=b""), m.StatementQuery("SELECT 1")),
    (sql("CommandStatementQuery", query="SELECT 1", transaction_id=b"x"), m.StatementQuery("SELECT 1", b"x")),
    (
        sql("CommandStatementSubstraitPlan", plan={"plan": b"p", "version": "0.12.0"}),
        m.StatementSubstraitPlan(m.SubstraitPlan(b"p", "0.12.0")),
    ),
    (sql("TicketStatementQuery", statement_handle=b"h"), m.TicketStatementQuery(b"h")),
    (sql("CommandPreparedStatementQuery", prepared_statement_handle=b"h"), m.PreparedStatementQuery(b"h")),
    (sql("CommandStatementUpdate", query="DROP TABLE t"), m.StatementUpdate("DROP TABLE t")),
    (sql("CommandPreparedStatementUpdate", prepared_statement_handle=b"h"), m.PreparedStatementUpdate(b"h")),
    (
        sql("CommandStatementIngest", **INGEST),
        m.StatementIngest("people", m.IfNotExists.CREATE, m.IfExists.APPEND),
    ),
    (
        sql(
            "CommandStatementIngest",
            table="people",
            table_definition_options={"if_not_exist": 2, "if_exists": 3},
            schema="testing",
            catalog="lakehouse",
            temporary=True,
            transaction_id=b"x",
            options={"evolve": "true"},
        ),
        m.StatementIngest(
            "people",
            m.IfNotExists.FAIL,
            m.IfExists.REPLACE,
            "testing",
            "lakehouse",
            temporary=True,
            transaction_id=b"x",
            options={"evolve": "true"},
        ),
    ),
]

ACTIONS: list[tuple[str, bytes, m.ActionRequest]] = [
    (
        "CreatePreparedStatement",
        pack(sql("ActionCreatePreparedStatementRequest", query="SELECT ?")),
        m.CreatePreparedStatement("SELECT ?"),
    ),
    (
        "CreatePreparedSubstraitPlan",
        pack(sql("ActionCreatePreparedSubstraitPlanRequest", plan={"plan": b"p"}, transaction_id=b"x")),
        m.CreatePreparedSubstraitPlan(m.SubstraitPlan(b"p", ""), b"x"),
    ),
    (
        "ClosePreparedStatement",
        pack(sql("ActionClosePreparedStatementRequest", prepared_statement_handle=b"h")),
        m.ClosePreparedStatement(b"h"),
    ),
    ("BeginTransaction", pack(sql("ActionBeginTransactionRequest")), m.BeginTransaction()),
    ("BeginTransaction", b"", m.BeginTransaction()),
    (
        "BeginSavepoint",
        pack(sql("ActionBeginSavepointRequest", transaction_id=b"x", name="s")),
        m.BeginSavepoint(b"x", "s"),
    ),
    (
        "EndTransaction",
        pack(sql("ActionEndTransactionRequest", transaction_id=b"x", action=2)),
        m.EndTransaction(b"x", m.EndTransactionMode.ROLLBACK),
    ),
    (
        "EndSavepoint",
        pack(sql("ActionEndSavepointRequest", savepoint_id=b"s", action=1)),
        m.EndSavepoint(b"s", m.EndSavepointMode.RELEASE),
    ),
    (
        "CancelQuery",
        pack(sql("ActionCancelQueryRequest", info=flight("FlightInfo", **INFO).SerializeToString())),
        m.CancelQuery(SENT_INFO),
    ),
    (
        "CancelFlightInfo",
        flight("CancelFlightInfoRequest", info=INFO).SerializeToString(),
        m.CancelFlightInfo(SENT_INFO),
    ),
    (
        "RenewFlightEndpoint",
        flight("RenewFlightEndpointRequest", endpoint=INFO["endpoint"][0]).SerializeToString(),  # type: ignore[index]  # a literal above
        m.RenewFlightEndpoint(ENDPOINT),
    ),
    (
        "SetSessionOptions",
        flight(
            "SetSessionOptionsRequest",
            session_options={
                "text": {"string_value": "a"},
                "flag": {"bool_value": True},
                "whole": {"int64_value": 7},
                "number": {"double_value": 0.5},
                "list": {"string_list_value": {"values": ["a", "b"]}},
                "cleared": {},
            },
        ).SerializeToString(),
        m.SetSessionOptions(
            {"text": "a", "flag": True, "whole": 7, "number": 0.5, "list": ("a", "b"), "cleared": None}
        ),
    ),
    ("GetSessionOptions", b"", m.GetSessionOptions()),
    ("CloseSession", b"", m.CloseSession()),
]


@pytest.mark.parametrize(("message", "expected"), COMMANDS, ids=lambda value: type(value).__name__)
def test_every_command_of_the_specification_decodes(message: Any, expected: m.Command) -> None:
    assert decode_command(pack(message)) == expected


@pytest.mark.parametrize(("action_type", "body", "expected"), ACTIONS, ids=lambda value: type(value).__name__)
def test_every_action_of_the_specification_decodes(action_type: str, body: bytes, expected: m.ActionRequest) -> None:
    assert decode_action(action_type, body) == expected


def test_every_action_has_a_description() -> None:
    assert set(ACTION_DESCRIPTIONS) == {action_type for action_type, _, _ in ACTIONS}


def test_plain_flight_commands_and_the_servers_own_actions_are_left_to_others() -> None:
    assert decode_command(b"\nSELECT 1") is None
    assert decode_command(b'{"sql": "SELECT 1"}') is None
    assert decode_action("dataset.drop", b'{"dataset": "people"}') is None


def test_an_unknown_packed_command_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"google\.rpc\.Status is not a command of this server"):
        decode_command(pack(message_class("google.rpc.Status")()))


def test_an_action_body_is_not_a_command() -> None:
    with pytest.raises(InvalidRequest, match=r"sql\.ActionBeginTransactionRequest is not a command"):
        decode_command(pack(sql("ActionBeginTransactionRequest")))


def test_a_command_whose_contents_are_damaged_says_which_message_was_expected() -> None:
    data = b"\x0a\x43type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery\x12\x02\x0a\xff"

    with pytest.raises(InvalidRequest, match=r"Expected a protobuf message .*CommandStatementQuery, found 2 bytes"):
        decode_command(data)


def test_an_action_with_the_body_of_another_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"EndTransaction must be .*EndTransactionRequest, found .*EndSavepoint"):
        decode_action("EndTransaction", pack(sql("ActionEndSavepointRequest", savepoint_id=b"s", action=1)))


def test_an_action_with_a_body_that_is_not_packed_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="found 2 bytes of something else"):
        decode_action("CreatePreparedStatement", b"{}")


@pytest.mark.parametrize("options", [{}, {"if_not_exist": 1}, {"if_not_exist": 1, "if_exists": 9}])
def test_ingestion_must_say_what_to_do_with_the_table(options: dict[str, int]) -> None:
    message = sql("CommandStatementIngest", table="people", table_definition_options=options)

    with pytest.raises(InvalidRequest, match=r"table_definition_options\.if_\w+ is \d; expected one of"):
        decode_command(pack(message))


def test_ingestion_must_name_a_table() -> None:
    message = sql("CommandStatementIngest", table_definition_options={"if_not_exist": 1, "if_exists": 1})

    with pytest.raises(InvalidRequest, match="names no table"):
        decode_command(pack(message))


def test_a_transaction_must_end_in_a_known_way() -> None:
    body = pack(sql("ActionEndTransactionRequest", transaction_id=b"x"))

    with pytest.raises(InvalidRequest, match=r"action is 0; expected one of COMMIT \(1\), ROLLBACK \(2\)"):
        decode_action("EndTransaction", body)


@pytest.mark.parametrize("action_type", ["CancelFlightInfo", "RenewFlightEndpoint"])
def test_a_request_without_its_subject_is_refused(action_type: str) -> None:
    with pytest.raises(InvalidRequest, match="needs its field"):
        decode_action(action_type, b"")


def test_an_expiration_beyond_the_calendar_is_refused() -> None:
    body = flight("RenewFlightEndpointRequest", endpoint={"expiration_time": {"seconds": 2**62}})

    with pytest.raises(InvalidRequest, match="beyond the year 9999"):
        decode_action("RenewFlightEndpoint", body.SerializeToString())


def _mutated(data: bytes, place: int, replacement: bytes, removed: int) -> bytes:
    place %= len(data) + 1
    return data[:place] + replacement + data[place + removed :]


def assert_only_our_errors(decode: Callable[[bytes], object], data: bytes) -> None:
    with suppress(FlightserverError):
        decode(data)


@given(st.binary())
def test_random_bytes_raise_nothing_but_our_errors(data: bytes) -> None:
    assert_only_our_errors(decode_command, data)
    for action_type in ACTION_DESCRIPTIONS:
        assert_only_our_errors(partial(decode_action, action_type), data)


@given(st.sampled_from(COMMANDS), st.integers(0), st.binary(max_size=8), st.integers(0, 8))
def test_damaged_commands_raise_nothing_but_our_errors(
    command: tuple[Any, m.Command], place: int, replacement: bytes, removed: int
) -> None:
    assert_only_our_errors(decode_command, _mutated(pack(command[0]), place, replacement, removed))


@given(st.sampled_from(ACTIONS), st.integers(0), st.binary(max_size=8), st.integers(0, 8))
def test_damaged_actions_raise_nothing_but_our_errors(
    action: tuple[str, bytes, m.ActionRequest], place: int, replacement: bytes, removed: int
) -> None:
    assert_only_our_errors(partial(decode_action, action[0]), _mutated(action[1], place, replacement, removed))
