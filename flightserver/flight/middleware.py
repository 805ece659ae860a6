"""What the server reads from the headers of a call, and what it sends back in them.

Theory of operation: pyarrow calls `CallMiddlewareFactory.start_call` before each handler, with the call's headers. It
looks at the call's credential (`callers.py`); the handler gets a `CallContext` from
`call_context(server_call_context)`, or the error that says why it may not go on. pyarrow asks a middleware for response
headers before it calls the handler, so a handler that begins or closes a session adds the cookie to its own context, by
`send_session` and `forget_session`.

Headers: `cookie` (the session), `x-lakehouse-bucket` (the bucket of this call), `x-lakehouse-page-rows`
(how many rows a page of a result has), `schema` (JDBC's, where the session names none), `traceparent` (W3C Trace
Context), `authorization`. As long as the server has no users, every caller is `anonymous`, and a Handshake is answered
with a bearer token all the same, which means nothing.

Invariants:
    - What is wrong with a header fails the call before its handler does anything, and says which header.
    - A malformed cookie or traceparent is ignored, as their specifications demand.
    - Headers leave with the first message of the response: a session must begin before its handler yields.
"""

from __future__ import annotations

import math
import re
import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow.flight as fl

from flightserver.access.authenticating import OPEN_ANSWER, Authenticated
from flightserver.access.principal import ANONYMOUS
from flightserver.catalog.entities import PRIMARY, check_bucket_name
from flightserver.errors import InvalidRequest
from flightserver.flight.callers import EVERYBODY, Arrived, Note
from flightserver.flight.calls import Call, Calls
from flightserver.flight.sql.options import checked_page_rows
from flightserver.flight.sql.sessions import NO_SESSION, Session, Sessions
from flightserver.flight.status import translated
from flightserver.query.namespace import PUBLIC
from flightserver.query.temporary import Owner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flightserver.access.rights import Rights
    from flightserver.flight.callers import Callers

MIDDLEWARE = "flightserver"
"""Key under which the factory is given to `FlightServerBase(middleware=...)`."""

SESSION_COOKIE = "arrow_flight_session_id"
"""The name that the Flight specification suggests and that the Java and Go clients know."""

BUCKET_HEADER = "x-lakehouse-bucket"

PAGE_ROWS_HEADER = "x-lakehouse-page-rows"

SCHEMA_HEADER = "schema"
"""What JDBC's driver makes of `schema=` in its URL, as of all properties that it doesn't know."""

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
        rights: Of who calls.
        traceparent: The W3C trace context, or empty.
        started: When the call began, in the seconds of `time.monotonic`.
        note: What is noted of the call.
        is_cancelled: Tells whether the client has gone; only until the call ends. None where nobody asks.
        peer: The address of the client's end of the connection; empty when it is not known.
        page_rows: Rows in a page of a result: the header's, else the session's; None for results that aren't paged.
        named_schema: The schema that the header names, or None.
    """

    rpc: str
    session: Session = NO_SESSION
    session_id: str = ""
    bucket: str | None = None
    rights: Rights = EVERYBODY
    traceparent: str = ""
    started: float = field(default_factory=time.monotonic)
    is_cancelled: Callable[[], bool] | None = None
    peer: str = ""
    page_rows: int | None = None
    named_schema: str | None = None
    note: Note = field(default_factory=lambda: Note(""))

    @property
    def owner(self) -> Owner:
        """Whose temporary tables the call sees."""
        return Owner(self.user, self.session.id, self.peer)

    @property
    def user(self) -> str:
        """Who calls."""
        return self.rights.user

    @property
    def schema(self) -> str:
        """Where bare names are looked up first: the session's schema, else the header's, else `public`."""
        return self.session.options.schema or self.named_schema or PUBLIC

    def home(self, schema: str | None) -> str:
        """The bucket of a table that is made in a schema, or of a bare name when that is None or empty."""
        wanted = schema or self.schema
        return (self.bucket or PRIMARY) if wanted == PUBLIC else wanted


class CallMiddleware(fl.ServerMiddleware):
    """One call's middleware; `context` and `call` are what handlers want of it."""

    def __init__(
        self,
        note: Note,
        arrived: Arrived,
        headers: Mapping[str, list[str | bytes]],
        call: Call,
        factory: CallMiddlewareFactory,
    ) -> None:
        self.note = note
        self.call = call
        self._arrived = arrived
        self._headers = headers
        self._factory = factory
        self._context: CallContext | None = None

    def context(self, context: Any) -> CallContext:
        """Returns who calls, with which options.

        Args:
            context: The `pyarrow.flight.ServerCallContext` that a handler was given.

        Raises:
            Unauthenticated: Nobody knows who calls.
            InvalidRequest: A header is malformed.
        """
        if self._context is None:
            self.note.peer = self.call.peer = context.peer()
            rights = self._arrived.rights(peer_identity(context) if self._factory.has_certificates else "")
            self.note.user, self.note.method = rights.user, rights.principal.method
            found = read_headers(self.note.rpc, self._headers, self._factory.sessions, rights)
            self._context = replace(found, peer=self.note.peer, note=self.note, started=self.note.started)
        return self._context

    def sending_headers(self) -> dict[str, str]:
        """Returns a bearer token after a login, without which ADBC and JDBC count a Handshake as failed."""
        found = self._arrived.found
        if found is None or found.answer is None or (found.principal.method == "open" and not self._is_handshake):
            return {}
        return {"authorization": found.answer}

    def call_completed(self, exception: BaseException | None) -> None:
        """Tells the hook of the factory that the call has ended; pyarrow calls it once."""
        self._factory.complete(self.note, self.call, exception)

    @property
    def _is_handshake(self) -> bool:
        return self.note.rpc == _HANDSHAKE


