"""Headers in and out, over a real socket: sessions by cookie, the bucket of a call, the trace, the handshake."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl
import pytest

from flightserver.errors import InvalidRequest
from flightserver.flight.middleware import (
    MIDDLEWARE,
    CallMiddlewareFactory,
    OpenHandshake,
    call_context,
    forget_session,
    read_headers,
    send_session,
)
from flightserver.flight.sql.sessions import Sessions
from flightserver.flight.status import translated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.flight.callers import Note

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class EchoServer(fl.FlightServerBase):
    """Shows what the middleware read; action `set` sets the session's schema, `close` closes it."""

    def __init__(self) -> None:
        self.sessions = Sessions()
        self.completed: list[tuple[str, type[BaseException] | None]] = []
        self.has_completed = threading.Event()
        super().__init__(
            "grpc://127.0.0.1:0",
            auth_handler=OpenHandshake(),
            middleware={MIDDLEWARE: CallMiddlewareFactory(self.sessions, self._complete)},
        )

    def _complete(self, note: Note, error: BaseException | None) -> None:
        self.completed.append((note.rpc, None if error is None else type(error)))
        self.has_completed.set()

    @translated("DoAction")
    def do_action(self, context: Any, action: Any) -> Iterator[bytes]:
        call = call_context(context)
        if action.type == "set":
            session, _ = self.sessions.set_options(call.session_id, {"schema": action.body.to_pybytes().decode()})
            send_session(context, session)
        elif action.type == "close":
            self.sessions.close(call.session_id)
            forget_session(context)
        return iter([repr((call.session.options.schema, call.bucket, call.user, call.traceparent)).encode()])


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


class CookieJar(fl.ClientMiddlewareFactory):
    """Keeps the session cookie, as Flight clients with cookie support do, and every other header received."""

    def __init__(self) -> None:
        self.cookie = ""
        self.received: list[str] = []

    def start_call(self, _info: Any) -> Any:
        return _CookieMiddleware(self)


class _CookieMiddleware(fl.ClientMiddleware):
    def __init__(self, jar: CookieJar) -> None:
        self._jar = jar

    def sending_headers(self) -> dict[str, str]:
        return {"cookie": self._jar.cookie} if self._jar.cookie else {}

    def received_headers(self, headers: dict[str, list[str]]) -> None:
        for cookie in headers.get("set-cookie", []):
            self._jar.received.append(cookie)
            self._jar.cookie = "" if "Max-Age=0" in cookie else cookie.partition(";")[0]


def act(client: Any, action: str, body: str = "", headers: tuple[tuple[bytes, bytes], ...] = ()) -> tuple[Any, ...]:
    options = fl.FlightCallOptions(headers=list(headers))
    (result,) = client.do_action(fl.Action(action, body.encode()), options)
    shown: tuple[Any, ...] = eval(result.body.to_pybytes())  # noqa: S307  # the repr of our own tuple
    return shown


def test_a_session_lives_in_a_cookie_from_its_first_option_until_it_is_closed(server: EchoServer) -> None:
    jar = CookieJar()
    with fl.connect(f"grpc://127.0.0.1:{server.port}", middleware=[jar]) as client:
        act(client, "set", "testing")
        assert jar.received[0].startswith("arrow_flight_session_id=")
        assert jar.received[0].endswith("; Path=/; HttpOnly")
        assert act(client, "show")[0] == "testing"
        act(client, "set", "public")
        assert act(client, "show")[0] == "public"
        act(client, "close")
        assert act(client, "show")[0] is None

    assert len(jar.received) == 2
    assert len(server.sessions) == 0


def test_clients_share_no_session(server: EchoServer) -> None:
    with (
        fl.connect(f"grpc://127.0.0.1:{server.port}", middleware=[CookieJar()]) as one,
        fl.connect(f"grpc://127.0.0.1:{server.port}", middleware=[CookieJar()]) as other,
    ):
        act(one, "set", "testing")

        assert act(other, "show")[0] is None


def test_headers_name_the_bucket_and_the_trace_of_one_call(server: EchoServer) -> None:
    with fl.connect(f"grpc://127.0.0.1:{server.port}") as client:
        headers = ((b"x-lakehouse-bucket", b"profile:ada"), (b"traceparent", TRACE.encode()))

        assert act(client, "show", headers=headers) == (None, "profile:ada", "anonymous", TRACE)
        assert act(client, "show") == (None, None, "anonymous", "")


