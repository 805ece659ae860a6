"""Session options: what a client may set once for all its later calls, typed and checked.

A value that is set is checked for its form alone; whether a bucket or snapshot of that name exists is asked when a
statement uses it, because it may come and go during a session.

Invariants:
    - `SessionOptions` is immutable and holds no default of the server: None means that the client chose nothing.
    - Setting is per option: a rejected one doesn't keep the others from being set (Flight specification).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flightserver.catalog.entities import check_bucket_name
from flightserver.errors import InvalidRequest
from flightserver.flight.sql.results import SessionOptionError
from flightserver.query.namespace import CATALOG
from flightserver.query.results import MAX_PAGE_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flightserver.flight.sql.messages import SessionValue

_MAX_TEXT = 255
"""Longest name; the limit of names in the catalog is lower."""

_MAX_VERSION = 2**63 - 1
"""Tickets carry it as a signed 64-bit integer."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a client chose for its session.

    Attributes:
        catalog: The only catalog there is, if the client named it.
        schema: Where unqualified names are looked up first.
        bucket: Where unqualified tables are written, and looked up after `schema`.
        as_of: The snapshot to read: a version of the catalog or a time.
        profile: The profile to work under.
        query_timeout: Seconds a statement may run.
        page_rows: Rows in a page of a result; results are not paged if None.
    """

    catalog: str | None = None
    schema: str | None = None
    bucket: str | None = None
    as_of: int | datetime | None = None
    profile: str | None = None
    query_timeout: float | None = None
    page_rows: int | None = None

    def values(self) -> dict[str, SessionValue]:
        """The options that have a value, as GetSessionOptions sends them; `as_of` is text."""
        return {
            name: value
            for name, value in {
                "catalog": self.catalog,
                "schema": self.schema,
                "bucket": self.bucket,
                "as_of": _as_of_text(self.as_of),
                "profile": self.profile,
                "query_timeout": self.query_timeout,
                "page_rows": self.page_rows,
            }.items()
            if value is not None
        }


def _as_of_text(as_of: int | datetime | None) -> str | None:
    return as_of.isoformat() if isinstance(as_of, datetime) else str(as_of) if as_of is not None else None


def _text(value: SessionValue) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise InvalidRequest(f"expected text of 1 to {_MAX_TEXT} characters, found {value!r}")
    return value


def _catalog(value: SessionValue) -> str:
    if value != CATALOG:
        raise InvalidRequest(f"the only catalog is {CATALOG!r}, found {value!r}")
    return CATALOG


def _bucket(value: SessionValue) -> str:
    return check_bucket_name(_text(value))


def _number(value: SessionValue) -> float:
    """Reads a number; drivers that send every option as text are understood."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise InvalidRequest(f"expected a number, found {value!r}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"expected a number, found {value!r}")
    return value


def _seconds(value: SessionValue) -> float:
    seconds = float(_number(value))
    if not math.isfinite(seconds) or seconds <= 0:
        raise InvalidRequest(f"expected seconds greater than 0, found {value!r}")
    return seconds


def checked_page_rows(value: SessionValue) -> int:
    """Reads how many rows a page has.

    Raises:
        InvalidRequest: It is no whole number, or none that a page can have.
    """
    rows = _number(value)
    if not 1 <= rows <= MAX_PAGE_ROWS or rows != int(rows):
        raise InvalidRequest(f"expected a whole number from 1 to {MAX_PAGE_ROWS}, found {value!r}")
    return int(rows)


def _as_of(value: SessionValue) -> int | datetime:
    if isinstance(value, str) and not value.isdecimal():
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidRequest(f"expected a version or an ISO 8601 time, found {value!r}") from None
        return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    version = int(value) if isinstance(value, str) and len(value) < _MAX_TEXT else value
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= _MAX_VERSION:
        raise InvalidRequest(f"expected a version from 0 to {_MAX_VERSION} or an ISO 8601 time, found {value!r}")
    return version


_CHECKS: Mapping[str, Callable[[SessionValue], str | int | float | datetime]] = {
    "catalog": _catalog,
    "schema": _text,
    "bucket": _bucket,
    "as_of": _as_of,
    "profile": _text,
    "query_timeout": _seconds,
    "page_rows": checked_page_rows,
}


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why an option was not set: what the protocol says, and what the log says."""

    error: SessionOptionError
    reason: str


def changed(options: SessionOptions, changes: Mapping[str, SessionValue]) -> tuple[SessionOptions, dict[str, Rejected]]:
    """Applies what a client asked to set.

    Args:
        options: The options so far.
        changes: New values by name; None, and an empty text, clear an option.

    Returns:
        The options with all changes that are valid, and why the others were rejected, by name.
    """
    accepted: dict[str, Any] = {}
    rejected: dict[str, Rejected] = {}
    for name, value in changes.items():
        check = _CHECKS.get(name)
        if check is None:
            known = ", ".join(_CHECKS)
            rejected[name] = Rejected(SessionOptionError.INVALID_NAME, f"there is no option {name!r}, only {known}")
            continue
        try:
            accepted[name] = None if value in {None, ""} else check(value)
        except InvalidRequest as error:
            rejected[name] = Rejected(SessionOptionError.INVALID_VALUE, f"{name}: {error.message}")
    return replace(options, **accepted), rejected
