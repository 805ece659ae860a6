"""Health, readiness, metrics and the status page, asked over a real socket."""

from __future__ import annotations

import http.client
import json
import logging
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from flightserver.errors import BackendUnavailable, InvalidRequest
from flightserver.telemetry import Metrics
from flightserver.web.app import METRICS_TYPE, ServerStatus, create_app
from flightserver.web.readiness import Readiness
from flightserver.web.server import WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

STATUS = ServerStatus("flight <server>", "1.2.3", "grpc://127.0.0.1:31337", {"datasets": 3, "rows": 1234567})


@pytest.fixture
def serve() -> Iterator[Callable[..., WebServer]]:
    opened: list[tuple[WebServer, Readiness]] = []

    def start(checks: Mapping[str, Callable[[], None]] | None = None, seconds: float = 10) -> WebServer:
        readiness = Readiness(checks or {}, seconds)
        server = WebServer(create_app(lambda: STATUS, readiness, Metrics().exposition), "127.0.0.1", 0)
        opened.append((server, readiness))
        server.start()
        return server

    yield start
    for server, readiness in opened:
        server.stop()
        readiness.close()


def ask(server: WebServer, path: str) -> tuple[int, str, str]:
    """Status code, content type and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()
    finally:
        connection.close()


def readiness_of(server: WebServer) -> tuple[int, dict[str, object]]:
    code, _, body = ask(server, "readyz")
    return code, json.loads(body)


def test_a_live_server_says_ok(serve: Callable[..., WebServer]) -> None:
    assert ask(serve(), "healthz") == (200, "text/plain; charset=utf-8", "ok\n")


def test_a_server_whose_checks_pass_is_ready(serve: Callable[..., WebServer]) -> None:
    server = serve({"catalog": lambda: None, "results": lambda: None})
    assert readiness_of(server) == (200, {"ready": True, "checks": {"catalog": "ok", "results": "ok"}})


def test_a_server_without_checks_is_ready(serve: Callable[..., WebServer]) -> None:
    assert readiness_of(serve()) == (200, {"ready": True, "checks": {}})


def test_one_failing_check_makes_a_server_unready_and_says_why(serve: Callable[..., WebServer]) -> None:
    def fail() -> None:
        raise BackendUnavailable("the bucket doesn't answer")

    server = serve({"catalog": lambda: None, "bucket": fail})
    checks = {"catalog": "ok", "bucket": "the bucket doesn't answer"}
    assert readiness_of(server) == (503, {"ready": False, "checks": checks})


def test_a_defect_in_a_check_is_logged_and_not_shown(
    serve: Callable[..., WebServer], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("/secret/path")

    server = serve({"bucket": fail})
    with caplog.at_level(logging.ERROR):
        code, body = readiness_of(server)
    assert code == 503
    assert body["checks"] == {"bucket": "the check failed unexpectedly; the server's log says how"}
    assert "/secret/path" in caplog.text


def test_a_check_that_hangs_is_reported_and_started_only_once(serve: Callable[..., WebServer]) -> None:
    release = threading.Event()
    started: list[int] = []

    def hang() -> None:
        started.append(1)
        release.wait()

    server = serve({"bucket": hang, "catalog": lambda: None}, seconds=0.05)
    for _ in range(3):
        code, body = readiness_of(server)
        assert (code, body["checks"]) == (503, {"bucket": "no answer within 0.05 seconds", "catalog": "ok"})
        assert ask(server, "healthz")[0] == 200
    release.set()
    assert started == [1]


def test_a_check_may_end_after_the_server_has_stopped() -> None:
    release, ended = threading.Event(), threading.Event()

    def hang() -> None:
        release.wait()
        ended.set()

    readiness = Readiness({"bucket": hang}, 0.05)
    server = WebServer(create_app(lambda: STATUS, readiness, Metrics().exposition), "127.0.0.1", 0)
    server.start()
    readiness_of(server)
    server.stop()
    readiness.close()
    release.set()
    assert ended.wait(10)


def test_metrics_come_in_the_text_format_of_prometheus(serve: Callable[..., WebServer]) -> None:
    code, kind, body = ask(serve(), "metrics")
    assert (code, kind) == (200, METRICS_TYPE)
    assert "\nflightserver_streamed_rows_total 0.0\n" in body


def test_the_status_page_shows_the_facts_escaped_and_asks_nobody_else(serve: Callable[..., WebServer]) -> None:
    code, kind, body = ask(serve(), "")
    assert (code, kind) == (200, "text/html; charset=utf-8")
    assert "<h1>flight &lt;server&gt;</h1>" in body
    for fact in ("1.2.3", "grpc://127.0.0.1:31337", "<th>datasets</th><td>3</td>", "<td>1,234,567</td>"):
        assert fact in body
    assert "http://" not in body
    assert "https://" not in body


def test_an_unknown_path_is_not_found(serve: Callable[..., WebServer]) -> None:
    assert ask(serve(), "nothing/here")[0] == 404


def test_a_port_that_is_taken_is_refused_by_start(serve: Callable[..., WebServer]) -> None:
    taken = serve().port
    server = WebServer(create_app(lambda: STATUS, Readiness({}), Metrics().exposition), "127.0.0.1", taken)
    with pytest.raises(InvalidRequest, match=f"can't listen on 127.0.0.1 port {taken}"):
        server.start()
    server.stop()


def test_a_stopped_server_answers_no_more_and_may_be_stopped_again(serve: Callable[..., WebServer]) -> None:
    server = serve()
    ask(server, "healthz")
    server.stop()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(server, "healthz")
    assert not [thread for thread in threading.enumerate() if thread.name == "web-server"]


def test_signal_handlers_stay_as_they_were(serve: Callable[..., WebServer]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    serve().stop()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_ipv6_address_is_written_in_brackets() -> None:
    server = WebServer(create_app(lambda: STATUS, Readiness({}), Metrics().exposition), "::1", 8080)
    assert server.url == "http://[::1]:8080/"
