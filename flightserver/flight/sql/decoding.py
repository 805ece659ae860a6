"""From the bytes of a Flight SQL client to the dataclasses of `messages.py`.

Theory of operation: a command (of GetFlightInfo, GetSchema, DoPut, or the ticket of a DoGet) is a protobuf message
packed in a `google.protobuf.Any`; its type URL selects a row of `_COMMANDS`, which builds the dataclass. An action is
selected by its type in `_ACTIONS`; the bodies of Flight SQL's own actions are packed in an Any, those of Flight's
session, cancel and renew actions are bare.

Invariants:
    - Only FlightserverError leaves this module, whatever the bytes are.
    - An empty transaction id counts as left out, because some clients always send the field.
    - Fields that a newer protocol may add are ignored, as protobuf does.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from flightserver.errors import InvalidRequest
from flightserver.flight.sql import messages as m
from flightserver.flight.sql.protocol import FLIGHT_PACKAGE, SQL_PACKAGE, Packed, parse, unpack

if TYPE_CHECKING:
    import enum
    from collections.abc import Callable, Mapping

_E = TypeVar("_E", bound="enum.IntEnum")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _optional(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def _transaction(message: Any) -> bytes | None:
    return message.transaction_id or None


def _choice(kind: type[_E], value: int, field: str) -> _E:
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(f"{item.name} ({item.value})" for item in kind)
        msg = f"{field} is {value}; expected one of {allowed}."
        raise InvalidRequest(msg) from None


def _present(message: Any, name: str) -> Any:
    if not message.HasField(name):
        msg = f"{message.DESCRIPTOR.full_name} needs its field {name}, which is missing."
        raise InvalidRequest(msg)
    return getattr(message, name)


def _table(message: Any) -> m.TableReference:
    return m.TableReference(_optional(message, "catalog"), _optional(message, "db_schema"), message.table)


def _cross_reference(message: Any) -> m.GetCrossReference:
    return m.GetCrossReference(
        parent=m.TableReference(_optional(message, "pk_catalog"), _optional(message, "pk_db_schema"), message.pk_table),
        foreign=m.TableReference(
            _optional(message, "fk_catalog"), _optional(message, "fk_db_schema"), message.fk_table
        ),
    )


def _tables(message: Any) -> m.GetTables:
    return m.GetTables(
        catalog=_optional(message, "catalog"),
        db_schema_filter_pattern=_optional(message, "db_schema_filter_pattern"),
        table_name_filter_pattern=_optional(message, "table_name_filter_pattern"),
        table_types=tuple(message.table_types),
        include_schema=message.include_schema,
    )


def _plan(message: Any) -> m.SubstraitPlan:
    plan = _present(message, "plan")
    return m.SubstraitPlan(plan.plan, plan.version)


def _ingest(message: Any) -> m.StatementIngest:
    if not message.table:
        msg = "CommandStatementIngest names no table; its field table must hold the name of the table to load."
        raise InvalidRequest(msg)
    options = message.table_definition_options
    return m.StatementIngest(
        table=message.table,
        if_not_exists=_choice(m.IfNotExists, options.if_not_exist, "table_definition_options.if_not_exist"),
        if_exists=_choice(m.IfExists, options.if_exists, "table_definition_options.if_exists"),
        db_schema=_optional(message, "schema"),
        catalog=_optional(message, "catalog"),
        temporary=message.temporary,
        transaction_id=_transaction(message),
        options=MappingProxyType(dict(message.options)),
    )


_COMMANDS: Mapping[str, Callable[[Any], m.Command]] = {
    "CommandGetSqlInfo": lambda c: m.GetSqlInfo(tuple(c.info)),
    "CommandGetXdbcTypeInfo": lambda c: m.GetXdbcTypeInfo(_optional(c, "data_type")),
    "CommandGetCatalogs": lambda _: m.GetCatalogs(),
    "CommandGetDbSchemas": lambda c: m.GetDbSchemas(_optional(c, "catalog"), _optional(c, "db_schema_filter_pattern")),
    "CommandGetTables": _tables,
    "CommandGetTableTypes": lambda _: m.GetTableTypes(),
    "CommandGetPrimaryKeys": lambda c: m.GetPrimaryKeys(_table(c)),
    "CommandGetExportedKeys": lambda c: m.GetExportedKeys(_table(c)),
    "CommandGetImportedKeys": lambda c: m.GetImportedKeys(_table(c)),
    "CommandGetCrossReference": _cross_reference,
    "CommandStatementQuery": lambda c: m.StatementQuery(c.query, _transaction(c)),
    "CommandStatementSubstraitPlan": lambda c: m.StatementSubstraitPlan(_plan(c), _transaction(c)),
    "TicketStatementQuery": lambda c: m.TicketStatementQuery(c.statement_handle),
    "CommandPreparedStatementQuery": lambda c: m.PreparedStatementQuery(c.prepared_statement_handle),
    "CommandStatementUpdate": lambda c: m.StatementUpdate(c.query, _transaction(c)),
    "CommandPreparedStatementUpdate": lambda c: m.PreparedStatementUpdate(c.prepared_statement_handle),
    "CommandStatementIngest": _ingest,
}


def decode_command(data: bytes) -> m.Command | None:
    """Decodes the command of a descriptor or ticket.

    Args:
        data: `FlightDescriptor.command` or `Ticket.ticket`.

    Returns:
        The command, or None if the bytes aren't packed protobuf: plain Flight, so SQL or JSON text or a ticket of ours.

    Raises:
        InvalidRequest: The bytes are packed protobuf, but damaged or not a command that the server knows.
    """
    packed = unpack(data)
    if packed is None:
        return None
    package, _, name = packed.name.rpartition(".")
    build = _COMMANDS.get(name) if package == SQL_PACKAGE else None
    if build is None:
        msg = (
            f"{packed.name} is not a command of this server; expected a Flight SQL command such as "
            f"{SQL_PACKAGE}.CommandStatementQuery."
        )
        raise InvalidRequest(msg)
    return build(parse(packed.name, packed.value))


def _endpoint(message: Any) -> m.Endpoint:
    expires_at = None
    if message.HasField("expiration_time"):
        time = message.expiration_time
        try:
            expires_at = _EPOCH + timedelta(seconds=time.seconds, microseconds=time.nanos // 1000)
        except OverflowError:
            msg = f"expiration_time is {time.seconds} seconds since 1970, which is beyond the year 9999."
            raise InvalidRequest(msg) from None
    return m.Endpoint(
        ticket=message.ticket.ticket,
        locations=tuple(location.uri for location in message.location),
        expires_at=expires_at,
        app_metadata=message.app_metadata,
    )


def _flight_info(message: Any) -> m.SentFlightInfo:
    return m.SentFlightInfo(
        endpoints=tuple(_endpoint(endpoint) for endpoint in message.endpoint),
        command=message.flight_descriptor.cmd,
        path=tuple(message.flight_descriptor.path),
        app_metadata=message.app_metadata,
    )


def _cancel_query(message: Any) -> m.CancelQuery:
    return m.CancelQuery(_flight_info(parse(f"{FLIGHT_PACKAGE}.FlightInfo", message.info)))


def _session_value(value: Any) -> m.SessionValue:
    kind = value.WhichOneof("option_value")
    if kind is None:
        return None
    if kind == "string_list_value":
        return tuple(value.string_list_value.values)
    scalar: str | bool | int | float = getattr(value, kind)
    return scalar


def _set_session_options(message: Any) -> m.SetSessionOptions:
    options = {name: _session_value(value) for name, value in message.session_options.items()}
    return m.SetSessionOptions(MappingProxyType(options))


def _begin_savepoint(message: Any) -> m.BeginSavepoint:
    return m.BeginSavepoint(message.transaction_id, message.name)


def _end_transaction(message: Any) -> m.EndTransaction:
    return m.EndTransaction(message.transaction_id, _choice(m.EndTransactionMode, message.action, "action"))


def _end_savepoint(message: Any) -> m.EndSavepoint:
    return m.EndSavepoint(message.savepoint_id, _choice(m.EndSavepointMode, message.action, "action"))


class _Action(NamedTuple):
    """How the body of one action is read: which message, whether it is packed in an Any, and what it becomes."""

    message: str
    packed: bool
    build: Callable[[Any], m.ActionRequest]
    description: str


def _flight_sql(name: str, build: Callable[[Any], m.ActionRequest], description: str) -> _Action:
    return _Action(f"{SQL_PACKAGE}.Action{name}Request", packed=True, build=build, description=description)


def _flight(name: str, build: Callable[[Any], m.ActionRequest], description: str) -> _Action:
    return _Action(f"{FLIGHT_PACKAGE}.{name}Request", packed=False, build=build, description=description)


_ACTIONS: Mapping[str, _Action] = {
    "CreatePreparedStatement": _flight_sql(
        "CreatePreparedStatement",
        lambda a: m.CreatePreparedStatement(a.query, _transaction(a)),
        "Plan a statement once, to run it often.",
    ),
    "CreatePreparedSubstraitPlan": _flight_sql(
        "CreatePreparedSubstraitPlan",
        lambda a: m.CreatePreparedSubstraitPlan(_plan(a), _transaction(a)),
        "Plan a Substrait plan once, to run it often.",
    ),
    "ClosePreparedStatement": _flight_sql(
        "ClosePreparedStatement",
        lambda a: m.ClosePreparedStatement(a.prepared_statement_handle),
        "Forget a prepared statement.",
    ),
    "BeginTransaction": _flight_sql("BeginTransaction", lambda _: m.BeginTransaction(), "Begin a transaction."),
    "BeginSavepoint": _flight_sql("BeginSavepoint", _begin_savepoint, "Set a savepoint in a transaction."),
    "EndTransaction": _flight_sql("EndTransaction", _end_transaction, "Commit or roll back a transaction."),
    "EndSavepoint": _flight_sql("EndSavepoint", _end_savepoint, "Release a savepoint or roll back to it."),
    "CancelQuery": _flight_sql("CancelQuery", _cancel_query, "Stop a query; CancelFlightInfo is its successor."),
    "CancelFlightInfo": _flight(
        "CancelFlightInfo",
        lambda a: m.CancelFlightInfo(_flight_info(_present(a, "info"))),
        "Stop a query and free its results.",
    ),
    "RenewFlightEndpoint": _flight(
        "RenewFlightEndpoint",
        lambda a: m.RenewFlightEndpoint(_endpoint(_present(a, "endpoint"))),
        "Keep one part of a result for longer.",
    ),
    "SetSessionOptions": _flight("SetSessionOptions", _set_session_options, "Set or clear options of this session."),
    "GetSessionOptions": _flight("GetSessionOptions", lambda _: m.GetSessionOptions(), "The options of this session."),
    "CloseSession": _flight("CloseSession", lambda _: m.CloseSession(), "Forget this session."),
}

ACTION_DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {name: action.description for name, action in _ACTIONS.items()}
)
"""The actions of the protocol and what they do, for ListActions."""


def decode_action(action_type: str, body: bytes) -> m.ActionRequest | None:
    """Decodes an action of the Flight and Flight SQL protocols.

    Args:
        action_type: `Action.type`.
        body: `Action.body`. The body of a message without fields may be empty even where it should be packed.

    Returns:
        The request, or None if the type is not one of the protocol's, so one of the server's own `family.verb` actions.

    Raises:
        InvalidRequest: The body is not what this action takes.
    """
    action = _ACTIONS.get(action_type)
    if action is None:
        return None
    value = _unpack_body(action_type, action.message, body) if action.packed else body
    return action.build(parse(action.message, value))


def _unpack_body(action_type: str, message: str, body: bytes) -> bytes:
    packed = unpack(body) if body else Packed(message, b"")
    if packed is None or packed.name != message:
        found = f"{len(body)} bytes of something else" if packed is None else packed.name
        msg = f"The body of action {action_type} must be a google.protobuf.Any with a {message}, found {found}."
        raise InvalidRequest(msg)
    return packed.value
