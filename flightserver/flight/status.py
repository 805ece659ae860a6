"""The one place where domain errors become what gRPC sends.

Theory of operation: a handler runs inside `translated(rpc)`, a stream's generator inside `translated_batches`. What
escapes is looked up by class in `_STATUSES` and raised again as an exception that pyarrow turns into that status. What
isn't a FlightserverError is a defect, because foreign errors are translated where the foreign library is called: it
becomes INTERNAL with an incident id, and its traceback goes to the log.

What pyarrow's server can send (26.0, measured over a socket):

    ======================= ================================= ==========================================
    status                  exception                         beside the message
    ======================= ================================= ==========================================
    INVALID_ARGUMENT        subclass of ArrowInvalid          nothing
    NOT_FOUND               subclass of ArrowKeyError         nothing
    CANCELLED and others    Flight*Error                      `extra_info`: a serialized google.rpc.Status
    ALREADY_EXISTS, ABORTED,
    RESOURCE_EXHAUSTED      cannot be sent                    see `_STATUSES` for what stands in
    ======================= ================================= ==========================================

GetSchema alone turns every Flight*Error into UNKNOWN without extra_info. Therefore the stable code always ends the
message as well: `... [FS-1004]`. It is the only code in brackets there: names that a client chose may look like one,
and the audit trail and clients go by the code.

Invariants:
    - No traceback and no path reaches a client. pyarrow appends the traceback of every Arrow error, and in GetSchema
      of Flight errors, to the message, unless formatting it fails: `_Untraceable` makes it fail.
    - extra_info holds the status code that is sent; pyarrow turns a different one into INTERNAL.
    - Hints of a message are for what its reader may see (`flightserver.errors`); where nobody knows who that is, for
      what everybody may.
    - A message is clipped to what fits into gRPC's limits on headers, or the client would see a protocol error.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self, TypeVar

import pyarrow as pa
import pyarrow.flight as fl

from flightserver.catalog.ulid import new_ulid
from flightserver.errors import (
    AccessError,
    AlreadyExists,
    BackendUnavailable,
    Cancelled,
    CommitConflict,
    DimensionMismatch,
    FlightserverError,
    Forbidden,
    InternalError,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    Overloaded,
    QueryTimeout,
    SchemaDrift,
    SchemaMismatch,
    Sees,
    Unauthenticated,
    sees_nothing,
)
from flightserver.flight.sql.protocol import message_class, pack

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from types import TracebackType

_T = TypeVar("_T")

Sight = Callable[[], Sees]
"""Finds out what somebody may know of now."""

_logger = logging.getLogger(__name__)

_DOMAIN = "flightserver"
"""`ErrorInfo.domain`: whose codes these are."""

_MAX_MESSAGE_BYTES = 1200
"""Clients refuse headers of more than 8 KiB (the default of gRPC's C core and of Netty). A message travels once
percent-encoded (three bytes for each that is not printable ASCII) and twice in base64, details once in base64:
measured, 7.8 KiB at most."""

_MAX_DETAILS_BYTES = 600

_LIKE_A_CODE = re.compile(r"\[(FS-\d{4})\]")


def _nobody() -> Sees:
    """The sight of who isn't known."""
    return sees_nothing


class _NoTraceback(BaseException):
    """Ends the formatting of a traceback; a BaseException, because Python 3.12 and later swallow an Exception there."""


class _Untraceable(Exception):
    """Base of exceptions whose traceback cannot be formatted, so that pyarrow sends none."""

    @property
    def __notes__(self) -> NoReturn:  # type: ignore[override]  # a list elsewhere; here reading it must fail
        raise _NoTraceback


class _Plain(_Untraceable):
    """Base of Arrow errors: their own text would be quoted by KeyError."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._text = text

    def __str__(self) -> str:
        return self._text


# A client reads the names of the next two: "... Detail: Python exception: NotFoundStatus".
class InvalidArgumentStatus(_Plain, pa.ArrowInvalid):
    """Sent as INVALID_ARGUMENT."""


class NotFoundStatus(_Plain, pa.lib.ArrowKeyError):
    """Sent as NOT_FOUND."""


class CancelledStatus(_Untraceable, fl.FlightCancelledError):
    """Sent as CANCELLED; pyarrow's own client may raise KeyboardInterrupt for it."""


class DeadlineExceededStatus(_Untraceable, fl.FlightTimedOutError):
    """Sent as DEADLINE_EXCEEDED."""


class PermissionDeniedStatus(_Untraceable, fl.FlightUnauthorizedError):
    """Sent as PERMISSION_DENIED."""


class InternalStatus(_Untraceable, fl.FlightInternalError):
    """Sent as INTERNAL."""


class UnavailableStatus(_Untraceable, fl.FlightUnavailableError):
    """Sent as UNAVAILABLE."""


class UnauthenticatedStatus(_Untraceable, fl.FlightUnauthenticatedError):
    """Sent as UNAUTHENTICATED."""


class _Status(NamedTuple):
    """A gRPC status as pyarrow can send it."""

    exception: Any
    number: int
    """The status code of https://grpc.io/docs/guides/status-codes/."""
    takes_details: bool = True


_INVALID_ARGUMENT = _Status(InvalidArgumentStatus, 3, takes_details=False)
_UNAVAILABLE = _Status(UnavailableStatus, 14)

_STATUSES: dict[type[FlightserverError], _Status] = {
    InvalidRequest: _INVALID_ARGUMENT,
    SchemaMismatch: _INVALID_ARGUMENT,
    DimensionMismatch: _INVALID_ARGUMENT,
    NotFound: _Status(NotFoundStatus, 5, takes_details=False),
    AlreadyExists: _INVALID_ARGUMENT,  # for ALREADY_EXISTS
    SchemaDrift: _INVALID_ARGUMENT,  # for ALREADY_EXISTS
    Unauthenticated: _Status(UnauthenticatedStatus, 16),
    Forbidden: _Status(PermissionDeniedStatus, 7),
    AccessError: _Status(PermissionDeniedStatus, 7),
    CommitConflict: _UNAVAILABLE,  # for ABORTED
    Overloaded: _UNAVAILABLE,  # for RESOURCE_EXHAUSTED
    LimitExceeded: _UNAVAILABLE,  # for RESOURCE_EXHAUSTED
    BackendUnavailable: _UNAVAILABLE,
    QueryTimeout: _Status(DeadlineExceededStatus, 4),
    Cancelled: _Status(CancelledStatus, 1),
    FlightserverError: _Status(InternalStatus, 13),
}


def to_flight_error(error: BaseException, rpc: str, sight: Sight = _nobody) -> Exception:
    """Makes the exception that pyarrow sends as the right status.

    Args:
        error: What a handler raised. An exception that this function made before is returned as it is.
        rpc: The name of the call, for the log.
        sight: Of who calls, asked only for an error that doesn't tell everybody the same.

    Returns:
        An exception to raise from a handler of a `FlightServerBase`. Never try to format its traceback.
    """
    if isinstance(error, _Untraceable):
        return error
    return _status_exception(_domain_error(error, rpc), sight)


def _domain_error(error: BaseException, rpc: str) -> FlightserverError:
    if isinstance(error, FlightserverError) and not isinstance(error, InternalError):
        return error
    if isinstance(error, MemoryError):
        return LimitExceeded(
            f"The server had too little memory left for this {rpc}. Ask for less at once, or again later."
        )
    incident = new_ulid()
    _logger.error("Unexpected error in a handler", exc_info=error, extra={"incident": incident, "rpc": rpc})
    return InternalError(
        f"The server failed in {rpc}. This is a defect of the server; its log has the cause under incident {incident}.",
        details={"incident": incident},
    )


def _told(error: FlightserverError, sight: Sight) -> str:
    if not error.has_hints:
        return error.message
    try:
        return error.told_to(sight())
    except Exception:  # the message is about another failure, and no traceback may leave this module
        _logger.warning("nobody knows what a caller may see", exc_info=True)
        return error.told_to(sees_nothing)


def _status_exception(error: FlightserverError, sight: Sight = _nobody) -> Exception:
    status = next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
    message = _LIKE_A_CODE.sub(r"(\1)", _told(error, sight))
    text = f"{_clip(message)} [{error.code}]"
    exception: Exception
    if status.takes_details:
        exception = status.exception(text, _extra_info(error, status.number, text))
    else:
        exception = status.exception(text)
    return exception


def _clip(message: str) -> str:
    data = message.encode(errors="replace")
    if len(data) <= _MAX_MESSAGE_BYTES:
        return data.decode()
    return data[:_MAX_MESSAGE_BYTES].decode(errors="ignore") + " ..."


def _extra_info(error: FlightserverError, number: int, text: str) -> bytes:
    details = dict(error.details)
    if sum(len(key.encode()) + len(value.encode()) for key, value in details.items()) > _MAX_DETAILS_BYTES:
        details = {"details": "left out because they are too long"}
    info = message_class("google.rpc.ErrorInfo")(reason=error.code, domain=_DOMAIN, metadata=details)
    status = message_class("google.rpc.Status")(code=number, message=text)
    status.details.add().ParseFromString(pack(info))
    data: bytes = status.SerializeToString()
    return data


class translated(ContextDecorator):  # noqa: N801  # reads as a verb, like contextlib's own
    """Context manager and decorator: whatever the block raises leaves it as a Flight error.

    GeneratorExit passes: it isn't a failure, it says that the reader of a generator has gone.

    Args:
        rpc: The name of the call, for the log and for messages.
        sight: Of who calls.
    """

    def __init__(self, rpc: str, sight: Sight = _nobody) -> None:
        self._rpc = rpc
        self._sight = sight

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, GeneratorExit):
            raise to_flight_error(error, self._rpc, self._sight) from None


def translated_batches(batches: Iterable[_T], rpc: str, sight: Sight = _nobody) -> Generator[_T]:
    """Passes the items of a stream on; whatever producing them raises becomes a Flight error.

    Args:
        batches: A generator of record batches for `fl.GeneratorStream`, or of results of an action.
        rpc: The name of the call, for the log and for messages.
        sight: Of who calls.

    Yields:
        The items. Closing this generator closes `batches`.
    """
    with translated(rpc, sight):
        yield from batches
