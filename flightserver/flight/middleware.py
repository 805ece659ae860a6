"""What the server reads from the headers of a call, and what it sends back in them.

Theory of operation: pyarrow calls `CallMiddlewareFactory.start_call` before each handler, with the call's headers. It
makes a `CallContext`, which the handler gets from `call_context(server_call_context)`. pyarrow asks a middleware for
response headers before it calls the handler, so a handler that begins or closes a session adds the cookie to its own
context, by `send_session` and `forget_session`.

Headers: `cookie` (the session), `x-lakehouse-bucket` (the bucket of this call), `traceparent` (W3C Trace Context).
`authorization` is not looked at: every caller is `anonymous` until the server has users. A Handshake is answered with a
bearer token all the same, which means nothing.

Invariants:
    - What is wrong with a header fails the call before any handler runs, and says which header.
    - A malformed cookie or traceparent is ignored, as their specifications demand.
    - Headers leave with the first message of the response: a session must begin before its handler yields.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow.flight as fl

from flightserver.catalog.entities import PRIMARY, check_bucket_name
from flightserver.errors import InvalidRequest
from flightserver.flight.sql.sessions import NO_SESSION, Session, Sessions
from flightserver.flight.status import translated
from flightserver.query.namespace import PUBLIC

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MIDDLEWARE = "flightserver"
"""Key under which the factory is given to `FlightServerBase(middleware=...)`."""

SESSION_COOKIE = "arrow_flight_session_id"
"""The name that the Flight specification suggests and that the Java and Go clients know."""

BUCKET_HEADER = "x-lakehouse-bucket"

ANONYMOUS = "anonymous"

_HANDSHAKE = "HANDSHAKE"
"""pyarrow's name of the call."""

_MAX_COOKIE = 4096
"""Browsers' limit of one cookie (RFC 6265 section 6.1), and more than a Flight client ever sends."""

_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""https://www.w3.org/TR/trace-context/#traceparent-header, version 00."""

_COOKIE_PAIR = re.compile(r"(?:^|;)[ \t]*" + SESSION_COOKIE + r'="?([A-Za-z0-9_-]{1,128})"?(?=[ \t]*(?:;|$))')


@dataclass(frozen=True, slots=True)
class CallContext:
    """Who calls, with which options.

    Attributes:
        rpc: The name of the call as pyarrow has it, such as `DO_GET`.
        session: The client's session; `NO_SESSION` if it has none.
        session_id: The value of the session cookie as it was sent, or empty.
        bucket: The bucket of this call: the header's, else the session's, else None.
        user: Who calls.
        traceparent: The W3C trace context, or empty.
        started: When the call began, in the seconds of `time.monotonic`.
        is_cancelled: Tells whether the client has gone; only until the call ends. None where nobody asks.
    """

    rpc: str
    session: Session = NO_SESSION
    session_id: str = ""
    bucket: str | None = None
    user: str = ANONYMOUS
    traceparent: str = ""
    started: float = field(default_factory=time.monotonic)
    is_cancelled: Callable[[], bool] | None = None

    @property
    def schema(self) -> str:
        """Where bare names are looked up first: the session's schema, or `public`."""
        return self.session.options.schema or PUBLIC

    def home(self, schema: str | None) -> str:
        """The bucket of a table that is made in a schema, or of a bare name when that is None or empty."""
        wanted = schema or self.schema
        return (self.bucket or PRIMARY) if wanted == PUBLIC else wanted


class CallMiddleware(fl.ServerMiddleware):
    """One call's middleware; `context` is what handlers want of it."""

    def __init__(self, context: CallContext, completed: Callable[[CallContext, BaseException | None], None]) -> None:
        self.context = context
        self._completed = completed

    def sending_headers(self) -> dict[str, str]:
        """Returns a bearer token for a Handshake, without which ADBC and JDBC count a login as failed."""
        return {"authorization": f"Bearer {self.context.user}"} if self.context.rpc == _HANDSHAKE else {}

    def call_completed(self, exception: BaseException | None) -> None:
        """Tells the hook of the factory that the call has ended; pyarrow calls it once."""
        self._completed(self.context, exception)


