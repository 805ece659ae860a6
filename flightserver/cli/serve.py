"""`flightserver serve`: run the server in the foreground until SIGINT or SIGTERM."""

from __future__ import annotations

import faulthandler
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from flightserver.cli.process import Server, StopSignals, end_process
from flightserver.settings import load_settings
from flightserver.telemetry import configure_logging

if TYPE_CHECKING:
    import argparse

    from flightserver.settings import Settings

logger = logging.getLogger(__name__)

_LAST_SECONDS = 1.0
"""For threads that have been told to end and are about to."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the flags; those that are not given leave their setting to the environment and the file."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="the lakehouse; made if absent (default: ./lakehouse)")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, metavar="P", help="Flight port, 0 for a free one (default: 31337)")
    parser.add_argument("--http-port", type=int, metavar="W", help="port of status and metrics (default: 31338)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings (default: ./flightserver.toml if there)")
    parser.add_argument(
        "--ingest-root",
        type=Path,
        action="append",
        metavar="DIR",
        help="a directory of the server from which files may be ingested; may be repeated",
    )
    parser.add_argument(
        "--insecure", action="store_true", default=None, help="listen on any address without users and TLS"
    )
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE", help="the server's certificate chain in PEM")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key in PEM, with mode 0600 or 0640")
    parser.add_argument(
        "--tls-client-ca",
        type=Path,
        metavar="FILE",
        help="authorities in PEM that must have signed clients' certificates",
    )
    parser.add_argument("--log-format", choices=["text", "json"], default="text", help="of the log on standard error")
    parser.add_argument("--log-level", choices=["info", "debug"], default="info", help="how much is logged")


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop.

    Raises:
        InvalidRequest: The settings are not valid, the host may not be listened on, a port is taken, or a certificate
            is not good.
        BackendUnavailable: The data directory can't be used, or a port is taken.
    """
    configure_logging(json_lines=arguments.log_format == "json", level=arguments.log_level.upper())
    faulthandler.enable()  # a crash of native code then says on standard error where every thread was
    signals = StopSignals()
    server = Server.start(settings_of(arguments))
    print(f"flightserver ready: {server.uri} {server.url}", flush=True)  # noqa: T201  # what the command prints
    if not server.lakehouse.has_users:
        logger.warning(
            "there are no users: whoever reaches this address can read and change everything; `flightserver users add "
            "NAME --role admin --data DIR` makes the first"
        )
    signals.wait()
    logger.info("stopping")
    if not server.stop() or _jobs_go_on():
        end_process(0)
    return 0


def _jobs_go_on() -> bool:
    """Whether threads of ours are left: the ingestion of a client that has gone away, a look at a bucket that hangs.

    Python would wait for some of them, those of its executors among them, and end the others in the middle of native
    code. Threads that gRPC made, which only passed through Python, are no `Thread` and don't count.
    """
    deadline = time.monotonic() + _LAST_SECONDS
    ours = [thread for thread in threading.enumerate() if type(thread) is threading.Thread]
    for thread in ours:
        thread.join(max(0.0, deadline - time.monotonic()))
    return any(thread.is_alive() for thread in ours)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings with the flags over them.

    Raises:
        InvalidRequest: A section, name or value is not known.
    """
    names = ("data", "host", "port", "http_port", "insecure")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    flags: dict[str, dict[str, object]] = {"server": given}
    tls = {name: getattr(arguments, f"tls_{name}") for name in ("certificate", "key", "client_ca")}
    flags["tls"] = {name: path for name, path in tls.items() if path is not None}
    if arguments.ingest_root:
        flags["ingest"] = {"roots": arguments.ingest_root}
    return load_settings(arguments.config, flags)
