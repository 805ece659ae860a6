"""Errors of the engine, translated once, here.

datafusion raises ValueError while it plans and a bare Exception while it runs; through the Arrow C stream the same
errors arrive as pyarrow's ArrowInvalid or ArrowException. All carry the engine's text, whose prefixes are the
only thing that tells them apart (datafusion 54, `DataFusionError::message`). A text that matches nothing is handed on
untouched: the wire reports it as INTERNAL and logs it.
"""

from __future__ import annotations

import re

from flightserver.errors import (
    BackendUnavailable,
    FlightserverError,
    InternalError,
    InvalidRequest,
    LimitExceeded,
    NotFound,
)

_MISSING_TABLE = re.compile(r"table '([^.']*)\.([^.']*)\.([^']*)' not found")
_MEMORY = re.compile(r"Resources exhausted|Memory Exhausted|memory limit", re.IGNORECASE)
_NO_ROOM = re.compile(r"No space left on device|Disk quota exceeded|used disk space during the spilling")
_ESTIMATE = re.compile(r"Selectivity is out of limit")
_STORE = re.compile(r"Object Store error|ObjectStore\(|No such file|Parquet error")
_REQUEST = re.compile(
    r"Error during planning|SQL error|Schema error|ParserError|not implemented|not supported|Execution error"
    r"|Arrow error|Cast error|type_coercion|Optimizer rule|Divide by zero|Invalid function|overflow|out of range"
    r"|Compute error|Parser error|Invalid argument|User-defined|regex|Failed due to a difference in schemas"
)
_NOISE = re.compile(
    r"^(?:DataFusion error: |External error: |Error during planning: |Execution error: |Schema error: |Arrow error: "
    r"|Cast error: |Optimizer rule '\w+' failed\s+caused by\s+)+"
)
_HIDDEN = re.compile(r", (?:\"?__target\"?|[^\s,]+)\._rid\b")
"""A column that no client has, in the engine's list of those there are."""
_MAX_TEXT = 2000


class PlanDefect(InternalError):
    """A defect of the engine that another plan of the same statement avoids."""


def is_memory_exhausted(error: BaseException) -> bool:
    """Whether the engine ran into its memory limit."""
    return _MEMORY.search(str(error)) is not None


def missing_table(error: BaseException) -> tuple[str, str, str] | None:
    """Catalog, schema and name of the table that the engine did not find, or None for another error."""
    match = None if isinstance(error, FlightserverError) else _MISSING_TABLE.search(str(error))
    return (match[1], match[2], match[3]) if match else None


def translate(error: Exception) -> Exception:
    """The domain error that says what the engine's error means; `error` itself when it is unknown."""
    if isinstance(error, FlightserverError):
        return error
    text = str(error)
    short = _HIDDEN.sub("", _NOISE.sub("", text))[:_MAX_TEXT]
    if missing_table(error) is not None:
        return NotFound(short)
    full = _NO_ROOM.search(text)
    if full or is_memory_exhausted(error):
        disk = ", and there is no room on the disk to spill to" if full else ""
        return LimitExceeded(f"the statement needs more memory than it may use{disk}: {short}")
    if _ESTIMATE.search(text):
        return PlanDefect(short)
    if _STORE.search(text):
        details = {"engine": _keys_only(short)}
        return BackendUnavailable("a file of the dataset can't be read from its bucket", details=details)
    return InvalidRequest(short) if _REQUEST.search(text) else error


def _keys_only(text: str) -> str:
    """The text without absolute paths: they are the host's business."""
    return re.sub(r"(?<![\w:/])/[^\s\"']+", "<path>", text)
