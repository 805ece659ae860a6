"""An HTTP proxy that counts what a server answers: how many requests, and the bytes of the bodies.

Requests are forwarded with all their headers, `Host` among them, because signatures of S3 cover it.
"""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType


class CountingProxy(ThreadingHTTPServer):
    """Listens on a free loopback port when made; `close` stops it.

    Args:
        upstream: URL of the server.

    Attributes:
        endpoint: Its own URL.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self._lock = threading.Lock()
        self._bytes = 0
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="counting-proxy")
        self._thread.start()

    def count(self, size: int) -> None:
        """Note the body of an answer."""
        with self._lock:
            self._bytes += size

    def taken(self) -> int:
        """Bytes of bodies since the last time that this was asked."""
        with self._lock:
            taken, self._bytes = self._bytes, 0
        return taken

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may go away."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, and the one to the server that belongs to it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: CountingProxy

    def setup(self) -> None:
        """Prepare the other connection."""
        super().setup()
        self._upstream = http.client.HTTPConnection(self.server.upstream)

    def finish(self) -> None:
        """Close both."""
        self._upstream.close()
        super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's
        """Say nothing."""

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            self._upstream.putheader(name, value)
        self._upstream.endheaders(body or None)
        answer = self._upstream.getresponse()
        data = answer.read()
        self.server.count(len(data))
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in {"connection", "content-length", "transfer-encoding"}:
                self.send_header(name, value)
        size = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", size or "0")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward  # noqa: N815  # names that the base class looks for