def test_a_malformed_bucket_fails_the_call_cleanly(server: EchoServer) -> None:
    with fl.connect(f"grpc://127.0.0.1:{server.port}") as client:
        with pytest.raises(pa.ArrowException) as caught:
            act(client, "show", headers=((b"x-lakehouse-bucket", b"No Such Bucket!"),))
        assert "The header x-lakehouse-bucket: 'No Such Bucket!' can't name a bucket" in str(caught.value)
        assert "[FS-1001]" in str(caught.value)
        assert "Traceback" not in str(caught.value)
        assert act(client, "show")[2] == "anonymous"


def test_a_basic_handshake_succeeds_because_drivers_begin_with_one(server: EchoServer) -> None:
    with fl.connect(f"grpc://127.0.0.1:{server.port}") as client:
        header = client.authenticate_basic_token("ada", "secret")

        assert header == (b"authorization", b"Bearer anonymous")
        assert act(client, "show")[2] == "anonymous"


def test_the_hook_hears_of_every_call_that_ended(server: EchoServer) -> None:
    with fl.connect(f"grpc://127.0.0.1:{server.port}") as client:
        act(client, "show")
        assert server.has_completed.wait(5)

    assert server.completed == [("DO_ACTION", None)]


@pytest.mark.parametrize(
    "cookie",
    [
        "arrow_flight_session_id=ID",
        'arrow_flight_session_id="ID"',
        "other=1; arrow_flight_session_id=ID; more=2",
        "other=1;arrow_flight_session_id=ID",
    ],
)
def test_the_session_cookie_is_found_among_others(cookie: str) -> None:
    sessions = Sessions()
    session, _ = sessions.set_options("", {"schema": "a", "bucket": "testing"})

    context = read_headers("DoGet", {"cookie": [cookie.replace("ID", session.id)]}, sessions)

    assert context.session == session
    assert context.bucket == "testing"


@pytest.mark.parametrize(
    "cookie",
    ["", "x", "arrow_flight_session_id=", "xarrow_flight_session_id=a", "arrow_flight_session_id=a b", "a" * 9999],
)
def test_a_malformed_cookie_is_ignored(cookie: str) -> None:
    context = read_headers("DoGet", {"cookie": [cookie, b"bytes"]}, Sessions())

    assert context.session_id == ""
    assert context.session.id == ""


def test_the_header_is_stronger_than_the_session() -> None:
    sessions = Sessions()
    session, _ = sessions.set_options("", {"bucket": "testing"})
    headers: dict[str, list[str | bytes]] = {
        "cookie": [f"arrow_flight_session_id={session.id}"],
        "x-lakehouse-bucket": ["primary"],
    }

    assert read_headers("DoGet", headers, sessions).bucket == "primary"


def test_two_buckets_in_one_call_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="names 2 buckets; expected one"):
        read_headers("DoGet", {"x-lakehouse-bucket": ["a", "b"]}, Sessions())


def test_the_session_is_stronger_than_the_header_that_names_a_schema() -> None:
    sessions = Sessions()
    session, _ = sessions.set_options("", {"schema": "system"})
    header: dict[str, list[str | bytes]] = {"schema": [" testing "]}
    cookie: dict[str, list[str | bytes]] = {"cookie": [f"arrow_flight_session_id={session.id}"]}

    assert read_headers("DoGet", header, sessions).schema == "testing"
    assert read_headers("DoGet", {**header, **cookie}, sessions).schema == "system"
    assert read_headers("DoGet", {"schema": [""]}, sessions).schema == "public"


def test_two_schemas_in_one_call_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="The header schema names 2 schemas; expected one"):
        read_headers("DoGet", {"schema": ["a", "b"]}, Sessions())


@pytest.mark.parametrize("trace", ["", "00-xyz", TRACE.upper(), TRACE + "-1"])
def test_a_malformed_trace_is_ignored(trace: str) -> None:
    assert read_headers("DoGet", {"traceparent": [trace]}, Sessions()).traceparent == ""
