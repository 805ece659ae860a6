"""Every error that a caller of flightserver can meet.

The tree is grouped by what the caller can do about it::

    FlightserverError
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
    |   `-- BackendUnavailable FS-3004  a service we depend on does not answer
    |-- InterruptedStatement        nothing was changed
    |   |-- QueryTimeout      FS-4001
    |   `-- Cancelled         FS-4002
    `-- InternalError         FS-5001   our fault; the incident id leads to the log

Codes are append-only: a released code never changes its meaning. A message states what was asked,
what was found and what would be right; it never contains a secret, a local path or a traceback.
Foreign errors are translated at the boundary that calls the foreign library.

What would be right may be a name that not everybody may know of, and what raises seldom knows who asks. A part of a
message that names what its reader hasn't named is therefore a `Hint`, which says as much as its reader may see. Whoever
sends a message to somebody asks for it by `FlightserverError.told_to`; `message` is what the server tells itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

Sees = Callable[[str, str | None], bool]
"""Whether somebody may know that a bucket has a dataset or view of a name; or, of no name, that there is the bucket."""

Hint = Callable[[Sees], str]
"""A part of a message, for whoever sees just that."""


def sees_all(_bucket: str, _name: str | None) -> bool:
    """What the server itself may know of."""
    return True


def sees_nothing(_bucket: str, _name: str | None) -> bool:
    """What somebody may know of about whom nothing is known."""
    return False


class FlightserverError(Exception):
    """Base of all errors that carry a stable code.

    Args:
        parts: What was asked, what was found, what would be right: one after the other.
        details: Machine-readable facts that travel beside the message.
    """

    code: ClassVar[str] = "FS-0000"

    def __init__(self, *parts: str | Hint, details: Mapping[str, str] | None = None) -> None:
        super().__init__(*parts)
        self._parts = parts
        self.details: dict[str, str] = dict(details or {})

    def told_to(self, sees: Sees) -> str:
        """The message, for somebody."""
        return "".join(part if isinstance(part, str) else part(sees) for part in self._parts)

    def again(self) -> Self:
        """The same error, for another who is told of it on another thread."""
        return type(self)(*self._parts, details=self.details)

    @property
    def has_hints(self) -> bool:
        """Whether not everybody may be told the same."""
        return not all(isinstance(part, str) for part in self._parts)

    @cached_property
    def message(self) -> str:
        """The whole message."""
        return self.told_to(sees_all)

    def __str__(self) -> str:
        return self.message


class RequestError(FlightserverError):
    """The request must change before it can succeed."""


class InvalidRequest(RequestError):
    """A value is missing, malformed or not allowed."""

    code = "FS-1001"


class SchemaMismatch(RequestError):
    """Data does not have the columns or types that it must have."""

    code = "FS-1002"


class DimensionMismatch(RequestError):
    """A vector has the wrong number of dimensions."""

    code = "FS-1003"


class NotFound(RequestError):
    """A name that nothing has; the message says which names exist."""

    code = "FS-1004"


class AlreadyExists(RequestError):
    """The name or key is taken."""

    code = "FS-1005"


class SchemaDrift(RequestError):
    """Appended data differs from its dataset; the message lists the differences."""

    code = "FS-1006"


class AccessError(FlightserverError):
    """Another identity is needed."""


class Unauthenticated(AccessError):
    """No credential, or one that is not valid."""

    code = "FS-2001"


class Forbidden(AccessError):
    """This identity may not do that."""

    code = "FS-2002"


class RetryableError(FlightserverError):
    """The same request may succeed later; nothing was changed."""


class CommitConflict(RetryableError):
    """Another transaction changed the same thing first; a retry is safe."""

    code = "FS-3001"


class Overloaded(RetryableError):
    """Too much is running already."""

    code = "FS-3002"


class LimitExceeded(RetryableError):
    """One request needs more than its limit allows."""

    code = "FS-3003"


class BackendUnavailable(RetryableError):
    """A disk, store or service that we depend on does not answer."""

    code = "FS-3004"


class InterruptedStatement(FlightserverError):
    """A statement that was stopped before its end; nothing was changed."""


class QueryTimeout(InterruptedStatement):
    """The statement ran longer than its time limit."""

    code = "FS-4001"


class Cancelled(InterruptedStatement):
    """Somebody cancelled the statement, or its client went away."""

    code = "FS-4002"


class InternalError(FlightserverError):
    """A defect of ours; the message carries an incident id that leads to the log."""

    code = "FS-5001"
