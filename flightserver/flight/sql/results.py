"""From the server's answers to the bytes of the Flight and Flight SQL protocols.

Results of Flight SQL's own actions are packed in a `google.protobuf.Any`; those of Flight's session, cancel and renew
actions, and the metadata that answers a DoPut, are bare.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from flightserver.flight.sql.protocol import FLIGHT_PACKAGE, SQL_PACKAGE, message_class, pack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flightserver.flight.sql.messages import Endpoint, SessionValue

_NANOS_PER_MICROSECOND = 1000


class CancelStatus(enum.IntEnum):
    """What became of a request to cancel; the numbers of CancelQuery and CancelFlightInfo are the same."""

    CANCELLED = 1
    CANCELLING = 2
    NOT_CANCELLABLE = 3


class SessionOptionError(enum.IntEnum):
    """Why a session option was not set."""

    INVALID_NAME = 1
    INVALID_VALUE = 2
    ERROR = 3


class CloseStatus(enum.IntEnum):
    """What became of a request to close a session."""

    CLOSED = 1
    CLOSING = 2
    NOT_CLOSEABLE = 3


def _sql(name: str, /, **fields: Any) -> Any:
    return message_class(f"{SQL_PACKAGE}.{name}")(**fields)


def _flight(name: str, /, **fields: Any) -> Any:
    return message_class(f"{FLIGHT_PACKAGE}.{name}")(**fields)


def _bare(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def statement_ticket(handle: bytes) -> bytes:
    """Wraps the handle of a statement as the specification's ticket.

    Args:
        handle: What `decoding.decode_command` gives back as `TicketStatementQuery.statement_handle`.
    """
    return pack(_sql("TicketStatementQuery", statement_handle=handle))


def prepared_statement(handle: bytes, *, dataset_schema: bytes, parameter_schema: bytes, is_update: bool) -> bytes:
    """Answers CreatePreparedStatement and CreatePreparedSubstraitPlan.

    Args:
        handle: What the client sends back to run or close the statement.
        dataset_schema: The result's schema as an encapsulated IPC message; empty for an update.
        parameter_schema: The parameters' schema as an encapsulated IPC message, present even if it has no fields,
            because ODBC clients fail without it.
        is_update: Whether the statement changes something instead of returning rows.
    """
    return pack(
        _sql(
            "ActionCreatePreparedStatementResult",
            prepared_statement_handle=handle,
            dataset_schema=dataset_schema,
            parameter_schema=parameter_schema,
            is_update=is_update,
        )
    )


def transaction(transaction_id: bytes) -> bytes:
    """Answers BeginTransaction."""
    return pack(_sql("ActionBeginTransactionResult", transaction_id=transaction_id))


def savepoint(savepoint_id: bytes) -> bytes:
    """Answers BeginSavepoint."""
    return pack(_sql("ActionBeginSavepointResult", savepoint_id=savepoint_id))


def cancelled_query(status: CancelStatus) -> bytes:
    """Answers CancelQuery."""
    return pack(_sql("ActionCancelQueryResult", result=status.value))


def cancelled_flight_info(status: CancelStatus) -> bytes:
    """Answers CancelFlightInfo."""
    return _bare(_flight("CancelFlightInfoResult", status=status.value))


def renewed_endpoint(endpoint: Endpoint) -> bytes:
    """Answers RenewFlightEndpoint with the endpoint to use from now on."""
    message = _flight(
        "FlightEndpoint",
        ticket={"ticket": endpoint.ticket},
        location=[{"uri": uri} for uri in endpoint.locations],
        app_metadata=endpoint.app_metadata,
    )
    if endpoint.expires_at is not None:
        message.expiration_time.seconds = int(endpoint.expires_at.timestamp() // 1)
        message.expiration_time.nanos = endpoint.expires_at.microsecond * _NANOS_PER_MICROSECOND
    return _bare(message)


def updated_rows(count: int) -> bytes:
    """Answers the DoPut of an update or an ingestion.

    Args:
        count: Rows changed, or -1 if that is unknown.
    """
    return _bare(_sql("DoPutUpdateResult", record_count=count))


def bound_statement(handle: bytes) -> bytes:
    """Answers the DoPut that binds values, with the handle that stands for the statement from now on."""
    return _bare(_sql("DoPutPreparedStatementResult", prepared_statement_handle=handle))


def rejected_session_options(errors: Mapping[str, SessionOptionError]) -> bytes:
    """Answers SetSessionOptions with the options that were not set; an empty mapping is complete success."""
    message = _flight("SetSessionOptionsResult")
    for name, error in errors.items():
        message.errors[name].value = error.value
    return _bare(message)


def session_options(options: Mapping[str, SessionValue]) -> bytes:
    """Answers GetSessionOptions; options whose value is None have no value and are left out."""
    message = _flight("GetSessionOptionsResult")
    for name, value in options.items():
        if value is not None:
            _put_session_value(message.session_options[name], value)
    return _bare(message)


def _put_session_value(message: Any, value: SessionValue) -> None:
    match value:
        case bool():  # before int, of which it is a subclass
            message.bool_value = value
        case int():
            message.int64_value = value
        case float():
            message.double_value = value
        case str():
            message.string_value = value
        case tuple():
            message.string_list_value.values.extend(value)


def closed_session(status: CloseStatus) -> bytes:
    """Answers CloseSession."""
    return _bare(_flight("CloseSessionResult", status=status.value))
