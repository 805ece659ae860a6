"""Answers in protobuf: what a client that knows the protocol reads in them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from flightserver.flight.sql import results
from flightserver.flight.sql.decoding import decode_action, decode_command
from flightserver.flight.sql.messages import Endpoint, RenewFlightEndpoint, TicketStatementQuery
from flightserver.flight.sql.protocol import message_class, unpack


def packed(data: bytes, name: str) -> Any:
    contents = unpack(data)
    assert contents is not None
    assert contents.name == f"arrow.flight.protocol.sql.{name}"
    return message_class(contents.name).FromString(contents.value)


def bare(data: bytes, name: str) -> Any:
    return message_class(f"arrow.flight.protocol.{name}").FromString(data)


def test_a_statement_ticket_is_read_back() -> None:
    assert decode_command(results.statement_ticket(b"handle")) == TicketStatementQuery(b"handle")


@pytest.mark.parametrize("is_update", [True, False])
def test_a_prepared_statement_always_says_whether_it_is_an_update(is_update: bool) -> None:  # noqa: FBT001  # a parameter of the test
    message = packed(
        results.prepared_statement(b"h", dataset_schema=b"d", parameter_schema=b"p", is_update=is_update),
        "ActionCreatePreparedStatementResult",
    )

    assert (message.prepared_statement_handle, message.dataset_schema, message.parameter_schema) == (b"h", b"d", b"p")
    assert message.HasField("is_update")
    assert message.is_update is is_update


def test_results_of_flight_sql_actions_are_packed() -> None:
    assert packed(results.transaction(b"x"), "ActionBeginTransactionResult").transaction_id == b"x"
    assert packed(results.savepoint(b"s"), "ActionBeginSavepointResult").savepoint_id == b"s"
    assert packed(results.cancelled_query(results.CancelStatus.CANCELLING), "ActionCancelQueryResult").result == 2


def test_results_of_flight_actions_and_of_do_put_are_bare() -> None:
    assert bare(results.cancelled_flight_info(results.CancelStatus.CANCELLED), "CancelFlightInfoResult").status == 1
    assert bare(results.closed_session(results.CloseStatus.CLOSED), "CloseSessionResult").status == 1
    assert bare(results.updated_rows(-1), "sql.DoPutUpdateResult").record_count == -1
    assert bare(results.bound_statement(b"h"), "sql.DoPutPreparedStatementResult").prepared_statement_handle == b"h"


def test_a_renewed_endpoint_is_read_back() -> None:
    endpoint = Endpoint(b"t", ("grpc://a:1",), datetime(2026, 11, 21, 9, 0, 0, 250_000, tzinfo=UTC), b"m")
    request = message_class("arrow.flight.protocol.RenewFlightEndpointRequest")()
    request.endpoint.ParseFromString(results.renewed_endpoint(endpoint))

    assert decode_action("RenewFlightEndpoint", request.SerializeToString()) == RenewFlightEndpoint(endpoint)


def test_only_rejected_session_options_are_reported() -> None:
    data = results.rejected_session_options({"color": results.SessionOptionError.INVALID_NAME})

    errors = bare(data, "SetSessionOptionsResult").errors
    assert {name: error.value for name, error in errors.items()} == {"color": 1}
    assert results.rejected_session_options({}) == b""


def test_session_options_keep_their_types() -> None:
    data = results.session_options({"a": "x", "b": True, "c": 7, "d": 0.5, "e": ("x", "y"), "f": None})

    options = bare(data, "GetSessionOptionsResult").session_options
    assert {name: value.WhichOneof("option_value") for name, value in options.items()} == {
        "a": "string_value",
        "b": "bool_value",
        "c": "int64_value",
        "d": "double_value",
        "e": "string_list_value",
    }
    assert list(options["e"].string_list_value.values) == ["x", "y"]
