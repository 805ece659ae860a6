"""What can go wrong, grouped by what a caller can do about it.

The tree is::

    FlightclientError
    |-- RequestError                change the request
    |   |-- InvalidRequest    FS-1001   a value is missing, malformed or not allowed
    |   |-- SchemaMismatch    FS-1002   data does not have the columns or types it must have
    |   |-- DimensionMismatch FS-1003   a vector has the wrong length
    |   |-- NotFound          FS-1004   names nothing; the message says what exists
    |   |-- AlreadyExists     FS-1005   the name or key is taken
    |   `-- SchemaDrift       FS-1006   appended data differs from the dataset; lists the differences
    |-- AccessError                 use another identity
    |   |-- Unauthenticated   FS-2001
    |   `-- Forbidden         FS-2002
    |-- RetryableError              send the same request again, later
    |   |-- CommitConflict    FS-3001   somebody else changed the same thing first
    |   |-- Overloaded        FS-3002   too much is running already
    |   |-- LimitExceeded     FS-3003   one request is larger than its limit
    |   |-- BackendUnavailable FS-3004  a service that the server depends on does not answer
    |   `-- ConnectionFailed            no server answers at that address, or it went away
    |-- InterruptedStatement        nothing was changed
    |   |-- QueryTimeout      FS-4001
    |   `-- Cancelled         FS-4002
    |-- InternalError         FS-5001   a defect of the server; the message has the incident id
    `-- ProtocolError                   what answered doesn't speak as this server does

The codes are the server's, and are stable. An error with a code that this version doesn't know is of the group that its
first digit names.
"""

from __future__ import annotations

from typing import ClassVar


class FlightclientError(Exception):
    """Base of all errors.

    Args:
        message: What was asked, what was found, what would be right.
        code: The server's stable code, such as `FS-1004`; by default that of the class, empty where it has none.
    """

    default_code: ClassVar[str] = ""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = self.default_code if code is None else code

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]" if self.code else self.message


class RequestError(FlightclientError):
    """The request must change before it can succeed."""


class InvalidRequest(RequestError):
    """A value is missing, malformed or not allowed."""

    default_code = "FS-1001"


class SchemaMismatch(RequestError):
    """Data does not have the columns or types that it must have."""

    default_code = "FS-1002"


class DimensionMismatch(RequestError):
    """A vector has the wrong number of dimensions."""

    default_code = "FS-1003"


class NotFound(RequestError):
    """A name that nothing has; the message says which names exist."""

    default_code = "FS-1004"


class AlreadyExists(RequestError):
    """The name or key is taken."""

    default_code = "FS-1005"


class SchemaDrift(RequestError):
    """Appended data differs from its dataset; the message lists the differences."""

    default_code = "FS-1006"


class AccessError(FlightclientError):
    """Another identity is needed."""


class Unauthenticated(AccessError):
    """No credential, or one that is not valid."""

    default_code = "FS-2001"


class Forbidden(AccessError):
    """This identity may not do that."""

    default_code = "FS-2002"


class RetryableError(FlightclientError):
    """The same request may succeed later."""


class CommitConflict(RetryableError):
    """Another transaction changed the same thing first; nothing was changed, a retry is safe."""

    default_code = "FS-3001"


class Overloaded(RetryableError):
    """Too much is running already."""

    default_code = "FS-3002"


class LimitExceeded(RetryableError):
    """One request needs more than its limit allows."""

    default_code = "FS-3003"


class BackendUnavailable(RetryableError):
    """A disk, store or service that the server depends on does not answer."""

    default_code = "FS-3004"


class ConnectionFailed(RetryableError):
    """No server answers at that address, or it went away during the call."""


class InterruptedStatement(FlightclientError):
    """A statement that was stopped before its end; nothing was changed."""


class QueryTimeout(InterruptedStatement):
    """The statement ran longer than its time limit."""

    default_code = "FS-4001"


class Cancelled(InterruptedStatement):
    """Somebody cancelled the statement."""

    default_code = "FS-4002"


class InternalError(FlightclientError):
    """A defect of the server; the message carries an incident id that leads to its log."""

    default_code = "FS-5001"


class ProtocolError(FlightclientError):
    """What answered doesn't speak as this server does: another product, or a version too new or too old."""
