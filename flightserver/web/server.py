"""The web server: uvicorn on a thread of its own, beside the Flight server; HTTPS where it is given a context for it.

The socket is bound and listening before `start` returns, so its port is known, and a port that is taken is an error of
the caller's thread. uvicorn installs signal handlers on the main thread only, so stopping is up to `stop`.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import uvicorn

from flightserver.errors import BackendUnavailable, InvalidRequest

if TYPE_CHECKING:
    import ssl

    from starlette.types import ASGIApp

_GRACE_SECONDS = 1
_POLL_SECONDS = 0.005


class WebServer:
    """Serves an ASGI application over HTTP on a background thread; started once.

    Args:
        app: The application; it has no lifespan events.
        host: Address to listen on, IPv4 or IPv6.
        port: Port to listen on; 0 for any that is free.
        tls: Serves HTTPS; None serves HTTP.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._scheme = "http" if tls is None else "https"
        self._host = host
        self._asked_port = port
        config = uvicorn.Config(
            app,
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        config.load()
        config.ssl = tls
        self._server = uvicorn.Server(config)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._port = port

    @property
    def port(self) -> int:
        """Where it listens, once it is started."""
        return self._port

    @property
    def url(self) -> str:
        """Address of the status page, once it is started."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{self._scheme}://{host}:{self._port}/"

    def start(self) -> None:
        """Listen, and return when requests are answered.

        Raises:
            InvalidRequest: The address is taken, or is not one of this host.
            BackendUnavailable: The server did not start; its log says why.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            listening = socket.create_server((self._host, self._asked_port), family=family)
        except OSError as error:
            msg = f"the web server can't listen on {self._host} port {self._asked_port}: {error.strerror}"
            raise InvalidRequest(msg) from error
        self._socket = listening
        self._port = listening.getsockname()[1]
        thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="web-server", daemon=True
        )
        self._thread = thread
        thread.start()
        while not self._server.started:
            if not thread.is_alive():
                listening.close()
                msg = "the web server did not start; the log says why"
                raise BackendUnavailable(msg)
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop listening and end within about a second; requests in flight have that long. May be repeated."""
        if self._thread is None or self._socket is None:
            return
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self._thread = None