def _ignore(note: Note, error: BaseException | None) -> None:
    """The hook of a server that measures nothing."""


class CallMiddlewareFactory(fl.ServerMiddlewareFactory):
    """Makes the context of every call.

    Args:
        sessions: Where cookies are looked up.
        completed: Called once when a call has ended, with what was noted of it and the error that pyarrow saw, or None.
            It must not raise, and must not touch pyarrow's own context, which is gone by then.
        calls: Counts the calls in flight, and refuses those beyond its limit; None for no limit.
        callers: Recognises who calls; None where everybody may do everything.
        has_certificates: Whether the server asks clients for certificates, and so has no `OpenHandshake`.
    """

    def __init__(
        self,
        sessions: Sessions,
        completed: Callable[[Note, BaseException | None], None] = _ignore,
        calls: Calls | None = None,
        callers: Callers | None = None,
        *,
        has_certificates: bool = False,
    ) -> None:
        self.sessions = sessions
        self.has_certificates = has_certificates
        self._hook = completed
        self._calls = calls if calls is not None else Calls(sys.maxsize, math.inf, sys.maxsize)
        self._callers = callers

    def start_call(self, info: Any, headers: Mapping[str, list[str | bytes]]) -> CallMiddleware:
        """Counts a call and looks at its credential.

        Raises:
            pyarrow.ArrowException: There are too many calls, or a Handshake has no right credential; as all handlers
                do, in the form that pyarrow sends.
        """
        note = Note(info.method.name)
        with translated(note.rpc):
            call = self._calls.begin()
            try:
                arrived = self._look_at(headers)
                note.about = f"login as {arrived.claimed}" if arrived.claimed else ""
                if note.rpc == _HANDSHAKE:
                    rights = arrived.rights("")
                    note.user, note.method = rights.user, rights.principal.method
            except BaseException as error:
                self.complete(note, call, error)
                raise
        return CallMiddleware(note, arrived, headers, call, self)

    def complete(self, note: Note, call: Call, error: BaseException | None) -> None:
        """A call has ended."""
        self._calls.end(call)
        self._hook(note, error)

    def _look_at(self, headers: Mapping[str, list[str | bytes]]) -> Arrived:
        if self._callers is None:
            return Arrived(None, Authenticated(ANONYMOUS, OPEN_ANSWER))
        credentials = {value.strip() for value in _texts(headers.get("authorization", []))}
        if len(credentials) > 1:
            return Arrived(
                self._callers, failure=InvalidRequest("the header authorization is given twice; expected one")
            )
        return self._callers.arrived(next(iter(credentials), ""), by_certificate=self.has_certificates)


def read_headers(
    rpc: str, headers: Mapping[str, list[str | bytes]], sessions: Sessions, rights: Rights = EVERYBODY
) -> CallContext:
    """Reads what a call's headers say.

    Args:
        rpc: The name of the call.
        headers: Lower-case names and all values of each.
        sessions: Where the cookie is looked up.
        rights: Of who calls.

    Raises:
        InvalidRequest: `x-lakehouse-bucket` is given twice or cannot name a bucket; `x-lakehouse-page-rows` is given
            twice or is no number of rows that a page can have; `schema` is given twice.
    """
    session_id = _session_id(headers.get("cookie", []))
    session = sessions.find(session_id, rights.user) if session_id else NO_SESSION
    traceparent = "".join(_texts(headers.get("traceparent", [])))
    return CallContext(
        rpc=rpc,
        session=session,
        session_id=session_id,
        rights=rights,
        bucket=_bucket(headers.get(BUCKET_HEADER, [])) or session.options.bucket,
        page_rows=_page_rows(headers.get(PAGE_ROWS_HEADER, [])) or session.options.page_rows,
        named_schema=_schema(headers.get(SCHEMA_HEADER, [])),
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


def _page_rows(values: list[str | bytes]) -> int | None:
    numbers = {value.strip() for value in _texts(values)}
    if len(numbers) > 1:
        raise InvalidRequest(f"The header {PAGE_ROWS_HEADER} is given with {len(numbers)} values; expected one.")
    number = next(iter(numbers), "")
    if not number:
        return None
    try:
        return checked_page_rows(number)
    except InvalidRequest as error:
        raise InvalidRequest(f"The header {PAGE_ROWS_HEADER}: {error.message}") from None


def _schema(values: list[str | bytes]) -> str | None:
    # Whether it exists is asked when a statement looks something up, as for the session's.
    names = {value.strip() for value in _texts(values)}
    if len(names) > 1:
        raise InvalidRequest(f"The header {SCHEMA_HEADER} names {len(names)} schemas; expected one.")
    return next(iter(names), "") or None


def call_context(context: Any) -> CallContext:
    """Returns the context of a call that this module's factory has started.

    Args:
        context: The `pyarrow.flight.ServerCallContext` that a handler was given.
    """
    middleware: CallMiddleware = context.get_middleware(MIDDLEWARE)
    return middleware.context(context)


def call_in_flight(context: Any) -> Call:
    """Returns the call itself, which knows whether it waits for its client.

    Args:
        context: The `pyarrow.flight.ServerCallContext` that a handler was given.
    """
    middleware: CallMiddleware = context.get_middleware(MIDDLEWARE)
    return middleware.call


def peer_identity(context: Any) -> str:
    """Returns whom the certificate of a call's client names; empty without one.

    That is what gRPC takes from it: the first of its subject alternative names, whatever their kind (DNS name, URI,
    email or IP address), or the common name of its subject when it has none. Only a server without `OpenHandshake`
    knows: pyarrow gives out what a handler of authentication says in its stead.

    Args:
        context: The `pyarrow.flight.ServerCallContext` that a handler was given.
    """
    identity: bytes = context.peer_identity()
    return identity.decode(errors="backslashreplace")


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
