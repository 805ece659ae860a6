"""Listens, and changes certificates while it does.

Theory of operation: pyarrow's server can't change its certificate, nor can two servers share a port. So a thread looks
at the files, and when they hold something new that is good, the server is told to stop, which closes its port at once
and lets the calls that run go on to their ends, and another is made on the same port over the same `Service`. Clients
that are connected are told to connect again, which gRPC does by itself. A call that begins in between, some
milliseconds, fails as UNAVAILABLE or CANCELLED. What is not good is logged, and what was there goes on.

Files are often replaced one after the other, so they are read when two looks have found the same.

The same thread closes connections that are stalled, see `calls.py`.

Only that thread changes `_server` and `_draining`, and `stop` after it has ended. Only one thread may call `stop`.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import TYPE_CHECKING

from flightserver.errors import BackendUnavailable, InvalidRequest
from flightserver.flight.certificates import Certificates
from flightserver.flight.server import FlightServer
from flightserver.periodic import Periodic

if TYPE_CHECKING:
    import ssl

    from flightserver.flight.certificates import TlsFiles
    from flightserver.flight.service import Service

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
_RETRY_SECONDS = 0.002


class Listener:
    """A Flight server on one port, whatever its certificate; listens as soon as it is made.

    Args:
        service: What answers.
        host: Address to listen on.
        port: Port, or 0 for a free one.
        files: Certificates; None to listen without TLS.

    Attributes:
        uri: Where clients connect, such as `grpc+tls://127.0.0.1:31337`.
        tls: Serves the present certificate over other protocols; None without TLS.

    Raises:
        InvalidRequest: A file of `files` is not good; says why.
        BackendUnavailable: The port is taken.
    """

    def __init__(self, service: Service, host: str, port: int, files: TlsFiles | None = None) -> None:
        self._service = service
        self._host = host
        self._files = files
        self._settled = self._seen = b"" if files is None else files.fingerprint()
        self._certificates = None if files is None else Certificates.load(files)
        self.tls = None if self._certificates is None else _following(self)
        self._draining: list[tuple[FlightServer, threading.Thread]] = []
        self._server = FlightServer(service, _in_uri(host), port, self._certificates)
        self.port: int = self._server.port
        self.uri = self._server.uri
        self._looks = Periodic("flight-listener", self._look_around, LOOK_SECONDS)
        self._looks.start()

    @property
    def certificates(self) -> Certificates | None:
        """What is served now; None without TLS."""
        return self._certificates

    def stop(self, grace_seconds: float) -> bool:
        """Refuse new calls, and give those that run `grace_seconds`; False if some were still running then."""
        self._looks.stop()
        self._drain(self._server)
        threads = [thread for _, thread in self._draining]
        deadline = time.monotonic() + grace_seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _look_around(self) -> None:
        for peer in self._service.calls.close_stalled():
            logger.warning("a connection was closed: its client had stopped reading", extra={"peer": peer})
        if self._files is not None:
            self._look(self._files)

    def _look(self, files: TlsFiles) -> None:
        found = files.fingerprint()
        if found == self._settled:
            return
        if found != self._seen:
            self._seen = found
            return
        self._settled = found
        try:
            certificates = Certificates.load(files)
        except InvalidRequest as error:
            logger.warning("new certificates are not good: the old ones are kept", extra={"reason": error.message})
            return
        self._replace(certificates)

    def _replace(self, certificates: Certificates) -> None:
        """Stop the server's listening, and listen again."""
        began = time.monotonic()
        self._drain(self._server)
        while not self._listen_again(certificates):
            if self._looks.stopped.wait(_RETRY_SECONDS):
                return
        seconds = round(time.monotonic() - began, 4)
        expires = certificates.expires.isoformat()
        logger.info("new certificates are served", extra={"expires": expires, "port_closed_seconds": seconds})

    def _listen_again(self, certificates: Certificates) -> bool:
        if not _is_free(self._host, self.port):
            return False
        try:
            self._server = FlightServer(self._service, _in_uri(self._host), self.port, certificates)
        except BackendUnavailable:
            return False
        self._certificates = certificates
        return True

    def _drain(self, server: FlightServer) -> None:
        """Have a server stop on a thread; one that is stopping already isn't told twice."""
        self._draining = [entry for entry in self._draining if entry[1].is_alive()]
        if all(one is not server for one, _ in self._draining):
            thread = threading.Thread(target=server.shutdown, name="flight-shutdown", daemon=True)
            thread.start()
            self._draining.append((server, thread))


def _following(listener: Listener) -> ssl.SSLContext:
    """A context whose every handshake uses the certificates that the listener has by then."""
    first = listener.certificates
    assert first is not None  # noqa: S101  # for mypy: only listeners with TLS have a context
    context = first.context

    def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        present = listener.certificates
        if present is not None:
            connection.context = present.context

    context.sni_callback = choose
    return context


def _in_uri(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_free(host: str, port: int) -> bool:
    """Whether nobody listens there. gRPC would complain on standard error, so it isn't asked."""
    try:
        # A name that isn't found now was found when the server began to listen, and may be found again.
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError:
        return False
    return True
