"""A server process: a lakehouse, the Flight server and the web server over it, and how they start and stop.

Theory of operation: `Server.start` opens the lakehouse and listens on both ports; whatever fails on the way closes what
was open. The main thread then waits on the event of `StopSignals`, which the handler of SIGINT and SIGTERM sets,
because nothing else may be done in a handler. `Server.stop` refuses new calls and lets those that run go on for
`server.grace_seconds`; statements that still run are cancelled then, which their clients are told. A client that has
stopped reading cannot be told anything, and gRPC waits for it for ever, so the process may have to end around
that thread: see `end_process`.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Self

from flightserver.cli.version import VERSION
from flightserver.errors import BackendUnavailable, InvalidRequest
from flightserver.flight.certificates import TlsFiles
from flightserver.flight.listening import Listener
from flightserver.flight.service import Service
from flightserver.lakehouse import Lakehouse
from flightserver.web.app import ServerStatus, create_app
from flightserver.web.readiness import Readiness
from flightserver.web.server import WebServer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from flightserver.settings import ServerSettings, Settings

logger = logging.getLogger(__name__)

_WAKE_SECONDS = 0.2

_CANCEL_SECONDS = 2.0
"""The watchdog interrupts a statement within about a second."""


def check_host(settings: ServerSettings, *, has_tls: bool) -> None:
    """Refuse to listen where strangers are without TLS, unless it was asked for.

    Raises:
        InvalidRequest: The host is not of this machine's loopback network, there is no TLS, and `insecure` is not set;
            or the host is unknown.
    """
    if not _is_loopback(settings.host) and not has_tls and not settings.insecure:
        raise InvalidRequest(
            f"the host {settings.host!r} can be reached from other machines, and there is no TLS: anyone on the way "
            "could read and change everything. Listen on 127.0.0.1, give --tls-certificate and --tls-key, or add "
            "--insecure if the network keeps strangers out"
        )


def check_users(settings: ServerSettings, *, has_users: bool) -> None:
    """Refuse to listen where strangers are without users, unless it was asked for.

    Raises:
        InvalidRequest: The host is not of this machine's loopback network, there are no users, and `insecure` is not
            set; or the host is unknown.
    """
    if not _is_loopback(settings.host) and not has_users and not settings.insecure:
        raise InvalidRequest(
            f"the host {settings.host!r} can be reached from other machines, and there are no users: anyone who "
            "reaches it could read and change everything. Listen on 127.0.0.1, add a user with `flightserver users "
            "add`, or add --insecure if the network keeps strangers out"
        )


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidRequest(f"the host {host!r} is not known: {error.strerror}") from None
    return all(ipaddress.ip_address(str(entry[4][0])).is_loopback for entry in found)


def check_port(host: str, port: int) -> None:
    """Refuse a port that can't be listened on, before gRPC does: its own complaint goes to standard error.

    Raises:
        InvalidRequest: The port is taken, or no port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise InvalidRequest(f"can't listen on {host} port {port}: {reason}; port 0 means any that is free") from None


@dataclass(frozen=True, slots=True)
class Server:
    """A running server process, made by `start`.

    Attributes:
        lakehouse: What is served.
        uri: Address of Flight, such as `grpc://127.0.0.1:31337`, or `grpc+tls://...`.
        url: Address of the status page, such as `http://127.0.0.1:31338`.
    """

    lakehouse: Lakehouse
    uri: str
    url: str
    _flight: Listener
    _web: WebServer
    _readiness: Readiness
    _stopping: threading.Event

    @classmethod
    def start(cls, settings: Settings) -> Self:
        """Open the lakehouse and listen.

        Raises:
            InvalidRequest: The host may not be listened on, a port is taken, or a certificate is not good.
            BackendUnavailable: The data directory can't be used, or a port is taken.
        """
        # A busy Python thread keeps the interpreter for 5 ms by default, which streams would wait for at every batch.
        sys.setswitchinterval(0.0005)
        files = TlsFiles.of(settings.tls)
        # gRPC would tell on standard error of every stranger who fails at the handshake.
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        check_host(settings.server, has_tls=files is not None)
        host = settings.server.host
        check_port(host, settings.server.port)
        stopping = threading.Event()
        with ExitStack() as undo:
            lakehouse = undo.enter_context(Lakehouse.open(settings))
            check_users(settings.server, has_users=lakehouse.has_users)
            flight = Listener(Service(lakehouse), host, settings.server.port, files)
            undo.callback(flight.stop, grace_seconds=0)
            readiness = _readiness(lakehouse, stopping)
            undo.callback(readiness.close)
            app = create_app(
                lambda: _status(lakehouse, flight.uri),
                readiness,
                lakehouse.metrics.exposition,
                lakehouse.keeper.unreachable,
            )
            web = WebServer(app, settings.server.http_host or host, settings.server.http_port, flight.tls)
            web.start()
            undo.pop_all()
        return cls(lakehouse, flight.uri, web.url.rstrip("/"), flight, web, readiness, stopping)

    def stop(self) -> bool:
        """Refuse new calls, give those that run their grace, and close everything; False if some had to be cut off.

        A process whose calls were cut off should leave by `end_process`.
        """
        self._stopping.set()
        drained = self._flight.stop(self.lakehouse.settings.server.grace_seconds)
        if not drained:
            cancelled = self.lakehouse.gate.running.cancel_all()
            logger.warning("calls went on beyond the grace and are cut off", extra={"statements": cancelled})
            self._flight.stop(_CANCEL_SECONDS)
        self._web.stop()
        self._readiness.close()
        self.lakehouse.close()
        return drained


class StopSignals:
    """SIGINT and SIGTERM as an event. Made on the main thread, which is where Python runs handlers.

    The second signal ends the process at once, as a user who has asked twice expects.
    """

    def __init__(self, signals: Iterable[signal.Signals] = (signal.SIGINT, signal.SIGTERM)) -> None:
        # No event: a handler that runs while the main thread holds the event's lock would wait for itself.
        self._asked = False
        for number in signals:
            signal.signal(number, self._receive)

    def wait(self) -> None:
        """Return when the process is to stop.

        Python runs handlers on the main thread between two instructions, but the kernel may deliver a signal to any
        thread, and then nothing wakes this one: so it wakes by itself.
        """
        while not self._asked:
            time.sleep(_WAKE_SECONDS)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._asked:
            os._exit(128 + number)
        self._asked = True


def end_process(status: int) -> NoReturn:
    """End now, without waiting for threads: one that writes to a client which doesn't read never ends."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _readiness(lakehouse: Lakehouse, stopping: threading.Event) -> Readiness:
    def accepting() -> None:
        if stopping.is_set():
            raise BackendUnavailable("the server is stopping")

    def catalog() -> None:
        lakehouse.catalog.snapshot()

    return Readiness({"accepting": accepting, "catalog": catalog})


def _status(lakehouse: Lakehouse, uri: str) -> ServerStatus:
    """What the page shows; nobody is asked, so that it is shown while the catalog's storage hangs."""
    snapshot = lakehouse.catalog.known
    counts = {
        "datasets": len(snapshot.datasets),
        "rows": sum(dataset.rows for dataset in snapshot.datasets.values()),
        "catalog version": snapshot.version,
        "statements running": lakehouse.gate.admission.counts().running,
        "statements waiting": lakehouse.gate.admission.counts().waiting,
    }
    return ServerStatus("flightserver", VERSION, uri, counts)
