"""A server that has one answer to every request, as an S3 server gives it that won't do what it is asked."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from s3server import ACCESS_KEY, SECRET_KEY

from flightserver.storage.s3_access import S3Access, S3Credentials, S3Location, S3Timeouts

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator


class Answers:
    """A server that has one answer to everything.

    Attributes:
        endpoint: Its URL.
        asked: How many requests came.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.asked = 0

    def access(self, session_token: str = "") -> S3Access:
        credentials = S3Credentials(ACCESS_KEY, SECRET_KEY, session_token)
        return S3Access(S3Location("lake", endpoint=self.endpoint, region="eu-central-1"), credentials, S3Timeouts())


@contextmanager
def answering(status: int, body: str, tls: ssl.SSLContext | None = None, *, port: int = 0) -> Iterator[Answers]:
    """Answer every request so. A redirect says nowhere to go to, as that of S3 doesn't."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            answers.asked += 1
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815  # names that http.server calls

        def log_message(self, *_arguments: object) -> None:
            """Say nothing on standard error."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        answers = Answers(f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield answers
        finally:
            server.shutdown()
            thread.join()


def error(code: str) -> str:
    """The body of an error. What it says beside the code is nothing that may be told."""
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>of {ACCESS_KEY} at http://x</Message></Error>"
