"""The one place where pyarrow's errors become ours.

Theory of operation: the server ends each message with its stable code, `... [FS-1004]`, whatever the gRPC status, so
the code decides the class, and what stands behind it (the name of a Python exception, gRPC's debug context with the
message again) is noise. Errors that pyarrow or gRPC make themselves have no code; for them the class decides.

When a stream ends as CANCELLED, pyarrow raises KeyboardInterrupt as if the user had pressed Ctrl-C. The two are told
apart by the code of the error that the KeyboardInterrupt replaced.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.flight as fl

from flightclient import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

_CODED = re.compile(r"(?P<message>.*?)\s*\[(?P<code>FS-\d{4})\]", re.DOTALL)
_PREFIX = re.compile(r"^Flight (?:returned [a-z ]+ error|error), with message: ")
_NOISE = re.compile(r"\. (?:gRPC client debug context|Client context|Detail): .*", re.DOTALL)

_CLASSES = (
    errors.InvalidRequest,
    errors.SchemaMismatch,
    errors.DimensionMismatch,
    errors.NotFound,
    errors.AlreadyExists,
    errors.SchemaDrift,
    errors.Unauthenticated,
    errors.Forbidden,
    errors.CommitConflict,
    errors.Overloaded,
    errors.LimitExceeded,
    errors.BackendUnavailable,
    errors.QueryTimeout,
    errors.Cancelled,
    errors.InternalError,
)
_BY_CODE: dict[str, type[errors.FlightclientError]] = {kind.default_code: kind for kind in _CLASSES}

_GROUPS: dict[str, type[errors.FlightclientError]] = {
    "1": errors.RequestError,
    "2": errors.AccessError,
    "3": errors.RetryableError,
    "4": errors.InterruptedStatement,
    "5": errors.InternalError,
}

_UNCODED: tuple[tuple[type[BaseException], type[errors.FlightclientError]], ...] = (
    (fl.FlightUnavailableError, errors.ConnectionFailed),
    (fl.FlightTimedOutError, errors.QueryTimeout),
    (fl.FlightCancelledError, errors.Cancelled),
    (fl.FlightUnauthenticatedError, errors.Unauthenticated),
    (fl.FlightUnauthorizedError, errors.Forbidden),
)


def translate(error: BaseException) -> errors.FlightclientError:
    """Makes the error that a caller gets from one that pyarrow raised."""
    text = str(error.args[0]) if error.args else str(error)
    coded = _CODED.match(text)
    if coded:
        code = coded["code"]
        kind = _BY_CODE.get(code) or _GROUPS.get(code[3], errors.FlightclientError)
        return kind(_PREFIX.sub("", coded["message"]), code)
    kind = next((ours for theirs, ours in _UNCODED if isinstance(error, theirs)), errors.ProtocolError)
    return kind(_NOISE.sub("", _PREFIX.sub("", text)), "")


@contextmanager
def translated() -> Iterator[None]:
    """Whatever pyarrow raises in the block leaves it as one of our errors."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        cancelled = interrupt.__context__
        if isinstance(cancelled, fl.FlightCancelledError) and _CODED.match(str(cancelled)):
            raise translate(cancelled) from None
        raise
    except (pa.ArrowException, OSError) as error:
        raise translate(error) from None