def _ignore(context: CallContext, error: BaseException | None) -> None:
    """The hook of a server that measures nothing."""


class CallMiddlewareFactory(fl.ServerMiddlewareFactory):
    """Makes the context of every call.

    Args:
        sessions: Where cookies are looked up.
        completed: Called once when a call has ended, with its context and the error that pyarrow saw, or None. It must
            not raise, and must not touch pyarrow's own context, which is gone by then.
    """

    def __init__(
        self, sessions: Sessions, completed: Callable[[CallContext, BaseException | None], None] = _ignore
    ) -> None:
        self._sessions = sessions
        self._completed = completed

    def start_call(self, info: Any, headers: Mapping[str, list[str | bytes]]) -> CallMiddleware:
        """Reads the headers of a call.

        Raises:
            pyarrow.ArrowInvalid: A header is malformed; as all handlers do, in the form that pyarrow sends.
        """
        rpc = info.method.name
        with translated(rpc):
            return CallMiddleware(read_headers(rpc, headers, self._sessions), self._completed)


def read_headers(rpc: str, headers: Mapping[str, list[str | bytes]], sessions: Sessions) -> CallContext:
    """Reads what a call's headers say.

    Args:
        rpc: The name of the call.
        headers: Lower-case names and all values of each.
        sessions: Where the cookie is looked up.

    Raises:
        InvalidRequest: `x-lakehouse-bucket` is given twice or cannot name a bucket.
    """
    session_id = _session_id(headers.get("cookie", []))
    session = sessions.find(session_id) if session_id else NO_SESSION
    traceparent = "".join(_texts(headers.get("traceparent", [])))
    return CallContext(
        rpc=rpc,
        session=session,
        session_id=session_id,
        bucket=_bucket(headers.get(BUCKET_HEADER, [])) or session.options.bucket,
        traceparent=traceparent if _TRACEPARENT.fullmatch(traceparent) else "",
    )


def _texts(values: list[str | bytes]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def _session_id(cookies: list[str | bytes]) -> str:
    for cookie in _texts(cookies):
        match = _COOKIE_PAIR.search(cookie) if len(cookie) <= _MAX_COOKIE else None
        if match:
            return match[1]
    return ""


def _bucket(values: list[str | bytes]) -> str | None:
    names = {value.strip() for value in _texts(values)}
    if len(names) > 1:
        raise InvalidRequest(f"The header {BUCKET_HEADER} names {len(names)} buckets; expected one.")
    name = next(iter(names), "")
    if not name:
        return None
    try:
        return check_bucket_name(name)
    except InvalidRequest as error:
        raise InvalidRequest(f"The header {BUCKET_HEADER}: {error.message}") from None


def call_context(context: Any) -> CallContext:
    """Returns the context of a call that this module's factory has started.

    Args:
        context: The `pyarrow.flight.ServerCallContext` that a handler was given.
    """
    middleware: CallMiddleware = context.get_middleware(MIDDLEWARE)
    return middleware.context


def send_session(context: Any, session: Session) -> None:
    """Makes the client keep the cookie of a session that this call has begun; nothing to send if it has it already.

    Args:
        context: The `pyarrow.flight.ServerCallContext` that a handler was given.
        session: The session as `Sessions.set_options` returned it.
    """
    if session.id != call_context(context).session_id:
        context.add_header("set-cookie", f"{SESSION_COOKIE}={session.id}; Path=/; HttpOnly")


def forget_session(context: Any) -> None:
    """Makes the client forget the cookie of its session, which this call has closed."""
    context.add_header("set-cookie", f"{SESSION_COOKIE}=; Path=/; Max-Age=0")


class OpenHandshake(fl.ServerAuthHandler):
    """Accepts every Handshake, because ADBC and JDBC begin a login by one, and pyarrow answers UNIMPLEMENTED without.

    It decides nothing: who a caller is, is for the middleware to say.
    """

    def authenticate(self, outgoing: Any, incoming: Any) -> None:
        """Accepts whatever was sent.

        Args:
            outgoing: Where an answer would be written.
            incoming: What the client sent.
        """

    def is_valid(self, token: bytes) -> str:  # noqa: ARG002  # the signature is pyarrow's
        """Returns an empty identity for every token."""
        return ""
